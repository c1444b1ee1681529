//! The server's settings as every command that works with the server's own files resolves them.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use keyward_model::entropy::Entropy;
use keyward_server::app::{Patience, Surroundings};
use keyward_server::clock::Clock;
use keyward_server::config::Config;
use keyward_server::master_key::MasterKeySource;
use keyward_store::{DatabaseUrl, Options, Store};

use crate::failure::Failure;

/// Where the settings come from, beside the environment (`KEYWARD_SERVER_LISTEN` and the like).
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Settings {
    /// Configuration file of the server, else that of KEYWARD_CONFIG; `keyward doctor --settings` prints one to begin with.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the embedded database and the master key.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Settings {
    /// Defaults ← file ← environment ← the options of this command.
    pub(crate) fn load(&self, listen: Option<SocketAddr>) -> anyhow::Result<Config> {
        let variables = self.variables(listen)?;
        Ok(Config::load(self.file()?.as_deref(), variables.into_iter().map(|v| (v.name, v.value)))?)
    }

    /// Whether this command names the server's own files.
    pub(crate) fn are_named(&self) -> bool {
        self.config.is_some() || self.data.is_some()
    }

    /// The configuration file, if there is one.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let from_environment = || std::env::var_os("KEYWARD_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        self.config.clone().or_else(from_environment)
    }

    /// The text of the configuration file, if there is one.
    pub(crate) fn file(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = self.path() else { return Ok(None) };
        let text = std::fs::read_to_string(&path);
        text.map(Some).with_context(|| format!("the configuration file {}", path.display()))
    }

    /// The variables that may be settings, and the options of the command in the form of such; later ones win.
    pub(crate) fn variables(&self, listen: Option<SocketAddr>) -> anyhow::Result<Vec<Variable>> {
        let mut variables = environment();
        if let Some(data) = &self.data {
            let value = data.to_str().ok_or_else(|| Failure::usage("--data must be valid UTF-8"))?.to_owned();
            variables.push(Variable { name: "KEYWARD_SERVER_DATA".to_owned(), value, from: "--data" });
        }
        if let Some(listen) = listen {
            let value = listen.to_string();
            variables.push(Variable { name: "KEYWARD_SERVER_LISTEN".to_owned(), value, from: "--listen" });
        }
        Ok(variables)
    }
}

/// A setting from outside the configuration file.
pub(crate) struct Variable {
    /// `KEYWARD_SERVER_LISTEN` or the like.
    pub(crate) name: String,
    pub(crate) value: String,
    /// For people: the environment, or the option.
    pub(crate) from: &'static str,
}

/// All environment variables that are text.
fn environment() -> Vec<Variable> {
    let text = |word: OsString| word.into_string().ok();
    let variable = |(name, value)| Some(Variable { name: text(name)?, value: text(value)?, from: "environment" });
    std::env::vars_os().filter_map(variable).collect()
}

/// The database of these settings: the one that is named, else the embedded one in the data directory.
pub(crate) fn database(config: &Config) -> anyhow::Result<DatabaseUrl> {
    if config.database.url.is_empty() {
        return Ok(DatabaseUrl::sqlite(config.server.data.join("keyward.db")));
    }
    Ok(config.database.url.parse()?)
}

/// Where the master key of these settings is.
pub(crate) fn master_key(config: &Config) -> MasterKeySource {
    MasterKeySource::from_config(config, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from))
}

/// What a server works with outside of tests.
pub(crate) fn surroundings(store: Store, config: &Config) -> Surroundings {
    Surroundings {
        store,
        clock: Clock::system(),
        entropy: Entropy::system(),
        master_key: master_key(config),
        patience: Patience::default(),
    }
}

/// Opens the database for the server.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Store> {
    Ok(Store::open(&options(config)?).await?)
}

/// Opens the database of a server that may be running, never a new one.
pub(crate) async fn open_beside(config: &Config) -> anyhow::Result<Store> {
    let mut options = options(config)?;
    options.exclusive = false;
    if let Some(path) = options.url.sqlite_path().filter(|path| !path.exists()) {
        let missing = format!("there is no database at {}", path.display());
        return Err(Failure::new(missing).hint("name the server's own files with --data or --config").into());
    }
    Ok(Store::open(&options).await?)
}

fn options(config: &Config) -> anyhow::Result<Options> {
    let mut options = Options::new(database(config)?);
    options.pool_size = config.database.pool_size.try_into()?;
    if !config.database.tls_ca.as_os_str().is_empty() {
        options.tls_ca = Some(config.database.tls_ca.clone());
    }
    Ok(options)
}

/// Where a server with these settings is most likely reached: under its public URL, else at its address on this machine.
pub(crate) fn likely_url(config: &Config) -> String {
    if config.server.issuer.is_empty() { local_url(config) } else { config.server.issuer.clone() }
}

/// Where this machine reaches a server with these settings that runs on it.
pub(crate) fn local_url(config: &Config) -> String {
    let scheme = if config.server.tls_certificate.as_os_str().is_empty() { "http" } else { "https" };
    format!("{scheme}://{}", reachable(config.server.listen))
}

/// The address at which this machine reaches a server that listens on `address`.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// Makes the data directory, for its owner alone, if anything will be kept in it.
pub(crate) fn create_data_directory(config: &Config) -> anyhow::Result<()> {
    let data = &config.server.data;
    let database = database(config)?;
    let keeps_database = database.sqlite_path().is_some_and(|path| path.starts_with(data));
    let keeps_key =
        matches!(master_key(config), MasterKeySource::File { path, create: true } if path.starts_with(data));
    if keeps_database || keeps_key { create_private(data) } else { Ok(()) }
}

/// Makes a directory that only its owner can enter; one that is there stays as it is.
pub(crate) fn create_private(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("the directory {} cannot be made", path.display()))
}
