//! What belongs to whom: clients with their owners, and all that stands and falls with one user.

use std::sync::LazyLock;

use keyward_model::client::Client;
use keyward_model::credential::Credential;
use keyward_model::id::{ApiId, ClientId, UserId};
use keyward_model::time::Timestamp;
use keyward_model::user::User;

use crate::engine::Value;
use crate::listing::Listing;
use crate::{Page, Store, StoreError, clients, columns_of, credentials, parsed, users};

/// Narrowed credentials of one client that are read at most.
const MOST_NARROWED: i64 = 100;

/// Clients whose credentials are asked for: those from `first` to `last`, if they are this owner's.
#[derive(Debug, Clone, Copy)]
pub struct ClientRange {
    /// The first.
    pub first: ClientId,
    /// The last.
    pub last: ClientId,
    /// Whose they are; anybody's if absent.
    pub owner: Option<UserId>,
}

static CLIENTS_WITH_OWNERS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, {}, {} FROM clients JOIN users ON users.id = clients.owner",
        columns_of("clients", clients::COLUMNS),
        clients::APIS,
        columns_of("users", users::COLUMNS),
    )
});

/// How much stops when a user is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Belongings {
    /// Clients they own.
    pub clients: i64,
    /// Credentials of these that authenticate.
    pub credentials: i64,
    /// Callers that were let in with those.
    pub callers: i64,
    /// APIs whose own client is theirs.
    pub apis: i64,
}

impl Store {
    /// Clients with their owners, in the order in which they were registered.
    pub async fn list_clients_with_owners(
        &self,
        owner: Option<UserId>,
        page: &Page,
    ) -> Result<Vec<(Client, User)>, StoreError> {
        let mut listing = Listing::new(&CLIENTS_WITH_OWNERS);
        listing.and("clients.owner = ?", owner.map(|owner| owner.to_string()));
        let read = |row: &crate::engine::Row| {
            let mut client = row.clone();
            let owner = client.split_off(clients::WIDTH);
            Ok((clients::read(&client)?, users::read(&owner)?))
        };
        listing.run(self, "clients.id", page, read).await
    }

    /// Credentials that authenticate and have a scope or res of their own, client by client: of each client the first
    /// hundred, together the first `most`.
    pub async fn list_narrowed_credentials(
        &self,
        of: &ClientRange,
        now: Timestamp,
        most: u16,
    ) -> Result<Vec<Credential>, StoreError> {
        let (columns, authenticates) = (credentials::COLUMNS, credentials::authenticates("", "$3"));
        let mut args: Vec<Value> = vec![
            of.first.to_string().into(),
            of.last.to_string().into(),
            now.as_millis().into(),
            MOST_NARROWED.into(),
            i64::from(most).into(),
        ];
        // Between two clients of an owner lie any number of others'.
        let clients = if let Some(owner) = of.owner {
            args.push(owner.to_string().into());
            "client IN (SELECT id FROM clients WHERE owner = $6 AND id >= $1 AND id <= $2)"
        } else {
            "client >= $1 AND client <= $2"
        };
        let sql = format!(
            "SELECT {columns} FROM (SELECT {columns}, row_number() OVER (PARTITION BY client ORDER BY id) AS place \
             FROM credentials WHERE {clients} AND (scope IS NOT NULL OR res IS NOT NULL) \
             AND {authenticates}) AS narrowed WHERE place <= $4 ORDER BY client, id LIMIT $5"
        );
        self.query(&sql, &args).await?.iter().map(credentials::read).collect()
    }

    /// How much belongs to a user; of callers those seen since `since`.
    pub async fn count_belongings(
        &self,
        owner: UserId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Belongings, StoreError> {
        let authenticates = credentials::authenticates("c.", "$3");
        let sql = format!(
            "SELECT (SELECT count(*) FROM clients WHERE owner = $1), \
             (SELECT count(*) FROM credentials c JOIN clients k ON k.id = c.client WHERE k.owner = $1 \
              AND {authenticates}), \
             (SELECT count(*) FROM callers s JOIN credentials c ON c.id = s.credential \
              JOIN clients k ON k.id = c.client WHERE k.owner = $1 AND s.accepted > 0 AND s.last_seen_at >= $2 \
              AND {authenticates}), \
             (SELECT count(*) FROM apis a JOIN clients k ON k.id = a.client WHERE k.owner = $1)"
        );
        let args: [Value; 3] = [owner.to_string().into(), since.as_millis().into(), now.as_millis().into()];
        let read = |row: &crate::engine::Row| {
            Ok(Belongings { clients: row.int(0)?, credentials: row.int(1)?, callers: row.int(2)?, apis: row.int(3)? })
        };
        self.find(&sql, &args, read).await?.ok_or_else(|| StoreError::Corrupt("a count without a row".to_owned()))
    }

    /// The APIs whose own client belongs to this user, the first `most` of them.
    pub async fn list_apis_of_owner(&self, owner: UserId, most: u16) -> Result<Vec<ApiId>, StoreError> {
        let sql = "SELECT a.id FROM apis a JOIN clients k ON k.id = a.client WHERE k.owner = $1 ORDER BY a.id LIMIT $2";
        let rows = self.query(sql, &[owner.to_string().into(), i64::from(most).into()]).await?;
        rows.iter().map(|row| parsed(row.str(0)?, "apis.id")).collect()
    }
}
