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

use reach::{is_allowed, literal, may_reach, target_url};

/// How long a receiver may take for its whole answer, unless something else is said.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);

/// Sends requests into the public internet and into networks that were opened by name.
pub(crate) struct Outbound {
    allowed: Arc<[IpNet]>,
    names: Arc<dyn Resolve>,
    patience: Duration,
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
    /// Into these networks too, with so long for a whole answer.
    pub(crate) fn new(allowed: Vec<IpNet>, patience: Duration) -> Self {
        Self::by_names(allowed, patience, Arc::new(System))
    }

    fn by_names(allowed: Vec<IpNet>, patience: Duration, names: Arc<dyn Resolve>) -> Self {
        Self { allowed: allowed.into(), names, patience, clients: OnceCell::new() }
    }

    /// Whether plain HTTP may be used at all: only within networks that were opened by name.
    fn takes_plain_http(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// A URL that requests may be sent to. An address in it is checked here, for it is never resolved; a name is when it is
    /// resolved.
    pub(crate) fn target(&self, text: &str) -> Result<Url, Failure> {
        let url = target_url(text, self.takes_plain_http()).map_err(Failure::Url)?;
        if literal(&url).is_some_and(|address| !self.may_reach(address, url.scheme() == "http")) {
            return Err(Failure::ForbiddenAddress);
        }
        Ok(url)
    }

    /// Sends the request that `build` makes; any status is an answer.
    pub(crate) async fn send(
        &self,
        url: &str,
        build: impl FnOnce(&Client, Url) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let url = self.target(url)?;
        let is_plain = url.scheme() == "http";
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
                .dns_resolver(Arc::new(Guarded {
                    names: Arc::clone(&self.names),
                    allowed: Arc::clone(&self.allowed),
                    is_plain,
                }))
                .https_only(!is_plain)
                // A redirect, or a proxy of the environment, would lead around the check of the address.
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .pool_max_idle_per_host(0)
                .connect_timeout(CONNECT)
                .timeout(self.patience)
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

/// Names as the system knows them.
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Resolves names, and keeps back the addresses that may not be reached. The name is asked for once, and what is
/// connected to is what was checked: a name that answers otherwise the next time (DNS rebinding) gains nothing.
struct Guarded {
    names: Arc<dyn Resolve>,
    allowed: Arc<[IpNet]>,
    is_plain: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (allowed, is_plain) = (Arc::clone(&self.allowed), self.is_plain);
        let asked = self.names.resolve(name);
        Box::pin(async move {
            let found = asked.await?;
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Stands for an address of the public internet: it is open, the rest of this machine is not.
    const OPEN: &str = "127.0.0.2";

    /// A name that answers each time with the next of these.
    struct Rebinding(Mutex<Vec<Vec<&'static str>>>);

    impl Resolve for Rebinding {
        fn resolve(&self, _: Name) -> Resolving {
            let answer = self.0.lock().unwrap().remove(0);
            let addresses: Vec<SocketAddr> = answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
            Box::pin(async { Ok(Box::new(addresses.into_iter()) as Addrs) })
        }
    }

    /// Takes one request after the other, on this port if it is given.
    async fn receiver(address: &str, port: u16) -> (u16, Arc<Mutex<usize>>) {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let (port, received) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(0)));
        let count = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                drop(stream.read(&mut [0; 4096]).await);
                drop(stream.write_all(b"HTTP/1.1 204 Told\r\nconnection: close\r\n\r\n").await);
            }
        });
        (port, received)
    }

    #[tokio::test]
    async fn a_name_that_answers_with_another_address_the_next_time_leads_nowhere_else() {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let (port, open) = receiver(OPEN, 0).await;
        let (_, inside) = receiver("127.0.0.1", port).await;
        let names = Arc::new(Rebinding(Mutex::new(vec![
            vec![OPEN],
            // Had the sender asked again to connect, this would be the answer.
            vec!["127.0.0.1"],
            vec!["127.0.0.1", OPEN],
            vec!["127.0.0.1", "::1", "169.254.169.254"],
        ])));
        let reachable = vec![format!("{OPEN}/32").parse().unwrap()];
        let outbound = Outbound::by_names(reachable, PATIENCE, Arc::clone(&names) as _);
        let url = format!("http://hooks.example:{port}/");
        let send = async || {
            let answer = outbound.send(&url, |client, url| client.post(url).body("{}")).await;
            answer.map(|answer| answer.status().as_u16())
        };
        let came = || (*open.lock().unwrap(), *inside.lock().unwrap());

        assert_eq!((send().await, came()), (Ok(204), (1, 0)));
        assert_eq!(names.0.lock().unwrap().len(), 3, "the name was asked for once");
        assert_eq!(send().await, Err(Failure::Forbidden));
        assert_eq!((send().await, came()), (Ok(204), (2, 0)), "of several addresses those that may be reached");
        assert_eq!(send().await, Err(Failure::Forbidden));
        assert_eq!((came(), names.0.lock().unwrap().len()), ((2, 0), 0));
    }
}
