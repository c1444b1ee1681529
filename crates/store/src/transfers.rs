//! Offers of clients to another owner. Every step is one conditional statement, so of several at once one wins.

use std::sync::LazyLock;

use keyward_model::client::Client;
use keyward_model::id::{ClientId, UserId};
use keyward_model::time::Timestamp;
use keyward_model::transfer::Transfer;
use keyward_model::user::User;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Page, Store, StoreError, Tx, clients, columns_of, parsed, users};

const COLUMNS: &str = "client, owner, offered_by, offered_to, client_version, offered_at, expires_at, version";
const WIDTH: usize = 8;

static SELECT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, {}, {}, {}, {}, {} FROM transfers JOIN clients ON clients.id = transfers.client \
         JOIN users o ON o.id = clients.owner JOIN users b ON b.id = transfers.offered_by \
         JOIN users n ON n.id = transfers.offered_to",
        columns_of("transfers", COLUMNS),
        columns_of("clients", clients::COLUMNS),
        clients::APIS,
        columns_of("o", users::COLUMNS),
        columns_of("b", users::COLUMNS),
        columns_of("n", users::COLUMNS),
    )
});

/// An open offer and all it is about, as of one instant.
#[derive(Debug, Clone)]
pub struct OpenTransfer {
    /// The offer.
    pub transfer: Transfer,
    /// What is offered.
    pub client: Client,
    /// Who owns it.
    pub owner: User,
    /// Who offers it.
    pub offered_by: User,
    /// Who may accept it.
    pub offered_to: User,
}

/// Which offers to list.
#[derive(Debug, Clone, Default)]
pub struct TransferFilter {
    /// Of this client.
    pub client: Option<ClientId>,
    /// That this user may accept.
    pub incoming: Option<UserId>,
    /// That this user made, or that are of this user's clients.
    pub outgoing: Option<UserId>,
    /// That concern this user in either way.
    pub concerning: Option<UserId>,
}

fn read(row: &Row) -> Result<Transfer, StoreError> {
    Ok(Transfer {
        client: parsed(row.str(0)?, "transfers.client")?,
        owner: parsed(row.str(1)?, "transfers.owner")?,
        offered_by: parsed(row.str(2)?, "transfers.offered_by")?,
        offered_to: parsed(row.str(3)?, "transfers.offered_to")?,
        client_version: row.int(4)?,
        offered_at: Timestamp::from_millis(row.int(5)?),
        expires_at: Timestamp::from_millis(row.int(6)?),
        version: row.int(7)?,
    })
}

fn read_open(row: &Row) -> Result<OpenTransfer, StoreError> {
    let mut transfer = row.clone();
    let mut client = transfer.split_off(WIDTH);
    let mut owner = client.split_off(clients::WIDTH);
    let mut offered_by = owner.split_off(users::WIDTH);
    let offered_to = offered_by.split_off(users::WIDTH);
    Ok(OpenTransfer {
        transfer: read(&transfer)?,
        client: clients::read(&client)?,
        owner: users::read(&owner)?,
        offered_by: users::read(&offered_by)?,
        offered_to: users::read(&offered_to)?,
    })
}

impl Store {
    /// Offers that stand at `now`, in the order of their clients.
    pub async fn list_transfers(
        &self,
        filter: &TransferFilter,
        now: Timestamp,
        page: &Page,
    ) -> Result<Vec<OpenTransfer>, StoreError> {
        let mut listing = Listing::new(&SELECT);
        let text = |user: Option<UserId>| user.map(|user| user.to_string());
        listing.and("transfers.client = ?", filter.client.map(|client| client.to_string()));
        listing.and("transfers.offered_to = ?", text(filter.incoming));
        listing.and("transfers.offered_by = ? OR transfers.owner = ?", text(filter.outgoing));
        listing.and(
            "transfers.offered_to = ? OR transfers.offered_by = ? OR transfers.owner = ?",
            text(filter.concerning),
        );
        listing.and("transfers.expires_at > ?", Some(now.as_millis()));
        listing.run(self, "transfers.client", page, read_open).await
    }

    /// The offer of this client that stands at `now`.
    pub async fn find_transfer(&self, client: ClientId, now: Timestamp) -> Result<Option<OpenTransfer>, StoreError> {
        let filter = TransferFilter { client: Some(client), ..TransferFilter::default() };
        Ok(self.list_transfers(&filter, now, &Page { after: None, limit: 1 }).await?.pop())
    }
}

