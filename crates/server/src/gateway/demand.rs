//! What one route of a gateway asks of its callers: written by the operator into the gateway's configuration.
//!
//! `audience`   the API behind the route, always
//! `scope`      all of these scopes, separated by spaces; may be repeated
//! `res`        all of these resources, separated by spaces; may be repeated
//! `res_after`  the resource is what follows this prefix in the path of the request: after `/api`, the path
//!              `/api/plant/7/line/3?x=1` is `plant/7/line/3`
//! `ambiguous_paths`  `allow` for an API that needs paths which servers read in different ways; else they are refused
//!
//! A path is read as it came from the network and nothing in it is decoded. The characters of resources leave no room for
//! a `%`, an empty segment or a dot segment, so no path names one resource here and another one at the API. On a route
//! without `res_after` the gateway decides by the path which route that is, and the API must not take it for another.

use std::borrow::Cow;

use keyward_guard::{Caller, Refusal};
use keyward_model::api::Api;
use keyward_model::rights::{Res, ResSet, Scope, ScopeSet};

use crate::respond::GatewayError;

/// As much of a path as the log tells, in characters.
const MOST_TOLD: usize = 200;

/// What is asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Demand<'a> {
    pub(super) audience: &'a str,
    scopes: Vec<Scope>,
    res: Vec<Res>,
    /// Without a slash at its end.
    res_after: Option<&'a str>,
    takes_ambiguous_paths: bool,
}

impl<'a> Demand<'a> {
    /// Reads the parameters; what is not understood was not meant to be left out.
    pub(super) fn read(parameters: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut demand = Self::default();
        for (name, value) in parameters {
            let wrong =
                |why: &dyn std::fmt::Display| format!("the parameter {name:?} = {value:?} cannot be meant: {why}");
            if value.is_empty() {
                return Err(wrong(&"it is empty"));
            }
            match name {
                "audience" if demand.audience.is_empty() => demand.audience = value,
                "scope" => {
                    let scopes: ScopeSet = value.parse().map_err(|e| wrong(&e))?;
                    demand.scopes.extend(scopes.iter().cloned());
                }
                "res" => {
                    let res: ResSet = value.parse().map_err(|e| wrong(&e))?;
                    demand.res.extend(res.iter().cloned());
                }
                "res_after" if demand.res_after.is_none() => {
                    demand.res_after = Some(prefix(value).map_err(|why| wrong(&why))?);
                }
                "ambiguous_paths" if value != "allow" => return Err(wrong(&"its only value is allow")),
                "ambiguous_paths" => demand.takes_ambiguous_paths = true,
                "audience" | "res_after" => return Err(wrong(&"it stands twice")),
                _ => return Err(wrong(&"there are audience, scope, res, res_after and ambiguous_paths")),
            }
        }
        if demand.audience.is_empty() {
            return Err("the parameter audience is missing: it names the API behind the route".to_owned());
        }
        Ok(demand)
    }

    /// Refuses to ask for what no token for this API can carry.
    pub(super) fn require_known_scopes(&self, api: &Api) -> Result<(), GatewayError> {
        match self.scopes.iter().find(|scope| !api.scopes.contains(scope.as_str())) {
            Some(unknown) => Err(GatewayError::Misconfigured(format!(
                "the API {:?} does not know the scope {unknown}",
                api.audience
            ))),
            None => Ok(()),
        }
    }

    /// Refuses a caller whose rights do not suffice for this request.
    pub(super) fn satisfied_by(&self, caller: &Caller, target: Option<&[u8]>) -> Result<(), GatewayError> {
        for scope in &self.scopes {
            caller.require_scope(scope.as_str())?;
        }
        for res in &self.res {
            caller.require_res(res.as_str())?;
        }
        if let Some(target) = target.filter(|target| !self.takes_ambiguous_paths && !has_one_reading(target)) {
            return Err(GatewayError::Ambiguous(told_of(target)));
        }
        let Some(prefix) = self.res_after else { return Ok(()) };
        let target = target.ok_or_else(|| {
            let what = "res_after needs the path of the request, in one X-Forwarded-Uri header";
            GatewayError::Misconfigured(what.to_owned())
        })?;
        match res_in(target, prefix) {
            Some(res) => Ok(caller.require_res(res.as_str())?),
            None => Err(Refusal::Res(told_of(target)).into()),
        }
    }
}

