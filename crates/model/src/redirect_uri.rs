//! Where a browser is led back to (RFC 6749 §3.1.2): registered with the client, and compared character by character
//! (RFC 9700 §4.1.3). Only the port of a loopback address is free, because programs get whichever is (RFC 8252 §7.3).

use std::fmt;
use std::str::FromStr;

use crate::form::encode;

/// The most that one client has.
pub const MOST: usize = 10;
/// The longest, in bytes.
const MOST_LEN: usize = 512;
/// Loopback as an address. `localhost` is a name, and names can lead elsewhere: its port must be the registered one.
const LOOPBACK: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];
const LOCALHOST: &str = "http://localhost";

/// A redirect URI that may be registered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedirectUri(String);

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    /// Too long, or a character that belongs encoded.
    #[error("a redirect URI is at most {MOST_LEN} visible ASCII characters, others encoded")]
    Characters,
    /// RFC 6749 §3.1.2: "The endpoint URI MUST NOT include a fragment component."
    #[error("a redirect URI has no fragment (#…)")]
    Fragment,
    /// Codes would go to whoever listens, or to whatever takes the scheme.
    #[error(
        "a redirect URI begins with https:// and a host, with http://127.0.0.1, http://[::1] or http://localhost, or with a \
         scheme of the program's own that has a dot in it, as com.example.app:"
    )]
    Scheme,
}

impl RedirectUri {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request that names `presented` means this one.
    pub fn matches(&self, presented: &Self) -> bool {
        self == presented
            || matches!((without_port(&self.0), without_port(&presented.0)), (Some(own), Some(other)) if own == other)
    }

    /// Scheme, host and port; of a scheme of the program's own, that alone: a source of a Content-Security-Policy.
    pub fn origin(&self) -> &str {
        let end =
            match self.0.find("://").filter(|_| ["http:", "https:"].iter().any(|scheme| self.0.starts_with(scheme))) {
                Some(at) => self.0.get(at + 3..).and_then(|rest| rest.find(['/', '?'])).map(|end| at + 3 + end),
                None => self.0.find(':').map(|at| at + 1),
            };
        end.and_then(|end| self.0.get(..end)).unwrap_or(&self.0)
    }

    /// Whether it leads to a program on the browser's own machine.
    pub fn is_local(&self) -> bool {
        !self.0.starts_with("https://")
    }

    /// This URI with these parameters behind those it has (RFC 6749 §4.1.2).
    pub fn with(&self, parameters: &[(&str, &str)]) -> String {
        let mut uri = self.0.trim_end_matches(['?', '&']).to_owned();
        let mut between = if uri.contains('?') { '&' } else { '?' };
        for (name, value) in parameters {
            uri.push(between);
            uri.push_str(name);
            uri.push('=');
            uri.push_str(&encode(value));
            between = '&';
        }
        uri
    }
}

