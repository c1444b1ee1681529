//! Access tokens: a client gets them for its key, whoever is signed in for the refresh token of their login.
//!
//! A refresh token works once: given twice, it is taken for stolen (RFC 9700 §4.14.2). So commands that run at the same
//! time take turns at a lock beside the profile, and each looks at what the one before has written down.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use keyward_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::profile::Profile;
use crate::profile::identity::{Identity, Login};
use crate::remote::{self, no_keyward, refusal, unreachable};
use crate::terminal;
use crate::when;

/// A token that ends so soon is not begun with.
const TOO_SHORT: Duration = Duration::from_secs(20);
/// How long another command may keep the lock: longer than its requests can take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often the lock is tried.
const KNOCK: Duration = Duration::from_millis(25);
/// How often a refresh is tried whose answer does not arrive. The server answers the same again for a minute.
const ATTEMPTS: u32 = 3;
/// How long one of them may take.
const ATTEMPT: Duration = Duration::from_secs(20);

/// What is asked for at the token endpoint.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenRequest {
    /// Space-separated scopes; all there are if absent.
    pub(crate) scope: Option<String>,
    /// Space-separated resource paths; all there are if absent.
    pub(crate) res: Option<String>,
    /// Audiences of the APIs it is for (RFC 8707 §2); the client's only API if there are none.
    pub(crate) resources: Vec<String>,
}

impl TokenRequest {
    fn form<'a>(&'a self, grant: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut form = grant.to_vec();
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        form.extend(self.res.as_deref().map(|res| ("res", res)));
        form.extend(self.resources.iter().map(|resource| ("resource", resource.as_str())));
        form
    }
}

/// A token, as the token endpoint gave it (RFC 6749 §5.1).
#[derive(Serialize, Deserialize)]
pub(crate) struct Token {
    /// The JWT.
    pub(crate) access_token: Zeroizing<String>,
    /// `Bearer`.
    pub(crate) token_type: String,
    /// Seconds until it ends.
    pub(crate) expires_in: i64,
    /// What was granted.
    #[serde(default)]
    pub(crate) scope: String,
    /// Gives the next one. Stays in the profile, whatever is printed.
    #[serde(default, skip_serializing)]
    pub(crate) refresh_token: Option<Zeroizing<String>>,
    /// `retiring` or `expiring`, if the key ends soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_state: Option<String>,
    /// When it ends, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_expires_at: Option<i64>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_notice: Option<String>,
}

impl Token {
    /// Tells people that the key they use ends soon, if it does.
    pub(crate) fn warn(&self) {
        if let Some(notice) = &self.key_notice {
            terminal::note(&format!("warning: {}", terminal::visible(notice)));
        }
    }

    /// When it ends.
    pub(crate) fn expires_at(&self, now: Timestamp) -> Timestamp {
        now.plus(Duration::from_secs(self.expires_in.try_into().unwrap_or(0)))
    }

    /// The one a login has in hand, if it lives for a while yet.
    fn in_hand(login: &Login, now: Timestamp) -> Option<Self> {
        let left = login.expires_at.since(now);
        (left > TOO_SHORT).then(|| Self {
            access_token: login.access_token.clone(),
            token_type: "Bearer".to_owned(),
            expires_in: left.as_secs().try_into().unwrap_or(i64::MAX),
            scope: login.scope.clone(),
            refresh_token: None,
            key_state: None,
            key_expires_at: None,
            key_notice: None,
        })
    }
}

/// Gets tokens in the name of a profile.
pub(crate) struct Access {
    /// A client for its server.
    pub(crate) http: reqwest::Client,
    /// The server's URL.
    pub(crate) url: String,
    profile: Profile,
    /// Where the profile is kept, and its login with it.
    path: PathBuf,
}

impl Access {
    /// Of the profile at `path`.
    pub(crate) fn new(profile: Profile, path: PathBuf) -> anyhow::Result<Self> {
        Ok(Self { http: remote::http(&profile.url)?, url: profile.url.clone(), profile, path })
    }

    /// A token.
    pub(crate) async fn token(&self, request: &TokenRequest) -> anyhow::Result<Token> {
        self.token_after(request, None).await
    }

