use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn user(n: u128) -> UserId {
    UserId::from_uuid(Uuid::from_u128(n))
}

fn login(n: u128) -> LoginId {
    LoginId::from_uuid(Uuid::from_u128(n))
}

fn claim(of: u128, in_login: u128) -> Claim {
    Claim { user: user(of), login: login(in_login), claimed_at: at(2), typed: true }
}

fn approval(of: u128) -> GrantState {
    GrantState::Approved(Approval {
        claim: claim(of, 1),
        approved_at: at(3),
        authenticated_at: at(1),
        method: Method::Passkey,
        network: "192.0.2.1".parse().unwrap(),
        digits: None,
        wrong: 0,
    })
}

fn grant(state: GrantState) -> DeviceGrant {
    DeviceGrant {
        id: DeviceGrantId::from_uuid(Uuid::from_u128(1)),
        client: ClientId::from_uuid(Uuid::from_u128(2)),
        rights: Rights::default(),
        label: String::new(),
        network: "192.0.2.7".parse().unwrap(),
        user_agent: String::new(),
        confirmation: false,
        interval: Duration::from_secs(2),
        state,
        created_at: at(0),
        expires_at: at(10),
        version: 1,
    }
}

#[test]
fn whoever_enters_the_code_first_has_it() {
    assert_eq!(grant(GrantState::Pending).may_claim(user(1), at(9)), Ok(()));
    let claimed = grant(GrantState::Claimed(claim(1, 1)));
    assert_eq!(claimed.may_claim(user(1), at(9)), Ok(()), "again, or in another browser");
    assert_eq!(claimed.may_claim(user(2), at(9)), Err(NoArrow::Contested));
    assert_eq!(grant(approval(1)).may_claim(user(2), at(9)), Err(NoArrow::Contested));
    assert_eq!(grant(approval(1)).may_claim(user(1), at(9)), Err(NoArrow::Approved));
}

#[test]
fn only_the_browser_that_entered_the_code_decides() {
    let claimed = grant(GrantState::Claimed(claim(1, 1)));
    assert_eq!(claimed.may_decide(user(1), login(1), at(9)), Ok(claim(1, 1)));
    assert_eq!(claimed.may_decide(user(1), login(2), at(9)), Err(NoArrow::Foreign));
    assert_eq!(claimed.may_decide(user(2), login(1), at(9)), Err(NoArrow::Foreign));
    assert_eq!(grant(GrantState::Pending).may_decide(user(1), login(1), at(9)), Err(NoArrow::Foreign));
    assert_eq!(grant(approval(1)).may_decide(user(1), login(1), at(9)), Err(NoArrow::Approved));
}

#[test]
fn an_approval_is_taken_back_by_whoever_gave_it_until_the_device_has_come() {
    assert_eq!(grant(approval(1)).may_undo(user(1), at(9)), Ok(()));
    assert_eq!(grant(approval(1)).may_undo(user(2), at(9)), Err(NoArrow::Foreign));
    assert_eq!(grant(GrantState::Claimed(claim(1, 1))).may_undo(user(1), at(9)), Err(NoArrow::Undecided));
    assert!(grant(approval(1)).may_redeem(at(9)).is_ok());
    assert_eq!(grant(GrantState::Claimed(claim(1, 1))).may_redeem(at(9)), Err(NoArrow::Undecided));
}

#[test]
fn digits_are_three_however_they_are_spaced() {
    assert_eq!(Digits::parse("0 4 2").map(Digits::reveal), Some("042".to_owned()));
    for wrong in ["", "42", "0042", "04a", "-42", "\u{ff10}42"] {
        assert!(Digits::parse(wrong).is_none(), "{wrong}");
    }
    assert_eq!(format!("{:?}", Digits::parse("042")), "Some([redacted])");
}

proptest! {
    #[test]
    fn after_its_end_no_arrow_is_left(of in 0_u128..3, by in 0_u128..3, seconds in 10_i64..99, which in 0..5) {
        let state = match which {
            0 => GrantState::Pending,
            1 => GrantState::Claimed(claim(of, 1)),
            2 => approval(of),
            3 => GrantState::Denied { of: Some(user(of)), denied_at: at(5), reason: Denial::Refused },
            _ => GrantState::Redeemed {
                by: user(of),
                session: DeviceSessionId::from_uuid(Uuid::from_u128(1)),
                redeemed_at: at(5),
            },
        };
        let (grant, now) = (grant(state.clone()), at(seconds));
        prop_assert_eq!(grant.may_claim(user(by), now), Err(NoArrow::Ended));
        prop_assert_eq!(grant.may_decide(user(by), login(1), now), Err(NoArrow::Ended));
        prop_assert_eq!(grant.may_undo(user(by), now), Err(NoArrow::Ended));
        prop_assert_eq!(grant.may_redeem(now), Err(NoArrow::Ended));
        let end = grant.state_at(now);
        prop_assert!(end.is_final());
        prop_assert_eq!(end.user(), grant.state.user());
        prop_assert_eq!(end == state, state.is_final(), "an expiry replaces no other end");
    }

    #[test]
    fn a_quarter_of_the_interval_is_forgiven(millis in 0_u64..4_000) {
        let early = grant(GrantState::Pending).is_early(Duration::from_millis(millis));
        prop_assert_eq!(early, millis < 1_500);
    }

    #[test]
    fn digits_survive_the_round_trip(seed: u64) {
        let digits = Digits::generate(&Entropy::seeded(seed)).unwrap();
        prop_assert_eq!(Digits::parse(&digits.reveal()), Some(digits));
        prop_assert_eq!(digits.reveal().len(), 3);
    }
}