impl Tx {
    /// The version of the next offer.
    pub async fn next_transfer_version(&mut self) -> Result<i64, StoreError> {
        self.next("transfer").await
    }

    /// Offers a client, if it is still as it was judged by and there is somebody to get it; `false` otherwise.
    pub async fn insert_transfer(&mut self, transfer: &Transfer) -> Result<bool, StoreError> {
        let sql = format!(
            "INSERT INTO transfers ({COLUMNS}) SELECT k.id, k.owner, CAST($3 AS TEXT), n.id, k.version, \
             CAST($6 AS BIGINT), CAST($7 AS BIGINT), CAST($8 AS BIGINT) FROM clients k, users n \
             WHERE k.id = $1 AND k.owner = $2 AND k.version = $5 AND n.id = $4"
        );
        let args: [Value; 8] = [
            transfer.client.to_string().into(),
            transfer.owner.to_string().into(),
            transfer.offered_by.to_string().into(),
            transfer.offered_to.to_string().into(),
            transfer.client_version.into(),
            transfer.offered_at.as_millis().into(),
            transfer.expires_at.as_millis().into(),
            transfer.version.into(),
        ];
        Ok(self.execute(&sql, &args).await? == 1)
    }

    /// Makes a client the property of whom it was offered to: if the offer stands, the client is as it was offered,
    /// its owner and whoever offered it are as they were judged by, and neither the latter nor the new owner is disabled.
    pub async fn transfer_client(&mut self, open: &OpenTransfer, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE clients SET owner = $2, updated_at = $3, version = version + 1 WHERE id = $1 AND EXISTS \
                   (SELECT 1 FROM transfers t JOIN users n ON n.id = t.offered_to JOIN users b ON b.id = t.offered_by \
                   JOIN users o ON o.id = t.owner WHERE t.client = clients.id AND t.owner = clients.owner AND t.client_version = clients.version \
                   AND t.offered_to = $2 AND t.version = $4 AND t.expires_at > $3 \
                   AND n.disabled_at IS NULL AND b.disabled_at IS NULL AND b.version = $5 AND o.version = $6)";
        let args: [Value; 6] = [
            open.transfer.client.to_string().into(),
            open.transfer.offered_to.to_string().into(),
            now.as_millis().into(),
            open.transfer.version.into(),
            open.offered_by.version.into(),
            open.owner.version.into(),
        ];
        Ok(self.execute(sql, &args).await? == 1)
    }

    /// Removes the offer of a client, whether it still stands or not; gives it.
    pub async fn remove_transfer(&mut self, client: ClientId) -> Result<Option<Transfer>, StoreError> {
        let sql = format!("DELETE FROM transfers WHERE client = $1 RETURNING {COLUMNS}");
        self.find(&sql, &[client.to_string().into()], read).await
    }

    /// Removes just this offer, if it still stands; `false` if it was answered, withdrawn or replaced meanwhile.
    pub async fn end_transfer(&mut self, transfer: &Transfer, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "DELETE FROM transfers WHERE client = $1 AND version = $2 AND expires_at > $3";
        let args: [Value; 3] = [transfer.client.to_string().into(), transfer.version.into(), now.as_millis().into()];
        Ok(self.execute(sql, &args).await? == 1)
    }

    /// Removes the offers that a user made or could accept; gives them.
    pub async fn remove_transfers_of(&mut self, user: UserId) -> Result<Vec<Transfer>, StoreError> {
        let sql = format!("DELETE FROM transfers WHERE offered_by = $1 OR offered_to = $1 RETURNING {COLUMNS}");
        self.tx.query(&sql, &[user.to_string().into()]).await?.iter().map(read).collect()
    }

    /// Removes offers whose time is over; gives them.
    pub async fn expire_transfers(&mut self, now: Timestamp, most: u16) -> Result<Vec<Transfer>, StoreError> {
        let sql = format!(
            "DELETE FROM transfers WHERE client IN (SELECT client FROM transfers WHERE expires_at <= $1 LIMIT $2) \
             RETURNING {COLUMNS}"
        );
        self.tx.query(&sql, &[now.as_millis().into(), i64::from(most).into()]).await?.iter().map(read).collect()
    }
}
