//! One `GET` at a time, bounded in every direction: the address, the time, the size; and no redirect is followed.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};

const AGENT: &str = concat!("keyward-guard/", env!("CARGO_PKG_VERSION"));
/// Of an answer's head, and of what is read ahead.
const MAX_BUFFER: usize = 64 * 1024;

/// A URL that a guard may ask: `https`, or `http` on this machine.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(Uri);

impl Endpoint {
    pub(crate) fn parse(url: &str) -> Result<Self, Fault> {
        let refuse = |why: &str| Fault(format!("{url:?} {why}").into());
        let uri: Uri = url.parse().map_err(|_| refuse("is not a URL"))?;
        let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        let host = uri.host().filter(|host| plain && !host.is_empty()).ok_or_else(|| refuse("is not a URL"))?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => {}
            Some(scheme) if *scheme == Scheme::HTTP && is_loopback(host) => {}
            _ => return Err(refuse("must begin with https://; http:// is for 127.0.0.1, [::1] and localhost only")),
        }
        Ok(Self(uri))
    }

    /// The same with a query.
    pub(crate) fn with_query(&self, query: &str) -> Result<Self, Fault> {
        let text = self.to_string();
        let join = if text.contains('?') { '&' } else { '?' };
        Self::parse(&format!("{text}{join}{query}"))
    }

    fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

/// Why something could not be fetched or was not what it should be; for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) Arc<str>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn fault(of: &Endpoint, why: impl fmt::Display) -> Fault {
    Fault(format!("{of}: {why}").into())
}

/// Makes the connections.
#[derive(Clone)]
pub(crate) struct Http {
    /// What is wrong with it concerns only whoever needs it.
    tls: Result<TlsConnector, Fault>,
    answer_within: Duration,
}

impl Http {
    pub(crate) fn new(tls: Option<Arc<ClientConfig>>, answer_within: Duration) -> Self {
        let tls = tls.map_or_else(trusting_the_system, Ok).map_err(|err| Fault(format!("TLS: {err}").into()));
        Self { tls: tls.map(TlsConnector::from), answer_within }
    }

    /// The same for a server that takes so long on purpose.
    pub(crate) fn waiting(&self, time: Duration) -> Self {
        Self { answer_within: self.answer_within + time, ..self.clone() }
    }

    /// The head of the answer, whatever its status; the body can be read from it.
    pub(crate) async fn get(&self, from: &Endpoint, headers: &[(HeaderName, &str)]) -> Result<Answer, Fault> {
        let asked = timeout(self.answer_within, self.ask(from, headers)).await;
        asked.unwrap_or_else(|_| Err(fault(from, "no answer in time")))
    }

    /// A whole body with status 200, from the server itself: a cache on the way may hold what was withdrawn since.
    pub(crate) async fn get_whole(&self, from: &Endpoint, accept: &str, most: usize) -> Result<Vec<u8>, Fault> {
        let answer = self.get(from, &[(ACCEPT, accept), (CACHE_CONTROL, "no-cache")]).await?;
        if answer.status != StatusCode::OK {
            return Err(fault(from, format_args!("answered {}", answer.status)));
        }
        answer.whole(most).await
    }

    async fn ask(&self, from: &Endpoint, headers: &[(HeaderName, &str)]) -> Result<Answer, Fault> {
        let port = from.0.port_u16().unwrap_or(if from.is_tls() { 443 } else { 80 });
        let stream = TcpStream::connect((from.host(), port)).await.map_err(|err| fault(from, err))?;
        // A feed's events are small, and late ones are worth less.
        drop(stream.set_nodelay(true));
        if !from.is_tls() {
            return self.exchange(stream, from, headers).await;
        }
        let name = ServerName::try_from(from.host().to_owned()).map_err(|err| fault(from, err))?;
        let tls = self.tls.as_ref().map_err(|err| fault(from, err))?;
        let stream = tls.connect(name, stream).await.map_err(|err| fault(from, err))?;
        self.exchange(stream, from, headers).await
    }

    async fn exchange<S>(&self, stream: S, from: &Endpoint, headers: &[(HeaderName, &str)]) -> Result<Answer, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connection = http1::Builder::new();
        connection.max_buf_size(MAX_BUFFER);
        let shaken = connection.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|err| fault(from, err))?;
        let connection = Driven(tokio::spawn(async move { drop(connection.await) }).abort_handle());
        let authority = from.0.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::get(from.0.path_and_query().map_or("/", |path| path.as_str()));
        request = request.header(HOST, authority).header(USER_AGENT, AGENT);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Empty::new()).map_err(|err| fault(from, err))?;
        let (head, body) = sender.send_request(request).await.map_err(|err| fault(from, err))?.into_parts();
        let Self { answer_within, .. } = *self;
        let from = from.clone();
        Ok(Answer { status: head.status, headers: head.headers, body, from, answer_within, _connection: connection })
    }
}

/// An answer whose body is still on its way. The connection ends with it.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    from: Endpoint,
    answer_within: Duration,
    _connection: Driven,
}

impl Answer {
    /// What comes next of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(|err| fault(&self.from, err))?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body, of at most so many bytes.
    pub(crate) async fn whole(mut self, most: usize) -> Result<Vec<u8>, Fault> {
        let (mut whole, from, time) = (Vec::new(), self.from.clone(), self.answer_within);
        let read = async {
            while let Some(chunk) = self.chunk().await? {
                if whole.len() + chunk.len() > most {
                    return Err(fault(&from, format_args!("the answer is longer than {most} bytes")));
                }
                whole.extend_from_slice(&chunk);
            }
            Ok(())
        };
        match timeout(time, read).await {
            Ok(read) => read.map(|()| whole),
            Err(_) => Err(fault(&from, "the answer did not end in time")),
        }
    }

    /// The text of a header; `None` if absent or not visible ASCII.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A connection that is driven until nobody reads from it any more.
struct Driven(AbortHandle);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn trusting_the_system() -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_platform_verifier()?;
    Ok(Arc::new(config.with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        for url in [
            "https://keyward.example",
            "https://10.0.0.7:8443/a?b=c",
            "http://127.0.0.1:8080",
            "http://127.9.9.9/",
            "http://[::1]:80/",
            "http://LocalHost:3000",
        ] {
            assert!(Endpoint::parse(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "keyward.example",
            "/jwks",
            "http://keyward.example",
            "http://10.0.0.7",
            "http://localhost.example",
            "http://[::2]",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "https://",
            "https://user@keyward.example",
            "http://127.0.0.1@keyward.example",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }
}
