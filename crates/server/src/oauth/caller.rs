//! Who calls an OAuth endpoint: from which network, with which user agent, and as which instance if it says so.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use keyward_model::caller::{Network, Shown};
use keyward_model::form::Form;

use crate::oauth::form::FormRequest;
use crate::respond::{ErrorCode, OAuthError};

/// How a caller names itself: this header field, or the parameter `instance`.
const INSTANCE: HeaderName = HeaderName::from_static("keyward-instance");

/// The caller, as it shows itself.
pub(crate) fn of<'a>(request: &'a FormRequest, form: &'a Form<'_>) -> Result<Shown<'a>, OAuthError> {
    let shown = by_headers(&request.headers, request.address)?;
    let instance = match (shown.instance, form.get("instance")?.unwrap_or_default()) {
        (header, parameter) if header.is_empty() || header == parameter => parameter,
        (header, "") => header,
        _ => {
            return Err(ErrorCode::InvalidRequest
                .because("Keyward-Instance and the parameter instance differ: send one, or the same in both"));
        }
    };
    Ok(Shown { instance, ..shown })
}

/// The same where there is no form.
pub(crate) fn by_headers(headers: &HeaderMap, address: Option<IpAddr>) -> Result<Shown<'_>, OAuthError> {
    // Without a listener, as in tests of a router, there is no address.
    let network = Network::from(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    let user_agent = headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
    Ok(Shown { network, user_agent, instance: named_in_header(headers)?.unwrap_or_default() })
}

fn named_in_header(headers: &HeaderMap) -> Result<Option<&str>, OAuthError> {
    let mut values = headers.get_all(&INSTANCE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ErrorCode::InvalidRequest.because("more than one Keyward-Instance header"));
    }
    let text = std::str::from_utf8(value.as_bytes()).map(str::trim);
    let text = text.map_err(|_| ErrorCode::InvalidRequest.because("Keyward-Instance must be UTF-8"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}
