//! Notices over HTTP, as Standard Webhooks 1.0 says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, header};
use ipnet::IpNet;
use keyward_model::id::NoticeId;
use keyward_model::time::Timestamp;
use keyward_model::webhook::{Webhook, WebhookSecret, sign};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::OnceCell;

use super::deliver::Problem;
use super::reach::{is_allowed, literal, may_reach, target_url};

/// How long a receiver may take for its whole answer.
const PATIENCE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);

/// Sends notices to webhooks.
pub(super) struct Sender {
    allowed: Arc<[IpNet]>,
    clients: OnceCell<Clients>,
}

/// One for each kind of URL: where plain HTTP goes, less may be reached.
struct Clients {
    https: reqwest::Client,
    http: reqwest::Client,
}

/// One notice for one webhook.
pub(super) struct Post<'a> {
    pub(super) webhook: &'a Webhook,
    pub(super) secrets: &'a [WebhookSecret],
    pub(super) notice: NoticeId,
    pub(super) body: String,
}

impl Sender {
    pub(super) fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed: allowed.into(), clients: OnceCell::new() }
    }

    /// A URL that notices may be sent to, or what is wrong with it. An address in it is checked here, for it is never
    /// resolved; a name is when it is resolved.
    pub(super) fn target(&self, text: &str) -> Result<Url, &'static str> {
        let url = target_url(text, !self.allowed.is_empty())?;
        if literal(&url).is_some_and(|address| !self.may_reach(address, url.scheme() == "http")) {
            return Err(FORBIDDEN);
        }
        Ok(url)
    }

    /// Sends once; any answer of the 2xx kind means that the receiver has it.
    pub(super) async fn send(&self, post: Post<'_>, now: Timestamp) -> Result<(), Problem> {
        let url = self.target(&post.webhook.url).map_err(Problem::lasting)?;
        let is_plain = url.scheme() == "http";
        let clients = self.clients.get_or_try_init(|| async { self.clients() }).await?;
        let (id, timestamp) = (post.notice.to_string(), now.as_seconds());
        let signature = sign(post.secrets, &id, timestamp, &post.body);
        let client = if is_plain { &clients.http } else { &clients.https };
        let request = client.post(url).header(header::CONTENT_TYPE, "application/json");
        let request = request.header("webhook-id", id).header("webhook-timestamp", timestamp);
        let answer = request.header("webhook-signature", signature).body(post.body).send().await;
        // Of the answer nothing but its head is read.
        judge(answer.map(|answer| answer.status()))
    }

    fn may_reach(&self, address: std::net::IpAddr, is_plain: bool) -> bool {
        if is_plain { is_allowed(address, &self.allowed) } else { may_reach(address, &self.allowed) }
    }

    fn clients(&self) -> Result<Clients, Problem> {
        let build = |is_plain: bool| {
            reqwest::Client::builder()
                .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Arc::new(Resolver { allowed: Arc::clone(&self.allowed), is_plain }))
                .https_only(!is_plain)
                // A redirect, or a proxy of the environment, would lead around the check of the address.
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .pool_max_idle_per_host(0)
                .connect_timeout(CONNECT)
                .timeout(PATIENCE)
                .build()
                .map_err(|_| Problem::passing("this server finds no authorities to check certificates by"))
        };
        Ok(Clients { https: build(false)?, http: build(true)? })
    }
}

const FORBIDDEN: &str = "its address is not on the public internet; open the network in [notices] allow_networks";

fn judge(answer: Result<StatusCode, reqwest::Error>) -> Result<(), Problem> {
    match answer {
        Ok(status) if status.is_success() => Ok(()),
        // Standard Webhooks: 410 says that the receiver wants no more.
        Ok(StatusCode::GONE) => Err(Problem::lasting("it answered 410: it wants no more")),
        Ok(status) if status.is_redirection() => {
            Err(Problem::passing(format!("it answered {}: redirects are not followed", status.as_u16())))
        }
        Ok(status) => Err(Problem::passing(format!("it answered {}", status.as_u16()))),
        Err(error) if is_forbidden(&error) => Err(Problem::passing(FORBIDDEN)),
        Err(error) if error.is_timeout() => Err(Problem::passing("it did not answer in time")),
        Err(error) if error.is_connect() => {
            Err(Problem::passing("it cannot be reached, or its certificate is not good"))
        }
        Err(_) => Err(Problem::passing("the connection broke before it answered")),
    }
}

fn is_forbidden(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    std::iter::from_fn(|| {
        let this = cause?;
        cause = this.source();
        Some(this)
    })
    .any(|cause| cause.is::<Forbidden>())
}

/// Every address of a name is out of bounds.
#[derive(Debug, thiserror::Error)]
#[error("{FORBIDDEN}")]
struct Forbidden;

/// Resolves names, and keeps back the addresses that may not be reached: what is connected to was checked.
struct Resolver {
    allowed: Arc<[IpNet]>,
    is_plain: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (allowed, is_plain) = (Arc::clone(&self.allowed), self.is_plain);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let reaches = |address: &SocketAddr| {
                let address = address.ip();
                if is_plain { is_allowed(address, &allowed) } else { may_reach(address, &allowed) }
            };
            let addresses: Vec<_> = found.filter(reaches).collect();
            if addresses.is_empty() {
                return Err(Forbidden.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
