//! An API that answers with what it was asked, to see what a gateway lets through. A WebSocket gets back what it sends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A running API. Stops with the value.
pub struct Echo {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Echo {
    /// A new one, on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&counted)));
            }
        });
        Self { address, asked, serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it got.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut stream: TcpStream, asked: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut read = Vec::new();
    let head_end = loop {
        if let Some(at) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&read[..head_end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
    // Every value that came under a name, in an array: what is there twice must be seen twice.
    let mut headers = Map::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let values = headers.entry(name.to_lowercase()).or_insert_with(|| json!([]));
        values.as_array_mut().expect("an array").push(json!(value.trim()));
    }
    let length = headers.get("content-length").and_then(|length| length[0].as_str()?.parse().ok()).unwrap_or(0);
    let mut body = read.split_off(head_end + 4);
    while body.len() < length && stream.read_buf(&mut body).await? > 0 {}
    asked.fetch_add(1, Ordering::SeqCst);
    let says = |name: &str, what: &str| {
        headers.get(name).and_then(|values| values[0].as_str()).is_some_and(|value| value.eq_ignore_ascii_case(what))
    };
    if says("connection", "upgrade") && says("upgrade", "websocket") {
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
            .await?;
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await?;
        return Ok(());
    }
    let told = json!({ "method": method, "path": path, "headers": headers, "body": String::from_utf8_lossy(&body) });
    let text = Value::to_string(&told);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(text.as_bytes()).await?;
    }
    stream.shutdown().await
}
