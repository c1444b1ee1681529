use super::*;
use crate::fixture::{ISSUER, NOW, claims};
use keyward_model::token::{Status, StatusReference};
use proptest::prelude::*;
use uuid::Uuid;

const URI: &str = "https://keyward.example/status-lists/1";
const STRICT: Unreachable = Unreachable::RefuseAfter(Duration::from_secs(300));

fn list(bits: &[u8]) -> StatusList {
    StatusList { bits: bits.to_vec(), revoked: vec![], ttl: Duration::from_secs(60), exp: NOW }
}

fn at(idx: u64) -> AccessTokenClaims {
    let uri = format!("{ISSUER}/status-lists/1");
    AccessTokenClaims { status: Some(Status { status_list: StatusReference { idx, uri } }), ..claims() }
}

fn token(number: u128, seconds: i64) -> Revoked {
    let jti = TokenId::from_uuid(Uuid::from_u128(number));
    serde_json::from_value(serde_json::json!({ "jti": jti, "exp": NOW.as_seconds() + seconds })).unwrap()
}

fn known(bits: &[u8]) -> Revocations {
    let revocations = Revocations::default();
    revocations.replace(URI, &list(bits), NOW).unwrap();
    revocations.certain(NOW, after(60));
    revocations
}

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

#[test]
fn a_place_that_is_set_ends_its_tokens_and_another_does_not() {
    let revocations = known(&[0b1000_0001, 0]);
    for (idx, ended) in [(0, true), (1, false), (7, true), (8, false), (15, false)] {
        let standing = revocations.ask(&at(idx), STRICT, NOW);
        assert_eq!(matches!(standing, Standing::Ended(_)), ended, "{idx}: {standing:?}");
    }
    // However long ago that was learned, and whatever the API accepts.
    assert!(matches!(revocations.ask(&at(0), Unreachable::AcceptUntilExpiry, after(9999)), Standing::Ended(_)));
}

#[test]
fn what_nobody_can_tell_is_decided_by_the_api() {
    let revocations = known(&[0]);
    let ask = |unreachable, now| revocations.ask(&at(1), unreachable, now);
    assert_eq!(ask(STRICT, after(60)), Standing::Counts);
    assert_eq!(ask(STRICT, after(61)), Standing::OnTrust);
    assert_eq!(ask(STRICT, after(299)), Standing::OnTrust);
    assert!(matches!(ask(STRICT, after(300)), Standing::Unknowable(_)));
    assert_eq!(ask(Unreachable::AcceptUntilExpiry, after(9999)), Standing::OnTrust);
    // A clock that was set back by an hour does not make certainty of it; one that differs a little is a clock.
    let back = |seconds| NOW.minus(Duration::from_secs(seconds));
    assert_eq!(ask(STRICT, back(30)), Standing::Counts);
    for seconds in [31, 3600] {
        assert!(matches!(ask(STRICT, back(seconds)), Standing::Unknowable(_)));
        assert_eq!(ask(Unreachable::AcceptUntilExpiry, back(seconds)), Standing::OnTrust);
    }
}

#[test]
fn a_guard_that_never_learned_anything_says_so() {
    let nothing = Revocations::default();
    assert!(matches!(nothing.ask(&at(1), STRICT, NOW), Standing::Unknowable(_)));
    assert_eq!(nothing.ask(&at(1), Unreachable::AcceptUntilExpiry, NOW), Standing::OnTrust);
    assert_eq!(nothing.uncertain_for(NOW), None);
}

#[test]
fn a_place_beyond_the_list_counts_while_the_feed_would_have_told_of_its_end() {
    let revocations = known(&[0]);
    assert!(matches!(revocations.ask(&at(8), STRICT, NOW), Standing::Unknowable(_)));
    revocations.set_live(true);
    assert_eq!(revocations.ask(&at(8), STRICT, NOW), Standing::Counts);
    revocations.apply(&Places { ended: vec![100_000], restored: vec![200_000] }).unwrap();
    assert!(matches!(revocations.ask(&at(100_000), STRICT, NOW), Standing::Ended(_)));
    assert_eq!(revocations.ask(&at(200_000), STRICT, NOW), Standing::Counts);
    assert_eq!(revocations.ask(&at(u64::MAX), STRICT, NOW), Standing::Counts);
    assert_eq!(revocations.apply(&Places { ended: vec![MAX_PLACES], restored: vec![] }), Err(TooMuch));
    // A list that this guard does not follow says nothing.
    let uri = format!("{ISSUER}/status-lists/2");
    let elsewhere =
        AccessTokenClaims { status: Some(Status { status_list: StatusReference { idx: 1, uri } }), ..claims() };
    assert!(matches!(revocations.ask(&elsewhere, STRICT, NOW), Standing::Unknowable(_)));
}

