//! What a browser keeps from the first page of the device flow to the last: the code it came with by a link, until somebody
//! is signed in, and which grant it has to do with. So neither stands in a URL that could be passed on.
//!
//! It proves nothing: what a browser may decide is bound to its login, in the database.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::request::Parts;
use keyward_model::device_grant::LIFETIME;
use keyward_model::id::DeviceGrantId;
use keyward_model::time::Timestamp;
use keyward_model::user_code::UserCode;
use uuid::Uuid;

use crate::app::App;
use crate::pages::visit::{cookie, set_cookie};

const COOKIE: &str = "__Host-keyward-grant";
/// The page that says how it ended is looked at again for a while after that end.
const KEPT: Duration = LIFETIME.saturating_mul(2);

/// What is kept.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Which grant this browser has entered the code of.
    pub(crate) grant: Option<DeviceGrantId>,
    /// A code that it came with, or that it entered: for comparing, and for another account.
    pub(crate) code: Option<UserCode>,
    /// Whether the code was typed: to compare that teaches nothing.
    pub(crate) typed: bool,
}

impl FromRequestParts<Arc<App>> for Held {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let content =
            cookie(&parts.headers, COOKIE).and_then(|text| app.sign_in.seal.open(COOKIE, app.clock.now(), &text));
        Ok(content.and_then(|(content, _)| Self::read(&content)).unwrap_or_default())
    }
}

impl Held {
    /// A code that came by a link, and nothing else.
    pub(crate) fn link(code: UserCode) -> Self {
        Self { code: Some(code), ..Self::default() }
    }

    /// The code, if it is still to be compared.
    pub(crate) fn uncompared(&self) -> Option<&UserCode> {
        self.code.as_ref().filter(|_| self.grant.is_none())
    }

    /// Has the browser keep it.
    pub(crate) fn keep(&self, app: &App, now: Timestamp, response: &mut Response) {
        let sealed = app.sign_in.seal.seal(COOKIE, now.plus(KEPT), &self.written());
        set_cookie(response, COOKIE, &sealed, Some(KEPT));
    }

    /// Has the browser forget it.
    pub(crate) fn forget(response: &mut Response) {
        set_cookie(response, COOKIE, "", Some(Duration::ZERO));
    }

    /// 16 bytes that name the grant, or are zero; a byte that says whether the code was typed; and the code.
    fn written(&self) -> Vec<u8> {
        let grant = self.grant.map_or(Uuid::nil(), |grant| grant.as_uuid());
        let code = self.code.as_ref().map(|code| code.reveal().as_bytes().to_vec()).unwrap_or_default();
        [grant.as_bytes().as_slice(), &[u8::from(self.typed)], &code].concat()
    }

    fn read(content: &[u8]) -> Option<Self> {
        let (grant, rest) = content.split_at_checked(16)?;
        let (typed, code) = rest.split_first()?;
        let grant = Uuid::from_slice(grant).ok()?;
        let grant = (!grant.is_nil()).then(|| DeviceGrantId::from_uuid(grant));
        Some(Self { grant, code: UserCode::parse(std::str::from_utf8(code).ok()?), typed: *typed != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_comes_back() {
        let (grant, code) = (Some(DeviceGrantId::from_uuid(Uuid::from_u128(7))), UserCode::parse("WDJB-MJHT"));
        for (grant, code, typed) in
            [(None, None, false), (grant, None, true), (None, code.clone(), false), (grant, code, true)]
        {
            let held = Held { grant, code, typed };
            assert_eq!(Held::read(&held.written()), Some(held));
        }
        assert_eq!(Held::read(b"short"), None);
    }
}
