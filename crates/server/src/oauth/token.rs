//! Token endpoint: RFC 6749 §3.2.
//!
//! 1. Read the form              §3.2
//! 2. Find the grant             §4.5
//! 3. Find out who asks          §2.3, §3.2.1
//! 4. Count who asked            `callers`
//! 5. Carry out the grant        `grants`
//! 6. Warn if the key ends soon  `key_warning`

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderValue, Request, StatusCode, header};

use crate::app::App;
use crate::meter;
use crate::oauth::client_auth::{self, Asker};
use crate::oauth::form::FormRequest;
use crate::oauth::{caller, grants, key_warning};
use crate::request::{Arrival, Content};
use crate::respond::{ErrorCode, OAuthError, json_response};

/// `POST /token`
pub(crate) async fn token(
    app: &Arc<App>,
    arrival: Arrival,
    request: Request<impl Content>,
) -> Result<Response, OAuthError> {
    let request = FormRequest::read(request, arrival, app).await?;
    let (now, form) = (request.now, request.form()?);
    let grant_type =
        form.get("grant_type")?.ok_or_else(|| ErrorCode::InvalidRequest.because("grant_type is missing"))?;
    let grant = grants::find(grant_type)?;
    let caller = caller::of(&request, &form)?;
    let asker = client_auth::identify(app, &request, &form).await?;
    // Whatever becomes of the request: whoever has the right key and asks for the wrong thing uses it, and would be cut off
    // by its end.
    if let Some(credential) = asker.credential() {
        app.callers.accepted(credential, caller, now);
    }
    let asked = grants::Request::read(&form)?;
    let call = grants::Call { app, asker, form: &form, address: request.address, now };
    let response = grants::exchange(grant, &call, asked).await?;
    meter::TOKENS_ISSUED.increment();
    Ok(no_store(match &call.asker {
        Asker::Confidential(principal) => key_warning::beside(&response, app, principal, now),
        Asker::Public(_) => json_response(StatusCode::OK, &response),
    }))
}

/// RFC 6749 §5.1: token responses must not be stored by anything on the way.
pub fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
