//! Where a browser is to go on after signing in: a path of this server and nothing else, or a link to the login would lead
//! wherever whoever made it likes.

use std::fmt;

use keyward_model::form::encode;

/// The longest, in bytes.
const MOST: usize = 2048;
/// Where to go if nothing else is known.
const ACCOUNT: &str = "/account";

/// A path of this server with its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnPath(String);

impl OwnPath {
    /// The path, if it is one; else the account page.
    ///
    /// `//host` and `/\host` lead elsewhere, and browsers drop tabs and line ends before they look.
    pub(crate) fn parse(text: &str) -> Self {
        let mut bytes = text.bytes();
        let is_own = text.len() <= MOST
            && bytes.next() == Some(b'/')
            && bytes.next() != Some(b'/')
            && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'#' | b'"' | b'<' | b'>'));
        if is_own { Self(text.to_owned()) } else { Self::account() }
    }

    /// The account page.
    pub(crate) fn account() -> Self {
        Self(ACCOUNT.to_owned())
    }

    /// For a `Location` or a form.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The page to sign in on that leads back here; `again` also for whoever is signed in.
    pub(crate) fn login(&self, again: bool) -> String {
        format!("/login?continue={self}{}", if again { "&again=1" } else { "" })
    }
}

/// Encoded, as the value of a parameter.
impl fmt::Display for OwnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Slashes may stand in a query, and a path can be read with them.
        f.write_str(&encode(&self.0).replace("%2F", "/"))
    }
}

#[cfg(test)]
mod tests {
    use keyward_model::form::decode;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_leads_to_another_server() {
        for own in ["/", "/device", "/device?code=WDJB-MJHT&x=%2F", "/a//b", "/a:b@c"] {
            assert_eq!(OwnPath::parse(own).as_str(), own);
        }
        let long = format!("/{}", "a".repeat(MOST));
        for other in [
            "",
            "device",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil.example",
            " //evil.example",
            "/a b",
            "/\u{e4}",
            &long,
        ] {
            assert_eq!(OwnPath::parse(other).as_str(), "/account", "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn every_path_survives_being_a_parameter(text in "/[!-~]{0,60}") {
            let path = OwnPath::parse(&text);
            let parameter = path.to_string();
            prop_assert_eq!(decode(parameter.as_bytes()).unwrap(), path.as_str());
            prop_assert!(!path.as_str().starts_with("//"));
        }
    }
}