/// A prefix of paths that could be one of resources.
fn prefix(text: &str) -> Result<&str, &'static str> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let is_path =
        path.is_empty() || path.strip_prefix('/').is_some_and(|path| path != "*" && path.parse::<Res>().is_ok());
    if text.starts_with('/') && is_path { Ok(path) } else { Err("it must be a plain path such as /api") }
}

/// The resource that a path names behind the prefix; `*` for the prefix itself, which stands for all below it.
fn res_in(target: &[u8], prefix: &str) -> Option<Res> {
    let path = path_of(target);
    let rest = path.strip_prefix(prefix)?;
    if rest.is_empty() {
        return (!prefix.is_empty()).then(Res::all);
    }
    let rest = rest.strip_prefix('/')?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() { Some(Res::all()) } else { rest.parse().ok() }
}

/// Whether gateways and APIs of all makes find the same segments in a path. Some cut off what follows a `;`, some take `\`
/// for `/`, some decode before they split, some twice: to Tomcat `/reports/..;/api/plant/8` is `/api/plant/8`.
fn has_one_reading(target: &[u8]) -> bool {
    let path = raw_path_of(target);
    let Some(path) = path.strip_prefix(b"/") else { return path.is_empty() };
    let mut segments = path.split(|b| *b == b'/');
    // Only the last one may be empty: a slash at the end.
    let last = segments.next_back().unwrap_or_default();
    segments.all(|segment| !segment.is_empty() && is_plain(segment)) && is_plain(last)
}

fn is_plain(segment: &[u8]) -> bool {
    let mut rest = segment;
    loop {
        rest = match rest {
            [] => return !matches!(segment, b"." | b".."),
            [b'%', high, low, after @ ..] => match encoded(*high, *low) {
                Some(byte) if !divides(byte) && !matches!(byte, b'/' | b'.' | b'%') => after,
                _ => return false,
            },
            [byte, after @ ..] if !divides(*byte) && *byte != b'%' => after,
            _ => return false,
        };
    }
}

/// What some servers end a segment or a path at, besides the slash.
fn divides(byte: u8) -> bool {
    matches!(byte, b';' | b'\\' | b'#') || byte.is_ascii_control()
}

/// The byte that `%` and these two digits stand for.
fn encoded(high: u8, low: u8) -> Option<u8> {
    let (high, low) = (char::from(high).to_digit(16)?, char::from(low).to_digit(16)?);
    u8::try_from(high * 16 + low).ok()
}

/// Without the query, which may hold what is not for the log. What is not UTF-8 becomes a character no resource has.
fn path_of(target: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(raw_path_of(target))
}

fn raw_path_of(target: &[u8]) -> &[u8] {
    target.split(|b| *b == b'?').next().unwrap_or_default()
}

