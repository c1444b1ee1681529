//! Configuration: defaults ← file ← environment, parsed strictly into small structs, one per consumer.

mod read;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use keyward_model::caller::KEPT_UNSEEN;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use zeroize::Zeroizing;

use read::{merge, refuse_unknown, set_from_variable};

/// Every setting with its default and its explanation.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where and how to serve.
    pub server: ServerConfig,
    /// Where to store.
    pub database: DatabaseConfig,
    /// Where the master key is.
    pub master_key: MasterKeyConfig,
    /// When signing keys change.
    pub signing_keys: SigningKeysConfig,
    /// How much to keep in memory.
    pub cache: CacheConfig,
    /// How keys are replaced.
    pub rotation: RotationConfig,
    /// How to keep count of callers.
    pub callers: CallersConfig,
    /// What gateways may do.
    pub gateway: GatewayConfig,
    /// What a reported leak does.
    pub leaks: LeaksConfig,
    /// What people are told.
    pub notices: NoticesConfig,
    /// How they are told by mail.
    pub mail: MailConfig,
    /// How people sign in.
    pub login: LoginConfig,
    /// How long applications keep people signed in.
    pub sessions: SessionsConfig,
    /// How devices are signed in.
    pub device_grants: DeviceGrantsConfig,
    /// How much to bear.
    pub limits: LimitsConfig,
    /// What to log.
    pub log: LogConfig,
    /// Where to send traces.
    pub telemetry: TelemetryConfig,
}

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct ServerConfig {
    pub listen: SocketAddr,
    pub issuer: String,
    pub data: PathBuf,
    pub tls_certificate: PathBuf,
    pub tls_key: PathBuf,
    pub trusted_proxies: Vec<IpNet>,
    pub metrics_networks: Vec<IpNet>,
    pub max_connections: u32,
    pub max_connections_per_network: u32,
    pub header_timeout_s: u32,
    pub body_timeout_s: u32,
    pub shutdown_grace_s: u32,
}

/// `[database]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct DatabaseConfig {
    pub url: Zeroizing<String>,
    pub pool_size: u32,
    pub tls_ca: PathBuf,
}

impl std::fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseConfig").field("url", &"[redacted]").field("pool_size", &self.pool_size).finish()
    }
}

/// `[master_key]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct MasterKeyConfig {
    pub file: PathBuf,
    pub value: Zeroizing<String>,
}

impl std::fmt::Debug for MasterKeyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKeyConfig").field("file", &self.file).field("value", &"[redacted]").finish()
    }
}

/// `[signing_keys]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct SigningKeysConfig {
    pub rotate_after_days: u32,
    pub publish_ahead_minutes: u32,
}

/// `[cache]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct CacheConfig {
    pub entries: u64,
}

/// `[rotation]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct RotationConfig {
    pub overlap_days: u32,
    pub max_overlap_days: u32,
    pub quiet_hours: u32,
    pub warn_days: u32,
    pub contact_url: String,
}

impl RotationConfig {
    /// How long a replaced key goes on, unless something else is said.
    pub(crate) fn overlap(&self) -> Duration {
        days(self.overlap_days)
    }

    /// How long it may go on at most.
    pub(crate) fn max_overlap(&self) -> Duration {
        days(self.max_overlap_days)
    }

    /// For how long nobody may have used it before it is finished.
    pub(crate) fn quiet_for(&self) -> Duration {
        Duration::from_secs(u64::from(self.quiet_hours) * 3600)
    }

    /// How long before its end its users are warned.
    pub(crate) fn warn_ahead(&self) -> Duration {
        days(self.warn_days)
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 3600)
}

/// `[callers]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct CallersConfig {
    pub flush_s: u32,
}

/// `[notices]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct NoticesConfig {
    pub days: Vec<u16>,
    pub allow_networks: Vec<IpNet>,
}

/// `[mail]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct MailConfig {
    pub smtp_url: Zeroizing<String>,
    pub from: String,
    pub team: String,
}

impl std::fmt::Debug for MailConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("MailConfig");
        shown.field("smtp_url", &"[redacted]").field("from", &self.from).field("team", &self.team).finish()
    }
}

