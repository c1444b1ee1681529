//! TLS to PostgreSQL. Certificate and host name are always verified.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::StoreError;

/// A connector that trusts the authorities of `ca`, or else those of the system.
pub(super) fn connector(config: &Config, ca: Option<&Path>) -> Result<MakeRustlsConnect, StoreError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Config(format!("TLS: {error}")))?;
    let mut tls = match ca {
        Some(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
        None if uses_tls(config) => match builder.clone().with_platform_verifier() {
            Ok(builder) => builder.with_no_client_auth(),
            Err(error) => {
                // An image without certificates is fine as long as the server does not offer TLS.
                tracing::warn!(%error, "no trusted certificates on this system; TLS to the database will be refused");
                builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
            }
        },
        None => builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
    };
    if config.get_ssl_negotiation() == SslNegotiation::Direct {
        tls.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(tls))
}

fn uses_tls(config: &Config) -> bool {
    config.get_ssl_mode() != SslMode::Disable && config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)))
}

fn roots(path: &Path) -> Result<RootCertStore, StoreError> {
    let wrong = |reason: String| StoreError::Config(format!("{}: {reason}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(roots)
}
