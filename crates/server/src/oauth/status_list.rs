//! The status list that tokens name (IETF Token Status List): one bit for each credential and each device session, set
//! once its tokens count no more, and beside the bits the single tokens that were revoked (RFC 7009).
//!
//! Whoever verifies offline learns from it what has ended at the latest when their copy's `ttl` is over, and within a
//! second if they follow the revocation feed (`revocations.rs`), which tells what changes in it. The database is asked when an event may have changed
//! the bits or a deadline may have passed, by one request for all that wait. The list is signed anew only when its bits
//! are others or its term is over: until then it stays the same list, and whoever has it gets a 304.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use keyward_model::api::MAX_TOKEN_LIFETIME;
use keyward_model::event::Event;
use keyward_model::id::TokenId;
use keyward_model::jws::{SigningAlgorithm, SigningKey};
use keyward_model::time::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::app::App;
use crate::oauth::jwks::matches;
use crate::respond::{ErrorCode, OAuthError, Problem};

const MEDIA_TYPE: &str = "application/statuslist+jwt";
const TYP: &str = "statuslist+jwt";
/// For how long a verifier may keep its copy.
const TTL: Duration = Duration::from_secs(60);
/// After this time the bits are looked at anew even if nothing was written: deadlines pass by themselves.
const FRESH_FOR: Duration = Duration::from_secs(15);
/// Every list is signed anew when a term of the clock begins, so that all nodes do it at once. It is good for two.
const TERM: Duration = Duration::from_secs(300);
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=15");
/// For an answer that must be as new as somebody knows: a kept one may be of before, or of a log that is lost.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// The list grows by so many places at a time: its length does not tell how many credentials there are.
const STEP: usize = 65_536;
/// The only list there is so far.
const LIST: &str = "1";
/// How long somebody waits for a list that is true up to a place in the log.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);
/// Single tokens that are listed at most. Revoking one more ends all tokens got with the same credential.
pub(crate) const MOST_TOKENS: u64 = 10_000;

/// The list last served.
#[derive(Default)]
pub struct StatusList {
    known: Mutex<Option<Known>>,
    /// How many changes there were that may be seen in the list.
    changes: AtomicU64,
}

struct Known {
    list: Arc<Signed>,
    changes: u64,
    looked_at: Timestamp,
}

struct Signed {
    jwt: String,
    /// Names bits, revoked tokens, term and key.
    etag: String,
}

/// From which place in the log on a list is wanted.
#[derive(Deserialize)]
pub struct Wanted {
    applied: Option<i64>,
}

/// Until when a place that is left must be known: the last token that can name it is dead, however lenient verifiers
/// are with clocks.
pub(crate) fn last_token_dead(now: Timestamp) -> Timestamp {
    now.plus(MAX_TOKEN_LIFETIME).plus(keyward_guard::MAX_LEEWAY)
}

/// Whether an event may show in the list or in the key set that verifies it.
pub(crate) fn concerns_verifiers(event: &Event) -> bool {
    const KINDS: [&str; 8] =
        ["credential.", "device_session.", "client.", "user.", "scope.", "api.", "token.", "signing_key."];
    KINDS.iter().any(|kinds| event.kind.starts_with(kinds))
}

