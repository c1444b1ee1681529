//! Requests to where others say: webhooks, and issuers whose users an API knows. Only to addresses that may be reached,
//! without redirects, within bounds of time.

mod reach;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, RequestBuilder, Response, Url};
use tokio::sync::OnceCell;

use reach::{is_allowed, literal, may_reach};

pub(crate) use reach::target_url;

/// How long a receiver may take for its whole answer.
const PATIENCE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);

/// Sends requests into the public internet and into networks that were opened by name.
pub(crate) struct Outbound {
    allowed: Arc<[IpNet]>,
    clients: OnceCell<Clients>,
}

/// One for each kind of URL: where plain HTTP goes, less may be reached.
struct Clients {
    https: Client,
    http: Client,
}

/// Why there is no answer. Says nothing of the URL, which may hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing is sent to such a URL.
    #[error("its URL {0}")]
    Url(&'static str),
    /// The URL names an address that may not be reached.
    #[error("its address is not on the public internet, nor in a network opened by allow_networks")]
    ForbiddenAddress,
    /// No address of its name may be reached.
    #[error("its address is not on the public internet, nor in a network opened by allow_networks")]
    Forbidden,
    /// The answer took too long.
    #[error("it did not answer in time")]
    TooSlow,
    /// No connection came about.
    #[error("it cannot be reached, or its certificate is not good")]
    Unreachable,
    /// The connection ended too early.
    #[error("the connection broke before it answered")]
    Broken,
    /// This machine has no certificates to check others by.
    #[error("this server finds no authorities to check certificates by")]
    NoAuthorities,
}

impl Outbound {
    /// Into these networks too.
    pub(crate) fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed: allowed.into(), clients: OnceCell::new() }
    }

    /// Whether plain HTTP may be used at all: only within networks that were opened by name.
    pub(crate) fn takes_plain_http(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// Sends the request that `build` makes; any status is an answer.
    pub(crate) async fn send(
        &self,
        url: &str,
        build: impl FnOnce(&Client, Url) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let url = target_url(url, self.takes_plain_http()).map_err(Failure::Url)?;
        let is_plain = url.scheme() == "http";
        // A name is checked when it is resolved; an address is never resolved.
        if literal(&url).is_some_and(|address| !self.may_reach(address, is_plain)) {
            return Err(Failure::ForbiddenAddress);
        }
        let clients = self.clients.get_or_try_init(|| async { self.clients() }).await?;
        let client = if is_plain { &clients.http } else { &clients.https };
        build(client, url).send().await.map_err(|error| Failure::of(&error))
    }

    fn may_reach(&self, address: IpAddr, is_plain: bool) -> bool {
        if is_plain { is_allowed(address, &self.allowed) } else { may_reach(address, &self.allowed) }
    }

    fn clients(&self) -> Result<Clients, Failure> {
        let build = |is_plain: bool| {
            Client::builder()
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
                .map_err(|_| Failure::NoAuthorities)
        };
        Ok(Clients { https: build(false)?, http: build(true)? })
    }
}

impl Failure {
    /// What became of a request that got no answer, or not all of it.
    pub(crate) fn of(error: &reqwest::Error) -> Self {
        if is_forbidden(error) {
            Self::Forbidden
        } else if error.is_timeout() {
            Self::TooSlow
        } else if error.is_connect() {
            Self::Unreachable
        } else {
            Self::Broken
        }
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
#[error("no address of this name may be reached")]
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