    /// Another one than this, which the server has refused.
    pub(crate) async fn token_after(&self, request: &TokenRequest, refused: Option<&str>) -> anyhow::Result<Token> {
        match &self.profile.identity {
            Identity::Key(key) => self.for_key(key, request).await,
            Identity::Login(_) => self.for_login(request, refused).await,
            Identity::SignedOut => Err(signed_out(&self.url).into()),
        }
    }

    async fn for_key(&self, key: &str, request: &TokenRequest) -> anyhow::Result<Token> {
        let form = request.form(&[("grant_type", "client_credentials")]);
        let sent = self
            .http
            .post(format!("{}/token", self.url))
            // Neither half holds a character that RFC 6749 §2.3.1 would have encoded.
            .basic_auth(self.profile.client_id, Some(key))
            .form(&form)
            .send()
            .await;
        self.read(sent.map_err(|e| unreachable(&self.url, &e))?).await
    }

    async fn for_login(&self, request: &TokenRequest, refused: Option<&str>) -> anyhow::Result<Token> {
        let _turn = lock(&self.path).await?;
        // What the command before has written down while this one waited counts, not what was read before.
        let mut profile = Profile::load(&self.path)?;
        profile.require_url(Some(&self.url))?;
        let client_id = profile.client_id.to_string();
        let Identity::Login(login) = &mut profile.identity else { return Err(signed_out(&self.url).into()) };
        let everything = *request == TokenRequest::default();
        let in_hand = Token::in_hand(login, when::now()).filter(|token| refused != Some(token.access_token.as_str()));
        if let Some(token) = in_hand.filter(|_| everything) {
            return Ok(token);
        }
        let refresh_token = login.refresh_token.clone();
        let grant =
            [("grant_type", "refresh_token"), ("refresh_token", &*refresh_token), ("client_id", client_id.as_str())];
        let mut token = self.refresh(&request.form(&grant)).await?;
        if let Some(next) = token.refresh_token.take() {
            login.refresh_token = next;
        }
        if everything {
            login.access_token.clone_from(&token.access_token);
            login.expires_at = token.expires_at(when::now());
            login.scope.clone_from(&token.scope);
        }
        profile.store(&self.path)?;
        Ok(token)
    }

    async fn refresh(&self, form: &[(&str, &str)]) -> anyhow::Result<Token> {
        let mut attempt = 1;
        loop {
            match self.http.post(format!("{}/token", self.url)).timeout(ATTEMPT).form(form).send().await {
                Err(_) if attempt < ATTEMPTS => tokio::time::sleep(Duration::from_secs(1)).await,
                Err(error) => return Err(unreachable(&self.url, &error).into()),
                Ok(response) if response.status().is_client_error() => {
                    let failure = refusal(&self.url, response).await;
                    return Err(if failure.may_pass() { failure } else { ended(&failure) }.into());
                }
                Ok(response) => return self.read(response).await,
            }
            attempt += 1;
        }
    }

    async fn read(&self, response: reqwest::Response) -> anyhow::Result<Token> {
        if !response.status().is_success() {
            return Err(refusal(&self.url, response).await.into());
        }
        response.json().await.map_err(|_| no_keyward(&self.url).into())
    }
}

fn signed_out(url: &str) -> Failure {
    Failure::new(format!("nobody is signed in at {url}")).hint("`keyward login` does it")
}

fn ended(told: &Failure) -> Failure {
    Failure::new(format!("this login cannot be gone on with: {told}")).hint("sign in again with `keyward login`")
}

/// A turn at the profile, until it is dropped or the program ends.
pub(crate) async fn lock(profile: &Path) -> anyhow::Result<File> {
    let mut name = profile.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let path = profile.with_file_name(name);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = opened.with_context(|| format!("the lock {}", path.display()))?;
    let taken = async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(KNOCK).await,
                Err(std::fs::TryLockError::Error(error)) => return Err(error),
            }
        }
    };
    match tokio::time::timeout(PATIENCE, taken).await {
        Ok(taken) => taken.with_context(|| format!("the lock {}", path.display()))?,
        Err(_) => {
            return Err(Failure::new(format!("another `keyward` has held {} for too long", path.display()))
                .hint("see what it waits for and end it, then try again")
                .into());
        }
    }
    Ok(file)
}
