//! The server's API, as this command line uses it.

use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use keyward_server::api::list::{List, Paging};
use keyward_server::respond::{CallersRemain, ProblemDetails};
use reqwest::{RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::RwLock;
use zeroize::Zeroizing;

use crate::access::{Access, TokenRequest};
use crate::caller;
use crate::failure::{Failure, in_options};
use crate::profile::Profile;
use crate::progress::Progress;
use crate::terminal::{self, Paint};
use crate::when;

/// The most entries one page of a list may have.
const PAGE: u16 = 200;

/// A server that can be asked in somebody's name.
pub(crate) struct Remote {
    /// Its URL.
    pub(crate) url: String,
    access: Access,
    token: RwLock<Zeroizing<String>>,
}

/// An error of an OAuth endpoint (RFC 6749 §5.2).
#[derive(Debug, Deserialize)]
struct OAuthProblem {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Remote {
    /// In the name of the profile that is kept at `path`.
    pub(crate) async fn sign_in(profile: Profile, path: PathBuf) -> anyhow::Result<Self> {
        let access = Access::new(profile, path)?;
        let token = access.token(&TokenRequest::default()).await?;
        token.warn();
        Ok(Self { url: access.url.clone(), access, token: RwLock::new(token.access_token) })
    }

    /// One thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.read(self.request(Method::GET, path)).await
    }

    /// One thing with its `ETag`, so that a step can be bound to what was seen.
    pub(crate) async fn get_tagged<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<(T, HeaderValue)> {
        let response = self.send(self.request(Method::GET, path)).await?;
        let tag = response.headers().get(header::ETAG).cloned();
        let tag = tag.ok_or_else(|| no_keyward(&self.url))?;
        Ok((response.json().await.map_err(|e| self.not_understood(&e))?, tag))
    }

    /// One thing, asked for with parameters.
    pub(crate) async fn query<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> anyhow::Result<T> {
        self.read(self.request(Method::GET, path).query(query)).await
    }

    /// A whole list, page by page, or its first `limit` entries.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        filter: &impl Serialize,
        limit: Option<usize>,
    ) -> anyhow::Result<List<T>> {
        let progress = Progress::counting(path.rsplit('/').next().unwrap_or(path));
        let mut all = List { items: Vec::new(), next_cursor: None };
        loop {
            let wanted = limit.map_or(PAGE.into(), |limit| limit.saturating_sub(all.items.len()));
            let paging =
                Paging { limit: Some(u16::try_from(wanted).unwrap_or(PAGE).min(PAGE)), cursor: all.next_cursor };
            let page: List<T> = self.read(self.request(Method::GET, path).query(filter).query(&paging)).await?;
            all.items.extend(page.items);
            all.next_cursor = page.next_cursor;
            progress.at(all.items.len());
            if all.next_cursor.is_none() || limit.is_some_and(|limit| all.items.len() >= limit) {
                return Ok(all);
            }
        }
    }

    /// Makes something.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.read(self.request(Method::POST, path).json(body)).await
    }

    /// Does something to what the path names.
    pub(crate) async fn act<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.read(self.request(Method::POST, path)).await
    }

    /// Does something to what the path names, if it is still as it was seen.
    pub(crate) async fn act_on<T: DeserializeOwned>(&self, path: &str, seen: HeaderValue) -> anyhow::Result<T> {
        self.read(self.request(Method::POST, path).header(header::IF_MATCH, seen)).await
    }

    /// Does something of which nothing is left to be told.
    pub(crate) async fn done(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.request(Method::POST, path)).await.map(drop)
    }

    /// Changes something.
    pub(crate) async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.read(self.request(Method::PATCH, path).json(body)).await
    }

    /// Deletes something.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.request(Method::DELETE, path)).await.map(drop)
    }

    /// Reports a leaked key, which takes no signing in; gives how long to wait before it is to be reported again, if the
    /// server takes no more for now.
    pub(crate) async fn report_leak(
        http: &reqwest::Client,
        url: &str,
        key: &str,
        place: &str,
    ) -> anyhow::Result<Option<Duration>> {
        let report = serde_json::json!({ "key": key, "where": place });
        let sent = http.post(format!("{url}/leaks")).json(&report).send().await;
        let response = sent.map_err(|e| unreachable(url, &e))?;
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        match (response.status(), wait) {
            (StatusCode::TOO_MANY_REQUESTS, Some(seconds)) => Ok(Some(Duration::from_secs(seconds))),
            (status, _) if status.is_success() => Ok(None),
            _ => Err(refusal(url, response).await.into()),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.access.http.request(method, format!("{}/api/v1/{path}", self.url))
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = self.send(request).await?;
        response.json().await.map_err(|e| self.not_understood(&e).into())
    }

    /// Long lists and `tail -f` outlive a token: a refused one is replaced once.
    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let again = request.try_clone();
        let response = self.attempt(request).await?;
        let response = match again {
            Some(again) if response.status() == StatusCode::UNAUTHORIZED => {
                let refused = self.token.read().await.clone();
                let renewed = self.access.token_after(&TokenRequest::default(), Some(&refused)).await?;
                *self.token.write().await = renewed.access_token;
                self.attempt(again).await?
            }
            _ => response,
        };
        if response.status().is_success() { Ok(response) } else { Err(refusal(&self.url, response).await.into()) }
    }

    async fn attempt(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let token = self.token.read().await.clone();
        request.bearer_auth(&*token).send().await.map_err(|e| unreachable(&self.url, &e).into())
    }

    fn not_understood(&self, error: &reqwest::Error) -> Failure {
        Failure::new(format!("the answer of {} is not understood ({})", self.url, cause(error)))
            .hint("is its version the one of this program? `keyward --version`")
    }
}

