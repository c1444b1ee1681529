//! Where the master key comes from, and how it is replaced.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use keyward_model::entropy::Entropy;
use keyward_model::sealing::{MasterKey, SealError};
use keyward_model::webhook::sealed_name;
use keyward_store::{SealedWebhook, Store, Tx};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::private_file;

/// The name of the hashing key among the sealed secrets; whatever opens it is the master key in force.
pub const HASHING_KEY: &str = "hashing key";
/// The name under which systemd hands the master key to the unit.
const SYSTEMD_CREDENTIAL: &str = "keyward.master-key";

/// Why there is no usable master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read or written.
    #[error("master key file {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The file or variable holds something else.
    #[error("{0} holds no master key of the form kwm_…")]
    Form(String),
    /// The database was sealed under a key that is not there.
    #[error(
        "the database is sealed under a master key that {0} does not hold; put the right key there (it cannot be recovered)"
    )]
    Wrong(String),
    /// There is nothing in the database yet that a key could be in force for.
    #[error("this database has not been started yet")]
    NotStarted,
    /// The system gave no random bytes.
    #[error(transparent)]
    Entropy(#[from] keyward_model::entropy::EntropyError),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The source cannot be written to.
    #[error("the master key comes from {0}, which cannot be written; give --new-key-file")]
    Fixed(String),
}

/// Where the master key is to be found.
#[derive(Debug, Clone)]
pub enum MasterKeySource {
    /// Given by an environment variable or the configuration.
    Value(Zeroizing<String>),
    /// In a file; created at the first start when `create` is set.
    File {
        /// Which.
        path: PathBuf,
        /// Whether to create it for a new database.
        create: bool,
    },
}

impl MasterKeySource {
    /// As the settings say: the value, the file, systemd's credential, `master.key` in the data directory.
    pub fn from_config(config: &Config, credentials_directory: Option<PathBuf>) -> Self {
        if !config.master_key.value.is_empty() {
            return Self::Value(config.master_key.value.clone());
        }
        if !config.master_key.file.as_os_str().is_empty() {
            return Self::File { path: config.master_key.file.clone(), create: true };
        }
        if let Some(path) = credentials_directory.map(|d| d.join(SYSTEMD_CREDENTIAL)).filter(|p| p.exists()) {
            return Self::File { path, create: false };
        }
        Self::File { path: config.server.data.join("master.key"), create: true }
    }

    /// For messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Value(_) => "the setting [master_key] value".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// The master key in force: the one under which the stored hashing key among `secrets` was sealed.
    pub fn load(&self, secrets: &[(String, Vec<u8>)]) -> Result<MasterKey, MasterKeyError> {
        let sealed = hashing_key(secrets).ok_or(MasterKeyError::NotStarted)?;
        let keys = self.read()?;
        keys.into_iter()
            .find(|key| key.open(HASHING_KEY, sealed).is_ok())
            .ok_or_else(|| MasterKeyError::Wrong(self.describe()))
    }

    /// The master key for a new database: the first that is there, else a new one, where one may be made.
    pub fn load_or_create(&self, entropy: &Entropy) -> Result<MasterKey, MasterKeyError> {
        match self {
            Self::File { path, create: true } if !path.exists() => {
                let key = MasterKey::generate(entropy)?;
                write(path, &[&key])?;
                Ok(key)
            }
            _ => self.read()?.into_iter().next().ok_or_else(|| MasterKeyError::Form(self.describe())),
        }
    }

    /// All keys there are: one, or two while one replaces the other.
    fn read(&self) -> Result<Vec<MasterKey>, MasterKeyError> {
        let text = match self {
            Self::Value(value) => value.clone(),
            Self::File { path, .. } => {
                let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
                if mode & 0o077 != 0 {
                    tracing::warn!(file = %path.display(), "others may read the master key: chmod 600");
                }
                Zeroizing::new(fs::read_to_string(path).map_err(|e| MasterKeyError::File(path.clone(), e))?)
            }
        };
        text.split_whitespace()
            .map(|word| MasterKey::parse(word).map_err(|_| MasterKeyError::Form(self.describe())))
            .collect()
    }
}

