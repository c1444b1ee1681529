//! What is checked. Each check is one function that says what it found.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use http::header;
use keyward_model::time::Timestamp;
use keyward_server::config::{Config, OnReport};
use keyward_server::login;
use keyward_server::master_key::MasterKeySource;
use serde::Serialize;
use serde_json::Value;

use super::Level;
use crate::settings::{self, Settings};
use crate::{remote, when};

/// The beginning of 2026: a clock that is behind it was never set.
const RELEASED: Timestamp = Timestamp::from_seconds(1_767_225_600);
/// How far two clocks may differ: verifiers tolerate about as much.
const TOLERANCE: Duration = Duration::from_secs(30);

/// What a check found.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What is so.
    pub(crate) what: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

fn ok(what: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, what: what.into(), advice: None }
}

fn note(what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Note, what: what.into(), advice: Some(advice.into()) }
}

fn risk(what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Unsafe, what: what.into(), advice: Some(advice.into()) }
}

impl Finding {
    /// The settings do not even load.
    pub(crate) fn of_unusable(error: &anyhow::Error) -> Self {
        risk(format!("{error:#}"), "the server does not start with these settings")
    }
}

/// The settings by themselves.
pub(crate) fn settings(config: &Config, files: &Settings) -> Vec<Finding> {
    [
        Some(transport(config)),
        Some(issuer(config)),
        passkeys(config),
        secrets_in_the_file(config, files),
        database(config),
        leaks(config),
        gateways(config),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn gateways(config: &Config) -> Option<Finding> {
    let is_asked_for_others = config.gateway.basic || config.gateway.ext_authz;
    (is_asked_for_others && config.server.trusted_proxies.is_empty()).then(|| {
        note(
            "gateways are not believed when they say for whom they ask: all failures are charged to the gateway",
            "name the addresses of the gateways in [server] trusted_proxies",
        )
    })
}

fn passkeys(config: &Config) -> Option<Finding> {
    let issuer = &config.server.issuer;
    let host_and_path = issuer.split_once("://").map(|(_, rest)| rest)?;
    if host_and_path.contains('/') {
        return Some(note(
            format!("the issuer {issuer} is below a path, and the pages on which people sign in are not"),
            "give Keyward a host of its own if people are to sign in",
        ));
    }
    (!login::offers_passkeys(issuer)).then(|| {
        note(
            format!("people cannot sign in by passkey: browsers offer none for {issuer}"),
            "set [server] issuer to an https URL with a name, not an address; its host is part of every passkey, for ever",
        )
    })
}

fn leaks(config: &Config) -> Option<Finding> {
    (config.leaks.on_report == OnReport::Note).then(|| {
        note(
            "keys that are reported as leaked go on working",
            "set [leaks] on_report to revoke or retire, or see to it that somebody acts on credential.leak_reported at any hour",
        )
    })
}

fn transport(config: &Config) -> Finding {
    let server = &config.server;
    if !server.tls_certificate.as_os_str().is_empty() {
        return ok("TLS is on");
    }
    if server.listen.ip().is_loopback() {
        return ok(format!("plain HTTP on {}, which only this machine reaches", server.listen));
    }
    if server.trusted_proxies.is_empty() {
        return risk(
            format!("listening on {} without TLS: keys and tokens can be read on the way", server.listen),
            "set [server] tls_certificate and tls_key; or listen on 127.0.0.1 behind a proxy; or name the proxies in trusted_proxies",
        );
    }
    note(
        format!("listening on {} without TLS, for the trusted proxies", server.listen),
        "let nobody but them into that network",
    )
}

fn issuer(config: &Config) -> Finding {
    let server = &config.server;
    let issuer = &server.issuer;
    if issuer.is_empty() {
        return if server.listen.ip().is_loopback() {
            note(
                format!("no issuer is set: tokens say they are from {}", settings::likely_url(config)),
                "before other machines verify tokens, set [server] issuer to the public https URL",
            )
        } else {
            risk(
                format!("no issuer is set: tokens say they are from {}", settings::likely_url(config)),
                "set [server] issuer to the public https URL, or tokens stop to verify when the address changes",
            )
        };
    }
    if issuer.starts_with("https://") || remote::is_loopback(issuer) {
        return ok(format!("the issuer is {issuer}"));
    }
    risk(
        format!("the issuer {issuer} is not https: whoever is on the way can replace the published keys"),
        "set [server] issuer to an https URL (RFC 8414 §2)",
    )
}

fn secrets_in_the_file(config: &Config, files: &Settings) -> Option<Finding> {
    let path = files.path()?;
    let mode = mode(&path)?;
    let urls = [&config.database.url, &config.mail.smtp_url];
    let holds_secrets = !config.master_key.value.is_empty() || urls.iter().any(|url| url.contains('@'));
    (holds_secrets && mode & 0o077 != 0).then(|| {
        risk(
            format!("{} may hold secrets, and others may read it (mode {mode:03o})", path.display()),
            format!("chmod 600 {}", path.display()),
        )
    })
}

fn database(config: &Config) -> Option<Finding> {
    match settings::database(config) {
        Err(error) => Some(Finding::of_unusable(&error)),
        Ok(url) if url.may_be_unencrypted() => Some(risk(
            format!("the way to the database {url} may be unencrypted"),
            "add ?sslmode=require to [database] url, and tls_ca if its certificate is from an authority of your own",
        )),
        Ok(url) => Some(ok(format!("the database is {url}"))),
    }
}

/// What lies on the disk.
pub(crate) fn files(config: &Config, files: &Settings) -> Vec<Finding> {
    let data = &config.server.data;
    let database = settings::database(config).ok().and_then(|url| url.sqlite_path().map(Path::to_owned));
    let has_database = database.as_deref().is_some_and(Path::exists);
    let tls_key = &config.server.tls_key;
    let mut findings = Vec::new();
    if data.exists() {
        findings.push(private("the data directory", data));
    } else {
        findings.push(note(format!("there is no {} yet", data.display()), "the first start makes it"));
    }
    if let Some(database) = database.filter(|_| has_database) {
        findings.push(private("the database", &database));
        findings.extend(age(&database));
    }
    findings.push(master_key(config, has_database));
    if !tls_key.as_os_str().is_empty() {
        findings.push(if tls_key.exists() {
            private("the TLS key", tls_key)
        } else {
            risk(format!("there is no TLS key at {}", tls_key.display()), "the server does not start without it")
        });
    }
    findings.push(clock(when::now()));
    if let Some(path) = files.path() {
        findings.push(ok(format!("the configuration file is {}", path.display())));
    }
    findings
}

fn master_key(config: &Config, has_database: bool) -> Finding {
    match settings::master_key(config) {
        MasterKeySource::Value(_) => ok("the master key is in the setting [master_key] value"),
        MasterKeySource::File { path, .. } if path.exists() => private("the master key", &path),
        MasterKeySource::File { path, .. } if has_database => risk(
            format!("there is a database, but no master key at {}", path.display()),
            "put the key back from its backup: nothing opens the database without it",
        ),
        MasterKeySource::File { path, .. } => note(
            format!("there is no master key at {} yet", path.display()),
            "the first start makes it; then back it up",
        ),
    }
}

/// Whether nobody but its owner can touch it.
fn private(what: &str, path: &Path) -> Finding {
    match mode(path) {
        Some(mode) if mode & 0o077 != 0 => risk(
            format!("{what} {} is open to others (mode {mode:03o})", path.display()),
            format!("chmod go= {}", path.display()),
        ),
        Some(_) => ok(format!("{what} {} is its owner's alone", path.display())),
        None => note(format!("{what} {} cannot be looked at", path.display()), "run this as the user of the server"),
    }
}

fn mode(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o777)
}

fn clock(now: Timestamp) -> Finding {
    if now < RELEASED {
        return risk(
            format!("the clock says {}: it is wrong", when::minute(now)),
            "set it, and keep it right by NTP: tokens live by it",
        );
    }
    ok(format!("the clock says {}", when::minute(now)))
}

/// A file from the future tells of a clock that went back.
fn age(database: &Path) -> Option<Finding> {
    let written = std::fs::metadata(database).ok()?.modified().ok()?;
    let written = written.duration_since(std::time::UNIX_EPOCH).ok()?;
    let written = Timestamp::from_millis(i64::try_from(written.as_millis()).ok()?);
    (written > when::now().plus(TOLERANCE)).then(|| {
        risk(
            format!("the database was written {}: the clock is behind", when::relative(written, when::now())),
            "set the clock, and keep it right by NTP",
        )
    })
}

/// A server that answers, if one does.
pub(crate) async fn server(config: &Config, url: &str) -> Vec<Finding> {
    let Ok(http) = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build() else {
        return Vec::new();
    };
    let get = async |path: &str| http.get(format!("{url}{path}")).send().await;
    let Ok(health) = get("/healthz").await else {
        return vec![note(
            format!("no server answers at {url}"),
            "start it with `keyward serve`, or name it with --url",
        )];
    };
    let mut findings = vec![ok(format!("a server answers at {url}"))];
    let date = health.headers().get(header::DATE).and_then(|v| v.to_str().ok()).map(str::to_owned);
    findings.extend(date.and_then(|date| same_time(&date, when::now())));
    findings.push(match get("/readyz").await {
        Ok(ready) if ready.status().is_success() => ok("it is ready"),
        Ok(ready) => risk(format!("it is not ready ({})", ready.status()), "its log says why"),
        Err(_) => risk("it does not say whether it is ready", "its log says why"),
    });
    let metadata = match get("/.well-known/oauth-authorization-server").await {
        Ok(metadata) => metadata.json::<Value>().await.ok(),
        Err(_) => None,
    };
    let issuer = metadata.as_ref().and_then(|m| m.get("issuer")).and_then(Value::as_str);
    let expected = settings::likely_url(config);
    findings.push(match issuer {
        Some(issuer) if issuer == expected => ok(format!("its metadata names the issuer {issuer}")),
        Some(issuer) => risk(
            format!("its metadata names the issuer {issuer}, not {expected}"),
            "it runs with other settings than these, or something else answers there",
        ),
        None => risk("it publishes no metadata", "something else than Keyward answers there"),
    });
    findings
}

/// What the server's clock says beside ours.
fn same_time(date: &str, now: Timestamp) -> Option<Finding> {
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    let date = Timestamp::from_millis(date.as_millisecond());
    let apart = date.since(now).max(now.since(date));
    (apart > TOLERANCE).then(|| {
        risk(
            format!("its clock and this one are {} apart", when::span(apart)),
            "keep both right by NTP: tokens of the one are expired or not yet valid for the other",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(file: &str) -> Config {
        Config::load(Some(file), []).unwrap()
    }

    fn levels(file: &str) -> Vec<Level> {
        settings(&config(file), &Settings::default()).iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn the_defaults_are_safe() {
        assert!(!levels("").contains(&Level::Unsafe));
    }

    #[test]
    fn what_is_unsafe_is_found() {
        for file in [
            "[server]\nlisten = \"0.0.0.0:8080\"\nissuer = \"https://a.example\"",
            "[server]\nlisten = \"0.0.0.0:8080\"\ntrusted_proxies = [\"10.0.0.0/8\"]",
            "[server]\nissuer = \"http://a.example\"",
            "[database]\nurl = \"postgres://keyward@db/keyward\"",
            "[database]\nurl = \"mysql://keyward@db/keyward\"",
        ] {
            assert_eq!(levels(file).iter().filter(|level| **level == Level::Unsafe).count(), 1, "{file}");
        }
    }

    #[test]
    fn gateways_that_are_not_believed_are_noted() {
        let noted = |file: &str| gateways(&config(file)).map(|finding| finding.level);
        assert_eq!(noted("[gateway]\next_authz = true"), Some(Level::Note));
        assert_eq!(noted("[gateway]\nbasic = true"), Some(Level::Note));
        assert_eq!(noted("[gateway]\nbasic = true\n[server]\ntrusted_proxies = [\"10.0.0.0/8\"]"), None);
        assert_eq!(noted(""), None);
    }

    #[test]
    fn an_issuer_for_which_browsers_offer_no_passkeys_is_found() {
        let is_noted = |issuer: &str| {
            let config = config(&format!("[server]\nissuer = \"{issuer}\""));
            passkeys(&config).is_some_and(|finding| finding.level == Level::Note)
        };
        assert!(
            is_noted("https://192.0.2.1") && is_noted("http://127.0.0.1:8080") && is_noted("https://a.example/iam")
        );
        assert!(!is_noted("https://iam.example") && !is_noted("http://localhost:8080"));
        assert!(passkeys(&config("")).is_none(), "without an issuer, that is what is said");
    }

    #[test]
    fn a_clock_that_is_off_is_found() {
        assert_eq!(clock(Timestamp::from_seconds(0)).level, Level::Unsafe);
        assert_eq!(clock(RELEASED).level, Level::Ok);
        let date = "Thu, 01 Jan 2026 00:00:00 GMT";
        assert!(same_time(date, RELEASED.plus(Duration::from_secs(5))).is_none());
        assert!(same_time(date, RELEASED.plus(Duration::from_secs(90))).is_some());
    }
}
