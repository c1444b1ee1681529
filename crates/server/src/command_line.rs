//! The client of the command line: every server has one, so that `keyward login` works without anybody setting it up.
//!
//! Its identifier is the same everywhere, and it is made once: by the first start, or by the first start of this version on
//! a database from before. Whoever disables or deletes it has switched it off, and it stays so.

use keyward_model::api::KEYWARD_AUDIENCE;
use keyward_model::client::{COMMAND_LINE, Client, ClientKind, Subject};
use keyward_model::device_grant::DevicePolicy;
use keyward_model::event::{Actor, Draft};
use keyward_model::id::{ApiId, UserId};
use keyward_model::rights::{ResSet, Rights, ScopeSet};
use keyward_model::time::Timestamp;
use keyward_store::{Origin, Store, StoreError, Tx};
use serde_json::json;

use crate::app::StartError;

/// Where browsers bring codes to: a port of the same machine, whichever was free (RFC 8252 §7.3).
const CALLBACK: &str = "http://127.0.0.1/callback";
const CREATED: &str = "client.created";

/// Makes it where it has never been. Of two nodes at once, one does.
pub(crate) async fn make_where_missing(store: &Store, now: Timestamp) -> Result<(), StartError> {
    let subject = COMMAND_LINE.to_string();
    if store.find_last_event(&subject, CREATED).await?.is_some() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    // Nobody else writes to the log while this transaction lasts.
    if tx.find_last_event(&subject, CREATED).await?.is_some() {
        return Ok(());
    }
    let Some(api) = store.list_apis().await?.into_iter().find(|api| api.audience == KEYWARD_AUDIENCE) else {
        return Ok(());
    };
    let Some(owner) = tx.find_first_administrator().await? else {
        tracing::warn!(
            "nobody administers this server, so nobody can own the client for command lines; `keyward recover`"
        );
        return Ok(());
    };
    insert(&mut tx, owner, api.id, now).await?;
    tx.commit(&Origin { actor: Actor::system("start"), source: None, now }).await?;
    Ok(())
}

/// Puts a client of the server's own into the database.
pub(crate) async fn register(tx: &mut Tx, client: &Client) -> Result<(), StoreError> {
    tx.insert_client(client).await?;
    let rights = &client.rights;
    let data = json!({ "name": client.name, "owner": client.owner, "scope": rights.scope, "res": rights.res });
    tx.record(Draft { kind: CREATED, subject: client.id.to_string(), data });
    Ok(())
}

/// Makes it: public, for Keyward's own API alone. What it asks for is cut to what its user has anyway; who approves a device
/// must carry digits to it, for it may reach as far as an administrator (docs/device-flow.md).
pub(crate) async fn insert(tx: &mut Tx, owner: UserId, api: ApiId, now: Timestamp) -> Result<(), StartError> {
    let scope: ScopeSet = "keyward:admin".parse().map_err(|_| StartError::Unfinished)?;
    let client = Client {
        id: COMMAND_LINE,
        name: "Keyward command line".to_owned(),
        kind: ClientKind::Public,
        owner,
        rights: Rights { scope: scope.clone(), res: ResSet::all() },
        subject: Subject::Owner,
        device: Some(DevicePolicy { scope, confirmation: true }),
        redirect_uris: vec![CALLBACK.parse().map_err(|_| StartError::Unfinished)?],
        apis: vec![api],
        disabled_at: None,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    Ok(register(tx, &client).await?)
}
