//! Whose identity tokens an API accepts beside those of the client that calls.

use keyward_model::api::{Api, IdentityIssuer};
use keyward_model::id::ClientId;
use keyward_model::rights::{MAX_SET, ResSet, ScopeSet};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::call::Call;
use crate::respond::ApiError;

/// The most issuers of one API: the keys of each are fetched and kept.
const MAX_ISSUERS: usize = 16;
/// The longest issuer or audience, in bytes.
const MAX_TEXT: usize = 255;
const CLIENTS: &str = "identity_clients";
const ISSUERS: &str = "identity_issuers";

/// An OpenID provider whose users an API knows, with what they may do at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IdentityIssuer)]
pub struct IdentityIssuerView {
    /// The `iss` of its tokens, an https URL; its keys are found from it (OpenID Connect Discovery §4).
    pub issuer: String,
    /// The `aud` of its tokens for this API, often a `client_id` there.
    pub audience: String,
    /// The scopes its users may have at most, of those that the API knows; together with `res`. Without both, the `scope`
    /// and `res` of the token say it, and a token without these may do nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<ScopeSet>,
    /// The resources its users may touch at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub res: Option<ResSet>,
}

impl From<IdentityIssuer> for IdentityIssuerView {
    fn from(IdentityIssuer { issuer, audience, scope, res }: IdentityIssuer) -> Self {
        Self { issuer, audience, scope, res }
    }
}

/// Clients that exist, each once and in order.
pub(super) async fn clients(call: &Call, mut clients: Vec<ClientId>) -> Result<Vec<ClientId>, ApiError> {
    if clients.len() > MAX_SET {
        return Err(ApiError::field(CLIENTS, format!("must be at most {MAX_SET} clients")));
    }
    clients.sort_unstable();
    clients.dedup();
    for client in &clients {
        if call.app.store.find_client(*client).await?.is_none() {
            return Err(ApiError::field(CLIENTS, format!("there is no client {client}")));
        }
    }
    Ok(clients)
}

/// Issuers that can be meant, each once for an audience.
pub(super) fn issuers(call: &Call, issuers: Vec<IdentityIssuerView>) -> Result<Vec<IdentityIssuer>, ApiError> {
    let refuse = |why: String| Err(ApiError::field(ISSUERS, why));
    if issuers.len() > MAX_ISSUERS {
        return refuse(format!("must be at most {MAX_ISSUERS} issuers"));
    }
    let mut checked: Vec<IdentityIssuer> = Vec::with_capacity(issuers.len());
    for (at, IdentityIssuerView { issuer, audience, scope, res }) in issuers.into_iter().enumerate() {
        let refuse = |why: &str| refuse(format!("entry {}: {why}", at + 1));
        if let Err(why) = check_issuer(&issuer) {
            return refuse(why);
        }
        if issuer == call.app.issuer {
            return refuse(
                "Keyward's own users are known without being named; to accept them from other clients, name \
                           the client they log in with in identity_clients",
            );
        }
        if audience.is_empty() || audience.len() > MAX_TEXT || !audience.bytes().all(|b| b.is_ascii_graphic()) {
            return refuse("audience must be 1 to 255 visible ASCII characters");
        }
        if scope.is_some() != res.is_some() {
            return refuse("scope and res go together: rights are scopes on resources");
        }
        if checked.iter().any(|known| known.issuer == issuer && known.audience == audience) {
            return refuse("this issuer is named before with the same audience");
        }
        checked.push(IdentityIssuer { issuer, audience, scope, res });
    }
    Ok(checked)
}

/// Refuses to give users of an issuer what no token for the API can carry.
pub(super) fn require_known_scopes(api: &Api) -> Result<(), ApiError> {
    let unknown = api.identity_issuers.iter().find_map(|issuer| issuer.scope.as_ref()?.first_beyond(&api.scopes));
    match unknown {
        Some(scope) => Err(ApiError::field(ISSUERS, format!("{scope} is not among the scopes that this API knows"))),
        None => Ok(()),
    }
}

/// OpenID Connect Discovery §3: "URL using the https scheme with no query or fragment components".
fn check_issuer(text: &str) -> Result<(), &'static str> {
    let rule = "issuer must be an https URL without user, query and fragment, such as https://login.example.org";
    let url: Url = text.parse().map_err(|_| rule)?;
    let at_home = ["127.0.0.1", "[::1]", "localhost"].contains(&url.host_str().unwrap_or_default());
    let is_secret = url.scheme() == "https" || (url.scheme() == "http" && at_home);
    let is_bare = url.username().is_empty() && url.password().is_none() && !text.contains(['?', '#', '\\']);
    let is_legible = text.len() <= MAX_TEXT && text.bytes().all(|b| b.is_ascii_graphic());
    if is_secret && is_bare && is_legible { Ok(()) } else { Err(rule) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_an_https_url_and_http_only_on_this_machine() {
        for right in [
            "https://login.example",
            "https://login.example/",
            "https://login.example:8443/realms/plant",
            "http://127.0.0.1:8080",
            "http://localhost/realms/plant",
            "http://[::1]:8080",
        ] {
            assert_eq!(check_issuer(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "login.example",
            "http://login.example",
            "http://127.0.0.1.example",
            "http://localhost.example",
            "ftp://login.example",
            "https://anna@login.example",
            "https://login.example/?x",
            "https://login.example#",
            "https://login.example/ä",
            "https://login.example/ x",
            "https:\\\\login.example",
        ] {
            assert!(check_issuer(wrong).is_err(), "{wrong}");
        }
        assert!(check_issuer(&format!("https://login.example/{}", "x".repeat(250))).is_err());
    }
}
