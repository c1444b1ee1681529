//! TLS: the certificate chain and its key from files, and again from the same files on SIGHUP.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

use crate::config::ServerConfig;

/// What HTTP/2 is called in the handshake (RFC 9113 §3.2).
pub(super) const H2: &[u8] = b"h2";

/// The certificate in force, and where it comes from.
pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<rustls::ServerConfig>,
}

impl Tls {
    /// Reads the files of the settings; `None` if there are none.
    pub(super) fn load(config: &ServerConfig) -> Result<Option<Arc<Self>>, io::Error> {
        let (certificate, key) = (config.tls_certificate.clone(), config.tls_key.clone());
        if certificate.as_os_str().is_empty() {
            return Ok(None);
        }
        let config = ArcSwap::new(read(&certificate, &key)?);
        Ok(Some(Arc::new(Self { certificate, key, config })))
    }

    /// For one connection. Those that stand keep what they began with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Reads the files again. What cannot be used changes nothing: an old certificate is better than none.
    fn reload(&self) {
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                self.config.store(config);
                tracing::info!("the certificate was read again and is in force for new connections");
            }
            Err(error) => tracing::error!(%error, "the new certificate cannot be used; the old one stays in force"),
        }
    }
}

/// Reloads at every SIGHUP from now on. Also without TLS, for the signal would end the process otherwise.
pub(super) fn reload_on_hangup(tls: Option<Arc<Tls>>) -> impl Future<Output = ()> + Send + 'static {
    let hangup = signal(SignalKind::hangup());
    async move {
        let mut hangup = match hangup {
            Ok(hangup) => hangup,
            Err(error) => return tracing::warn!(%error, "SIGHUP cannot be heard: a new certificate needs a restart"),
        };
        while hangup.recv().await.is_some() {
            match &tls {
                Some(tls) => tls.reload(),
                None => tracing::info!("SIGHUP: there is no certificate to read again"),
            }
        }
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>, io::Error> {
    let unusable = |path: &Path, why: String| io::Error::other(format!("{}: {why}", path.display()));
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e| unusable(certificate, e.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "there is no certificate in it".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| unusable(certificate, e.to_string()))?;
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
