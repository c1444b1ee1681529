//! Authorization server metadata: RFC 8414, also where OpenID Connect clients look for it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use keyward_model::client::COMMAND_LINE;
use keyward_model::pkce;
use serde_json::json;

use crate::app::App;
use crate::oauth::{client_auth, grants};
use crate::respond::json_response;

/// `GET /.well-known/oauth-authorization-server` and `GET /.well-known/openid-configuration`
///
/// Every URL begins with the configured issuer: nothing here is built from the request.
pub async fn metadata(State(app): State<Arc<App>>) -> Response {
    let at = |path: &str| format!("{}{path}", app.issuer);
    let registry = app.registry.load();
    let mut scopes: Vec<&str> = registry.apis().flat_map(|api| api.scopes.iter()).map(|s| s.as_str()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    // RFC 7591 §2: a public client has no method.
    let with_public: Vec<&str> = client_auth::METHODS.iter().copied().chain(["none"]).collect();
    let mut document = json!({
        "issuer": app.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "device_authorization_endpoint": at("/auth/device"),
        "jwks_uri": at("/jwks"),
        "introspection_endpoint": at("/introspect"),
        "revocation_endpoint": at("/revoke"),
        // Ours: where verifiers follow what ends. docs/revocation.md describes it.
        "revocations_endpoint": at("/revocations"),
        "service_documentation": at("/docs"),
        "scopes_supported": scopes,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": [pkce::METHOD],
        // RFC 9207 §3
        "authorization_response_iss_parameter_supported": true,
        "grant_types_supported": grants::GRANT_TYPES,
        "token_endpoint_auth_methods_supported": with_public,
        "introspection_endpoint_auth_methods_supported": client_auth::METHODS,
        "revocation_endpoint_auth_methods_supported": with_public,
    });
    if registry.has_command_line
        && let Some(members) = document.as_object_mut()
    {
        // Ours: as which client `keyward login` signs in. docs/terminal.md describes it.
        members.insert("keyward_cli_client_id".to_owned(), json!(COMMAND_LINE));
    }
    let mut response = json_response(StatusCode::OK, &document);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
