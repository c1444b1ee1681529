//! What stands between devices and a server, as a proxy does. It can end TLS, remembers what polls were answered, cuts off
//! whoever waits, and loses an answer on its way back.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::run;

/// How long a test waits for what it expects to see.
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay; it ends with the value.
pub struct Relay {
    /// Where clients reach it, and so the issuer of the server behind it.
    pub url: String,
    /// With TLS: the certificate that clients have to trust.
    pub certificate: Option<PathBuf>,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

/// What went through it.
#[derive(Debug, Default)]
pub struct Seen {
    /// How many polls went to the server.
    pub asked: usize,
    /// What they were answered, also if that was lost.
    pub answers: Vec<String>,
    /// How many answers were lost.
    pub lost: usize,
}

/// Where requests go.
#[derive(Default)]
struct Road {
    /// The server; nobody while it is down.
    to: Option<SocketAddr>,
    /// How often those on it were cut off: counted, for nobody may sleep through it.
    cuts: usize,
}

struct State {
    road: watch::Sender<Road>,
    seen: watch::Sender<Seen>,
    /// Whether the next answer with tokens is to be lost.
    loses_tokens: watch::Sender<bool>,
}

impl Relay {
    /// A relay that leads nowhere yet.
    pub async fn new(tls: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let (acceptor, certificate) = tls.then(certified).unzip();
        let (road, seen, loses_tokens) = Default::default();
        let state = Arc::new(State { road, seen, loses_tokens });
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&state)));
        let url = format!("http{}://{address}", if tls { "s" } else { "" });
        Self { url, certificate, state, accepting }
    }

    /// Leads to this server from now on.
    pub fn lead_to(&self, server: SocketAddr) {
        self.state.road.send_modify(|road| road.to = Some(server));
    }

    /// Cuts off whoever waits for an answer, and lets nobody through any more: those who come, wait.
    pub fn cut(&self) {
        self.state.road.send_modify(|road| *road = Road { to: None, cuts: road.cuts + 1 });
    }

    /// Loses the next answer that has tokens in it.
    pub fn lose_tokens(&self) {
        self.state.loses_tokens.send_replace(true);
    }

    /// Waits for what went through to be as expected.
    pub async fn until(&self, expected: impl FnMut(&Seen) -> bool) {
        let mut seen = self.state.seen.subscribe();
        let waiting = tokio::time::timeout(PATIENCE, seen.wait_for(expected)).await.map(|found| found.is_ok());
        assert_eq!(waiting, Ok(true), "{:?}", self.state.seen.borrow());
    }

    /// What went through so far.
    pub fn seen(&self) -> watch::Ref<'_, Seen> {
        self.state.seen.borrow()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A key with a certificate for this machine.
fn certified() -> (TlsAcceptor, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a key");
    let file = run::subdirectory("relay").join("certificate.pem");
    std::fs::write(&file, made.cert.pem()).expect("the run's directory is writable");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has its versions").with_no_client_auth();
    let config = builder.with_single_cert(vec![made.cert.der().clone()], key).expect("they belong together");
    (TlsAcceptor::from(Arc::new(config)), file)
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // Whatever ends a connection is seen by the client: the relay has nothing to say of it.
            drop(match acceptor {
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => carry(stream, &state).await,
                    Err(error) => Err(error),
                },
                None => carry(stream, &state).await,
            });
        });
    }
}

/// One connection of a client; each of its requests goes to the server over a connection of its own.
async fn carry(mut client: impl AsyncRead + AsyncWrite + Unpin, state: &State) -> io::Result<()> {
    loop {
        let request = read_message(&mut client).await?;
        let is_poll = String::from_utf8_lossy(&request).contains("device_code=");
        let mut road = state.road.subscribe();
        let (to, cuts) = {
            let open = road.wait_for(|road| road.to.is_some()).await.map_err(io::Error::other)?;
            (open.to.ok_or(io::ErrorKind::NotConnected)?, open.cuts)
        };
        let mut upstream = TcpStream::connect(to).await?;
        upstream.write_all(&request).await?;
        state.seen.send_modify(|seen| seen.asked += usize::from(is_poll));
        let response = tokio::select! {
            biased;
            _ = road.wait_for(|road| road.cuts != cuts) => return Ok(()),
            response = read_message(&mut upstream) => response?,
        };
        if is_poll {
            let text = String::from_utf8_lossy(&response);
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
            let lost = body.contains("access_token") && state.loses_tokens.send_replace(false);
            state.seen.send_modify(|seen| {
                seen.answers.push(body);
                seen.lost += usize::from(lost);
            });
            if lost {
                return Ok(());
            }
        }
        client.write_all(&response).await?;
        client.flush().await?;
    }
}

/// A message of HTTP/1.1 with a body of known length (RFC 9112 §6.2).
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        if let Some(end) = message.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&message[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |text| text.trim().parse().expect("a length"));
            if message.len() >= end + 4 + length {
                return Ok(message);
            }
        }
        if stream.read_buf(&mut message).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
