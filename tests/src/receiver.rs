//! A receiver of webhooks: keeps what arrives, and fails on purpose.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With this status; a redirect leads back to the receiver.
    Status(u16),
    /// Not at all: it reads and waits.
    Hang,
    /// By closing the connection.
    Cut,
}

/// What arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The query it was sent with; empty if there was none.
    pub query: String,
    /// Its headers, with names in lower case.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: String,
}

/// A running receiver. Stops with the value.
pub struct Receiver {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: tokio::task::JoinHandle<()>,
}

struct Inner {
    answer: Mutex<Answer>,
    received: Mutex<Vec<Received>>,
}

impl Receiver {
    /// One that takes everything, until told otherwise.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let inner = Arc::new(Inner { answer: Mutex::new(Answer::Status(204)), received: Mutex::default() });
        let serving = tokio::spawn(serve(listener, Arc::clone(&inner)));
        Self { address, inner, serving }
    }

    /// Where it takes notices.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// From now on it answers so.
    pub fn answers(&self, answer: Answer) {
        *self.inner.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Everything that arrived so far.
    pub fn received(&self) -> Vec<Received> {
        self.inner.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept().await {
        let inner = Arc::clone(&inner);
        tokio::spawn(async move { drop(take(stream, &inner).await) });
    }
}

async fn take(mut stream: TcpStream, inner: &Inner) -> std::io::Result<()> {
    let mut read = Vec::new();
    let (head, rest) = loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            break (head.to_owned(), rest.to_owned());
        }
    };
    let target = head.split(' ').nth(1).unwrap_or_default();
    let query = target.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers: HashMap<_, _> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = rest.into_bytes();
    while body.len() < length && stream.read_buf(&mut body).await? > 0 {}
    let received = Received { query, headers, body: String::from_utf8_lossy(&body).into_owned() };
    inner.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    let answer = *inner.answer.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Answer::Status(status) => {
            let location = if (300..400).contains(&status) { "location: /elsewhere\r\n" } else { "" };
            let text = format!("HTTP/1.1 {status} Told\r\n{location}content-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
        Answer::Hang => std::future::pending().await,
        Answer::Cut => Ok(()),
    }
}
