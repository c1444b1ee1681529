//! Who is behind a key: credential, client and owner by one statement, for requests that find nothing in memory.

use std::sync::LazyLock;

use keyward_model::client::Client;
use keyward_model::credential::Credential;
use keyward_model::id::CredentialId;
use keyward_model::user::User;

use crate::{Store, StoreError, clients, columns_of, credentials, users};

static FIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, {}, {}, {} FROM credentials JOIN clients ON clients.id = credentials.client \
         JOIN users ON users.id = clients.owner WHERE credentials.id = $1",
        columns_of("credentials", credentials::COLUMNS),
        columns_of("clients", clients::COLUMNS),
        clients::APIS,
        columns_of("users", users::COLUMNS),
    )
});

impl Store {
    /// A credential with its client and that client's owner, all as of one instant.
    pub async fn find_principal(&self, id: CredentialId) -> Result<Option<(Credential, Client, User)>, StoreError> {
        let rows = self.query(&FIND, &[id.to_string().into()]).await?;
        let Some(mut credential) = rows.into_iter().next() else { return Ok(None) };
        let mut client = credential.split_off(credentials::WIDTH);
        let owner = client.split_off(clients::WIDTH);
        Ok(Some((credentials::read(&credential)?, clients::read(&client)?, users::read(&owner)?)))
    }
}