/// Address and path of a loopback URI: what must be equal where the port need not.
fn without_port(uri: &str) -> Option<(&'static str, &str)> {
    let (address, rest) = LOOPBACK.iter().find_map(|address| Some((*address, uri.strip_prefix(address)?)))?;
    let path = match rest.strip_prefix(':') {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    (path.is_empty() || path.starts_with(['/', '?'])).then_some((address, path))
}

impl FromStr for RedirectUri {
    type Err = RedirectUriError;

    fn from_str(text: &str) -> Result<Self, RedirectUriError> {
        let is_plain =
            |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{'..=b'}');
        if text.len() > MOST_LEN || !text.bytes().all(is_plain) {
            return Err(RedirectUriError::Characters);
        }
        if text.contains('#') {
            return Err(RedirectUriError::Fragment);
        }
        let may = match text.split_once("://") {
            Some(("https", rest)) => is_authority(authority(rest)),
            Some(("http", _)) => without_port(text).is_some_and(|_| has_port(text)) || is_localhost(text),
            _ => is_own_scheme(text),
        };
        if may { Ok(Self(text.to_owned())) } else { Err(RedirectUriError::Scheme) }
    }
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?']).next().unwrap_or_default()
}

/// A host with perhaps a port: nobody's name and password stand before it, and no wildcard in it.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

fn has_port(text: &str) -> bool {
    text.strip_prefix("http://").is_some_and(|rest| is_authority(authority(rest)))
}

fn is_localhost(text: &str) -> bool {
    text.strip_prefix(LOCALHOST).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
        && has_port(text)
}

/// RFC 8252 §7.1: a domain name under the program's control, in reverse. The dot keeps `javascript:` and its like out.
fn is_own_scheme(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    scheme.contains('.')
        && scheme.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+'))
        && !rest.is_empty()
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uri(text: &str) -> RedirectUri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn only_https_loopback_and_schemes_of_ones_own_may_be_registered() {
        for may in [
            "https://app.example/callback",
            "https://app.example",
            "https://app.example:8443/cb?tenant=7",
            "https://[2001:db8::1]/cb",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:4711/cb",
            "http://[::1]:80/",
            "http://localhost:3000/cb",
            "http://localhost",
            "com.example.app:/callback",
            "com.example.app://done",
        ] {
            assert_eq!(uri(may).as_str(), may);
        }
        for (not, why) in [
            ("https://app.example/cb#top", RedirectUriError::Fragment),
            ("https://app.example/a b", RedirectUriError::Characters),
            ("https://\u{e4}pp.example/", RedirectUriError::Characters),
            ("https://app.example\\@evil.example/", RedirectUriError::Characters),
            ("https://user@app.example/", RedirectUriError::Scheme),
            ("https://*.app.example/", RedirectUriError::Scheme),
            ("https:///cb", RedirectUriError::Scheme),
            ("https://app.example:0/", RedirectUriError::Scheme),
            ("http://app.example/cb", RedirectUriError::Scheme),
            ("http://127.0.0.1.evil.example/cb", RedirectUriError::Scheme),
            ("http://127.0.0.1:x/cb", RedirectUriError::Scheme),
            ("http://127.0.0.1:99999/cb", RedirectUriError::Scheme),
            ("http://127.0.0.1@evil.example/cb", RedirectUriError::Scheme),
            ("http://localhost.evil.example/", RedirectUriError::Scheme),
            ("javascript:alert(1)", RedirectUriError::Scheme),
            ("data:text/html,x", RedirectUriError::Scheme),
            ("com.example.app:", RedirectUriError::Scheme),
            ("/callback", RedirectUriError::Scheme),
            ("", RedirectUriError::Scheme),
        ] {
            assert_eq!(not.parse::<RedirectUri>(), Err(why), "{not}");
        }
        assert!(format!("https://app.example/{}", "a".repeat(MOST_LEN)).parse::<RedirectUri>().is_err());
    }

    #[test]
    fn only_the_port_of_a_loopback_address_is_free() {
        for (registered, presented, same) in [
            ("http://127.0.0.1/cb", "http://127.0.0.1:4711/cb", true),
            ("http://127.0.0.1:1/cb", "http://127.0.0.1/cb", true),
            ("http://[::1]/cb", "http://[::1]:4711/cb", true),
            ("http://127.0.0.1/cb", "http://[::1]/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:4711/cb/", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:4711/cb?x=1", false),
            ("http://localhost:1/cb", "http://localhost:2/cb", false),
            ("https://app.example/cb", "https://app.example:8443/cb", false),
            ("https://app.example/cb", "https://app.example/cb/", false),
            ("https://app.example/cb", "https://APP.example/cb", false),
            ("https://app.example/cb", "https://app.example/cb?x=1", false),
        ] {
            assert_eq!(uri(registered).matches(&uri(presented)), same, "{registered} {presented}");
        }
    }

    #[test]
    fn an_origin_is_where_a_form_may_lead() {
        for (text, origin) in [
            ("https://app.example:8443/cb?a=/", "https://app.example:8443"),
            ("https://app.example?x", "https://app.example"),
            ("http://[::1]:9/cb", "http://[::1]:9"),
            ("com.example.app:/cb", "com.example.app:"),
            ("com.example.app://done;x/cb", "com.example.app:"),
        ] {
            assert_eq!(uri(text).origin(), origin);
        }
    }

    #[test]
    fn parameters_stand_behind_those_that_are_there() {
        let parameters = [("code", "a b&c"), ("state", "\u{e4}=+")];
        let cases = [
            ("https://a.example/cb", "https://a.example/cb?code=a%20b%26c&state=%C3%A4%3D%2B"),
            ("https://a.example/cb?x=1", "https://a.example/cb?x=1&code=a%20b%26c&state=%C3%A4%3D%2B"),
            ("https://a.example/cb?", "https://a.example/cb?code=a%20b%26c&state=%C3%A4%3D%2B"),
        ];
        for (text, led) in cases {
            assert_eq!(uri(text).with(&parameters), led);
        }
    }

    proptest! {
        #[test]
        fn whatever_matches_has_the_same_scheme_host_and_path(
            one in "(https|http)://(127\\.0\\.0\\.1|\\[::1\\]|a\\.example|localhost)(:[1-9][0-9]{0,3})?(/[a-c]{0,2})?(\\?[a-c])?",
            two in "(https|http)://(127\\.0\\.0\\.1|\\[::1\\]|a\\.example|localhost)(:[1-9][0-9]{0,3})?(/[a-c]{0,2})?(\\?[a-c])?",
        ) {
            let (Ok(one), Ok(two)) = (one.parse::<RedirectUri>(), two.parse::<RedirectUri>()) else { return Ok(()) };
            let parts = |uri: &RedirectUri| {
                let rest = uri.as_str().strip_prefix(uri.origin()).unwrap_or_default().to_owned();
                let host = uri.origin().rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
                (host.map_or(uri.origin(), |(host, _)| host).to_owned(), rest)
            };
            prop_assert_eq!(one.matches(&two), two.matches(&one));
            if one.matches(&two) {
                prop_assert_eq!(parts(&one), parts(&two));
                prop_assert!(one == two || LOOPBACK.contains(&parts(&one).0.as_str()));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}") {
            if let Ok(uri) = text.parse::<RedirectUri>() {
                let _ = (uri.origin().len(), uri.matches(&uri), uri.with(&[("a", "b")]));
            }
        }
    }
}
