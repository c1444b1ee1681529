//! Where an issuer's keys are (RFC 8414, OpenID Connect Discovery), and which they are now.

use std::sync::Arc;

use keyward_model::jws::Jwks;
use serde::Deserialize;

use super::asked::Asked;
use super::fetch::{Endpoint, Fault, Http, fault};
use super::pace::{Backoff, spread};
use super::state::State;
use crate::KeySet;

const MAX_METADATA: usize = 256 * 1024;
const MAX_JWKS: usize = 512 * 1024;

pub(super) struct Issuer {
    issuer: String,
    metadata: Endpoint,
    /// Read anew after whatever went wrong.
    jwks: Option<Endpoint>,
    http: Http,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// Keyward: "inserting a well-known URI string into the authorization server's issuer identifier between the host
    /// component and the path component" (RFC 8414 §3.1).
    pub(super) fn own(issuer: &str, http: Http) -> Result<Self, Fault> {
        Endpoint::parse(issuer)?;
        let host = issuer.find("://").and_then(|at| Some(at + 3 + issuer.get(at + 3..)?.find('/')?));
        let (host, path) = issuer.split_at(host.unwrap_or(issuer.len()));
        let path = path.trim_end_matches('/');
        Self::at(issuer, &format!("{host}/.well-known/oauth-authorization-server{path}"), http)
    }

    /// Another: "concatenating the string /.well-known/openid-configuration to the Issuer" (OpenID Connect Discovery §4).
    pub(super) fn trusted(issuer: &str, http: Http) -> Result<Self, Fault> {
        Self::at(issuer, &format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')), http)
    }

    fn at(issuer: &str, metadata: &str, http: Http) -> Result<Self, Fault> {
        if issuer.contains(['?', '#']) {
            return Err(Fault(format!("{issuer:?}: an issuer has no query and no fragment (RFC 8414 §2)").into()));
        }
        Ok(Self { issuer: issuer.to_owned(), metadata: Endpoint::parse(metadata)?, jwks: None, http })
    }

    /// Keeps the keys of this issuer up to date.
    pub(super) async fn run(mut self, state: Arc<State>, asked: Arc<Asked>) {
        let pace = state.pace;
        let is_own = self.issuer == state.issuer;
        let mut backoff = Backoff::new(pace.pause);
        let mut read_at = None;
        loop {
            asked.begin();
            let asked_at = state.now();
            let read = self.read(state.keys_as_of().filter(|_| is_own)).await;
            let (next, fault) = match read {
                Ok(keys) => {
                    state.set_keys(&self.issuer, keys);
                    read_at = Some(asked_at);
                    backoff.reset();
                    (spread(pace.keys), None)
                }
                Err(fault) => {
                    self.jwks = None;
                    let is_over = |at| state.now().since(at) >= pace.foreign_keys;
                    if !is_own && read_at.take_if(|at| is_over(*at)).is_some() {
                        state.forget_keys(&self.issuer);
                    }
                    (backoff.next(), Some(fault))
                }
            };
            state.meter.fetched(fault.as_ref());
            asked.end(fault);
            asked.rest(next, pace.unknown_keys).await;
        }
    }

    /// The keys, never those from before this place in the issuer's log: of several nodes one may be behind, and still
    /// publish what another has withdrawn.
    async fn read(&mut self, as_of: Option<u64>) -> Result<KeySet, Fault> {
        let jwks = match &self.jwks {
            Some(jwks) => jwks.clone(),
            None => self.discover().await?,
        };
        let from = match as_of {
            Some(id) => jwks.with_query(&format!("applied={id}"))?,
            None => jwks.clone(),
        };
        let document = self.http.get_whole(&from, "application/jwk-set+json, application/json", MAX_JWKS).await?;
        let document: Jwks = serde_json::from_slice(&document).map_err(|err| fault(&jwks, err))?;
        let keys = KeySet::from_jwks(&document);
        // An issuer that issues has a key: what says otherwise is some other page.
        if keys.is_empty() {
            return Err(fault(&jwks, "there is no key that can verify ES256, EdDSA or RS256"));
        }
        self.jwks = Some(jwks);
        Ok(keys)
    }

    /// "The "issuer" value returned MUST be identical to the authorization server's issuer identifier value into which
    /// the well-known URI string was inserted" (RFC 8414 §3.3).
    async fn discover(&self) -> Result<Endpoint, Fault> {
        let document = self.http.get_whole(&self.metadata, "application/json", MAX_METADATA).await?;
        let metadata: Metadata = serde_json::from_slice(&document).map_err(|err| fault(&self.metadata, err))?;
        if metadata.issuer != self.issuer {
            let named = metadata.issuer;
            let why = format!("it is of the issuer {named:?}; {:?} was asked for: write the same", self.issuer);
            return Err(fault(&self.metadata, why));
        }
        let jwks = Endpoint::parse(&metadata.jwks_uri)?;
        if self.metadata.is_tls() && !jwks.is_tls() {
            return Err(fault(&self.metadata, "its jwks_uri does not begin with https://"));
        }
        Ok(jwks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn metadata_are_looked_for_where_each_specification_says() {
        let http = Http::new(None, Duration::from_secs(1));
        for (issuer, own, trusted) in [
            (
                "https://a.example",
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example:8443/iam/x",
                "https://a.example:8443/.well-known/oauth-authorization-server/iam/x",
                "https://a.example:8443/iam/x/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(Issuer::own(issuer, http.clone()).unwrap().metadata.to_string(), own);
            assert_eq!(Issuer::trusted(issuer, http.clone()).unwrap().metadata.to_string(), trusted);
        }
        for issuer in ["a.example", "http://a.example", "https://a.example?b", "https://a.example#b", ""] {
            assert!(Issuer::own(issuer, http.clone()).is_err() && Issuer::trusted(issuer, http.clone()).is_err());
        }
    }
}
