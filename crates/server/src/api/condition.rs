//! Conditional changes: `If-Match` (RFC 9110 §13.1.1).

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;

use crate::api::body::stale;
use crate::app::App;
use crate::respond::{ApiError, Problem};

/// What a request knows of the thing it changes.
#[derive(Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// Nothing, or that it exists: what does not is answered 404 before this is asked.
    Any,
    /// It is of one of these versions.
    OneOf(Vec<i64>),
}

impl FromRequestParts<Arc<App>> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(header::IF_MATCH).iter().peekable();
        if values.peek().is_none() {
            return Ok(Self::Any);
        }
        // Several fields are one list (RFC 9110 §5.3).
        let values: Option<Vec<&str>> = values.map(|value| value.to_str().ok()).collect();
        values
            .and_then(|values| Self::parse(&values.join(",")))
            .ok_or_else(|| Problem::Malformed.because("If-Match must be ETags of earlier answers, or *"))
    }
}

impl IfMatch {
    /// `If-Match = "*" / #entity-tag`
    fn parse(list: &str) -> Option<Self> {
        if list.trim() == "*" {
            return Some(Self::Any);
        }
        let (mut versions, mut tags) = (Vec::new(), 0);
        let mut rest = list;
        loop {
            // Empty elements are ignored (RFC 9110 §5.6.1.2).
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return (tags > 0).then_some(Self::OneOf(versions));
            }
            let (weak, tag) = rest.strip_prefix("W/").map_or((false, rest), |tag| (true, tag));
            let (tag, further) = tag.strip_prefix('"')?.split_once('"')?;
            // "A recipient MUST use the strong comparison function": a weak tag matches nothing, nor does one not ours.
            versions.extend(tag.parse::<i64>().ok().filter(|_| !weak));
            tags += 1;
            rest = further.trim_start_matches([' ', '\t']);
            if !rest.is_empty() && !rest.starts_with(',') {
                return None;
            }
        }
    }

    /// Refuses if the thing has another version by now.
    pub fn require(&self, version: i64) -> Result<(), ApiError> {
        match self {
            Self::OneOf(versions) if !versions.contains(&version) => Err(stale()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_is_a_star_or_a_list_of_entity_tags() {
        let of = |versions: &[i64]| Some(IfMatch::OneOf(versions.to_vec()));
        for (text, meant) in [
            ("*", Some(IfMatch::Any)),
            (" * ", Some(IfMatch::Any)),
            ("\"3\"", of(&[3])),
            ("\"3\", \"4\"", of(&[3, 4])),
            (", \"3\" ,,\t\"4\",", of(&[3, 4])),
            ("W/\"3\"", of(&[])),
            ("W/\"3\", \"4\"", of(&[4])),
            ("\"a,b\", \"4\"", of(&[4])),
            ("\"\"", of(&[])),
            ("", None),
            (",", None),
            ("3", None),
            ("\"3", None),
            ("\"3\" \"4\"", None),
            ("\"3\", *", None),
            ("w/\"3\"", None),
        ] {
            assert_eq!(IfMatch::parse(text), meant, "{text:?}");
        }
    }
}
