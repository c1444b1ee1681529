//! An OpenID provider of another company: two documents over HTTP, tokens, and failures on purpose.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keyward_model::entropy::Entropy;
use keyward_model::id::KeyId;
use keyward_model::jws::{Jwks, PrivateKey, SigningAlgorithm, SigningKey};
use keyward_model::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How a provider answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// With its documents.
    Good,
    /// With 503.
    Away,
    /// Not at all: it reads and waits.
    Silent,
    /// With a redirect to itself.
    Redirects,
    /// With the configuration of another issuer.
    Impostor,
    /// With a document that never ends.
    Endless,
}

/// A running provider. Stops with the value.
pub struct Provider {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: tokio::task::JoinHandle<()>,
}

struct Inner {
    issuer: String,
    mood: Mutex<Mood>,
    key: Mutex<Arc<SigningKey>>,
    asked: AtomicUsize,
}

impl Provider {
    /// One that answers as it should, until told otherwise.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let issuer = format!("http://{address}/realms/plant");
        let (mood, key) = (Mutex::new(Mood::Good), Mutex::new(Arc::new(new_key())));
        let inner = Arc::new(Inner { issuer, mood, key, asked: AtomicUsize::new(0) });
        let serving = tokio::spawn(serve(listener, Arc::clone(&inner)));
        Self { address, inner, serving }
    }

    /// Its `iss`.
    pub fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers so.
    pub fn is(&self, mood: Mood) {
        *self.inner.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// How often its configuration was asked for.
    pub fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }

    /// From now on it signs with a new key, the only one that it publishes.
    pub fn rotate(&self) {
        *self.inner.key.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(new_key());
    }

    /// A token of one of its users for the audience `plant-web`, valid at this instant, with these changes.
    pub fn token(&self, now: Timestamp, changes: &Value) -> String {
        let mut claims = json!({
            "iss": self.inner.issuer, "aud": "plant-web", "sub": "anna@login", "iat": now.as_seconds(),
            "exp": now.as_seconds() + 300,
        });
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        self.sign("JWT", &claims)
    }

    /// Another kind of JWT with these claims.
    pub fn sign(&self, typ: &str, claims: &Value) -> String {
        self.inner.key().sign(typ, claims.to_string().as_bytes()).expect("it signs")
    }
}

impl Inner {
    fn key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.key.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn new_key() -> SigningKey {
    let id = KeyId::new(Timestamp::from_seconds(1), &Entropy::system()).expect("random bytes");
    SigningKey::new(id, PrivateKey::generate(SigningAlgorithm::Es256).expect("a key")).expect("a signing key")
}

async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept().await {
        let inner = Arc::clone(&inner);
        tokio::spawn(async move { drop(answer(stream, &inner).await) });
    }
}

async fn answer(mut stream: TcpStream, inner: &Inner) -> std::io::Result<()> {
    let mut read = Vec::new();
    while !read.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&read).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    if path.ends_with("/openid-configuration") {
        inner.asked.fetch_add(1, Ordering::SeqCst);
    }
    let mood = *inner.mood.lock().unwrap_or_else(PoisonError::into_inner);
    let (status, document) = match mood {
        Mood::Silent => return std::future::pending().await,
        Mood::Away => ("503 Away\r\nretry-after: 1".to_owned(), json!({})),
        Mood::Redirects => (format!("302 Found\r\nlocation: {}/elsewhere", inner.issuer), json!({})),
        Mood::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[").await?;
            loop {
                stream.write_all(&[b' '; 65_536]).await?;
            }
        }
        Mood::Good | Mood::Impostor => ("200 OK".to_owned(), inner.document(path, mood)),
    };
    let body = document.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

impl Inner {
    fn document(&self, path: &str, mood: Mood) -> Value {
        let issuer = if mood == Mood::Impostor { "http://127.0.0.1/another" } else { &self.issuer };
        match path {
            "/realms/plant/.well-known/openid-configuration" => {
                json!({ "issuer": issuer, "jwks_uri": format!("{}/keys", self.issuer) })
            }
            "/realms/plant/keys" => {
                let key = self.key();
                let jwk = key.private().public().expect("a public key").to_jwk(&key.kid().to_string());
                json!(Jwks { keys: vec![jwk] })
            }
            _ => json!({ "error": "there is no such document" }),
        }
    }
}