#[test]
fn a_revoked_token_is_remembered_until_it_is_dead_and_its_neighbours_count() {
    let revocations = known(&[0]);
    let of = |number| AccessTokenClaims { jti: TokenId::from_uuid(Uuid::from_u128(number)), ..at(1) };
    revocations.revoke(&[token(1, 60), token(2, 60)], NOW).unwrap();
    assert!(matches!(revocations.ask(&of(1), STRICT, NOW), Standing::Ended(_)));
    assert_eq!(revocations.ask(&of(3), STRICT, NOW), Standing::Counts);
    // A newer list does not bring it back.
    revocations.replace(URI, &list(&[0]), NOW).unwrap();
    assert!(matches!(revocations.ask(&of(2), STRICT, NOW), Standing::Ended(_)));
    let later = after(60).plus(MAX_LEEWAY);
    revocations.revoke(&[token(1 + 256, 9999), token(2 + 256, 9999)], later).unwrap();
    assert_eq!(revocations.tokens(), 2, "the dead are forgotten");
}

#[test]
fn a_token_that_only_a_former_list_named_is_forgotten() {
    let revocations = known(&[0]);
    let id = |number| TokenId::from_uuid(Uuid::from_u128(number));
    let naming = |numbers: std::ops::Range<u128>| StatusList { revoked: numbers.map(id).collect(), ..list(&[0]) };
    let ended = |number, now| {
        let claims = AccessTokenClaims { jti: id(number), ..at(1) };
        matches!(revocations.ask(&claims, Unreachable::AcceptUntilExpiry, now), Standing::Ended(_))
    };
    revocations.replace(URI, &naming(0..3), NOW).unwrap();
    revocations.revoke(&[token(2, 9999)], NOW).unwrap();
    // Not at once: the next list may be one from before, and the token not dead by this clock.
    revocations.replace(URI, &naming(1..2), after(60)).unwrap();
    assert!(ended(0, after(60)) && ended(1, after(60)) && ended(2, after(60)));
    let later = after(60).plus(MAX_LEEWAY);
    revocations.replace(URI, &naming(1..2), later).unwrap();
    assert_eq!((ended(0, later), ended(1, later), ended(2, later), revocations.tokens()), (false, true, true, 2));
}

#[test]
fn lists_whose_tokens_change_go_on_being_taken_however_many_there_were() {
    let revocations = known(&[0]);
    for turn in 0..9 {
        let numbers = turn * 30_000..(turn + 1) * 30_000;
        let revoked = numbers.map(|number| TokenId::from_uuid(Uuid::from_u128(number))).collect();
        let taken = revocations.replace(URI, &StatusList { revoked, ..list(&[0]) }, after(150 * turn as u64));
        assert_eq!(taken, Ok(()), "turn {turn}");
    }
    assert!(revocations.tokens() < MAX_TOKENS);
    let revoked = (0..=MAX_TOKENS as u128).map(|number| TokenId::from_uuid(Uuid::from_u128(number))).collect();
    assert_eq!(revocations.replace(URI, &StatusList { revoked, ..list(&[0]) }, after(3600)), Err(TooMuch));
}

#[test]
fn more_tokens_than_a_guard_holds_are_not_forgotten_in_silence() {
    let revocations = Revocations::default();
    let many: Vec<Revoked> = (0..MAX_TOKENS as u128).map(|number| token(number, 600)).collect();
    revocations.revoke(&many, NOW).unwrap();
    assert_eq!(revocations.revoke(&[token(u128::MAX, 600)], NOW), Err(TooMuch));
    assert_eq!(revocations.tokens(), MAX_TOKENS);
}

proptest! {
    #[test]
    fn events_come_to_what_the_next_list_says(
        before in prop::collection::vec(any::<u8>(), 1..20),
        changes in prop::collection::vec((0u64..200, any::<bool>()), 0..40),
        twice: bool,
    ) {
        let (told, mut bits) = (known(&before), before.clone());
        told.set_live(true);
        for (place, ended) in &changes {
            let at = usize::try_from(place / 8).unwrap();
            bits.resize(bits.len().max(at + 1), 0);
            let bit = 1 << (place % 8);
            if *ended { bits[at] |= bit } else { bits[at] &= !bit }
            let one = || vec![*place];
            let places =
                if *ended { Places { ended: one(), restored: vec![] } } else { Places { ended: vec![], restored: one() } };
            for _ in 0..=usize::from(twice) {
                told.apply(&places).unwrap();
            }
        }
        let fetched = known(&bits);
        fetched.set_live(true);
        for place in 0..220 {
            prop_assert_eq!(told.ask(&at(place), STRICT, NOW), fetched.ask(&at(place), STRICT, NOW), "{}", place);
        }
    }
}
