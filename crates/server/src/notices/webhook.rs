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
    names: Arc<dyn Resolve>,
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
        Self::by_names(allowed, Arc::new(System))
    }

    fn by_names(allowed: Vec<IpNet>, names: Arc<dyn Resolve>) -> Self {
        Self { allowed: allowed.into(), names, clients: OnceCell::new() }
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

    use keyward_model::entropy::Entropy;
    use keyward_model::id::WebhookId;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_435_200);
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

    /// Takes one notice after the other, on this port if it is given.
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
        let sender = Sender::by_names(vec![format!("{OPEN}/32").parse().unwrap()], Arc::clone(&names) as _);
        let entropy = Entropy::seeded(1);
        let webhook = Webhook {
            id: WebhookId::new(NOW, &entropy).unwrap(),
            name: "chat".to_owned(),
            url: format!("http://hooks.example:{port}/"),
            kinds: Vec::new(),
            created_at: NOW,
            updated_at: NOW,
            version: 1,
        };
        let secrets = [WebhookSecret::generate(&entropy).unwrap()];
        let notice = NoticeId::new(NOW, &entropy).unwrap();
        let send = async || {
            let post = Post { webhook: &webhook, secrets: &secrets, notice, body: "{}".to_owned() };
            sender.send(post, NOW).await.map_err(|problem| format!("{problem:?}"))
        };
        let came = || (*open.lock().unwrap(), *inside.lock().unwrap());

        assert_eq!((send().await, came()), (Ok(()), (1, 0)));
        assert_eq!(names.0.lock().unwrap().len(), 3, "the name was asked for once");
        assert!(send().await.is_err_and(|why| why.contains("not on the public internet")));
        assert_eq!((send().await, came()), (Ok(()), (2, 0)), "of several addresses those that may be reached");
        assert!(send().await.is_err_and(|why| why.contains("not on the public internet")));
        assert_eq!((came(), names.0.lock().unwrap().len()), ((2, 0), 0));
    }
}
