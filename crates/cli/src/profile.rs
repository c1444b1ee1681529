//! As whom the command line talks to which server: the environment, else the profile in use.

pub(crate) mod command;
pub(crate) mod identity;
pub(crate) mod shelf;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use keyward_model::id::ClientId;
use keyward_model::key::Key;
use keyward_server::private_file;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::settings::create_private;
use identity::{Identity, Stored, Way};

/// A server, and as whom to talk to it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub(crate) struct Profile {
    /// The server's URL, without a slash at its end.
    pub(crate) url: String,
    /// The OAuth `client_id`.
    pub(crate) client_id: ClientId,
    /// As whom.
    pub(crate) identity: Identity,
    /// How to sign in, where somebody has said it.
    pub(crate) way: Option<Way>,
}

/// What the command line and the environment say of server and client.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// `--url`, `KEYWARD_URL`.
    pub(crate) url: Option<String>,
    /// `KEYWARD_CLIENT_ID`.
    pub(crate) client_id: Option<String>,
    /// `KEYWARD_CLIENT_SECRET`.
    pub(crate) client_secret: Option<Zeroizing<String>>,
}

impl Given {
    /// Adds what the environment says.
    pub(crate) fn with_environment(self) -> Self {
        let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            url: self.url,
            client_id: self.client_id.or_else(|| read("KEYWARD_CLIENT_ID")),
            client_secret: self.client_secret.or_else(|| read("KEYWARD_CLIENT_SECRET").map(Zeroizing::new)),
        }
    }
}

impl Profile {
    /// Who to be: as given, completed by the profile at `path`.
    ///
    /// A key, or a login, goes to the server it was stored for and to no other, wherever `--url` points.
    pub(crate) fn resolve(given: Given, path: &Path) -> anyhow::Result<Self> {
        let stored = if path.exists() { Some(Self::load(path)?) } else { None };
        let url = given.url.map(|url| base(&url)).transpose()?;
        match (given.client_id, given.client_secret) {
            (Some(client_id), Some(client_secret)) => {
                let client_id = client_id.parse().map_err(|e| Failure::usage(format!("KEYWARD_CLIENT_ID: {e}")))?;
                Key::parse(&client_secret).map_err(|e| Failure::usage(format!("KEYWARD_CLIENT_SECRET: {e}")))?;
                let url = url
                    .or(stored.map(|s| s.url))
                    .ok_or_else(|| Failure::usage("which server? name it with --url or KEYWARD_URL"))?;
                Ok(Self { url, client_id, identity: Identity::Key(client_secret), way: None })
            }
            (None, None) => {
                let stored = stored.ok_or_else(|| {
                    Failure::new(format!("there is no profile at {}", path.display())).hint(
                        "sign in with `keyward login --url URL`; a new server prints `keyward bootstrap …`, which makes one \
                         too; or set KEYWARD_URL, KEYWARD_CLIENT_ID and KEYWARD_CLIENT_SECRET",
                    )
                })?;
                stored.require_url(url.as_deref())?;
                if matches!(stored.identity, Identity::SignedOut) {
                    return Err(Failure::new(format!("nobody is signed in at {}", stored.url))
                        .hint("`keyward login` does it")
                        .into());
                }
                Ok(stored)
            }
            _ => Err(Failure::usage("KEYWARD_CLIENT_ID and KEYWARD_CLIENT_SECRET go together").into()),
        }
    }