/// What the log tells of a path.
fn told_of(target: &[u8]) -> String {
    path_of(target).chars().take(MOST_TOLD).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<'a>(parameters: &[(&'a str, &'a str)]) -> Result<Demand<'a>, String> {
        Demand::read(parameters.iter().copied())
    }

    #[test]
    fn a_route_asks_for_an_api_and_perhaps_for_scopes_and_resources() {
        let asked = read(&[
            ("audience", "https://plant.example/api"),
            ("scope", "Worker Reader"),
            ("scope", "Supervisor"),
            ("res", "plant/7"),
            ("res_after", "/api/"),
        ])
        .unwrap();
        assert_eq!(asked.audience, "https://plant.example/api");
        assert_eq!(asked.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(), ["Reader", "Worker", "Supervisor"]);
        assert_eq!((asked.res, asked.res_after), (vec!["plant/7".parse().unwrap()], Some("/api")));
    }

    #[test]
    fn what_cannot_be_meant_is_not_passed_over() {
        let audience = ("audience", "https://plant.example/api");
        for wrong in [
            &[][..],
            &[("audience", "")],
            &[("scope", "Worker")],
            &[audience, audience],
            &[audience, ("scope", "")],
            &[audience, ("scope", "\"")],
            &[audience, ("res", "")],
            &[audience, ("res", "plant//7")],
            &[audience, ("res", "../7")],
            &[audience, ("res_after", "api")],
            &[audience, ("res_after", "/a?b")],
            &[audience, ("res_after", "/a%20b")],
            &[audience, ("res_after", "/a//")],
            &[audience, ("res_after", "/../a")],
            &[audience, ("res_after", "/a"), ("res_after", "/a")],
            &[audience, ("ambiguous_paths", "")],
            &[audience, ("ambiguous_paths", "refuse")],
            &[audience, ("Scope", "Worker")],
            &[audience, ("scopes", "Worker")],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_resource_is_what_follows_the_prefix() {
        for (target, prefix, res) in [
            ("/api/plant/7", "/api", "plant/7"),
            ("/api/plant/7/", "/api", "plant/7"),
            ("/api/plant/7?line=3&x=/../8", "/api", "plant/7"),
            ("/plant/7", "", "plant/7"),
            ("/api", "/api", "*"),
            ("/api/?x", "/api", "*"),
            ("/", "", "*"),
            ("/api/*", "/api", "*"),
        ] {
            assert_eq!(res_in(target.as_bytes(), prefix).map(|res| res.to_string()).as_deref(), Some(res), "{target}");
        }
    }

    #[test]
    fn all_servers_find_the_same_segments_in_a_plain_path() {
        for target in [
            "",
            "/",
            "/api",
            "/api/plant/7/",
            "/api/v1.2/...",
            "/a/.well-known/x",
            "/a%20b/%C3%A4?x=/../8;%2f",
            "/a:b@c,d=e~f/*",
        ] {
            assert!(has_one_reading(target.as_bytes()), "{target}");
        }
        for target in [
            "api",
            "http://plant.example/api",
            "*",
            "//",
            "//api",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/a;x=1/b",
            "/reports/..;/api",
            "/a;",
            "/a\\b",
            "/a#b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5Cb",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a%2ejs",
            "/a%3Bx/b",
            "/a%252fb",
            "/a%00",
            "/a%0a",
            "/a\tb",
            "/a%23b",
            "/a%",
            "/a%2",
            "/a%u002e/b",
            "/a%+2",
            "/%",
        ] {
            assert!(!has_one_reading(target.as_bytes()), "{target}");
        }
    }

    proptest! {
        #[test]
        fn a_path_with_one_reading_has_the_same_segments_decoded_or_not(target in "(/([ab.;%\\\\]|\\.\\.|%2[ef]|%5c|%25){0,4}){1,4}") {
            if has_one_reading(target.as_bytes()) {
                let decoded = target.replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\").replace("%25", "%");
                prop_assert_eq!(&decoded, &target);
                let path = decoded.strip_suffix('/').unwrap_or(&decoded);
                let bad = |segment: &str| matches!(segment, "" | "." | "..") || segment.contains([';', '\\']);
                prop_assert!(path.is_empty() || !path.split('/').skip(1).any(bad), "{}", target);
            }
        }

        #[test]
        fn only_one_spelling_of_a_path_names_a_resource(target in "/api(/([a-z0-9.%2f;~:_-]{0,6}|\\.\\.|%2e)){0,5}(\\?[!-~]{0,9})?") {
            if let Some(res) = res_in(target.as_bytes(), "/api").filter(|res| res.as_str() != "*") {
                let path = target.split('?').next().unwrap();
                let spelled = format!("/api/{res}");
                prop_assert!(path == spelled || path == spelled + "/", "{target}");
            }
        }
    }

    #[test]
    fn a_path_that_another_may_read_in_another_way_names_nothing() {
        for target in [
            "",
            "api/plant/7",
            "/apis/plant/7",
            "/API/plant/7",
            "/%61pi/plant/7",
            "//api/plant/7",
            "/x/../api/plant/7",
            "http://plant.example/api/plant/7",
            "/api//plant/7",
            "/api/plant//7",
            "/api/plant/7//",
            "/api/plant/./7",
            "/api/plant/7/..",
            "/api/plant/7/../8",
            "/api/plant/7%2f..%2f8",
            "/api/plant/7/%2e%2e/8",
            "/api/plant%2F7",
            "/api/plant/7;x=1",
            "/api/plant\\7",
            "/api/plant/7#?",
            "/api/plant/7 8",
            "/api/plant/7\0",
            "/api/plant/ä",
            "/api/plant/*",
        ] {
            assert_eq!(res_in(target.as_bytes(), "/api"), None, "{target}");
        }
        assert_eq!(res_in(b"", ""), None);
        assert_eq!(res_in(b"/api/plant/\xff", "/api"), None);
    }
}
