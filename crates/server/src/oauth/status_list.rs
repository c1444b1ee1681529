//! The status list that tokens name (IETF Token Status List): one bit per credential, set once its tokens count no more.
//!
//! Whoever verifies offline learns from it that a credential was revoked or has expired, or that its client or owner
//! was disabled, at the latest when their copy's `ttl` is over. The list is built from the database when something has
//! changed, by one request for all that wait.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use keyward_model::jws::SigningAlgorithm;
use keyward_model::time::Timestamp;
use serde_json::json;
use tokio::sync::Mutex;

use crate::app::App;
use crate::oauth::jwks::matches;
use crate::respond::{ErrorCode, OAuthError, Problem};

const MEDIA_TYPE: &str = "application/statuslist+jwt";
const TYP: &str = "statuslist+jwt";
/// For how long a verifier may keep its copy.
const TTL: Duration = Duration::from_secs(60);
/// After this time the list is built anew even if nothing was written: deadlines pass by themselves.
const FRESH_FOR: Duration = Duration::from_secs(15);
/// The only list there is so far.
const LIST: &str = "1";

/// The list last built.
#[derive(Default)]
pub struct StatusList(Mutex<Option<Arc<Built>>>);

struct Built {
    jwt: String,
    etag: String,
    place: i64,
    at: Timestamp,
}

/// `GET /status-lists/{id}`
pub async fn status_list(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    if id != LIST {
        return Ok(Problem::NotFound.because("tokens name their status list by its whole URL").into_response());
    }
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
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=15"));
    if let Ok(etag) = HeaderValue::from_str(&list.etag) {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

impl StatusList {
    async fn current(&self, app: &App) -> Result<Arc<Built>, OAuthError> {
        let now = app.clock.now();
        let mut last = self.0.lock().await;
        let place = *app.applied.borrow();
        if let Some(built) = last.as_ref()
            && built.place == place
            && now.since(built.at) < FRESH_FOR
        {
            return Ok(Arc::clone(built));
        }
        let built = Arc::new(build(app, place, now).await?);
        *last = Some(Arc::clone(&built));
        Ok(built)
    }
}

async fn build(app: &App, place: i64, now: Timestamp) -> Result<Built, OAuthError> {
    let size = app.store.last_status_index().await?;
    let ended = app.store.list_ended_status_indices(now).await?;
    let claims = json!({
        "sub": app.status_list_uri,
        "iss": app.issuer,
        "iat": now.as_seconds(),
        "exp": now.plus(TTL * 10).as_seconds(),
        "ttl": TTL.as_secs(),
        "status_list": { "bits": 1, "lst": encode(&ended, size) },
    });
    let keys = app.key_ring.load_full();
    let Some(key) = keys.signer(SigningAlgorithm::Es256, now) else {
        return Err(ErrorCode::ServerError.because("there is no key yet that signs the list; try again in a moment"));
    };
    let jwt = key.sign(TYP, claims.to_string().as_bytes())?;
    Ok(Built { etag: format!("\"{place}-{}\"", now.as_millis()), jwt, place, at: now })
}

/// The bits, the lowest of each byte first, compressed (Token Status List §4.1 and §4.2).
fn encode(ended: &[i64], size: i64) -> String {
    let len = usize::try_from(size / 8 + 1).unwrap_or(1);
    let mut bits = vec![0u8; len];
    for index in ended {
        let at = usize::try_from(*index).unwrap_or(usize::MAX);
        if let Some(byte) = bits.get_mut(at / 8) {
            *byte |= 1 << (at % 8);
        }
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    let compressed = encoder.write_all(&bits).and_then(|()| encoder.finish()).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(compressed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn decode(lst: &str) -> Vec<u8> {
        let mut bits = Vec::new();
        let compressed = URL_SAFE_NO_PAD.decode(lst).unwrap();
        flate2::read::ZlibDecoder::new(&*compressed).read_to_end(&mut bits).unwrap();
        bits
    }

    #[test]
    fn the_bits_are_those_of_the_specifications_example() {
        // Token Status List §4.1: indices 0, 3, 4, 5, 7, 8, 9, 13, 15 set give the bytes B9 A3.
        assert_eq!(decode(&encode(&[0, 3, 4, 5, 7, 8, 9, 13, 15], 15)), [0xb9, 0xa3]);
        // Its compressed form there.
        let compressed = URL_SAFE_NO_PAD.decode("eNrbuRgAAhcBXQ").unwrap();
        let mut bits = Vec::new();
        flate2::read::ZlibDecoder::new(&*compressed).read_to_end(&mut bits).unwrap();
        assert_eq!(bits, [0xb9, 0xa3]);
    }

    #[test]
    fn an_empty_list_has_a_byte_and_an_index_beyond_it_is_left_out() {
        assert_eq!(decode(&encode(&[99], 0)), [0]);
    }
}
