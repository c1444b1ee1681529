//! Callers as arguments of axum's handlers, and refusals as what they return.
//!
//! A router whose state has a [`Guard`] needs no layer: a handler that takes a [`Caller`] does not compile without one,
//! and is not reached without a good token. Behind [`Guard::layer`] a handler may
//! take `Extension<Caller>` instead; with both, the token is checked once.

use axum_core::body::Body;
use axum_core::extract::{FromRef, FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::layer::Admitted;
use crate::{Caller, DEFAULT_REALM, Guard, IDENTITY_TOKEN, Refusal};

/// What an extractor answers instead of calling the handler: the refusal, in the guard's realm.
#[derive(Debug)]
pub struct Rejection {
    /// Why.
    pub refusal: Refusal,
    realm: String,
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        self.refusal.response::<Body>(&self.realm)
    }
}

/// So that `caller.require("Supervisor", "plant/7")?` is a whole check. The realm is [`DEFAULT_REALM`], which
/// [`Guard::layer`] replaces by its own on the way out.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.response::<Body>(DEFAULT_REALM)
    }
}

impl<S> FromRequestParts<S> for Caller
where
    Guard: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let guard = Guard::from_ref(state);
        if let Some(caller) = parts.extensions.get::<Admitted>().and_then(|admitted| admitted.caller(&guard)) {
            return Ok(caller.clone());
        }
        guard.admit(&parts.headers).await.map_err(|refusal| Rejection { refusal, realm: guard.realm().to_owned() })
    }
}

/// `None` only where no token at all was sent: a bad one is refused, not overlooked.
impl<S> OptionalFromRequestParts<S> for Caller
where
    Guard: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Rejection> {
        if [AUTHORIZATION, IDENTITY_TOKEN].iter().any(|name| parts.headers.contains_key(name)) {
            return <Self as FromRequestParts<S>>::from_request_parts(parts, state).await.map(Some);
        }
        Ok(None)
    }
}
