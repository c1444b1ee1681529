//! Where browsers may be led back to.

use keyward_model::redirect_uri::{MOST, RedirectUri};

use crate::respond::ApiError;

/// The redirect URIs that these texts are, each once.
pub(super) fn redirect_uris(texts: Vec<String>) -> Result<Vec<RedirectUri>, ApiError> {
    let refuse = |why: String| ApiError::field("redirect_uris", why);
    if texts.len() > MOST {
        return Err(refuse(format!("a client has at most {MOST} redirect URIs")));
    }
    let parsed = texts.iter().map(|text| text.parse::<RedirectUri>());
    let mut uris = parsed.collect::<Result<Vec<_>, _>>().map_err(|error| refuse(error.to_string()))?;
    uris.sort_unstable();
    uris.dedup();
    Ok(uris)
}

/// As they are written.
pub(super) fn texts(uris: &[RedirectUri]) -> Vec<String> {
    uris.iter().map(ToString::to_string).collect()
}