/// `[gateway]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct GatewayConfig {
    pub basic: bool,
    pub ext_authz: bool,
    pub allow_networks: Vec<IpNet>,
}

/// `[leaks]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct LeaksConfig {
    pub on_report: OnReport,
}

/// What happens to a key that is reported as leaked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReport {
    /// It ends at once.
    Revoke,
    /// It ends within an hour.
    Retire,
    /// It goes on; the report is in the log.
    Note,
}

/// `[login]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct LoginConfig {
    pub idle_hours: u32,
    pub max_days: u32,
    pub fresh_minutes: u32,
    pub invitation_hours: u32,
    pub attempts_burst: u32,
    pub attempts_per_minute: u32,
}

/// `[sessions]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct SessionsConfig {
    pub idle_days: u32,
    pub max_days: u32,
}

impl SessionsConfig {
    /// How long a session goes on unused.
    pub(crate) fn idle(&self) -> Duration {
        days(self.idle_days)
    }

    /// How long it goes on at most.
    pub(crate) fn lasts(&self) -> Duration {
        days(self.max_days)
    }
}

/// `[device_grants]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct DeviceGrantsConfig {
    pub hold_s: u8,
    pub held_polls: u32,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct LimitsConfig {
    pub failures_burst: u32,
    pub failures_per_minute: u32,
    pub changes_burst: u32,
    pub changes_per_minute: u32,
    pub feed_readers: u32,
    pub clients_per_owner: u32,
    pub credentials_per_client: u32,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for machines.
    Json,
}

/// From which weight on something is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual five")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `[telemetry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml explains every setting")]
pub struct TelemetryConfig {
    pub otlp_endpoint: String,
}

/// What is wrong with the configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("the configuration file cannot be read: {0}")]
    Syntax(String),
    /// A setting that does not exist.
    #[error("line {line}: there is no setting {name}; `keyward doctor --settings` lists all")]
    Unknown {
        /// Where, counted from 1.
        line: usize,
        /// Its name with its section.
        name: String,
    },
    /// A variable for a setting that does not exist.
    #[error("environment variable {0} names no setting; `keyward doctor --settings` lists all")]
    UnknownVariable(String),
    /// A variable whose value does not fit.
    #[error("environment variable {name}: {problem}")]
    Variable {
        /// Which.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A value that does not fit its setting.
    #[error("{0}")]
    Value(String),
}

/// Variables that begin with `KEYWARD_` but belong to the command line, not to the server.
const NOT_SETTINGS: &[&str] =
    &["KEYWARD_URL", "KEYWARD_CLIENT_ID", "KEYWARD_CLIENT_SECRET", "KEYWARD_CONFIG", "KEYWARD_PROFILE"];

impl Config {
    /// Reads the settings from a configuration file's text and the environment's variables.
    pub fn load(
        file: Option<&str>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings: Table = DEFAULTS.parse().map_err(|e| ConfigError::Syntax(format!("defaults: {e}")))?;
        if let Some(text) = file {
            refuse_unknown(text, &settings)?;
            let file: Table = text.parse().map_err(|e| ConfigError::Syntax(format!("{e}")))?;
            merge(&mut settings, file);
        }
        for (name, value) in variables {
            if name.starts_with("KEYWARD_") && !name.starts_with("KEYWARD_TEST_") && !NOT_SETTINGS.contains(&&*name) {
                set_from_variable(&mut settings, &name, &value)?;
            }
        }
        let config: Self = Value::Table(settings)
            .try_into()
            .map_err(|e: toml::de::Error| ConfigError::Value(e.message().to_owned()))?;
        config.check()
    }

    /// All settings as they are without a file and an environment.
    pub fn defaults() -> Result<Self, ConfigError> {
        Self::load(None, [])
    }

