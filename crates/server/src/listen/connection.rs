//! One connection: its protocol, how long it may be quiet, and its orderly end.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::BufMut as _;
use futures_util::StreamExt as _;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::Endless;
use super::deadline::Deadlines;
use super::tls::{self, Tls};
use super::wire::Wire;
use crate::request::Reception;

/// The largest request head, in bytes; also what hyper buffers of one connection at most.
const MAX_HEAD: usize = 16 * 1024;
/// The most header fields in one request.
const MAX_HEADERS: usize = 64;
/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;

/// How connections are spoken on; one for all of them.
pub(super) struct Speaker {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    tls: Option<Arc<Tls>>,
    /// Whether HTTP/2 may come without TLS, which says so in advance.
    prior_knowledge: bool,
    /// How long a handshake, a request head or a pause may last.
    patience: Duration,
    reception: Arc<Reception>,
}

impl Speaker {
    /// With these limits.
    pub(super) fn new(
        patience: Duration,
        tls: Option<Arc<Tls>>,
        prior_knowledge: bool,
        reception: Arc<Reception>,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        // The time to send a request head counts from the end of the request before, so it bounds pauses too.
        http1.timer(Deadlines).header_read_timeout(patience).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
        Self { http1, http2, tls, prior_knowledge, patience, reception }
    }

    /// Speaks until the connection ends, or until what is under way is finished once `stop` has changed.
    pub(super) async fn speak(&self, stream: TcpStream, peer: SocketAddr, stop: watch::Receiver<bool>) {
        // Answers are small and complete: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return match self.prior_knowledge {
                true => self.speak_as_begun(stream, peer, stop).await,
                false => self.speak_http1(stream, peer, stop).await,
            };
        };
        let mut stopped = stop.clone();
        let handshake = tokio::select! {
            handshake = timeout(self.patience, tls.acceptor().accept(stream)) => handshake,
            _ = stopped.changed() => return,
        };
        match handshake {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(tls::H2) => {
                self.speak_http2(stream, peer, stop).await;
            }
            Ok(Ok(stream)) => self.speak_http1(stream, peer, stop).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS connection came about"),
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
        }
    }

    /// HTTP/2 without TLS says what it is in its first bytes (RFC 9113 §3.3, "prior knowledge"); all else is HTTP/1.1.
    async fn speak_as_begun(&self, stream: TcpStream, peer: SocketAddr, mut stop: watch::Receiver<bool>) {
        let (mut from, to) = stream.into_split();
        let mut begun = Vec::with_capacity(PREFACE.len());
        let is_begun = tokio::select! {
            is_begun = timeout(self.patience, read_while_preface(&mut from, &mut begun)) => is_begun,
            _ = stop.changed() => return,
        };
        let Ok(Ok(())) = is_begun else {
            return tracing::debug!(%peer, "a connection ended before a request began");
        };
        let is_http2 = begun == PREFACE;
        let stream = tokio::io::join(Cursor::new(begun).chain(from), to);
        if is_http2 { self.speak_http2(stream, peer, stop).await } else { self.speak_http1(stream, peer, stop).await }
    }

    async fn speak_http1<S>(&self, stream: S, peer: SocketAddr, stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let io = TokioIo::new(Wire::new(stream, peer));
        let connection = self.http1.serve_connection(io, self.service(peer, &activity));
        report(peer, drive(connection, &activity, self.patience, stop).await);
    }

    async fn speak_http2<S>(&self, stream: S, peer: SocketAddr, stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let connection = self.http2.serve_connection(TokioIo::new(stream), self.service(peer, &activity));
        report(peer, drive(connection, &activity, self.patience, stop).await);
    }

    fn service(
        &self,
        peer: SocketAddr,
        activity: &Arc<Activity>,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response,
        Error = Infallible,
        Future = impl Future<Output = Result<Response, Infallible>> + Send + use<>,
    > + use<> {
        let (reception, activity) = (Arc::clone(&self.reception), Arc::clone(activity));
        service_fn(move |request| {
            let (reception, activity, under_way) = (Arc::clone(&reception), Arc::clone(&activity), activity.begin());
            async move {
                let answer = reception.receive(peer, request).await;
                drop(under_way);
                Ok(if answer.extensions().get::<Endless>().is_some() { activity.follow(answer) } else { answer })
            }
        })
    }
}

/// Reads as long as it may become the beginning of HTTP/2.
async fn read_while_preface(from: &mut OwnedReadHalf, begun: &mut Vec<u8>) -> io::Result<()> {
    while begun.len() < PREFACE.len() && PREFACE.starts_with(begun) {
        let left = PREFACE.len() - begun.len();
        if from.read_buf(&mut (&mut *begun).limit(left)).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Carries a connection to its end, which it is asked for when the server stops or nothing happens for `patience`.
///
/// hyper times heads and pauses on HTTP/1.1, by the clock whenever it is polled, as at each look here; but neither a client that
/// does not take its answers nor a pause on HTTP/2.
async fn drive<C: GracefulConnection>(
    connection: C,
    activity: &Activity,
    patience: Duration,
    mut stop: watch::Receiver<bool>,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    let half = patience / 2;
    let mut looks = interval_at(Instant::now() + half, half);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut quiet, mut stopping) = (0, false);
    loop {
        tokio::select! {
            biased;
            outcome = connection.as_mut() => return outcome.map(|_| ()),
            _ = stop.changed(), if !stopping => {
                (quiet, stopping) = (0, true);
                connection.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => {
                quiet = if activity.is_quiet() { quiet + 1 } else { 0 };
                match quiet {
                    0 | 1 => {}
                    2 | 3 if !stopping => connection.as_mut().graceful_shutdown(),
                    // Asked, and still here: it does not take what it was sent.
                    _ => return Ok(()),
                }
            }
        }
    }
}

fn report<E: std::fmt::Display>(peer: SocketAddr, outcome: Result<(), E>) {
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// What happens on one connection.
#[derive(Default)]
struct Activity {
    begun: AtomicU64,
    under_way: AtomicUsize,
    /// How many had begun at the last look.
    seen: AtomicU64,
}

/// A request until its answer is there, or nobody waits for it any more.
struct UnderWay(Arc<Activity>);

impl Activity {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Counts each piece of an endless answer that the client takes: who reads is not quiet, who does not is.
    fn follow(self: &Arc<Self>, answer: Response) -> Response {
        let activity = Arc::clone(self);
        answer.map(|body| {
            Body::from_stream(body.into_data_stream().inspect(move |_| {
                activity.begun.fetch_add(1, Ordering::Relaxed);
            }))
        })
    }

    /// Whether there is no request, nor was one since the last look.
    fn is_quiet(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        self.seen.swap(begun, Ordering::Relaxed) == begun && self.under_way.load(Ordering::Relaxed) == 0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