/// Whoever was sent here from another node must not get an answer from before what they know already. Gives whether they
/// said what they know.
pub(super) async fn require_applied(
    app: &App,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<bool, OAuthError> {
    let Query(wanted) = wanted.map_err(|_| ErrorCode::InvalidRequest.because("applied must be a whole number"))?;
    let Some(seq) = wanted.applied else { return Ok(false) };
    if app.applies(seq, PATIENCE).await {
        return Ok(true);
    }
    Err(ErrorCode::ServerError.because("this node has not applied the log so far yet").retry_in(RETRY))
}

/// `GET /status-lists/{id}`
pub async fn status_list(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    if id != LIST {
        return Ok(Problem::NotFound.because("tokens name their status list by its whole URL").into_response());
    }
    let is_for_one = require_applied(&app, wanted).await?;
    let list = app.status_list.current(&app).await?;
    let unchanged = headers.get(header::IF_NONE_MATCH).is_some_and(|known| matches(known.as_bytes(), &list.etag));
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(Body::from(list.jwt.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, if is_for_one { NO_STORE } else { CACHE_CONTROL });
    // Weak, for another node says the same with a signature of its own (RFC 9110 §8.8.1).
    if let Ok(etag) = HeaderValue::try_from(format!("W/{}", list.etag)) {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

impl StatusList {
    /// Notes events before they count as applied: the next list that is asked for has been looked at after them.
    pub(crate) fn note(&self, events: &[Event]) {
        // The keys are among them: a list is worth nothing once the key that signed it was withdrawn.
        if events.iter().any(concerns_verifiers) {
            self.note_anything();
        }
    }

    /// Notes that anything may have changed.
    pub(crate) fn note_anything(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    async fn current(&self, app: &App) -> Result<Arc<Signed>, OAuthError> {
        let now = app.clock.now();
        let mut known = self.known.lock().await;
        let changes = self.changes.load(Ordering::Acquire);
        if let Some(known) = known.as_ref()
            && known.changes == changes
            && now.since(known.looked_at) < FRESH_FOR
        {
            return Ok(Arc::clone(&known.list));
        }
        let last = known.as_ref().map(|known| &known.list);
        let list = look(app, last, now).await?;
        *known = Some(Known { list: Arc::clone(&list), changes, looked_at: now });
        Ok(list)
    }
}

/// The list as it must be now: the last one if that still says it.
async fn look(app: &App, last: Option<&Arc<Signed>>, now: Timestamp) -> Result<Arc<Signed>, OAuthError> {
    let size = app.store.last_status_index().await?;
    let ended = app.store.list_ended_status_indices(now).await?;
    let mut tokens: Vec<TokenId> = app.store.list_revoked_tokens(now).await?.into_iter().map(|(jti, _)| jti).collect();
    tokens.sort_unstable();
    let keys = app.key_ring.load_full();
    let Some(key) = keys.signer(SigningAlgorithm::Es256, now) else {
        return Err(ErrorCode::ServerError.because("there is no key yet that signs the list; try again in a moment"));
    };
    let bits = bits(&ended, size);
    let etag = etag(&bits, &tokens, key, now);
    if let Some(last) = last.filter(|last| last.etag == etag) {
        return Ok(Arc::clone(last));
    }
    let mut claims = json!({
        "sub": app.status_list_uri,
        "iss": app.issuer,
        "iat": now.as_seconds(),
        "exp": now.plus(TERM * 2).as_seconds(),
        "ttl": TTL.as_secs(),
        "status_list": { "bits": 1, "lst": compress(&bits) },
    });
    if let (serde_json::Value::Object(members), false) = (&mut claims, tokens.is_empty()) {
        members.insert("revoked_tokens".to_owned(), json!(tokens));
    }
    Ok(Arc::new(Signed { jwt: key.sign(TYP, claims.to_string().as_bytes())?, etag }))
}

/// What makes two lists the same, on whatever node they were signed.
fn etag(bits: &[u8], tokens: &[TokenId], key: &SigningKey, now: Timestamp) -> String {
    let term = now.as_seconds().div_euclid(i64::try_from(TERM.as_secs()).unwrap_or(i64::MAX));
    let mut context = digest::Context::new(&SHA256);
    context.update(format!("{} {term} ", key.kid()).as_bytes());
    context.update(bits);
    for jti in tokens {
        context.update(jti.as_uuid().as_bytes());
    }
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(context.finish()))
}

/// The bits, the lowest of each byte first (Token Status List §4.1).
fn bits(ended: &[i64], size: i64) -> Vec<u8> {
    let steps = usize::try_from(size).unwrap_or_default() / STEP + 1;
    let mut bits = vec![0u8; steps * STEP / 8];
    for index in ended {
        let at = usize::try_from(*index).unwrap_or(usize::MAX);
        if let Some(byte) = bits.get_mut(at / 8) {
            *byte |= 1 << (at % 8);
        }
    }
    bits
}

/// Token Status List §4.2.
fn compress(bits: &[u8]) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    let compressed = encoder.write_all(bits).and_then(|()| encoder.finish()).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(compressed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn decompress(lst: &str) -> Vec<u8> {
        let mut bits = Vec::new();
        let compressed = URL_SAFE_NO_PAD.decode(lst).unwrap();
        flate2::read::ZlibDecoder::new(&*compressed).read_to_end(&mut bits).unwrap();
        bits
    }

    #[test]
    fn the_bits_are_those_of_the_specifications_example() {
        // Token Status List §4.1: indices 0, 3, 4, 5, 7, 8, 9, 13, 15 set give the bytes B9 A3.
        let bits = bits(&[0, 3, 4, 5, 7, 8, 9, 13, 15], 15);
        assert_eq!(bits[..2], [0xb9, 0xa3]);
        assert!(bits[2..].iter().all(|byte| *byte == 0));
        assert_eq!(decompress(&compress(&bits)), bits);
        // Its compressed form there.
        assert_eq!(decompress("eNrbuRgAAhcBXQ"), [0xb9, 0xa3]);
    }

    #[test]
    fn the_list_grows_in_steps_and_an_index_beyond_it_is_left_out() {
        let len = |size| bits(&[], size).len() * 8;
        let step = i64::try_from(STEP).unwrap();
        assert_eq!((len(0), len(1), len(step - 1), len(step)), (STEP, STEP, STEP, 2 * STEP));
        assert!(bits(&[step, i64::MAX], 0).iter().all(|byte| *byte == 0));
    }
}
