//! Who is behind a key: credential, client and owner by one statement, for requests that find nothing in memory. And who
//! is behind a `client_id` alone.

use std::sync::LazyLock;

use keyward_model::client::Client;
use keyward_model::credential::Credential;
use keyward_model::id::{ClientId, CredentialId};
use keyward_model::user::User;

use crate::engine::Row;
use crate::status_list::LOWERED;
use crate::{Store, StoreError, clients, columns_of, credentials, users};

static FIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, {}, {}, {}, {LOWERED} FROM credentials JOIN clients ON clients.id = credentials.client \
         JOIN users ON users.id = clients.owner WHERE credentials.id = $1",
        columns_of("credentials", credentials::COLUMNS),
        columns_of("clients", clients::COLUMNS),
        clients::APIS,
        columns_of("users", users::COLUMNS),
    )
});

static FIND_CLIENT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, {}, {} FROM clients JOIN users ON users.id = clients.owner WHERE clients.id = $1",
        columns_of("clients", clients::COLUMNS),
        clients::APIS,
        columns_of("users", users::COLUMNS),
    )
});

/// Who is behind a key.
#[derive(Debug)]
pub struct FoundPrincipal {
    /// The credential.
    pub credential: Credential,
    /// Its client.
    pub client: Client,
    /// The client's owner.
    pub owner: User,
    /// From which place in the log on scopes and APIs must be known to judge by them.
    pub true_from: i64,
}

impl Store {
    /// A credential with its client and that client's owner, all as of one instant.
    pub async fn find_principal(&self, id: CredentialId) -> Result<Option<FoundPrincipal>, StoreError> {
        let rows = self.query(&FIND, &[id.to_string().into()]).await?;
        let Some(mut credential) = rows.into_iter().next() else { return Ok(None) };
        let mut client = credential.split_off(credentials::WIDTH);
        let mut owner = client.split_off(clients::WIDTH);
        let lowered = owner.split_off(users::WIDTH);
        Ok(Some(FoundPrincipal {
            credential: credentials::read(&credential)?,
            client: clients::read(&client)?,
            owner: users::read(&owner)?,
            true_from: lowered.int(0)?,
        }))
    }

    /// A client and its owner, as of one instant.
    pub async fn find_client_and_owner(&self, id: ClientId) -> Result<Option<(Client, User)>, StoreError> {
        self.find(&FIND_CLIENT, &[id.to_string().into()], |row: &Row| {
            let mut client = row.clone();
            let owner = client.split_off(clients::WIDTH);
            Ok((clients::read(&client)?, users::read(&owner)?))
        })
        .await
    }
}
