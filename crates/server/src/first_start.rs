//! The first start: keys, a starter catalogue, the first administrator, and one key to begin with.

use std::time::Duration;

use keyward_model::api::{Api, DEFAULT_TOKEN_LIFETIME, KEYWARD_AUDIENCE, ScopeEntry};
use keyward_model::client::{Client, ClientKind, Subject};
use keyward_model::credential::{Credential, Purpose, State};
use keyward_model::entropy::Entropy;
use keyward_model::event::{Actor, Draft};
use keyward_model::id::{ApiId, ClientId, CredentialId, UserId};
use keyward_model::jws::SigningAlgorithm;
use keyward_model::key::Key;
use keyward_model::rights::{ResSet, Rights, ScopeSet};
use keyward_model::secret::{HashingKey, Secret};
use keyward_model::time::Timestamp;
use keyward_model::user::User;
use keyward_store::{Origin, Store, Tx};
use serde_json::json;

use crate::app::{App, StartError};
use crate::clock::Clock;
use crate::command_line;
use crate::master_key::{HASHING_KEY, MasterKeySource};
use crate::signing_keys;

/// How long the bootstrap key works.
pub const BOOTSTRAP_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The starter catalogue: Keyward's own ladder, and the one of the usual workplace.
const SCOPES: &[(&str, &str, &str)] = &[
    ("keyward:admin", "Manage everything in Keyward", "keyward:support"),
    ("keyward:support", "See everything in Keyward; stop clients and credentials", "keyward:self"),
    ("keyward:self", "Manage one's own clients in Keyward", ""),
    ("Admin", "Administer", "Supervisor"),
    ("Supervisor", "Supervise", "Worker"),
    ("Worker", "Work", ""),
];