    fn check(self) -> Result<Self, ConfigError> {
        let server = &self.server;
        let refuse = |problem: &str| Err(ConfigError::Value(problem.to_owned()));
        if server.tls_certificate.as_os_str().is_empty() != server.tls_key.as_os_str().is_empty() {
            return refuse("[server] tls_certificate and tls_key go together");
        }
        if self.device_grants.hold_s > 8 {
            return refuse("[device_grants] hold_s must be at most 8: clients give up after 10 seconds");
        }
        if !server.issuer.is_empty() && !is_issuer(&server.issuer) {
            // RFC 8414 §2: no query or fragment components.
            return refuse("[server] issuer must be an http(s) URL without query, fragment or a slash at its end");
        }
        let ServerConfig { max_connections, max_connections_per_network, header_timeout_s, body_timeout_s, .. } =
            *server;
        if [max_connections, max_connections_per_network, header_timeout_s, body_timeout_s].contains(&0) {
            return refuse("[server] neither the connections nor the timeouts of head and body may be 0");
        }
        if self.database.pool_size == 0 || self.cache.entries == 0 {
            return refuse("[database] pool_size and [cache] entries must not be 0");
        }
        if self.callers.flush_s == 0 {
            return refuse("[callers] flush_s must not be 0");
        }
        if self.notices.days.len() > 20 || self.notices.days.iter().any(|days| !(1..=366).contains(days)) {
            return refuse("[notices] days must be at most 20 numbers from 1 to 366");
        }
        if is_password_in_the_open(&self.mail.smtp_url) {
            return refuse("[mail] smtp_url would send its password unencrypted; write smtps:// or add ?tls=required");
        }
        let LoginConfig { idle_hours, max_days, fresh_minutes, invitation_hours, .. } = self.login;
        let LoginConfig { attempts_burst, attempts_per_minute, .. } = self.login;
        if [idle_hours, max_days, fresh_minutes, invitation_hours, attempts_burst, attempts_per_minute].contains(&0) {
            return refuse("[login] no setting may be 0");
        }
        if max_days > 366 || u64::from(idle_hours) > u64::from(max_days) * 24 || invitation_hours > 31 * 24 {
            return refuse(
                "[login] max_days is at most 366, idle_hours no more than that, invitation_hours at most 744",
            );
        }
        let SessionsConfig { idle_days, max_days } = self.sessions;
        if idle_days == 0 || idle_days > max_days || max_days > 366 {
            return refuse("[sessions] idle_days must not be 0 nor more than max_days, which is at most 366");
        }
        let LimitsConfig { failures_burst, failures_per_minute, changes_burst, changes_per_minute, .. } = self.limits;
        if [failures_burst, failures_per_minute, changes_burst, changes_per_minute].contains(&0) {
            return refuse("[limits] the bursts and the numbers per minute must not be 0");
        }
        let rotation = &self.rotation;
        if rotation.overlap_days == 0 || rotation.overlap_days > rotation.max_overlap_days {
            return refuse("[rotation] overlap_days must not be 0 nor more than max_overlap_days");
        }
        if rotation.quiet_hours == 0 || rotation.quiet_for() > KEPT_UNSEEN {
            return refuse(
                "[rotation] quiet_hours must be 1 to 2160: with 0, keys end under their callers, and who was not seen for \
                 90 days is forgotten",
            );
        }
        if !is_contact(&rotation.contact_url) {
            return refuse("[rotation] contact_url must be an https, http or mailto URL of visible ASCII characters");
        }
        Ok(self)
    }
}

/// What stands in answers for people to follow: nothing that could do more than be a link.
fn is_contact(text: &str) -> bool {
    text.is_empty()
        || ["https://", "http://", "mailto:"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
            && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'<' | b'>'))
}

/// Whether the connection goes on without TLS although the URL holds a user. Judged by the parts of the URL, as the mail
/// client takes them; what is no URL is refused there.
fn is_password_in_the_open(smtp_url: &str) -> bool {
    let Ok(url) = smtp_url.parse::<reqwest::Url>() else { return false };
    let has_user = !url.username().is_empty() || url.password().is_some();
    let tls = url.query_pairs().find(|(name, _)| name == "tls");
    has_user && url.scheme() != "smtps" && tls.is_none_or(|(_, how)| how != "required")
}

fn is_issuer(text: &str) -> bool {
    let authority_and_path = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    authority_and_path.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && !rest.ends_with('/')
            && rest.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'"' | b'\\' | b'<' | b'>'))
    })
}
