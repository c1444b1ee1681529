//! Lists: a page at a time, by cursor.

use keyward_store::Page;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::respond::{ApiError, Problem};

const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 200;

/// Where a list goes on, and how much of it to give.
#[derive(Debug, Default, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// One page of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Ask with this `cursor` for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// The page that is asked for.
pub fn page(limit: Option<u16>, cursor: Option<&str>) -> Result<Page, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        return Err(Problem::Malformed.because(format!("limit must be 1 to {MAX_LIMIT}")));
    }
    let plausible = |c: &&str| c.len() <= 128 && c.bytes().all(|b| b.is_ascii_graphic());
    match cursor {
        Some(cursor) if !plausible(&cursor) => {
            Err(Problem::Malformed.because("cursor must be the next_cursor of a page"))
        }
        cursor => Ok(Page { after: cursor.map(str::to_owned), limit }),
    }
}

impl<T> List<T> {
    /// From what the store gave: one entry more than asked for means that there is a next page.
    pub fn of<S>(mut found: Vec<S>, page: &Page, key: impl Fn(&S) -> String, view: impl Fn(S) -> T) -> Self {
        let more = found.len() > usize::from(page.limit);
        found.truncate(page.limit.into());
        let next_cursor = found.last().filter(|_| more).map(key);
        Self { items: found.into_iter().map(view).collect(), next_cursor }
    }
}