/// The user on whose behalf this token is.
pub(crate) async fn whoami<T: DeserializeOwned>(url: &str, token: &str) -> anyhow::Result<T> {
    let sent = http(url)?.get(format!("{url}/api/v1/users/me")).bearer_auth(token).send().await;
    let response = sent.map_err(|e| unreachable(url, &e))?;
    if !response.status().is_success() {
        return Err(refusal(url, response).await.into());
    }
    response.json().await.map_err(|_| no_keyward(url).into())
}

/// A client for this server.
pub(crate) fn http(url: &str) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(60))
        // A key is sent where it was told to go, nowhere else.
        .redirect(reqwest::redirect::Policy::none());
    // No proxy can reach this machine's own loopback.
    let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
    if url.starts_with("http://") && !is_loopback(url) {
        // Once is enough, however many clients a command makes.
        static WARNED: Once = Once::new();
        WARNED
            .call_once(|| terminal::note(&format!("warning: {url} is not HTTPS: what is sent can be read on the way")));
    }
    Ok(builder.build()?)
}

/// Whether the URL's host is this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    let host = url.parse::<reqwest::Url>().ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Why there was no answer.
pub(crate) fn unreachable(url: &str, error: &reqwest::Error) -> Failure {
    let cause = cause(error);
    let hint = if cause.contains("certificate") {
        "is its certificate from an authority of your own? name that authority's PEM file in SSL_CERT_FILE"
    } else {
        "is the server running there? start one with `keyward serve`, or name another with --url"
    };
    Failure::new(format!("{url} does not answer ({cause})")).hint(hint).passing()
}

pub(crate) fn no_keyward(url: &str) -> Failure {
    Failure::new(format!("what answers at {url} is no Keyward server")).hint("check --url or KEYWARD_URL")
}

/// The innermost cause: the outer ones repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// What a server that refuses says, and what to do about it.
pub(crate) async fn refusal(url: &str, response: Response) -> Failure {
    let status = response.status();
    let wait = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body = response.bytes().await.unwrap_or_default();
    let failure = if let Ok(remaining) = serde_json::from_slice::<CallersRemain>(&body) {
        let rows = caller::rows(&remaining.callers, when::now(), Paint::stdout());
        Failure::new(in_options(None, &remaining.problem.detail))
            .details(rows, serde_json::from_slice(&body).unwrap_or_default())
    } else if let Ok(problem) = serde_json::from_slice::<ProblemDetails>(&body) {
        Failure::new(in_options(problem.field.as_deref(), &problem.detail))
    } else if let Ok(problem) = serde_json::from_slice::<OAuthProblem>(&body) {
        let said = if problem.error_description.is_empty() { problem.error } else { problem.error_description };
        Failure::new(said)
    } else if status.is_server_error() {
        // A proxy whose server is away.
        return Failure::new(format!("{url} answers {status}")).hint("is the server behind it running?").passing();
    } else {
        return no_keyward(url);
    };
    let failure = if status.is_server_error() || wait.is_some() { failure.passing() } else { failure };
    match (status, wait) {
        (_, Some(seconds)) => failure.hint(format!("try again in {seconds} s")),
        (StatusCode::UNAUTHORIZED, _) => failure.hint(
            "the key of the profile or of KEYWARD_CLIENT_SECRET is not accepted; whoever may issue another does so with \
             `keyward credential issue`, `keyward login` signs you in, and `keyward profile list` shows what you have",
        ),
        (StatusCode::NOT_FOUND, _) => match missing(&failure.to_string()) {
            Some(noun) => failure.hint(format!("`keyward {noun} list` lists what there is")),
            None => failure,
        },
        (StatusCode::FORBIDDEN, _) => failure.hint("`keyward token --json` shows what you may do"),
        _ => failure,
    }
}

/// What is missing, if it is one of the things that a command of the same name lists.
fn missing(said: &str) -> Option<&str> {
    let noun = said.strip_prefix("there is no such ")?;
    ["api", "client", "credential", "scope", "user", "webhook"]
        .into_iter()
        .find(|known| noun.eq_ignore_ascii_case(known))
}
