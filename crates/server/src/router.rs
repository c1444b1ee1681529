//! Every path on one page.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, Method, Request, header};
use tower_service::Service as _;

use crate::app::App;
use crate::oauth::{device_authorization, introspect, jwks, metadata, revocations, revoke, status_list, token};
use crate::request::{Arrival, Content, name_route};
use crate::{api, ext_authz, forward_auth, health, leaks, pages, respond};

/// Where requests are answered.
pub(crate) struct Paths {
    /// Whoever answers at the two paths to which most requests come: they are found before a route is looked for among all.
    busy: Option<Arc<App>>,
    all: Router,
}

impl Paths {
    /// All paths of the server, with those of the REST API.
    pub(crate) fn of(app: &Arc<App>, rest: Router<Arc<App>>) -> Self {
        Self { busy: Some(Arc::clone(app)), all: router(Arc::clone(app), rest) }
    }

    /// Answers one request. Boxed here, where it is not yet known how, so that nobody above carries room for all ways.
    pub(crate) fn answer(&self, arrival: Arrival, request: Request<impl Content>) -> BoxFuture<'_, Response> {
        match (&self.busy, request.uri().path()) {
            (Some(app), FORWARD_AUTH) => {
                let (parts, _unread) = request.into_parts();
                Box::pin(forward_auth::forward_auth(app, parts, arrival))
            }
            (Some(app), TOKEN) if request.method() == Method::POST => {
                Box::pin(async move { token::token(app, arrival, request).await.into_response() })
            }
            _ => {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(arrival);
                Box::pin(async { self.all.clone().call(request).await.unwrap_or_else(|never| match never {}) })
            }
        }
    }
}

#[cfg(test)]
impl From<Router> for Paths {
    fn from(all: Router) -> Self {
        Self { busy: None, all }
    }
}

/// For nginx, Caddy and Traefik, by any method.
const FORWARD_AUTH: &str = "/forward-auth";
/// For clients.
const TOKEN: &str = "/token";

fn router(app: Arc<App>, rest: Router<Arc<App>>) -> Router {
    let for_envoy = if app.gateway.ext_authz { post(ext_authz::check) } else { any(nothing_here) };
    let reference = pages::api_reference::Reference::new(|| api::router().1);
    // Before all of them, in `Paths::answer`: FORWARD_AUTH, and TOKEN by POST                RFC 6749 §3.2
    Router::new()
        .route(TOKEN, any(post_only))
        .route("/auth/device", post(device_authorization::device_authorization).fallback(post_only)) // RFC 8628 §3.1
        .route("/introspect", post(introspect::introspect).fallback(post_only)) //         RFC 7662 §2
        .route("/revoke", post(revoke::revoke).fallback(post_only)) //                     RFC 7009 §2
        .route("/jwks", get(jwks::jwks)) //                                                RFC 7517 §5
        .route("/status-lists/{id}", get(status_list::status_list)) //                     Token Status List §8
        .route("/revocations", get(revocations::revocations))
        .route("/.well-known/oauth-authorization-server", get(metadata::metadata)) //      RFC 8414 §3
        .route("/.well-known/openid-configuration", get(metadata::metadata)) //            RFC 8414 §5
        .route("/leaks", post(leaks::report).fallback(leaks::post_only))
        .route(ext_authz::CHECK, for_envoy) //                                             for Envoy
        .merge(rest.route_layer(from_fn(name_route))) //                                   /api/v1/…
        .merge(pages::routes(&app)) // /authorize: RFC 6749 §3.1; /device: RFC 8628 §3.3; /login, /account, …
        .merge(reference.routes()) //                                                      /openapi.json, /docs
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(nothing_here)
        .with_state(app)
}

async fn post_only() -> ([(HeaderName, &'static str); 1], respond::OAuthError) {
    ([(header::ALLOW, "POST")], respond::ErrorCode::InvalidRequest.because("this endpoint takes POST only"))
}

async fn nothing_here(headers: HeaderMap) -> Response {
    let is_browser = headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"));
    if is_browser {
        return pages::frame::nothing_here(&headers);
    }
    respond::Problem::NotFound.because("the paths of this server are listed at /docs").into_response()
}
