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

/// In so many places a token may be.
const WAYS: usize = 4;

/// What the API was told of tokens, in bounded memory. Who finds no place is judged anew each time.
pub(crate) struct Admitted(Box<[[ArcSwapOption<Verdict>; WAYS]]>);

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
        let sets = usize::try_from(tokens).unwrap_or(usize::MAX).div_ceil(WAYS);
        let set = || std::array::from_fn(|_| ArcSwapOption::empty());
        Self(std::iter::repeat_with(set).take(sets).collect())
    }

    /// What the API is told of this token, if it was let in and nothing is different from then.
    pub(super) fn find(
        &self,
        claims: &Arc<AccessTokenClaims>,
        known: Option<u64>,
        now: Timestamp,
    ) -> Option<HeaderMap> {
        let (set, _) = self.set(claims.jti)?;
        set.iter().find_map(|place| {
            let verdict = place.load();
            let verdict = verdict.as_ref().filter(|verdict| Arc::ptr_eq(&verdict.claims, claims))?;
            (Some(verdict.known) == known && now < verdict.until).then(|| verdict.headers.clone())
        })
    }

    /// Remembers what the API is told of a token: in its old place, else in one whose verdict counts no longer, else in
    /// anybody's.
    pub(super) fn insert(&self, verdict: Verdict, now: Timestamp) {
        let size = verdict.headers.values().map(HeaderValue::len).sum::<usize>();
        let Some((set, chance)) = self.set(verdict.claims.jti).filter(|_| size <= MOST_REMEMBERED) else { return };
        let worth = |place: &&ArcSwapOption<Verdict>| match &*place.load() {
            Some(other) if other.claims.jti == verdict.claims.jti => 0,
            Some(other) if other.known == verdict.known && now < other.until => 2,
            Some(_) | None => 1,
        };
        // The first of the least worth, counted from anywhere.
        let places = set.iter().cycle().skip(chance).take(WAYS);
        if let Some(place) = places.min_by_key(worth) {
            place.store(Some(Arc::new(verdict)));
        }
    }

    /// Where a token may be, by the end of its id, which is random; and a number below [`WAYS`], by what is left of it.
    fn set(&self, token: TokenId) -> Option<(&[ArcSwapOption<Verdict>; WAYS], usize)> {
        let (_, random) = token.as_uuid().as_u64_pair();
        let sets = u64::try_from(self.0.len()).ok()?;
        let (at, rest) = (random.checked_rem(sets)?, random.checked_div(sets)? % WAYS as u64);
        Some((self.0.get(usize::try_from(at).ok()?)?, usize::try_from(rest).ok()?))
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
        admitted.insert(verdict(), NOW);
        assert_eq!(admitted.find(&token, Some(7), NOW), Some(headers.clone()));
        assert_eq!(admitted.find(&token, Some(8), NOW), None, "something has changed");
        assert_eq!(admitted.find(&token, None, NOW), None, "nothing remembered is trusted");
        assert_eq!(admitted.find(&token, Some(7), UNTIL), None, "time has ended it");
        let same_name = Arc::new(claims());
        assert_eq!(admitted.find(&same_name, Some(7), NOW), None, "another token of this name");
    }

    #[test]
    fn it_stays_within_its_size_and_who_comes_last_is_in_it() {
        let (admitted, entropy) = (Admitted::new(4), Entropy::seeded(2));
        let verdict = |claims: &Arc<AccessTokenClaims>, known| Verdict {
            claims: Arc::clone(claims),
            known,
            until: UNTIL,
            headers: HeaderMap::new(),
        };
        let token = || Arc::new(AccessTokenClaims { jti: TokenId::new(NOW, &entropy).unwrap(), ..claims() });
        let tokens: Vec<_> = std::iter::repeat_with(token).take(20).collect();
        for token in tokens.iter().chain(&tokens) {
            admitted.insert(verdict(token, 7), NOW);
            assert!(admitted.find(token, Some(7), NOW).is_some());
        }
        let remembered = |known| tokens.iter().filter(|token| admitted.find(token, Some(known), NOW).is_some()).count();
        assert_eq!(remembered(7), WAYS);
        // What counts no longer goes first.
        tokens.iter().take(WAYS).for_each(|token| admitted.insert(verdict(token, 8), NOW));
        assert_eq!((remembered(7), remembered(8)), (0, WAYS));
        let none = Admitted::new(0);
        none.insert(verdict(&tokens[0], 7), NOW);
        assert_eq!(none.find(&tokens[0], Some(7), NOW), None);
    }

    #[test]
    fn a_long_answer_is_not_remembered() {
        let (admitted, claims) = (Admitted::new(10), Arc::new(claims()));
        let long = HeaderValue::try_from("a".repeat(MOST_REMEMBERED + 1)).unwrap();
        let headers = HeaderMap::from_iter([(http::header::VIA, long)]);
        admitted.insert(Verdict { claims: Arc::clone(&claims), known: 7, until: UNTIL, headers }, NOW);
        assert_eq!(admitted.find(&claims, Some(7), NOW), None);
    }
}
