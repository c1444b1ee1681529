//! Just enough HTTP/1.1 to ask a server questions as cheaply as possible: requests are rendered once,
//! responses are read by `Content-Length`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

/// The longest wait for one answer outside the load.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client's id and secret.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Credentials {
    /// `client_…`.
    pub client_id: String,
    /// `kw_…`.
    pub client_secret: String,
}

impl Credentials {
    /// The value of an `Authorization` header. Neither half has characters that a form would escape.
    pub fn basic(&self) -> String {
        let both = format!("{}:{}", self.client_id, self.client_secret);
        format!("Basic {}", STANDARD.encode(both))
    }
}

/// A request as it goes over the wire.
#[derive(Clone, Debug)]
pub struct Rendered(Vec<u8>);

impl Rendered {
    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A form POST by an authenticated client.
    pub fn form(address: SocketAddr, path: &str, by: &Credentials, form: &str) -> Self {
        Self::plain_form(address, path, &format!("Authorization: {}\r\n", by.basic()), form)
    }

    /// A form POST with these header lines.
    pub fn plain_form(address: SocketAddr, path: &str, headers: &str, form: &str) -> Self {
        let headers = format!("{headers}Content-Type: application/x-www-form-urlencoded\r\n");
        Self::new(address, &format!("POST {path}"), &headers, form)
    }

    /// A GET with a bearer token.
    pub fn bearing(address: SocketAddr, path: &str, token: &str) -> Self {
        Self::new(address, &format!("GET {path}"), &format!("Authorization: Bearer {token}\r\n"), "")
    }

    /// A GET without credentials.
    pub fn get(address: SocketAddr, path: &str) -> Self {
        Self::plain(address, path, "")
    }

    /// A GET with these header lines.
    pub fn plain(address: SocketAddr, path: &str, headers: &str) -> Self {
        Self::new(address, &format!("GET {path}"), headers, "")
    }

    /// A request with a JSON body and a bearer token; `line` is method and path.
    pub fn json(address: SocketAddr, line: &str, token: &str, body: &serde_json::Value) -> Self {
        let headers = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        Self::new(address, line, &headers, &body.to_string())
    }

    fn new(address: SocketAddr, line: &str, headers: &str, body: &str) -> Self {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        Self(
            format!("{line} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: keyward-bench\r\n{headers}{length}\r\n{body}")
                .into_bytes(),
        )
    }
}

/// Where a response's head ends and how long it is altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Bytes of status line and headers, the empty line included.
    pub head_len: usize,
    /// Bytes of the body.
    pub body_len: usize,
}

impl Head {
    /// Reads the head of a response; `None` when it is not complete yet.
    pub fn parse(received: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = str::from_utf8(received.get(..end).unwrap_or_default())?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .context("a response without a status")?;
        let mut body_len = None;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                body_len = Some(value.trim().parse()?);
            }
        }
        let body_len = match (body_len, status) {
            (Some(length), _) => length,
            (None, 204 | 304) => 0,
            (None, _) => bail!("a response without Content-Length"),
        };
        Ok(Some(Self { status, head_len: end + 4, body_len }))
    }
}

/// A response, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers, as received.
    pub head: String,
    /// The body, as received.
    pub body: Vec<u8>,
}

impl Answer {
    /// The values of a header, in order.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Reads the body of a successful answer; anything else is an error that quotes it.
    pub fn into_json<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let text = String::from_utf8_lossy(&self.body);
        ensure!((200..300).contains(&self.status), "answered {} {text}", self.status);
        serde_json::from_slice(&self.body).with_context(|| format!("cannot read {text}"))
    }
}

/// Sends one request over a connection of its own and reads the answer.
pub fn exchange(address: SocketAddr, request: &Rendered) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut received = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(head) = Head::parse(&received)?
            && received.len() >= head.head_len + head.body_len
        {
            let body = received.split_off(head.head_len);
            return Ok(Answer { status: head.status, head: String::from_utf8_lossy(&received).into_owned(), body });
        }
        let length = stream.read(&mut chunk)?;
        ensure!(length > 0, "the connection ended before the answer did");
        received.extend_from_slice(chunk.get(..length).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(Head::parse(&response[..30]).unwrap(), None);
        let expected = Head { status: 200, head_len: 38, body_len: 2 };
        assert_eq!(Head::parse(response).unwrap(), Some(expected));
    }

    #[test]
    fn a_response_of_unknown_length_is_an_error() {
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_form_request_is_rendered_with_its_length_and_credentials() {
        let by = Credentials { client_id: "client_1".to_owned(), client_secret: "kw_1".to_owned() };
        let request = Rendered::form("127.0.0.1:80".parse().unwrap(), "/token", &by, "a=b");
        let text = str::from_utf8(request.as_bytes()).unwrap();
        assert!(text.starts_with("POST /token HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"));
        assert!(text.contains("\r\nAuthorization: Basic Y2xpZW50XzE6a3dfMQ==\r\n"));
        assert!(text.ends_with("\r\nContent-Length: 3\r\n\r\na=b"));
    }
}
