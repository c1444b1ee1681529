//! A browser that visits a page: what it says of itself, and what it keeps for us.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use keyward_model::caller::Network;
use keyward_model::id::UserId;
use keyward_model::secret::Secret;
use keyward_model::time::Timestamp;
use zeroize::Zeroizing;

use crate::app::App;
use crate::login::throttle::Device;
use crate::pages::texts::Language;
use crate::request::Arrival;

/// The token of a login. `__Host-`: only this host set it, for all its paths, over a connection that nobody reads.
const LOGIN: &str = "__Host-keyward";
/// That a user signed in here before. No secret of theirs: it only spares them the guesses of others.
const DEVICE: &str = "__Host-keyward-device";
const DEVICE_KEPT: Duration = Duration::from_hours(365 * 24);

/// A visit.
pub(crate) struct Visit {
    /// The instant of the request.
    pub(crate) now: Timestamp,
    /// From where.
    pub(crate) address: Option<IpAddr>,
    /// What the browser calls itself; may be empty.
    pub(crate) user_agent: String,
    /// What it is answered in.
    pub(crate) language: Language,
    /// The token of its login.
    pub(crate) login: Option<Secret>,
    device: Option<String>,
}

impl FromRequestParts<Arc<App>> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let user_agent = parts.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
        Ok(Self {
            now: app.clock.now(),
            address: Arrival::address(&parts.extensions),
            user_agent: String::from_utf8_lossy(user_agent).into_owned(),
            language: Language::of(&parts.headers),
            login: cookie(&parts.headers, LOGIN).and_then(|text| Secret::parse(&text)),
            device: cookie(&parts.headers, DEVICE).map(|text| (*text).clone()),
        })
    }
}

impl Visit {
    /// The network, for people; empty if it is not known.
    pub(crate) fn network(&self) -> String {
        self.address.map(|address| Network::from(address).to_string()).unwrap_or_default()
    }

    /// The address, for events.
    pub(crate) fn source(&self) -> Option<String> {
        self.address.map(|address| address.to_string())
    }

    /// What names this browser, if this user signed in with it before.
    pub(crate) fn device_of(&self, app: &App, user: UserId) -> Option<Device> {
        let (content, _) = app.sign_in.seal.open(DEVICE, self.now, self.device.as_deref()?)?;
        let (whose, device) = content.split_at_checked(16)?;
        if whose == user.as_uuid().as_bytes() { device.try_into().ok() } else { None }
    }

    /// Sets the cookies of a login that begins.
    pub(crate) fn remember(&self, app: &App, user: UserId, login: &Secret, response: &mut Response) {
        set_cookie(response, LOGIN, &login.reveal(), None);
        // The browser keeps the name it has with this user, and so what was charged to it.
        let Some(device) = self.device_of(app, user).or_else(|| app.entropy.bytes().ok()) else { return };
        let content = [*user.as_uuid().as_bytes(), device].concat();
        let sealed = app.sign_in.seal.seal(DEVICE, self.now.plus(DEVICE_KEPT), &content);
        set_cookie(response, DEVICE, &sealed, Some(DEVICE_KEPT));
    }
}

/// Removes the cookie of a login that has ended.
pub(crate) fn forget_login(response: &mut Response) {
    set_cookie(response, LOGIN, "", Some(Duration::ZERO));
}

/// A cookie with this name, if there is just one.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<Zeroizing<String>> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut named = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
    let (value, more) = (named.next()?, named.next());
    more.is_none().then(|| Zeroizing::new(value.to_owned()))
}

/// `Secure` also over plain http: browsers take it from loopback, and anywhere else it must not be.
pub(crate) fn set_cookie(response: &mut Response, name: &str, value: &str, kept: Option<Duration>) {
    let kept = kept.map(|kept| format!("; Max-Age={}", kept.as_secs())).unwrap_or_default();
    let cookie = Zeroizing::new(format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{kept}"));
    if let Ok(mut cookie) = HeaderValue::try_from(&*cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_if_it_is_there_once() {
        let read = |lines: &[&'static str]| {
            let headers = lines.iter().map(|line| (header::COOKIE, HeaderValue::from_static(line))).collect();
            cookie(&headers, "a").map(|value| (*value).clone())
        };
        assert_eq!(read(&["b=2; a=1"]).as_deref(), Some("1"));
        assert_eq!(read(&["b=2", "a=x=y"]).as_deref(), Some("x=y"), "HTTP/2 may send each by itself");
        assert_eq!(read(&["aa=1; b=a=1"]), None);
        assert_eq!(read(&["a=1; a=2"]), None, "two with one name: neither is to be believed");
    }
}
