//! The setting that says which database: `sqlite:PATH` or `postgres://…`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::StoreError;

/// Address of a database: `sqlite:PATH`, or `postgres://user:password@host[:port][,host…]/database?sslmode=…`.
/// `sslmode` is `disable`, `prefer` (the default) or `require`; wherever TLS is used, the certificate is verified.
/// Printing it leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    target: Target,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Target {
    Sqlite(PathBuf),
    Postgres(Box<Config>),
}

impl DatabaseUrl {
    /// The SQLite file at `path`.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self { target: Target::Sqlite(path.into()) }
    }

    /// The file, when this names an SQLite database.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        match &self.target {
            Target::Sqlite(path) => Some(path),
            Target::Postgres(_) => None,
        }
    }

    /// Whether a server on another host is reached in plain text when it does not offer TLS, or by intention.
    #[must_use]
    pub fn may_be_unencrypted(&self) -> bool {
        match &self.target {
            Target::Sqlite(_) => false,
            Target::Postgres(config) => {
                config.get_ssl_mode() != SslMode::Require && !config.get_hosts().iter().all(is_this_machine)
            }
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return sqlite_target(path).map(|target| Self { target });
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return postgres_target(text).map(|target| Self { target });
        }
        Err(StoreError::Config("the database URL must begin with `sqlite:` or `postgres://`".to_owned()))
    }
}

fn sqlite_target(path: &str) -> Result<Target, StoreError> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains(":memory:") {
        return Err(StoreError::Config(
            "`sqlite:` needs the path of a file; a database in memory has only one connection".to_owned(),
        ));
    }
    if path.contains(['?', '\0']) {
        return Err(StoreError::Config("`sqlite:PATH` takes no parameters".to_owned()));
    }
    Ok(Target::Sqlite(PathBuf::from(path)))
}

fn postgres_target(text: &str) -> Result<Target, StoreError> {
    let config = text.parse::<Config>().map_err(|error| {
        // Only this kind of reason is free of pieces of the URL, which may belong to a password.
        let reason = std::error::Error::source(&error)
            .map(ToString::to_string)
            .filter(|reason| reason.starts_with("invalid value for option"))
            .unwrap_or_else(|| {
                "check its options, and percent-encode special characters of user and password".to_owned()
            });
        StoreError::Config(format!("the PostgreSQL URL is not valid: {reason}"))
    })?;
    if config.get_hosts().is_empty() {
        return Err(StoreError::Config("the PostgreSQL URL names no host".to_owned()));
    }
    Ok(Target::Postgres(Box::new(config)))
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
        Host::Unix(_) => true,
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Target::Postgres(config) => write_postgres(f, config),
        }
    }
}

fn write_postgres(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    f.write_str("postgres://")?;
    if let Some(user) = config.get_user() {
        let hidden = if config.get_password().is_some() { ":***" } else { "" };
        write!(f, "{user}{hidden}@")?;
    }
    let ports = config.get_ports();
    for (at, host) in config.get_hosts().iter().enumerate() {
        f.write_str(if at == 0 { "" } else { "," })?;
        match host {
            Host::Tcp(name) => f.write_str(name)?,
            Host::Unix(path) => write!(f, "{}", path.display())?,
        }
        // One port may stand for all hosts.
        if let Some(port) = ports.get(at).or_else(|| ports.first()) {
            write!(f, ":{port}")?;
        }
    }
    write!(f, "/{}", config.get_dbname().unwrap_or_default())?;
    match config.get_ssl_mode() {
        SslMode::Disable => f.write_str("?sslmode=disable"),
        SslMode::Require => f.write_str("?sslmode=require"),
        _ => Ok(()),
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn parse(text: &str) -> Result<DatabaseUrl, StoreError> {
        text.parse()
    }

    #[test]
    fn printing_a_url_never_shows_the_password() {
        let url = parse("postgresql://kw:hunter2@db1:5433,db2/keyward?sslmode=require").unwrap();
        assert_eq!(url.to_string(), "postgres://kw:***@db1:5433,db2:5432/keyward?sslmode=require");
        assert!(!format!("{url:?} {url:#?}").contains("hunter2"));
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        for text in [
            "postgres://kw:hun?ter2@db/keyward?nonsense=hunter2",
            "postgres://kw:hunter2@db/keyward?sslmode=hunter2",
            "postgres://kw:p@hunter2?x@db/keyward",
            "mysql://kw:hunter2@db",
            "hunter2",
        ] {
            let StoreError::Config(message) = parse(text).unwrap_err() else { panic!("another kind for {text}") };
            assert!(!message.contains("hunter2") && !message.contains("ter2"), "{message}");
        }
    }

    #[test]
    fn a_wrong_option_value_is_named() {
        let error = parse("postgres://kw@db/keyward?sslmode=sometimes").unwrap_err();
        assert!(error.to_string().contains("`sslmode`"), "{error}");
    }

    #[test]
    fn sqlite_takes_a_path_and_nothing_else() {
        assert_eq!(parse("sqlite:data/keyward.db").unwrap().sqlite_path(), Some(Path::new("data/keyward.db")));
        assert_eq!(parse("sqlite:///var/kw.db").unwrap().sqlite_path(), Some(Path::new("/var/kw.db")));
        for text in ["sqlite:", "sqlite::memory:", "sqlite:kw.db?mode=ro"] {
            assert!(matches!(parse(text), Err(StoreError::Config(_))), "{text}");
        }
    }

    #[test]
    fn plain_text_to_another_host_is_noticed() {
        assert!(parse("postgres://kw@db/keyward").unwrap().may_be_unencrypted());
        assert!(!parse("postgres://kw@db/keyward?sslmode=require").unwrap().may_be_unencrypted());
        assert!(!parse("postgres://kw@127.0.0.1/keyward").unwrap().may_be_unencrypted());
        assert!(!parse("sqlite:kw.db").unwrap().may_be_unencrypted());
    }
}
