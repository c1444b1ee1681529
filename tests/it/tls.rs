//! TLS by the server itself: versions and protocols, certificates that change, and whoever speaks something else.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use keyward_tests::run;
use keyward_tests::server::{Db, TestServer};
use reqwest::{Certificate, Client, ClientBuilder, StatusCode, Version, tls};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(10);

/// The two files of a server, and what clients need to trust it.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    /// In a directory of their own, with a first certificate.
    fn new() -> (Self, Certificate) {
        let directory = run::subdirectory("tls");
        let files = Self { certificate: directory.join("cert.pem"), key: directory.join("key.pem") };
        let certificate = files.renew();
        (files, certificate)
    }

    /// Another certificate with another key in the same files.
    fn renew(&self) -> Certificate {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(&self.key, made.signing_key.serialize_pem()).unwrap();
        fs::write(&self.certificate, made.cert.pem()).unwrap();
        Certificate::from_der(made.cert.der()).unwrap()
    }

    async fn serve(&self) -> TestServer {
        TestServer::start_with(Db::Sqlite, |config| {
            config.server.tls_certificate.clone_from(&self.certificate);
            config.server.tls_key.clone_from(&self.key);
            config.server.header_timeout_s = 1;
        })
        .await
    }
}

/// A client that trusts this certificate alone.
fn client(certificate: &Certificate) -> ClientBuilder {
    drop(keyward_tests::http());
    Client::builder().tls_certs_only([certificate.clone()])
}

fn url(server: &TestServer, path: &str) -> String {
    format!("https://{}{path}", server.address())
}

/// A bare TLS connection that asks for this protocol.
async fn connect(server: &TestServer, files: &Files, protocol: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn tls_1_2_and_1_3_carry_http_1_1_and_http_2() {
    let (files, certificate) = Files::new();
    let server = files.serve().await;
    let key = server.bootstrap();
    for version in [tls::Version::TLS_1_2, tls::Version::TLS_1_3] {
        let exactly = || client(&certificate).tls_version_min(version).tls_version_max(version);
        for (client, protocol) in [(exactly().http1_only(), Version::HTTP_11), (exactly(), Version::HTTP_2)] {
            let request = client.build().unwrap().post(url(&server, "/token"));
            let request = request.basic_auth(&key.client_id, Some(&key.client_secret));
            let answer = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
            assert_eq!((answer.status(), answer.version()), (StatusCode::OK, protocol), "{version:?}");
        }
    }
    let metadata = client(&certificate).build().unwrap().get(url(&server, "/.well-known/oauth-authorization-server"));
    let metadata: Value = metadata.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        metadata["token_endpoint"],
        url(&server, "/token"),
        "without a setting, the issuer is what it listens on"
    );
}

#[tokio::test]
async fn many_requests_at_once_share_one_http_2_connection() {
    let (files, certificate) = Files::new();
    let server = files.serve().await;
    let client = client(&certificate).build().unwrap();
    let requests = (0..200).map(|_| client.get(url(&server, "/jwks")).send());
    for answer in futures_util::future::join_all(requests).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_is_cut_off() {
    let (files, _) = Files::new();
    let server = files.serve().await;
    for begin in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let start = Instant::now();
        stream.write_all(begin).await.unwrap();
        let mut all = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("still open").unwrap();
        let took = start.elapsed().as_secs_f32();
        assert!((0.9..3.0).contains(&took), "{took} s");
    }
}

#[tokio::test]
async fn an_idle_http_2_connection_is_told_to_go_and_closed() {
    let (files, _) = Files::new();
    let server = files.serve().await;
    let mut stream = connect(&server, &files, b"h2").await;
    let start = Instant::now();
    // The preface and an empty SETTINGS frame (RFC 9113 §3.4).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut all = Vec::new();
    // The server does not wait for this client's close.
    drop(timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("still open"));
    let took = start.elapsed().as_secs_f32();
    assert!((0.9..4.0).contains(&took), "{took} s");
    assert!(frames(&all).contains(&GOAWAY), "{all:?}");
}

/// RFC 9113 §6.8.
const GOAWAY: u8 = 7;

/// The types of the frames (RFC 9113 §4.1).
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, ..] = bytes {
        types.push(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    types
}

#[tokio::test]
async fn plain_http_on_the_tls_port_does_no_harm() {
    let (files, certificate) = Files::new();
    let server = files.serve().await;
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\0\0\0\0\0\0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        drop(timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("still open"));
        assert!(!String::from_utf8_lossy(&all).contains("HTTP"), "{all:?}");
    }
    let answer = client(&certificate).build().unwrap().get(url(&server, "/healthz")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let (files, first) = Files::new();
    let server = files.serve().await;
    let reaches = async |certificate: &Certificate| {
        let client = client(certificate).build().unwrap();
        client.get(url(&server, "/healthz")).send().await.is_ok()
    };
    let open = client(&first).build().unwrap();
    open.get(url(&server, "/healthz")).send().await.unwrap();

    let second = files.renew();
    assert!(reaches(&first).await && !reaches(&second).await, "a new file alone changes nothing");
    hang_up();
    let taken_up = async {
        while !reaches(&second).await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, taken_up).await.expect("the new certificate is not taken up");
    assert!(!reaches(&first).await);
    let answer = open.get(url(&server, "/healthz")).send().await;
    assert!(answer.is_ok(), "a connection that was open stays open: {answer:?}");

    // In the middle of a renewal the certificate may be new and the key old.
    let key = fs::read(&files.key).unwrap();
    let third = files.renew();
    fs::write(&files.key, key).unwrap();
    for broken in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
        if let Some(broken) = broken {
            fs::write(&files.certificate, broken).unwrap();
        }
        hang_up();
        sleep(Duration::from_millis(200)).await;
        assert!(reaches(&second).await && !reaches(&third).await, "the old one stays in force: {broken:?}");
    }
    fs::remove_file(&files.certificate).unwrap();
    hang_up();
    sleep(Duration::from_millis(200)).await;
    assert!(reaches(&second).await);
}

/// SIGHUP to the servers of this process.
fn hang_up() {
    let status = Command::new("kill").args(["-s", "HUP", &std::process::id().to_string()]).status();
    assert!(status.unwrap().success());
}
