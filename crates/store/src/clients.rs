//! Clients, and the APIs each may ask tokens for.

use keyward_model::client::Client;
use keyward_model::device_grant::DevicePolicy;
use keyward_model::id::{ApiId, ClientId, UserId};
use keyward_model::redirect_uri::RedirectUri;
use keyward_model::rights::Rights;
use keyward_model::time::Timestamp;
use keyward_model::user::Activity;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Page, Store, StoreError, Tx, parsed};

pub(crate) const COLUMNS: &str = "id, name, kind, owner, scope, res, subject, disabled_at, created_at, updated_at, \
                                  version, device_scope, device_confirmation, redirect_uris";
/// The APIs of one client as one text, so that a client is always read whole by one statement.
pub(crate) const APIS: &str = "(SELECT string_agg(a.api, ' ') FROM client_apis a WHERE a.client = clients.id)";
/// How many columns a client is read from, its APIs the last.
pub(crate) const WIDTH: usize = 15;

/// Which clients to list.
#[derive(Debug, Clone, Default)]
pub struct ClientFilter {
    /// With this name.
    pub name: Option<String>,
    /// Owned by this user.
    pub owner: Option<UserId>,
    /// In use or switched off.
    pub activity: Option<Activity>,
}

pub(crate) fn read(row: &Row) -> Result<Client, StoreError> {
    let mut apis: Vec<ApiId> = row
        .opt_str(14)?
        .unwrap_or_default()
        .split(' ')
        .filter(|t| !t.is_empty())
        .map(|t| parsed(t, "client_apis.api"))
        .collect::<Result<_, _>>()?;
    apis.sort_unstable();
    Ok(Client {
        id: parsed(row.str(0)?, "clients.id")?,
        name: row.text(1)?,
        kind: parsed(row.str(2)?, "clients.kind")?,
        owner: parsed(row.str(3)?, "clients.owner")?,
        rights: Rights { scope: parsed(row.str(4)?, "clients.scope")?, res: parsed(row.str(5)?, "clients.res")? },
        subject: parsed(row.str(6)?, "clients.subject")?,
        apis,
        redirect_uris: row
            .str(13)?
            .split(' ')
            .filter(|uri| !uri.is_empty())
            .map(|uri| parsed(uri, "clients.redirect_uris"))
            .collect::<Result<_, _>>()?,
        device: device(row)?,
        disabled_at: row.opt_int(7)?.map(Timestamp::from_millis),
        created_at: Timestamp::from_millis(row.int(8)?),
        updated_at: Timestamp::from_millis(row.int(9)?),
        version: row.int(10)?,
    })
}

fn device(row: &Row) -> Result<Option<DevicePolicy>, StoreError> {
    let Some(scope) = row.opt_str(11)? else { return Ok(None) };
    Ok(Some(DevicePolicy { scope: parsed(scope, "clients.device_scope")?, confirmation: row.int(12)? != 0 }))
}

impl Store {
    /// The client with this id.
    pub async fn find_client(&self, id: ClientId) -> Result<Option<Client>, StoreError> {
        let sql = format!("SELECT {COLUMNS}, {APIS} FROM clients WHERE id = $1");
        self.find(&sql, &[id.to_string().into()], read).await
    }

    /// Clients in the order in which they were registered.
    pub async fn list_clients(&self, filter: &ClientFilter, page: &Page) -> Result<Vec<Client>, StoreError> {
        let mut listing = Listing::new(&format!("SELECT {COLUMNS}, {APIS} FROM clients"));
        listing.and("name = ?", filter.name.as_deref());
        listing.and("owner = ?", filter.owner.map(|o| o.to_string()));
        match filter.activity {
            None => {}
            Some(Activity::Active) => drop(listing.only("disabled_at IS NULL")),
            Some(Activity::Disabled) => drop(listing.only("disabled_at IS NOT NULL")),
        }
        listing.run(self, "id", page, read).await
    }
}

impl Tx {
    /// How many clients a user owns, as this transaction sees it.
    pub async fn count_clients(&mut self, owner: UserId) -> Result<u64, StoreError> {
        self.count("SELECT count(*) FROM clients WHERE owner = $1", &[owner.to_string().into()]).await
    }

    /// Registers a client; `Conflict` if its owner or one of its APIs does not exist.
    pub async fn insert_client(&mut self, client: &Client) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO clients ({COLUMNS}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        );
        self.execute(&sql, &values(client)).await?;
        self.insert_client_apis(client).await
    }

    /// Writes the client if nobody has changed it since `version` was read; `false` if somebody has.
    pub async fn update_client(&mut self, client: &Client, version: i64) -> Result<bool, StoreError> {
        let sql = "UPDATE clients SET name = $2, kind = $3, owner = $4, scope = $5, res = $6, subject = $7, \
                   disabled_at = $8, created_at = $9, updated_at = $10, version = $11 + 1, \
                   device_scope = $12, device_confirmation = $13, redirect_uris = $14 WHERE id = $1 AND version = $11";
        let mut values = values(client);
        values[10] = version.into();
        if self.execute(sql, &values).await? == 0 {
            return Ok(false);
        }
        self.execute("DELETE FROM client_apis WHERE client = $1", &[client.id.to_string().into()]).await?;
        self.insert_client_apis(client).await?;
        Ok(true)
    }

    /// Deletes a client with its credentials; `false` if changed since `version` was read.
    pub async fn delete_client(&mut self, id: ClientId, version: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM clients WHERE id = $1 AND version = $2";
        Ok(self.execute(sql, &[id.to_string().into(), version.into()]).await? == 1)
    }

    async fn insert_client_apis(&mut self, client: &Client) -> Result<(), StoreError> {
        for api in &client.apis {
            let args = [client.id.to_string().into(), api.to_string().into()];
            self.execute("INSERT INTO client_apis (client, api) VALUES ($1, $2)", &args).await?;
        }
        Ok(())
    }
}

fn values(client: &Client) -> [Value; 14] {
    [
        client.id.to_string().into(),
        client.name.as_str().into(),
        client.kind.as_str().into(),
        client.owner.to_string().into(),
        client.rights.scope.to_string().into(),
        client.rights.res.to_text().into(),
        client.subject.as_str().into(),
        client.disabled_at.map(Timestamp::as_millis).into(),
        client.created_at.as_millis().into(),
        client.updated_at.as_millis().into(),
        client.version.into(),
        client.device.as_ref().map(|device| device.scope.to_string()).into(),
        i64::from(client.device.as_ref().is_some_and(|device| device.confirmation)).into(),
        client.redirect_uris.iter().map(RedirectUri::as_str).collect::<Vec<_>>().join(" ").into(),
    ]
}
