//! Finding the keys of one issuer: its OpenID configuration, then its JWK Set.

use keyward_guard::KeySet;
use keyward_model::jws::Jwks;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::outbound::{Failure, Outbound};

/// The largest document that is read, in bytes.
const MAX_DOCUMENT: usize = 256 * 1024;
/// The most keys of one issuer.
const MAX_KEYS: usize = 100;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{0}")]
    Failure(#[from] Failure),
    #[error("it answered {0}")]
    Status(u16),
    #[error("a document of it is larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
    #[error("a document of it is not what it should be: {0}")]
    Document(#[from] serde_json::Error),
    #[error("its configuration is that of another issuer, {0:?}")]
    OtherIssuer(String),
    #[error("an https issuer must not have its keys fetched over http")]
    Unprotected,
    #[error("it has published no key of an algorithm that is accepted here")]
    NoKeys,
}

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

pub(super) async fn keys(outbound: &Outbound, issuer: &str) -> Result<KeySet, Problem> {
    // OpenID Connect Discovery §4: "any terminating / MUST be removed before appending /.well-known/openid-configuration".
    let place = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    let configuration: Configuration = document(outbound, &place).await?;
    // §4.3: the issuer "MUST exactly match".
    if configuration.issuer != issuer {
        return Err(Problem::OtherIssuer(configuration.issuer));
    }
    if is_https(issuer) && !is_https(&configuration.jwks_uri) {
        return Err(Problem::Unprotected);
    }
    let mut jwks: Jwks = document(outbound, &configuration.jwks_uri).await?;
    jwks.keys.truncate(MAX_KEYS);
    let keys = KeySet::from_jwks(&jwks);
    if keys.is_empty() { Err(Problem::NoKeys) } else { Ok(keys) }
}

/// Schemes are the same in upper case (RFC 3986 §3.1), and `HTTPS://…` is an issuer that an API may trust.
fn is_https(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "https")
}

async fn document<T: DeserializeOwned>(outbound: &Outbound, url: &str) -> Result<T, Problem> {
    let mut answer = outbound.send(url, |client, url| client.get(url).header("accept", "application/json")).await?;
    if answer.status() != http::StatusCode::OK {
        return Err(Problem::Status(answer.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Failure::of(&error))? {
        if bytes.len() + chunk.len() > MAX_DOCUMENT {
            return Err(Problem::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_https_however_it_is_written() {
        for url in ["https://login.example", "HTTPS://login.example", "hTTps://login.example/keys"] {
            assert!(is_https(url), "{url}");
        }
        for url in ["http://login.example", "HTTP://login.example", "httpss://login.example", "/keys", ""] {
            assert!(!is_https(url), "{url}");
        }
    }
}
