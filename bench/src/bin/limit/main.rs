//! The limit server: what a token endpoint costs when there is nothing but HTTP, one HMAC and one signature.
//!
//! Bare hyper 1, no storage, no routing: a process answers exactly one kind of request (`--serve`), whatever
//! its path. It is written to be as fast as honest code on this stack can be; Keyward is measured against it.
#![allow(clippy::print_stdout, reason = "a program for the terminal: the address it listens on is its output")]
#![allow(
    clippy::disallowed_methods,
    reason = "the limit server reads the real clock: it has no other and is never tested with a frozen one"
)]

mod basic;
mod form;
mod introspect;
mod jwks;
mod respond;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::basic::Registered;

/// Bodies above this are refused, as Keyward does.
const MAX_BODY: usize = 16 * 1024;

/// A server that does the least a token endpoint can do.
#[derive(Parser)]
#[command(name = "keyward-limit", version)]
struct Arguments {
    /// Address to listen on; port 0 picks a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The only client that exists.
    #[arg(long)]
    client_id: String,
    /// Its secret.
    #[arg(long)]
    client_secret: String,
    /// What every request is answered with.
    #[arg(long, value_enum, default_value = "token")]
    serve: Serve,
}

#[derive(Clone, Copy, ValueEnum)]
enum Serve {
    /// Token requests: authenticate, sign.
    Token,
    /// Introspection: authenticate, verify; a token to ask about is printed at the start.
    Introspect,
    /// The key set.
    Jwks,
    /// Nothing but 200.
    Nothing,
}

/// What one process answers with; chosen once, so there is no routing.
enum Endpoint {
    Token(token::TokenEndpoint),
    Introspect(introspect::IntrospectEndpoint),
    Jwks(jwks::JwksEndpoint),
    Nothing,
}

impl Endpoint {
    fn answer(&self, request: &Request<Incoming>, body: &[u8]) -> Response<Full<Bytes>> {
        match self {
            Self::Token(endpoint) => endpoint.answer(request.headers(), body),
            Self::Introspect(endpoint) => endpoint.answer(request.headers(), body),
            Self::Jwks(endpoint) => endpoint.answer(),
            Self::Nothing => Response::new(Full::default()),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_io().build()?.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind(arguments.listen).await?;
    let issuer = format!("http://{}", listener.local_addr()?);
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let registered = Registered::new(&arguments.client_id, &arguments.client_secret)?;
    println!("listening {issuer}");
    let endpoint = match arguments.serve {
        Serve::Token => Endpoint::Token(token::TokenEndpoint::new(registered, key, &issuer)),
        Serve::Introspect => {
            let endpoint = introspect::IntrospectEndpoint::new(registered, key, &issuer)?;
            println!("token {}", endpoint.sample());
            Endpoint::Introspect(endpoint)
        }
        Serve::Jwks => Endpoint::Jwks(jwks::JwksEndpoint::new(&key)),
        Serve::Nothing => Endpoint::Nothing,
    };
    println!("ready");
    let endpoint = Arc::new(endpoint);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(stream, Arc::clone(&endpoint)));
    }
}

async fn connection(stream: TcpStream, endpoint: Arc<Endpoint>) {
    // Answers are one write each; waiting for more to send would only delay them.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
        let endpoint = &endpoint;
        async move {
            let body = read_body(request.body_mut()).await;
            Ok::<_, std::convert::Infallible>(match body {
                Some(body) => endpoint.answer(&request, &body),
                None => respond::refused(400, "invalid_request"),
            })
        }
    });
    // A broken connection concerns only its client.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The whole body, without copying it when it came in one piece; `None` when it is too long or broke off.
async fn read_body(incoming: &mut Incoming) -> Option<Bytes> {
    let Some(first) = incoming.frame().await else {
        return Some(Bytes::new());
    };
    let first = first.ok()?.into_data().ok()?;
    let mut joined: Option<Vec<u8>> = None;
    while let Some(frame) = incoming.frame().await {
        let more = frame.ok()?.into_data().ok()?;
        let whole = joined.get_or_insert_with(|| first.to_vec());
        whole.extend_from_slice(&more);
        if whole.len() > MAX_BODY {
            return None;
        }
    }
    let body = joined.map_or(first, Bytes::from);
    (body.len() <= MAX_BODY).then_some(body)
}

/// Time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}
