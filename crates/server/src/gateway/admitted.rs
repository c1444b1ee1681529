//! Who was let in a moment ago: a busy client comes with the same token to the same API again and again.
//!
//! What the API is told of a token that comes alone is remembered as long as nothing is different that it was judged by:
//! neither what this node knows (`follow.rs`) nor the time. The token itself was verified before it is looked for here.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue};
use keyward_model::id::TokenId;
use keyward_model::time::Timestamp;
use keyward_model::token::AccessTokenClaims;

/// The longest answer that is remembered, in bytes of its values: memory for thousands of tokens is bounded by it.
const MOST_REMEMBERED: usize = 4096;

/// What the API was told of tokens, in bounded memory. Each token has one place; who shares it takes turns, and is judged
/// anew each time.
pub(crate) struct Admitted(Box<[ArcSwapOption<Verdict>]>);

/// What the API is told of a token.
pub(super) struct Verdict {
    /// The token, as it was verified: another one of the same name is not it.
    pub(super) claims: Arc<AccessTokenClaims>,
    /// What this node knew when it judged.
    pub(super) known: u64,
    /// When time will end it.
    pub(super) until: Timestamp,
    /// All headers of the answer.
    pub(super) headers: HeaderMap,
}

impl Admitted {
    /// A memory for so many tokens.
    pub(crate) fn new(tokens: u64) -> Self {
        let places = usize::try_from(tokens).unwrap_or(usize::MAX);
        Self(std::iter::repeat_with(ArcSwapOption::empty).take(places).collect())
    }

    /// What the API is told of this token, if it was let in and nothing is different from then.
    pub(super) fn find(
        &self,
        claims: &Arc<AccessTokenClaims>,
        known: Option<u64>,
        now: Timestamp,
    ) -> Option<HeaderMap> {
        let place = self.place(claims.jti)?.load();
        let verdict = place.as_ref()?;
        let is_same = Arc::ptr_eq(&verdict.claims, claims) && Some(verdict.known) == known && now < verdict.until;
        is_same.then(|| verdict.headers.clone())
    }

    /// Remembers what the API is told of a token.
    pub(super) fn insert(&self, verdict: Verdict) {
        let size = verdict.headers.values().map(HeaderValue::len).sum::<usize>();
        if let Some(place) = self.place(verdict.claims.jti).filter(|_| size <= MOST_REMEMBERED) {
            place.store(Some(Arc::new(verdict)));
        }
    }

    /// By the end of the id, which is random.
    fn place(&self, token: TokenId) -> Option<&ArcSwapOption<Verdict>> {
        let (_, random) = token.as_uuid().as_u64_pair();
        let at = random.checked_rem(u64::try_from(self.0.len()).ok()?)?;
        self.0.get(usize::try_from(at).ok()?)
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
        let headers = HeaderMap::from_iter([(http::header::VIA, HeaderValue::from_static("a"))]);
        let verdict = || Verdict { claims: Arc::clone(&token), known: 7, until: UNTIL, headers: headers.clone() };
        admitted.insert(verdict());
        assert_eq!(admitted.find(&token, Some(7), NOW), Some(headers.clone()));
        assert_eq!(admitted.find(&token, Some(8), NOW), None, "something has changed");
        assert_eq!(admitted.find(&token, None, NOW), None, "nothing remembered is trusted");
        assert_eq!(admitted.find(&token, Some(7), UNTIL), None, "time has ended it");
        let same_name = Arc::new(claims());
        assert_eq!(admitted.find(&same_name, Some(7), NOW), None, "another token of this name");
    }

    #[test]
    fn who_comes_last_has_the_place() {
        let admitted = Admitted::new(1);
        let (first, last) = (Arc::new(claims()), Arc::new(claims()));
        for token in [&first, &last] {
            let headers = HeaderMap::new();
            admitted.insert(Verdict { claims: Arc::clone(token), known: 7, until: UNTIL, headers });
            assert_eq!(admitted.find(token, Some(7), NOW), Some(HeaderMap::new()));
        }
        assert_eq!(admitted.find(&first, Some(7), NOW), None);
        let none = Admitted::new(0);
        none.insert(Verdict { claims: Arc::clone(&first), known: 7, until: UNTIL, headers: HeaderMap::new() });
        assert_eq!(none.find(&first, Some(7), NOW), None);
    }

    #[test]
    fn a_long_answer_is_not_remembered() {
        let (admitted, claims) = (Admitted::new(10), Arc::new(claims()));
        let long = HeaderValue::try_from("a".repeat(MOST_REMEMBERED + 1)).unwrap();
        let headers = HeaderMap::from_iter([(http::header::VIA, long)]);
        admitted.insert(Verdict { claims: Arc::clone(&claims), known: 7, until: UNTIL, headers });
        assert_eq!(admitted.find(&claims, Some(7), NOW), None);
    }
}
