//! `/forward-auth`: what nginx (`auth_request`), Caddy (`forward_auth`) and Traefik (ForwardAuth) ask of each request.
//!
//! They send the headers of the request with another path, so the original one is in `X-Forwarded-Uri`. Any method is taken
//! and no body read.

use std::sync::Arc;

use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use keyward_model::form::Form;

use crate::app::App;
use crate::gateway::{Knock, answer, misconfigured};
use crate::request::Arrival;

const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// `/forward-auth`
pub(crate) async fn forward_auth(app: &Arc<App>, parts: Parts, arrival: Arrival) -> Response {
    let Ok(target) = original_target(&parts.headers) else {
        return misconfigured("X-Forwarded-Uri stands twice: the gateway must replace what came in under that name");
    };
    let knock = Knock { headers: &parts.headers, target, address: Some(arrival.address), now: arrival.at };
    match Form::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
        Ok(form) => answer(app, form.pairs(), &knock).await,
        Err(why) => misconfigured(format!("the query cannot be read: {why}")),
    }
}

/// There are two: nobody knows which one the gateway has written.
struct Twice;

fn original_target(headers: &HeaderMap) -> Result<Option<&[u8]>, Twice> {
    let mut values = headers.get_all(FORWARDED_URI).iter();
    let first = values.next().map(HeaderValue::as_bytes);
    if values.next().is_some() { Err(Twice) } else { Ok(first) }
}
