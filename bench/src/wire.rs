//! One kept-alive connection to a server: a request, its answer, the next request.

use std::net::SocketAddr;

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http::{Answer, Head, Rendered};

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// A new one.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends a request and reads its answer: status and body, which stay in the connection's own buffer.
    pub async fn send(&mut self, request: &Rendered) -> anyhow::Result<(u16, &[u8])> {
        let head = self.exchange(request).await?;
        Ok((head.status, self.received.get(head.head_len..).unwrap_or_default()))
    }

    /// The same with the headers, to be kept.
    pub async fn ask(&mut self, request: &Rendered) -> anyhow::Result<Answer> {
        let head = self.exchange(request).await?;
        let (head_bytes, body) = self.received.split_at_checked(head.head_len).unwrap_or_default();
        Ok(Answer { status: head.status, head: String::from_utf8_lossy(head_bytes).into_owned(), body: body.to_vec() })
    }

    async fn exchange(&mut self, request: &Rendered) -> anyhow::Result<Head> {
        self.stream.write_all(request.as_bytes()).await?;
        self.received.clear();
        let mut head = None;
        loop {
            let length = self.stream.read_buf(&mut self.received).await?;
            ensure!(length > 0, "the server closed a connection");
            if head.is_none() {
                head = Head::parse(&self.received)?;
            }
            if let Some(head @ Head { head_len, body_len, .. }) = head
                && self.received.len() >= head_len + body_len
            {
                return Ok(head);
            }
        }
    }
}
