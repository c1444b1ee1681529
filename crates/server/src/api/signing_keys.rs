//! Signing keys: whose turn it is, and the next turn.

use std::sync::Arc;

use keyward_model::id::KeyId;
use keyward_model::jws::SigningAlgorithm;
use keyward_model::time::Timestamp;
use keyward_store::KeyRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Query;
use crate::api::body::Json;
use crate::api::call::{Call, Level};
use crate::api::instant::Instant;
use crate::api::list::{List, Paging, page};
use crate::app::App;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Turn {
    /// Signs no more; published until its last token is dead.
    Previous,
    /// Signs.
    Current,
    /// Published, and will sign.
    Next,
}

/// A signing key, without its private half.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = SigningKey)]
pub struct SigningKeyView {
    /// `key_…`: the `kid` of tokens and in the key set.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// `ES256`, `EdDSA` or `RS256`.
    #[schema(value_type = String)]
    pub algorithm: SigningAlgorithm,
    /// `next`, `current` or `previous`.
    #[schema(value_type = String)]
    pub state: Turn,
    /// When it appeared in the key set.
    #[schema(value_type = String, format = DateTime)]
    pub published_at: Instant,
    /// From when it signs; none while no turn has been given to it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub activate_at: Option<Instant>,
    /// From when its successor signs.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retire_at: Option<Instant>,
    /// From when its last token is dead and it leaves the key set.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub remove_at: Option<Instant>,
}

/// A rotation to carry out.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Of which algorithm: `ES256` (the default), `EdDSA` or `RS256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub algorithm: Option<SigningAlgorithm>,
    /// Whether the next key signs at once, even if verifiers may not have seen it yet: for a key that leaked.
    #[serde(default)]
    pub immediately: bool,
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(rotate))
}

/// List signing keys
#[utoipa::path(get, path = "/api/v1/signing-keys", tag = "signing keys", params(Paging),
    responses((status = 200, body = List<SigningKeyView>), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<Paging>) -> Result<axum::Json<List<SigningKeyView>>, ApiError> {
    listed(&call, &query).await
}

/// Give the next signing key its turn
///
/// It begins as soon as the key has been published long enough for every verifier to have seen it, and a new next key
/// is published. The answer lists the keys as they are then.
#[utoipa::path(post, path = "/api/v1/signing-keys/rotate", tag = "signing keys", request_body = Rotation,
    responses((status = 200, body = List<SigningKeyView>), (status = "default", body = ProblemDetails)))]
async fn rotate(call: Call, body: Json<Rotation>) -> Result<axum::Json<List<SigningKeyView>>, ApiError> {
    call.require(Level::Admin)?;
    let Rotation { algorithm, immediately } = body.value;
    let algorithm = algorithm.unwrap_or(SigningAlgorithm::Es256);
    let keys = call.app.store.list_signing_keys().await?;
    if !keys.iter().any(|row| row.key.algorithm == algorithm) {
        let detail = format!("no API has been signed for with {algorithm}, so there is no such key to rotate");
        return Err(Problem::Conflict.because(detail));
    }
    if call.app.rotate_signing_key(algorithm, immediately, &call.origin()).await?.is_none() {
        return Err(Problem::Conflict.because("another rotation was faster; look at the keys, then decide again"));
    }
    listed(&call, &Paging::default()).await
}

async fn listed(call: &Call, query: &Paging) -> Result<axum::Json<List<SigningKeyView>>, ApiError> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let mut found = call.app.store.list_signing_keys().await?;
    // In the order of their turns, whoever has none yet last. A key that was skipped never had the turn it was to have.
    found.sort_by_key(|row| {
        let turn = turn(row.activate_at, row.retire_at, call.now);
        (row.key.algorithm.as_str(), turn, row.activate_at.is_none(), row.activate_at, row.key.id)
    });
    if let Some(after) = &page.after {
        let place = found.iter().position(|row| row.key.id.to_string() == *after);
        let place =
            place.ok_or_else(|| Problem::Malformed.because("the key of this cursor is gone; begin the list anew"))?;
        found.drain(..=place);
    }
    Ok(axum::Json(List::of(found, &page, |row| row.key.id.to_string(), |row| view(&row, call.now))))
}

fn view(row: &KeyRow, now: Timestamp) -> SigningKeyView {
    SigningKeyView {
        id: row.key.id,
        algorithm: row.key.algorithm,
        state: turn(row.activate_at, row.retire_at, now),
        published_at: Instant(row.published_at),
        activate_at: row.activate_at.map(Instant),
        retire_at: row.retire_at.map(Instant),
        remove_at: row.remove_at.map(Instant),
    }
}

/// The times alone say whose turn it is. A key may be retired before its turn came: then it has had it.
fn turn(activate_at: Option<Timestamp>, retire_at: Option<Timestamp>, now: Timestamp) -> Turn {
    let reached = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
    if reached(retire_at) {
        Turn::Previous
    } else if reached(activate_at) {
        Turn::Current
    } else {
        Turn::Next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_key_say_whose_turn_it_is() {
        let at = |t| Some(Timestamp::from_millis(t));
        let now = Timestamp::from_millis(100);
        assert_eq!(turn(None, None, now), Turn::Next);
        assert_eq!(turn(at(101), None, now), Turn::Next, "its turn is fixed but has not come");
        assert_eq!(turn(at(100), None, now), Turn::Current);
        assert_eq!(turn(at(50), at(101), now), Turn::Current, "its successor's turn has not come");
        assert_eq!(turn(at(50), at(100), now), Turn::Previous);
        assert_eq!(turn(at(150), at(100), now), Turn::Previous, "skipped by a rotation that could not wait");
    }
}
