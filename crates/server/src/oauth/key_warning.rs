//! What a client is told of its key's end, where it looks anyway: in the token response while the end is ahead, in the
//! refusal once it has come.
//!
//! RFC 6749 §5.1: "The client MUST ignore unrecognized value names in the response." So these members reach whoever
//! looks and disturb nobody. Never `Sunset` (RFC 8594) or `Deprecation` (RFC 9745): those speak of the URI.

use std::borrow::Cow;

use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use keyward_model::credential::{EndReason, Purpose, State, StateName};
use keyward_model::time::Timestamp;
use keyward_model::user::User;
use serde::Serialize;

use crate::api::instant::Instant;
use crate::app::App;
use crate::oauth::grants::TokenResponse;
use crate::principals::Principal;
use crate::respond::json_response;

/// When the key ends, as an HTTP date (RFC 9110 §5.6.7), which every HTTP library reads.
pub(crate) const KEY_EXPIRES: HeaderName = HeaderName::from_static("keyward-key-expires");

/// A key whose end is ahead.
#[derive(Debug, Serialize)]
struct EndingKey {
    key_state: &'static str,
    /// Unix seconds, as `client_secret_expires_at` (RFC 7591 §3.2.1) and all other instants of OAuth.
    key_expires_at: i64,
    key_notice: String,
}

/// A key whose end has come. Only whoever has the right secret is told.
#[derive(Debug, Serialize)]
pub(crate) struct EndedKey {
    key_state: StateName,
    key_ended_at: i64,
    key_notice: String,
}

/// The token response, with a warning if the key ends soon.
pub(crate) fn beside(response: &TokenResponse, app: &App, principal: &Principal, now: Timestamp) -> Response {
    #[derive(Serialize)]
    struct Warned<'a> {
        #[serde(flatten)]
        response: &'a TokenResponse,
        #[serde(flatten)]
        ending: EndingKey,
    }
    let Some((ending, at)) = ending(app, principal, now) else { return json_response(StatusCode::OK, response) };
    let mut answer = json_response(StatusCode::OK, &Warned { response, ending });
    answer.headers_mut().extend(http_date(at).map(|date| (KEY_EXPIRES, date)));
    answer
}

/// The header's value by itself, where there is no token response.
pub(crate) fn in_header(app: &App, principal: &Principal, now: Timestamp) -> Option<HeaderValue> {
    ending(app, principal, now).and_then(|(_, at)| http_date(at))
}

fn http_date(at: Timestamp) -> Option<HeaderValue> {
    HeaderValue::try_from(Instant(at).http_date()).ok()
}

/// Nothing for a healthy key; nor for the bootstrap key, which is there to end.
fn ending(app: &App, principal: &Principal, now: Timestamp) -> Option<(EndingKey, Timestamp)> {
    let credential = &principal.entry.credential;
    let at = credential.ends_at(now).filter(|_| credential.purpose != Purpose::Bootstrap)?;
    let retiring = matches!(credential.state, State::Retiring { .. });
    if !retiring && at.since(now) > app.rotation.warn_ahead() {
        return None;
    }
    let (minute, whom) = (Instant(at).minute(), whom(app, &principal.owner));
    let (key_state, key_notice) = if retiring {
        (
            "retiring",
            format!("this key was replaced and ends on {minute}: change to its successor before then; ask {whom}"),
        )
    } else {
        ("expiring", format!("this key ends on {minute}: have it rotated before then; ask {whom}"))
    };
    Some((EndingKey { key_state, key_expires_at: at.as_seconds(), key_notice }, at))
}

impl EndedKey {
    /// What there is to say of the end of this key; `None` if it has not ended.
    pub(crate) fn of(app: &App, principal: &Principal, now: Timestamp) -> Option<Self> {
        let state = principal.entry.credential.state_at(now);
        let at = state.ended_at()?;
        let (minute, whom) = (Instant(at).minute(), whom(app, &principal.owner));
        let key_notice = match state {
            State::Expired { reason: EndReason::RetireAt | EndReason::Finished, .. } => {
                format!("this key was replaced and expired on {minute}: change to its successor; ask {whom}")
            }
            State::Expired { reason: EndReason::BootstrapUsed, .. } => {
                format!("this bootstrap key expired on {minute}, when a key was issued with it: use that one")
            }
            State::Expired { reason: EndReason::ExpiresAt, .. } => {
                format!("this key expired on {minute}; ask {whom} for a new one")
            }
            _ => format!("this key was revoked on {minute}; ask {whom} for a new one"),
        };
        Some(Self { key_state: state.name(), key_ended_at: at.as_seconds(), key_notice })
    }

    /// The same for people.
    pub(crate) fn notice(&self) -> &str {
        &self.key_notice
    }
}

/// Who can help whoever holds the key.
fn whom<'a>(app: &'a App, owner: &'a User) -> Cow<'a, str> {
    let name = if owner.disabled_at.is_some() { "an administrator" } else { &owner.name };
    match app.rotation.contact_url.as_str() {
        "" => name.into(),
        url => format!("{name} ({url})").into(),
    }
}
