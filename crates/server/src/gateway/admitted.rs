//! Who was let in a moment ago: a busy client comes with the same token to the same API again and again.
//!
//! What the API is told of a token that comes alone is remembered as long as nothing is different that it was judged by:
//! neither what this node knows (`follow.rs`) nor the time. The token itself was verified before it is looked for here.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use keyward_model::id::TokenId;
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;
use moka::sync::Cache;

/// The longest answer that is remembered, in bytes of its values: memory for thousands of tokens is bounded by it.
const MOST_REMEMBERED: usize = 4096;

/// What the API was told of tokens, in bounded memory.
pub(crate) struct Admitted(Cache<TokenId, Arc<Verdict>>);

/// What the API is told of a token.
pub(super) struct Verdict {
    /// The token, as it was verified: another one of the same name is not it.
    pub(super) claims: Arc<AccessTokenClaims>,
    /// What this node knew when it judged.
    pub(super) known: u64,
    /// When time will end it.
    pub(super) until: Timestamp,
    pub(super) told: HeaderMap,
}

impl Admitted {
    /// A memory for so many tokens.
    pub(crate) fn new(tokens: u64) -> Self {
        Self(Cache::new(tokens))
    }

    /// What the API is told of this token, if it was let in and nothing is different from then.
    pub(super) fn find(
        &self,
        claims: &Arc<AccessTokenClaims>,
        known: Option<u64>,
        now: Timestamp,
    ) -> Option<HeaderMap> {
        let verdict = self.0.get(&claims.jti)?;
        let is_same = Arc::ptr_eq(&verdict.claims, claims) && Some(verdict.known) == known && now < verdict.until;
        is_same.then(|| verdict.told.clone())
    }

    /// Remembers what the API is told of a token.
    pub(super) fn insert(&self, verdict: Verdict) {
        if verdict.told.values().map(HeaderValue::len).sum::<usize>() <= MOST_REMEMBERED {
            self.0.insert(verdict.claims.jti, Arc::new(verdict));
        }
    }
}

#[cfg(test)]
mod tests {
    use keyward_model::entropy::Entropy;
    use keyward_model::id::ClientId;
    use keyward_model::token::{Audience, Subject};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);
    const UNTIL: Timestamp = Timestamp::from_seconds(1_060);

    fn claims() -> AccessTokenClaims {
        let entropy = Entropy::seeded(1);
        let client = ClientId::new(NOW, &entropy).unwrap();
        AccessTokenClaims {
            iss: "https://iam.example".to_owned(),
            aud: Audience::one("https://plant.example"),
            sub: Subject::Client(client),
            client_id: client,
            iat: NOW,
            nbf: None,
            exp: UNTIL,
            jti: TokenId::new(NOW, &entropy).unwrap(),
            scope: "Worker".parse().unwrap(),
            res: "plant/7".parse().unwrap(),
            cred: None,
            act: None,
            sid: None,
            auth_time: None,
            status: None,
        }
    }

    #[test]
    fn what_is_remembered_counts_for_this_token_until_anything_is_different() {
        let admitted = Admitted::new(10);
        let token = Arc::new(claims());
        let told = HeaderMap::from_iter([(http::header::VIA, HeaderValue::from_static("a"))]);
        let verdict = || Verdict { claims: Arc::clone(&token), known: 7, until: UNTIL, told: told.clone() };
        admitted.insert(verdict());
        assert_eq!(admitted.find(&token, Some(7), NOW), Some(told.clone()));
        assert_eq!(admitted.find(&token, Some(8), NOW), None, "something has changed");
        assert_eq!(admitted.find(&token, None, NOW), None, "nothing remembered is trusted");
        assert_eq!(admitted.find(&token, Some(7), UNTIL), None, "time has ended it");
        let same_name = Arc::new(claims());
        assert_eq!(admitted.find(&same_name, Some(7), NOW), None, "another token of this name");
    }

    #[test]
    fn a_long_answer_is_not_remembered() {
        let (admitted, claims) = (Admitted::new(10), Arc::new(claims()));
        let long = HeaderValue::try_from("a".repeat(MOST_REMEMBERED + 1)).unwrap();
        let told = HeaderMap::from_iter([(http::header::VIA, long)]);
        admitted.insert(Verdict { claims: Arc::clone(&claims), known: 7, until: UNTIL, told });
        assert_eq!(admitted.find(&claims, Some(7), NOW), None);
    }
}
