//! The server as the OAuth endpoints that signing in needs (RFC 8414, RFC 8628, RFC 6749, RFC 7009).
//!
//! What this program sends itself goes to the URL that its user named, whatever the metadata say: a code or a token is
//! shown to no other host. The metadata say where the browser is to go, and as which client.

use std::time::Duration;

use http::{StatusCode, header};
use keyward_model::id::ClientId;
use reqwest::Response;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::pace::Told;
use crate::access::Token;
use crate::failure::Failure;
use crate::remote::{self, no_keyward, refusal, unreachable};

/// The grant of RFC 8628 §3.4.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How long a question may take. The server holds one for some seconds in case the answer comes meanwhile.
const QUESTION: Duration = Duration::from_secs(30);
/// How long a farewell may take: whoever leaves does not want to wait.
const FAREWELL: Duration = Duration::from_secs(5);

/// A server at which somebody can sign in through a client.
pub(crate) struct Authority {
    http: reqwest::Client,
    /// Its URL.
    pub(crate) url: String,
    /// As which client.
    pub(crate) client: ClientId,
    /// What it calls itself (RFC 9207).
    pub(super) issuer: String,
    /// Where browsers begin to sign in, if they can.
    pub(super) authorization_endpoint: Option<String>,
}

/// What is read of the metadata (RFC 8414 §2), with a member of Keyward's own.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: Option<String>,
    keyward_cli_client_id: Option<ClientId>,
}

/// A code for somebody with a browser, and one for this program to wait with (RFC 8628 §3.2).
#[derive(Deserialize)]
pub(crate) struct Grant {
    pub(super) device_code: Zeroizing<String>,
    pub(super) user_code: String,
    pub(super) verification_uri: String,
    pub(super) verification_uri_complete: Option<String>,
    pub(super) expires_in: u64,
    #[serde(default = "five_seconds")]
    pub(super) interval: u64,
}

fn five_seconds() -> u64 {
    5
}

/// What became of a question (RFC 8628 §3.5).
pub(super) enum Answer {
    Tokens(Box<Token>),
    /// Not yet; when to ask again depends on this.
    NotYet(Told),
    /// It is approved, and the server wants the digits that the browser shows, or others than those given.
    DigitsWanted,
    Expired,
    Denied,
    Failed(Failure),
}

/// An error of the token endpoint (RFC 6749 §5.2).
#[derive(Deserialize)]
struct Problem {
    error: String,
    #[serde(default)]
    error_description: String,
    interval: Option<u64>,
    /// Keyward's own: how often the digits shown at the approval may still be given wrong.
    confirmation_tries_left: Option<u64>,
}

impl Authority {
    /// Asks the server how it lets people in; through this client if it is not to be the one for command lines.
    pub(crate) async fn find(url: String, client: Option<ClientId>) -> anyhow::Result<Self> {
        let http = remote::http(&url)?;
        let sent = http.get(format!("{url}/.well-known/oauth-authorization-server")).send().await;
        let response = sent.map_err(|e| unreachable(&url, &e))?;
        if !response.status().is_success() {
            return Err(refusal(&url, response).await.into());
        }
        let metadata: Metadata = response.json().await.map_err(|_| no_keyward(&url))?;
        let client = client.or(metadata.keyward_cli_client_id).ok_or_else(|| {
            Failure::new(format!("{url} lets nobody sign in from a command line")).hint(
                "its client for that is disabled or deleted; name another public client with --client-id, or use a key: \
                 `keyward profile add`",
            )
        })?;
        let Metadata { issuer, authorization_endpoint, .. } = metadata;
        Ok(Self { http, url, client, issuer, authorization_endpoint })
    }

    /// The same server, asked nothing: for tokens that a client has already.
    pub(crate) fn known(url: String, client: ClientId) -> anyhow::Result<Self> {
        Ok(Self { http: remote::http(&url)?, issuer: url.clone(), url, client, authorization_endpoint: None })
    }

    /// Asks for a code (RFC 8628 §3.1).
    pub(super) async fn begin(&self, scope: Option<&str>, label: &str) -> anyhow::Result<Grant> {
        let client = self.client.to_string();
        let mut form = vec![("client_id", client.as_str()), ("device_label", label)];
        form.extend(scope.map(|scope| ("scope", scope)));
        let response = self.post("/auth/device", &form).await.map_err(|e| unreachable(&self.url, &e))?;
        if !response.status().is_success() {
            return Err(refusal(&self.url, response).await.into());
        }
        response.json().await.map_err(|_| no_keyward(&self.url).into())
    }

    /// Asks what became of it (RFC 8628 §3.4).
    pub(super) async fn ask(&self, grant: &Grant, digits: Option<&str>) -> Answer {
        let client = self.client.to_string();
        let mut form = vec![
            ("grant_type", DEVICE_CODE),
            ("device_code", grant.device_code.as_str()),
            ("client_id", client.as_str()),
        ];
        form.extend(digits.map(|digits| ("confirmation", digits)));
        match self.post("/token", &form).await {
            Err(_) => Answer::NotYet(Told::Nothing(None)),
            Ok(response) => self.answer(response).await,
        }
    }

    async fn answer(&self, response: Response) -> Answer {
        let status = response.status();
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Answer::NotYet(Told::Nothing(wait.map(Duration::from_secs)));
        }
        // An answer that breaks off was not given.
        let Ok(body) = response.bytes().await else { return Answer::NotYet(Told::Nothing(None)) };
        if status.is_success() {
            return match serde_json::from_slice(&body) {
                Ok(token) => Answer::Tokens(Box::new(token)),
                Err(_) => Answer::Failed(no_keyward(&self.url)),
            };
        }
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            return Answer::Failed(no_keyward(&self.url));
        };
        match problem.error.as_str() {
            "authorization_pending" if problem.confirmation_tries_left.is_some() => Answer::DigitsWanted,
            "authorization_pending" => Answer::NotYet(Told::Pending),
            "slow_down" => Answer::NotYet(Told::SlowDown(problem.interval.map(Duration::from_secs))),
            "expired_token" => Answer::Expired,
            "access_denied" => Answer::Denied,
            error => {
                let said = if problem.error_description.is_empty() { error } else { &problem.error_description };
                Answer::Failed(Failure::new(said))
            }
        }
    }

    /// Tokens for the code that a browser brought (RFC 6749 §4.1.3, RFC 7636 §4.5).
    pub(super) async fn exchange(&self, code: &str, verifier: &str, redirect_uri: &str) -> anyhow::Result<Token> {
        let client = self.client.to_string();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
            ("client_id", client.as_str()),
        ];
        let response = self.post("/token", &form).await.map_err(|e| unreachable(&self.url, &e))?;
        if !response.status().is_success() {
            return Err(refusal(&self.url, response).await.into());
        }
        response.json().await.map_err(|_| no_keyward(&self.url).into())
    }

    /// Ends what this token began: a device session by its refresh token, a wait by its device code (RFC 7009 §2.1).
    pub(crate) async fn revoke(&self, token: &str) -> anyhow::Result<()> {
        let client = self.client.to_string();
        let form = [("token", token), ("client_id", client.as_str())];
        let sent = self.http.post(format!("{}/revoke", self.url)).timeout(FAREWELL).form(&form).send().await;
        let response = sent.map_err(|e| unreachable(&self.url, &e))?;
        if response.status().is_success() { Ok(()) } else { Err(refusal(&self.url, response).await.into()) }
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Response, reqwest::Error> {
        self.http.post(format!("{}{path}", self.url)).timeout(QUESTION).form(form).send().await
    }
}