/// The stored hashing key, sealed.
pub(crate) fn hashing_key(secrets: &[(String, Vec<u8>)]) -> Option<&[u8]> {
    secrets.iter().find(|(name, _)| name == HASHING_KEY).map(|(_, sealed)| sealed.as_slice())
}

/// Writes the keys, newest first, so that at any instant the file is whole and readable by nobody else.
fn write(path: &Path, keys: &[&MasterKey]) -> Result<(), MasterKeyError> {
    let lines: Vec<_> = keys.iter().map(|key| key.reveal()).collect();
    let text = Zeroizing::new(lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>());
    private_file::replace(path, text.as_bytes()).map_err(|e| MasterKeyError::File(path.to_owned(), e))
}

/// Replaces the master key: everything sealed is sealed anew in one transaction.
///
/// That transaction holds the end of the log from its first statement on, as does everyone who seals something under
/// the key in force: nothing is sealed under the old key that is not sealed anew here, and of two replacements at once
/// one follows the other. While it runs, the file holds both keys, so a crash at any instant leaves a server that
/// starts.
pub async fn rotate(
    store: &Store,
    source: &MasterKeySource,
    replacement: Option<MasterKey>,
    entropy: &Entropy,
) -> Result<usize, anyhow::Error> {
    let mut tx = store.begin().await?;
    let secrets = tx.list_sealed_secrets().await?;
    let old = source.load(&secrets)?;
    let new = match (&replacement, source) {
        (Some(given), _) => given.clone(),
        (None, MasterKeySource::File { path, create: true }) => {
            let new = MasterKey::generate(entropy)?;
            write(path, &[&new, &old])?;
            new
        }
        (None, fixed) => return Err(MasterKeyError::Fixed(fixed.describe()).into()),
    };
    let mut resealed = 0;
    for (name, secret) in &secrets {
        tx.reseal_secret(name, new.seal(name, &old.open(name, secret)?)?).await?;
        resealed += 1;
    }
    for row in tx.list_signing_keys().await? {
        let name = crate::key_ring::sealed_name(row.key.id);
        tx.reseal_signing_key(row.key.id, new.seal(&name, &old.open(&name, &row.key.sealed)?)?).await?;
        resealed += 1;
    }
    for webhook in tx.list_sealed_webhooks().await? {
        resealed += reseal_webhook(&mut tx, webhook, &old, &new).await?;
    }
    tx.record(keyward_model::event::Draft {
        kind: "master_key.rotated",
        subject: "master_key".to_owned(),
        data: serde_json::json!({ "resealed": resealed }),
    });
    let origin = keyward_store::Origin {
        actor: keyward_model::event::Actor::system("console"),
        source: None,
        now: crate::clock::Clock::system().now(),
    };
    tx.commit(&origin).await?;
    if let (None, MasterKeySource::File { path, .. }) = (&replacement, source) {
        // Another replacement may have followed at once: only what is in force under the lock stays in the file.
        let mut tx = store.begin().await?;
        let in_force = source.load(&tx.list_sealed_secrets().await?)?;
        write(path, &[&in_force])?;
    }
    Ok(resealed)
}

/// Seals the secrets of a webhook anew; gives how many.
async fn reseal_webhook(
    tx: &mut Tx,
    webhook: SealedWebhook,
    old: &MasterKey,
    new: &MasterKey,
) -> Result<usize, anyhow::Error> {
    let name = sealed_name(webhook.id);
    let reseal = |sealed: &[u8]| new.seal(&name, &old.open(&name, sealed)?);
    let sealed = reseal(&webhook.sealed)?;
    let before = webhook.before.map(|(before, until)| Ok::<_, SealError>((reseal(&before)?, until))).transpose()?;
    let count = 1 + usize::from(before.is_some());
    tx.reseal_webhook(&SealedWebhook { sealed, before, ..webhook }).await?;
    Ok(count)
}
