//! Everything a request may need, put together once at the start.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use keyward_guard::Expect;
use keyward_model::api::KEYWARD_AUDIENCE;
use keyward_model::entropy::{Entropy, EntropyError};
use keyward_model::id::{ClientId, KeyId, UserId};
use keyward_model::sealing::{MasterKey, SealError};
use keyward_model::secret::{HashingKey, Secret};
use keyward_store::{CallerKey, Head, Store, StoreError, Tx};
use tokio::sync::{Mutex, watch};

use crate::budget::Budget;
use crate::callers::Callers;
use crate::clock::Clock;
use crate::command_line;
use crate::config::{
    Config, ConfigError, GatewayConfig, LeaksConfig, LimitsConfig, RotationConfig, SessionsConfig, SigningKeysConfig,
};
use crate::device_grants::DeviceGrants;
use crate::failures::Failures;
use crate::first_start::{self, Bootstrap};
use crate::follow::Looks;
use crate::foreign_keys::ForeignKeys;
use crate::gateway::Admitted;
use crate::key_ring::KeyRing;
use crate::login::SignIn;
use crate::master_key::{HASHING_KEY, MasterKeyError, MasterKeySource, hashing_key};
use crate::notices::Notices;
use crate::oauth::revocations::Readers;
use crate::oauth::revocations::ring::Feed;
use crate::oauth::status_list::StatusList;
use crate::pages::device::status::Watchers;
use crate::principals::Principals;
use crate::registry::Registry;
use crate::revoked_tokens::RevokedTokens;

pub use crate::notices::Patience;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StartError {
    #[error("database: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error("{0}: {1}")]
    Sealed(String, SealError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("signing key {0} is damaged")]
    SigningKey(KeyId),
    #[error("a signing key could not be made")]
    NewKey,
    #[error("the key set could not be written")]
    KeySet,
    #[error("what was stored as the hashing key is not one")]
    HashingKey,
    #[error("the database is reached, but its first start is not finished by another node")]
    Unfinished,
}

/// The running server without its sockets.
pub struct App {
    /// The public URL: `iss`, and the base of every URL. Never taken from a request.
    pub issuer: String,
    /// What everything remembers.
    pub store: Store,
    /// Where "now" comes from.
    pub clock: Clock,
    /// Where random bytes come from.
    pub entropy: Entropy,
    /// Under which secrets are hashed.
    pub(crate) hashing_key: HashingKey,
    /// Who signs, and what verifiers see.
    pub(crate) key_ring: ArcSwap<KeyRing>,
    /// Catalogue and APIs.
    pub(crate) registry: ArcSwap<Registry>,
    /// The keys of issuers beside Keyward.
    pub(crate) foreign_keys: ForeignKeys,
    /// What gateways may do.
    pub(crate) gateway: GatewayConfig,
    /// Who is behind a key.
    pub(crate) principals: Principals,
    /// Tokens that a gateway has asked about before.
    pub(crate) verified: keyward_guard::Memory,
    /// What gateways were told of them.
    pub(crate) admitted: Admitted,
    /// From where credentials are used.
    pub callers: Callers,
    /// Up to where those not seen for long are forgotten.
    pub(crate) forgotten_up_to: Mutex<CallerKey>,
    /// What people are told, and how.
    pub(crate) notices: Notices,
    /// Tokens ended before their time.
    pub(crate) revoked_tokens: RevokedTokens,
    /// What a reported leak does.
    pub(crate) leaks: LeaksConfig,
    /// How many failures are borne.
    pub(crate) failures: Failures,
    /// How people sign in.
    pub sign_in: SignIn,
    /// How long applications keep people signed in.
    pub(crate) sessions: SessionsConfig,
    /// Devices that ask to be signed in.
    pub device_grants: DeviceGrants,
    /// Pages that look on until a device is signed in.
    pub(crate) watchers: Watchers,
    /// How much one client may change.
    pub(crate) changes: Budget<ClientId>,
    /// How much one user may change through clients that others use too.
    pub(crate) changes_of_users: Budget<UserId>,
    /// How much one user may have.
    pub(crate) limits: LimitsConfig,
    /// When signing keys change.
    pub(crate) signing_keys: SigningKeysConfig,
    /// How keys are replaced.
    pub(crate) rotation: RotationConfig,
    /// Who may read the metrics.
    pub(crate) metrics_networks: Vec<IpNet>,
    /// The URL of the status list that the tokens name.
    pub(crate) status_list_uri: String,
    /// That list.
    pub(crate) status_list: StatusList,
    /// What changes in it, and who reads that.
    pub(crate) feed: Feed,
    pub(crate) readers: Readers,
    /// How long a client may take to send a body.
    pub(crate) body_timeout: Duration,
    /// What a token for Keyward's own API must be.
    pub(crate) expect: Expect,
    /// What a token must be whatever API it is for.
    pub(crate) expect_any: Expect,
    /// The place in the log up to which memory is true.
    pub(crate) applied: watch::Sender<Head>,
    /// How often the log was looked at.
    pub(crate) looks: Looks,
    pub(crate) master_key: MasterKeySource,
}

