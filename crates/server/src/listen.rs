//! The listener: accepts connections, bounds them, speaks TLS or plain HTTP, and ends in an orderly way.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::config::ServerConfig;
use crate::request::Reception;

/// The largest request head, in bytes; also what hyper buffers of one connection at most.
const MAX_HEAD: usize = 16 * 1024;
/// The most header fields in one request.
const MAX_HEADERS: usize = 64;
/// The most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;

/// Accepts connections until told to stop, then lets requests under way finish.
pub(crate) struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: Arc<Semaphore>,
    http: auto::Builder<TokioExecutor>,
    head_timeout: Duration,
    grace: Duration,
}

impl Listener {
    /// Binds the address of the settings.
    pub(crate) async fn bind(config: &ServerConfig) -> Result<Self, io::Error> {
        let head_timeout = Duration::from_secs(config.header_timeout_s.into());
        Ok(Self {
            tcp: TcpListener::bind(config.listen).await?,
            tls: acceptor(config)?,
            connections: Arc::new(Semaphore::new(config.max_connections.try_into().unwrap_or(usize::MAX >> 4))),
            http: http(head_timeout),
            head_timeout,
            grace: Duration::from_secs(config.shutdown_grace_s.into()),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr, io::Error> {
        self.tcp.local_addr()
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `stop` completes; true if everything under way could be finished.
    pub(crate) async fn serve(self, reception: Reception, stop: impl Future<Output = ()>) -> bool {
        let graceful = GracefulShutdown::new();
        tokio::pin!(stop);
        loop {
            let permit = tokio::select! {
                permit = Arc::clone(&self.connections).acquire_owned() => permit,
                () = &mut stop => break,
            };
            let (stream, peer) = tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely: others will close theirs.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = &mut stop => break,
            };
            let connection = Connection {
                http: self.http.clone(),
                tls: self.tls.clone(),
                head_timeout: self.head_timeout,
                reception: reception.clone(),
                watcher: graceful.watcher(),
            };
            tokio::spawn(async move {
                connection.run(stream, peer).await;
                drop(permit);
            });
        }
        drop(self.tcp);
        tokio::time::timeout(self.grace, graceful.shutdown()).await.is_ok()
    }
}

struct Connection {
    http: auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    head_timeout: Duration,
    reception: Reception,
    watcher: hyper_util::server::graceful::Watcher,
}

impl Connection {
    async fn run(self, stream: TcpStream, peer: SocketAddr) {
        // Answers are small and complete: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        match self.tls.clone() {
            None => self.speak(stream, peer).await,
            Some(tls) => match tokio::time::timeout(self.head_timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.speak(stream, peer).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS connection came about"),
                Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
            },
        }
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let reception = self.reception;
        let service = hyper::service::service_fn(move |request| {
            let reception = reception.clone();
            async move { Ok::<_, std::convert::Infallible>(reception.receive(peer, request).await) }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}

fn http(head_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // The time to send a request head counts from the end of the request before, so it bounds idle connections too.
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(head_timeout)
        .keep_alive_timeout(head_timeout);
    http
}

fn acceptor(config: &ServerConfig) -> Result<Option<TlsAcceptor>, io::Error> {
    if config.tls_certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    let unusable = |path: &Path, why: String| io::Error::other(format!("{}: {why}", path.display()));
    let certificate = &config.tls_certificate;
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e| unusable(certificate, e.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&config.tls_key).map_err(|e| unusable(&config.tls_key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| unusable(certificate, e.to_string()))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}
