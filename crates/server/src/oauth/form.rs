//! Requests to OAuth endpoints: form bodies of bearable size.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{self, FromRequest};
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use keyward_model::form::{Form, FormError};
use keyward_model::time::Timestamp;
use tokio::time::timeout;

use crate::app::App;
use crate::request::{Arrival, Content};
use crate::respond::{ErrorCode, OAuthError};

/// The largest body an OAuth endpoint reads, in bytes.
pub const MAX_BODY: usize = 16 * 1024;
impl From<FormError> for OAuthError {
    fn from(error: FormError) -> Self {
        ErrorCode::InvalidRequest.because(match error {
            FormError::Repeated(_) => error.to_string(),
            _ => format!("the form body cannot be read: {error}"),
        })
    }
}

/// A request to an OAuth endpoint: a form of bearable size that arrived in time.
pub struct FormRequest {
    /// The instant of the request.
    pub now: Timestamp,
    /// The network address of the client.
    pub address: Option<IpAddr>,
    /// The header fields.
    pub headers: HeaderMap,
    body: Bytes,
}

impl FormRequest {
    /// Reads it where no router has done so.
    pub(crate) async fn read(request: Request<impl Content>, arrival: Arrival, app: &App) -> Result<Self, OAuthError> {
        let (headers, body) = read(request, app.body_timeout).await?;
        Ok(Self { now: arrival.at, address: Some(arrival.address), headers, body })
    }

    /// The parameters.
    pub fn form(&self) -> Result<Form<'_>, OAuthError> {
        Ok(Form::parse(&self.body)?)
    }
}

impl FromRequest<Arc<App>> for FormRequest {
    type Rejection = OAuthError;

    async fn from_request(request: extract::Request, app: &Arc<App>) -> Result<Self, OAuthError> {
        let arrival = request.extensions().get::<Arrival>().copied();
        let now = arrival.map_or_else(|| app.clock.now(), |arrival| arrival.at);
        let (headers, body) = read(request, app.body_timeout).await?;
        Ok(Self { now, address: arrival.map(|arrival| arrival.address), headers, body })
    }
}

/// The head's fields and the body.
async fn read(request: Request<impl Content>, patience: Duration) -> Result<(HeaderMap, Bytes), OAuthError> {
    let (parts, body) = request.into_parts();
    let refuse = |why: &'static str| Err(ErrorCode::InvalidRequest.because(why));
    if parts.uri.query().is_some() {
        // RFC 6749 §2.3.1: the credentials "MUST NOT be included in the request URI".
        return refuse("parameters belong into the body, not into the URL");
    }
    let mut content_types = parts.headers.get_all(header::CONTENT_TYPE).iter();
    let is_form = content_types.next().is_some_and(|v| is_form(v.as_bytes())) && content_types.next().is_none();
    if !is_form {
        return refuse("the content type must be application/x-www-form-urlencoded");
    }
    match timeout(patience, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok((parts.headers, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => refuse("the body is larger than 16 KiB"),
        Ok(Err(_)) => refuse("the body could not be read to its end"),
        Err(_) => refuse("the body took too long to arrive"),
    }
}

fn is_form(content_type: &[u8]) -> bool {
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}