    /// Refuses another server than the one it was stored for.
    pub(crate) fn require_url(&self, other: Option<&str>) -> anyhow::Result<()> {
        match other {
            Some(other) if other != self.url => {
                let what = if matches!(self.identity, Identity::Key(_)) { "key" } else { "login" };
                Err(Failure::usage(format!("the profile's {what} is for {}, not for {other}", self.url))
                    .hint("name another profile with --profile, or set KEYWARD_CLIENT_ID and KEYWARD_CLIENT_SECRET")
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Reads what was stored.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).map(Zeroizing::new);
        let text = text.with_context(|| format!("the profile {}", path.display()))?;
        serde_json::from_str(&text).map_err(|_| {
            // The parser's own words may quote what it read.
            Failure::new(format!("the profile {} is not readable as one", path.display()))
                .hint("it holds url, client_id and client_secret or login as JSON; remove it to begin anew")
                .into()
        })
    }

    /// Stores it for its owner alone, whole or not at all.
    pub(crate) fn store(&self, path: &Path) -> anyhow::Result<()> {
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        create_private(directory)?;
        let text = Zeroizing::new(serde_json::to_string_pretty(self)? + "\n");
        let written = private_file::replace(path, text.as_bytes());
        written.with_context(|| format!("the profile {} cannot be written", path.display()))
    }
}

/// A server's URL as the base of others.
pub(crate) fn base(url: &str) -> Result<String, Failure> {
    let parsed: Result<reqwest::Url, _> = url.parse();
    match parsed {
        Ok(parsed)
            if matches!(parsed.scheme(), "http" | "https")
                && parsed.has_host()
                && parsed.query().is_none()
                && parsed.fragment().is_none()
                && parsed.username().is_empty()
                && parsed.password().is_none() =>
        {
            Ok(parsed.as_str().trim_end_matches('/').to_owned())
        }
        _ => Err(Failure::usage("the URL of a server looks like https://keyward.example or http://127.0.0.1:8080")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    const KEY: &str = "kw_02tcRIyrxLXTR81B3dqdOxehv1hsdOHPxDuX3xn9YyIKbgl4yJuySCWzdimD4heup4FfSet";
    const CLIENT: &str = "client_01h455vb4pex5vsknk084sn02q";

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("keyward-profile-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        path
    }

    fn profile() -> Profile {
        let identity = Identity::Key(Zeroizing::new(KEY.to_owned()));
        Profile { url: "http://127.0.0.1:8080".to_owned(), client_id: CLIENT.parse().unwrap(), identity, way: None }
    }

    fn given(url: Option<&str>) -> Given {
        Given { url: url.map(str::to_owned), ..Given::default() }
    }

    fn problem(outcome: anyhow::Result<Profile>) -> String {
        outcome.err().unwrap().to_string()
    }

    #[test]
    fn a_stored_profile_is_readable_by_its_owner_alone() {
        let directory = directory("modes");
        let path = directory.join("keyward").join("profile.json");
        profile().store(&path).unwrap();
        // A file that was left open to all is closed when it is written again.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        profile().store(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let read = Profile::resolve(Given::default(), &path).unwrap();
        let Identity::Key(key) = read.identity else { panic!("no key") };
        assert_eq!((read.url.as_str(), key.as_str()), ("http://127.0.0.1:8080", KEY));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_profile_s_key_is_never_sent_to_another_server() {
        let directory = directory("url");
        let path = directory.join("profile.json");
        profile().store(&path).unwrap();
        assert!(Profile::resolve(given(Some("http://127.0.0.1:8080/")), &path).is_ok());
        let refused = problem(Profile::resolve(given(Some("https://elsewhere.example")), &path));
        assert_eq!(refused, "the profile's key is for http://127.0.0.1:8080, not for https://elsewhere.example");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_given_needs_no_profile() {
        let nowhere = Path::new("/nonexistent/profile.json");
        let client_secret = Some(Zeroizing::new(KEY.to_owned()));
        let client_id = Some(CLIENT.to_owned());
        let all = Given { client_id, client_secret, ..given(Some("https://keyward.example/iam/")) };
        assert_eq!(Profile::resolve(all, nowhere).unwrap().url, "https://keyward.example/iam");
        let half = Given { client_id: Some(CLIENT.to_owned()), ..given(None) };
        assert!(problem(Profile::resolve(half, nowhere)).contains("go together"));
        assert!(problem(Profile::resolve(given(None), nowhere)).contains("no profile"));
    }

    #[test]
    fn whoever_signed_out_is_told_to_sign_in() {
        let directory = directory("out");
        let path = directory.join("profile.json");
        Profile { identity: Identity::SignedOut, ..profile() }.store(&path).unwrap();
        assert_eq!(problem(Profile::resolve(given(None), &path)), "nobody is signed in at http://127.0.0.1:8080");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_damaged_profile_is_not_quoted() {
        let directory = directory("damaged");
        create_private(&directory).unwrap();
        let path = directory.join("profile.json");
        fs::write(&path, "{\"client_secret\": \"hunter2\"").unwrap();
        assert!(!format!("{:?}", Profile::resolve(given(None), &path).err().unwrap()).contains("hunter2"));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn only_the_url_of_a_server_is_one() {
        assert_eq!(base("http://[::1]:8080/").unwrap(), "http://[::1]:8080");
        for text in ["", "127.0.0.1:8080", "ftp://a", "https://", "https://a/?b", "https://a/#b", "https://u:p@a"] {
            assert!(base(text).is_err(), "{text}");
        }
    }
}
