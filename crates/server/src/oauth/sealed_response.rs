//! A token response kept for whoever did not get it, so that a lost answer costs nobody their login: sealed under a key that
//! is derived from the secret the request was made with. The database has only that secret's hash, and cannot open it.
//!
//! What it is an answer to is vouched for too: to another request it cannot be opened.

use keyward_model::refresh_token::ANSWERED_AGAIN_FOR;
use keyward_model::sealing::{HolderKey, SealError};
use keyward_model::secret::Secret;
use keyward_model::time::Timestamp;
use keyward_store::SealedAnswer;
use zeroize::Zeroizing;

use crate::oauth::grants::TokenResponse;
use crate::respond::{ErrorCode, OAuthError};

const PURPOSE: &str = "token response";

/// Seals the response to a request that was made with this secret, for a minute. `request` says what was asked for.
pub(crate) fn seal(
    response: &TokenResponse,
    secret: &Secret,
    request: &str,
    now: Timestamp,
) -> Result<SealedAnswer, OAuthError> {
    let until = now.plus(ANSWERED_AGAIN_FOR);
    let json = Zeroizing::new(serde_json::to_vec(response).map_err(|_| SealError::Failed)?);
    let sealed = HolderKey::derive(secret, PURPOSE)?.seal(&name(request, until), &json)?;
    Ok(SealedAnswer { sealed, until })
}

/// The same response, if it was sealed for this secret and this request and its minute is not over.
pub(crate) fn open(answer: &SealedAnswer, secret: &Secret, request: &str, now: Timestamp) -> Option<TokenResponse> {
    if answer.until <= now {
        return None;
    }
    let key = HolderKey::derive(secret, PURPOSE).ok()?;
    serde_json::from_slice(&key.open(&name(request, answer.until), &answer.sealed).ok()?).ok()
}

/// The end stands in what is vouched for, so that nobody who writes to the database can put it off.
fn name(request: &str, until: Timestamp) -> String {
    format!("{}\0{request}", until.as_millis())
}

impl From<SealError> for OAuthError {
    fn from(error: SealError) -> Self {
        tracing::error!(%error, "a token response could not be sealed");
        ErrorCode::ServerError.because("the server cannot issue anything at the moment")
    }
}

#[cfg(test)]
mod tests {
    use keyward_model::entropy::Entropy;
    use keyward_model::id::DeviceSessionId;
    use keyward_model::refresh_token::RefreshToken;
    use keyward_model::secret::HashingKey;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn response() -> TokenResponse {
        let entropy = Entropy::seeded(3);
        let session = DeviceSessionId::new(NOW, &entropy).unwrap();
        let next = RefreshToken::generate(session, &HashingKey::new(&Secret::new([9; 32])), &entropy).unwrap();
        let bearer = TokenResponse::bearer("a.b.c".to_owned(), "Worker".to_owned());
        TokenResponse { expires_in: 300, refresh_token: Some(next), ..bearer }
    }

    #[test]
    fn whoever_made_the_request_reads_the_same_bytes_again_for_a_minute() {
        let (given, secret) = (response(), Secret::new([1; 32]));
        let answer = seal(&given, &secret, "Worker", NOW).unwrap();
        let last = answer.until.minus(std::time::Duration::from_millis(1));
        let again = open(&answer, &secret, "Worker", last).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&given).unwrap());
        assert_eq!(answer.until.since(NOW), ANSWERED_AGAIN_FOR);
        assert!(open(&answer, &secret, "Worker", answer.until).is_none(), "its minute is over");
    }

    #[test]
    fn debug_prints_no_token() {
        let printed = format!("{:?}", response());
        assert!(printed.contains("Worker") && !printed.contains("a.b.c") && !printed.contains("kwr_"), "{printed}");
    }

    #[test]
    fn nobody_else_reads_it_nor_longer_nor_for_another_request() {
        let answer = seal(&response(), &Secret::new([1; 32]), "Worker", NOW).unwrap();
        assert!(open(&answer, &Secret::new([2; 32]), "Worker", NOW).is_none());
        assert!(open(&answer, &Secret::new([1; 32]), "", NOW).is_none());
        let put_off = SealedAnswer { until: NOW.plus(ANSWERED_AGAIN_FOR * 2), ..answer.clone() };
        assert!(open(&put_off, &Secret::new([1; 32]), "Worker", NOW).is_none());
        let plain = serde_json::to_vec(&response()).unwrap();
        assert!(!answer.sealed.windows(5).any(|bytes| bytes == &plain[17..22]), "{plain:?}");
    }
}