/// What the start needs beside the settings; tests bring their own.
pub struct Surroundings {
    /// The open database.
    pub store: Store,
    /// Where "now" comes from.
    pub clock: Clock,
    /// Where random bytes come from.
    pub entropy: Entropy,
    /// Where the master key is.
    pub master_key: MasterKeySource,
    /// How long receivers of notices are waited for.
    pub patience: Patience,
}

impl App {
    /// Reads (or, at the first start, makes) all that is needed; gives the bootstrap key if this was the first start.
    pub async fn start(
        config: &Config,
        issuer: String,
        surroundings: Surroundings,
    ) -> Result<(Arc<Self>, Option<Bootstrap>), StartError> {
        let Surroundings { store, clock, entropy, master_key, patience } = surroundings;
        let notices = Notices::new(config, patience)?;
        let bootstrap = first_start::prepare(&store, &clock, &entropy, &master_key).await?;
        command_line::make_where_missing(&store, clock.now()).await?;
        let (master, hashing_key) = unlock(&store, &master_key).await?;
        // The place in the log is read first: whatever changes while the rest is read is applied again.
        let applied = store.head().await?;
        let app = Self {
            key_ring: ArcSwap::from_pointee(KeyRing::load(&store, &master, None).await?),
            registry: ArcSwap::from_pointee(Registry::load(&store, &issuer).await?),
            revoked_tokens: RevokedTokens::load(&store, clock.now()).await?,
            foreign_keys: ForeignKeys::new(config.gateway.allow_networks.clone()),
            gateway: config.gateway.clone(),
            principals: Principals::new(config.cache.entries),
            verified: keyward_guard::Memory::of_many_policies(
                usize::try_from(config.cache.entries).unwrap_or(usize::MAX),
            ),
            admitted: Admitted::new(config.cache.entries),
            callers: Callers::new(store.clone(), &config.callers),
            forgotten_up_to: Mutex::default(),
            notices,
            leaks: config.leaks.clone(),
            failures: Failures::new(&config.limits),
            sign_in: SignIn::new(config, &issuer, &hashing_key, &entropy)?,
            sessions: config.sessions.clone(),
            device_grants: DeviceGrants::new(&config.device_grants, &hashing_key),
            watchers: Watchers::default(),
            changes: Budget::new(config.limits.changes_burst, config.limits.changes_per_minute),
            changes_of_users: Budget::new(config.limits.changes_burst, config.limits.changes_per_minute),
            limits: config.limits.clone(),
            metrics_networks: config.server.metrics_networks.clone(),
            status_list_uri: format!("{issuer}/status-lists/1"),
            status_list: StatusList::default(),
            feed: Feed::load(&store, applied.seq, clock.now()).await?,
            readers: Readers::new(&config.limits, &config.server),
            signing_keys: config.signing_keys.clone(),
            rotation: config.rotation.clone(),
            body_timeout: Duration::from_secs(config.server.body_timeout_s.into()),
            expect: Expect::new(issuer.clone(), KEYWARD_AUDIENCE),
            expect_any: Expect::of_any_audience(issuer.clone()),
            applied: watch::Sender::new(applied),
            looks: Looks::default(),
            issuer,
            store,
            clock,
            entropy,
            hashing_key,
            master_key,
        };
        Ok((Arc::new(app), bootstrap))
    }

    /// The master key in force, read anew: another process may have replaced it.
    pub async fn master(&self) -> Result<MasterKey, StartError> {
        Ok(self.master_key.load(&self.store.list_sealed_secrets().await?)?)
    }

    /// The master key in force as long as this transaction lasts: what is to be stored must be sealed under this one.
    pub(crate) async fn master_of(&self, tx: &mut Tx) -> Result<MasterKey, StartError> {
        Ok(self.master_key.load(&tx.list_sealed_secrets().await?)?)
    }
}

async fn unlock(store: &Store, source: &MasterKeySource) -> Result<(MasterKey, HashingKey), StartError> {
    let secrets = store.list_sealed_secrets().await?;
    let sealed = hashing_key(&secrets).ok_or(StartError::Unfinished)?;
    let master = source.load(&secrets)?;
    let opened = master.open(HASHING_KEY, sealed).map_err(|e| StartError::Sealed(HASHING_KEY.to_owned(), e))?;
    let bytes: [u8; 32] = opened.as_slice().try_into().map_err(|_| StartError::HashingKey)?;
    Ok((master, HashingKey::new(&Secret::new(bytes))))
}