/// The one key to begin with, shown once.
#[derive(Debug)]
pub struct Bootstrap {
    /// The client it belongs to.
    pub client: ClientId,
    /// The key.
    pub key: Key,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// Prepares a new database; `None` if it was prepared before or by another node at this moment.
pub(crate) async fn prepare(
    store: &Store,
    clock: &Clock,
    entropy: &Entropy,
    master_key: &MasterKeySource,
) -> Result<Option<Bootstrap>, StartError> {
    if !store.list_sealed_secrets().await?.is_empty() {
        return Ok(None);
    }
    let now = clock.now();
    let master = master_key.load_or_create(entropy)?;
    let hashing_secret = Secret::new(entropy.bytes()?);
    let sealed =
        master.seal(HASHING_KEY, hashing_secret.expose()).map_err(|e| StartError::Sealed(HASHING_KEY.to_owned(), e))?;
    let keys = signing_keys::make_first(store, SigningAlgorithm::Es256, now, entropy).await?;
    let mut tx = store.begin().await?;
    if !tx.insert_sealed_secret(HASHING_KEY, sealed).await? {
        return Ok(None);
    }
    if let Some(keys) = keys {
        signing_keys::publish_first(&mut tx, &keys, &master, now).await?;
    }
    insert_catalogue(&mut tx, now).await?;
    let api = insert_own_api(&mut tx, now, entropy).await?;
    let admin = insert_administrator(&mut tx, now, entropy).await?;
    command_line::insert(&mut tx, admin, api, now).await?;
    let client = insert_bootstrap_client(&mut tx, admin, api, now, entropy).await?;
    let bootstrap = issue(&mut tx, client, admin, &HashingKey::new(&hashing_secret), now, entropy).await?;
    tx.commit(&Origin { actor: Actor::system("start"), source: None, now }).await?;
    Ok(Some(bootstrap))
}

/// Issues a bootstrap key once more, for whoever holds the server's files and has lost every key.
pub async fn recover(app: &App) -> Result<Bootstrap, StartError> {
    let App { store, entropy, .. } = app;
    let now = app.clock.now();
    let mut tx = store.begin().await?;
    let registry = crate::registry::Registry::load(store, &app.issuer).await?;
    let api = registry.api_by_audience(KEYWARD_AUDIENCE).ok_or(StartError::Unfinished)?.id;
    // A new administrator, for the first may have been disabled or lowered.
    let admin = insert_administrator(&mut tx, now, entropy).await?;
    let client = insert_bootstrap_client(&mut tx, admin, api, now, entropy).await?;
    let bootstrap = issue(&mut tx, client, admin, &app.hashing_key, now, entropy).await?;
    tx.commit(&Origin { actor: Actor::system("console"), source: None, now }).await?;
    Ok(bootstrap)
}

fn rights(scope: &str) -> Result<Rights, StartError> {
    Ok(Rights { scope: scopes(scope)?, res: ResSet::all() })
}

fn scopes(text: &str) -> Result<ScopeSet, StartError> {
    text.parse().map_err(|_| StartError::Unfinished)
}

async fn insert_catalogue(tx: &mut Tx, now: Timestamp) -> Result<(), StartError> {
    for (name, description, implies) in SCOPES {
        let scope = ScopeEntry {
            name: name.parse().map_err(|_| StartError::Unfinished)?,
            description: (*description).to_owned(),
            implies: scopes(implies)?,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        tx.insert_scope(&scope).await?;
        tx.record(Draft {
            kind: "scope.created",
            subject: scope.name.to_string(),
            data: json!({ "implies": implies }),
        });
    }
    Ok(())
}

async fn insert_own_api(tx: &mut Tx, now: Timestamp, entropy: &Entropy) -> Result<ApiId, StartError> {
    let api = Api {
        id: ApiId::new(now, entropy)?,
        name: "Keyward".to_owned(),
        audience: KEYWARD_AUDIENCE.to_owned(),
        scopes: scopes("keyward:admin keyward:support keyward:self")?,
        token_lifetime: DEFAULT_TOKEN_LIFETIME,
        algorithm: SigningAlgorithm::Es256,
        client: None,
        identity_clients: Vec::new(),
        identity_issuers: Vec::new(),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    tx.insert_api(&api).await?;
    tx.record(Draft { kind: "api.created", subject: api.id.to_string(), data: json!({ "audience": api.audience }) });
    Ok(api.id)
}

async fn insert_administrator(tx: &mut Tx, now: Timestamp, entropy: &Entropy) -> Result<UserId, StartError> {
    let id = UserId::new(now, entropy)?;
    // Names are unique; a recovered administrator is told apart by when they were made.
    let name =
        if tx.user_name_is_taken("admin").await? { format!("admin-{}", now.as_seconds()) } else { "admin".to_owned() };
    let user = User {
        id,
        name,
        email: None,
        rights: rights("keyward:admin Admin")?,
        disabled_at: None,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    tx.insert_user(&user).await?;
    let data = json!({ "name": user.name, "scope": user.rights.scope, "res": user.rights.res });
    tx.record(Draft { kind: "user.created", subject: id.to_string(), data });
    Ok(id)
}

async fn insert_bootstrap_client(
    tx: &mut Tx,
    owner: UserId,
    api: ApiId,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<ClientId, StartError> {
    let client = Client {
        id: ClientId::new(now, entropy)?,
        name: "bootstrap".to_owned(),
        kind: ClientKind::Confidential,
        owner,
        rights: rights("keyward:admin")?,
        subject: Subject::Owner,
        redirect_uris: Vec::new(),
        device: None,
        apis: vec![api],
        disabled_at: None,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    command_line::register(tx, &client).await?;
    Ok(client.id)
}

async fn issue(
    tx: &mut Tx,
    client: ClientId,
    admin: UserId,
    hashing_key: &HashingKey,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<Bootstrap, StartError> {
    // The credential's id repeats the client's, so that the key alone tells the whole way in: `keyward bootstrap KEY`.
    let key = Key::generate(CredentialId::from_uuid(client.as_uuid()), entropy)?;
    let expires_at = now.plus(BOOTSTRAP_LIFETIME);
    let credential = Credential {
        id: key.credential,
        client,
        label: "bootstrap".to_owned(),
        purpose: Purpose::Bootstrap,
        secret_hash: Some(hashing_key.hash(&key.secret)),
        scope: None,
        res: None,
        state: State::Active,
        expires_at: Some(expires_at),
        leaked_at: None,
        successor: None,
        status_index: tx.next_status_index().await?,
        created_by: admin,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    tx.insert_credential(&credential).await?;
    let data = json!({ "client": client, "label": "bootstrap", "expires_at": expires_at });
    tx.record(Draft { kind: "credential.issued", subject: key.credential.to_string(), data });
    Ok(Bootstrap { client, key, expires_at })
}
