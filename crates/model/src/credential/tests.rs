//! The state machine, arrow by arrow.

use super::*;
use crate::entropy::Entropy;
use proptest::prelude::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn credential(state: State, expires_at: Option<Timestamp>) -> Credential {
    let entropy = Entropy::seeded(1);
    Credential {
        id: CredentialId::new(at(0), &entropy).unwrap(),
        client: ClientId::new(at(0), &entropy).unwrap(),
        label: String::new(),
        purpose: Purpose::General,
        secret_hash: None,
        scope: None,
        res: None,
        state,
        expires_at,
        leaked_at: None,
        successor: None,
        status_index: 0,
        created_by: UserId::new(at(0), &entropy).unwrap(),
        created_at: at(0),
        updated_at: at(0),
        version: 1,
    }
}

#[test]
fn a_passed_deadline_counts_before_anyone_wrote_it_down() {
    let expiring = credential(State::Active, Some(at(10)));
    assert_eq!(expiring.state_at(at(9)), State::Active);
    let ended = State::Expired { ended_at: at(10), reason: EndReason::ExpiresAt };
    assert_eq!(expiring.state_at(at(10)), ended);

    let retiring = credential(State::Retiring { retire_at: at(5) }, Some(at(10)));
    assert!(retiring.state_at(at(4)).authenticates());
    assert_eq!(retiring.state_at(at(20)), State::Expired { ended_at: at(5), reason: EndReason::RetireAt });
}

#[test]
fn an_ended_credential_stays_ended() {
    let revoked = State::Revoked { ended_at: at(3) };
    assert_eq!(credential(revoked, Some(at(10))).state_at(at(20)), revoked);
    assert_eq!(credential(revoked, None).purge_at(at(20)), Some(at(3).plus(KEPT_AFTER_END)));
}

proptest! {
    #[test]
    fn time_never_revives_a_credential(
        retire in prop::option::of(0i64..100), expires in prop::option::of(0i64..100), t in 0i64..100, later in 0i64..100
    ) {
        let state = retire.map_or(State::Active, |r| State::Retiring { retire_at: at(r) });
        let credential = credential(state, expires.map(at));
        let (t, later) = (at(t.min(later)), at(t.max(later)));
        if !credential.state_at(t).authenticates() {
            prop_assert_eq!(credential.state_at(t), credential.state_at(later));
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_hard_end_lies_ahead_and_not_too_far() {
    let now = at(1_000);
    assert_eq!(hard_end(at(1_001), now, DAY), Ok(at(1_001)));
    assert_eq!(hard_end(now.plus(DAY), now, DAY), Ok(now.plus(DAY)));
    assert_eq!(hard_end(now.plus(DAY).plus(Duration::from_millis(1)), now, DAY), Err(NoHardEnd::TooFar(DAY)));
    assert_eq!(hard_end(now, now, DAY), Err(NoHardEnd::Past));
    assert_eq!(hard_end(at(i64::MIN), now, DAY), Err(NoHardEnd::Past));
}

#[test]
fn only_an_active_credential_is_rotated_and_its_expiry_caps_the_overlap() {
    let active = credential(State::Active, Some(at(50)));
    assert_eq!(active.retire(at(40), at(1)), Ok(State::Retiring { retire_at: at(40) }));
    assert_eq!(active.retire(at(60), at(1)), Ok(State::Retiring { retire_at: at(50) }));
    assert_eq!(active.retire(at(60), at(50)), Err(Refused::Ended(StateName::Expired)));

    let successor = Some(active.id);
    let retiring = Credential { successor, ..credential(State::Retiring { retire_at: at(9) }, None) };
    assert_eq!(retiring.retire(at(60), at(1)), Err(Refused::AlreadyRetiring(successor)));
    let revoked = credential(State::Revoked { ended_at: at(1) }, None);
    assert_eq!(revoked.retire(at(60), at(2)), Err(Refused::Ended(StateName::Revoked)));
    let bootstrap = Credential { purpose: Purpose::Bootstrap, ..credential(State::Active, None) };
    assert_eq!(bootstrap.retire(at(60), at(2)), Err(Refused::Bootstrap));
}

#[test]
fn a_retirement_is_cancelled_extended_and_finished_and_nothing_else_is() {
    let successor = credential(State::Active, None);
    let retiring = credential(State::Retiring { retire_at: at(9) }, Some(at(50)));
    assert_eq!(retiring.cancel(Some(&successor), at(8)), Ok(State::Active));
    assert_eq!(retiring.extend(at(5), at(3)), Ok(State::Retiring { retire_at: at(5) }));
    assert_eq!(retiring.extend(at(99), at(3)), Ok(State::Retiring { retire_at: at(50) }));
    assert_eq!(retiring.finish(at(3)), Ok(State::Expired { ended_at: at(3), reason: EndReason::Finished }));

    for (other, why) in [
        (credential(State::Active, None), Refused::NotRetiring),
        (credential(State::Revoked { ended_at: at(1) }, None), Refused::Ended(StateName::Revoked)),
        // Its hard end has passed, though nobody has written it down.
        (retiring.clone(), Refused::Ended(StateName::Expired)),
    ] {
        assert_eq!(other.cancel(Some(&successor), at(9)), Err(why));
        assert_eq!(other.extend(at(99), at(9)), Err(why));
        assert_eq!(other.finish(at(9)), Err(why));
    }
}

#[test]
fn a_leak_gives_a_hard_end_that_nothing_moves_away() {
    let leak = |state, expires_at, end| {
        let before = credential(state, expires_at);
        let state = before.leak(end, at(1)).unwrap();
        Credential { state, leaked_at: Some(at(1)), ..before }
    };
    for (leaked, end) in [
        (leak(State::Active, None, at(9)), at(9)),
        (leak(State::Active, Some(at(5)), at(9)), at(5)),
        (leak(State::Retiring { retire_at: at(20) }, Some(at(50)), at(9)), at(9)),
        (leak(State::Retiring { retire_at: at(4) }, None, at(9)), at(4)),
    ] {
        assert_eq!(leaked.state, State::Retiring { retire_at: end });
        assert_eq!(leaked.extend(end.plus(Duration::from_millis(1)), at(2)), Err(Refused::Leaked));
        assert_eq!(leaked.extend(at(3), at(2)), Ok(State::Retiring { retire_at: at(3) }));
        assert_eq!(leaked.cancel(Some(&credential(State::Active, None)), at(2)), Err(Refused::Leaked));
        assert_eq!(leaked.cancel(None, at(2)), Err(Refused::Leaked));
        assert_eq!(leaked.retire(at(30), at(2)), Err(Refused::Leaked));
        assert_eq!(leaked.leak(at(3), at(2)), Err(Refused::Leaked), "once");
        let without_expiry = Credential { expires_at: None, ..leaked };
        assert_eq!(without_expiry.state_at(end).name(), StateName::Expired);
    }
    let revoked = credential(State::Revoked { ended_at: at(1) }, None);
    assert_eq!(revoked.leak(at(9), at(2)), Err(Refused::Ended(StateName::Revoked)));
}

#[test]
fn a_rotation_whose_successor_was_rotated_is_not_undone() {
    let retiring = credential(State::Retiring { retire_at: at(9) }, None);
    let successor = Credential { successor: Some(retiring.id), ..credential(State::Active, None) };
    assert_eq!(retiring.cancel(Some(&successor), at(1)), Err(Refused::SuccessorRotated(successor.id)));
}

#[test]
fn the_end_ahead_is_the_nearer_of_expiry_and_retirement() {
    assert_eq!(credential(State::Active, None).ends_at(at(1)), None);
    assert_eq!(credential(State::Active, Some(at(5))).ends_at(at(1)), Some(at(5)));
    assert_eq!(credential(State::Retiring { retire_at: at(3) }, Some(at(5))).ends_at(at(1)), Some(at(3)));
    assert_eq!(credential(State::Retiring { retire_at: at(3) }, Some(at(2))).ends_at(at(1)), Some(at(2)));
    assert_eq!(credential(State::Revoked { ended_at: at(1) }, Some(at(5))).ends_at(at(2)), None);
}

fn living() -> impl Strategy<Value = Credential> {
    let state =
        prop::option::of(0i64..100).prop_map(|r| r.map_or(State::Active, |r| State::Retiring { retire_at: at(r) }));
    (state, prop::option::of(0i64..100)).prop_map(|(state, expires)| credential(state, expires.map(at)))
}

proptest! {
    #[test]
    fn no_arrow_leads_out_of_an_end_and_each_leads_where_it_says(
        credential in living(), now in 0i64..100, end in 101i64..200
    ) {
        let (now, end) = (at(now), at(end));
        let before = credential.state_at(now);
        let arrows = [
            (credential.retire(end, now), before == State::Active),
            (credential.extend(end, now), before.name() == StateName::Retiring),
            (credential.leak(end, now), before.authenticates()),
            (credential.cancel(None, now), before.name() == StateName::Retiring),
            (credential.finish(now), before.name() == StateName::Retiring),
            (credential.revoke(now), before.authenticates()),
        ];
        for (arrow, open) in arrows {
            prop_assert_eq!(arrow.is_ok(), open);
            if let Ok(State::Retiring { retire_at }) = arrow {
                // Whoever is told a hard end can rely on it: it lies ahead, and the expiry does not come before it.
                prop_assert!(retire_at > now && credential.expires_at.is_none_or(|at| retire_at <= at));
            }
        }
    }
}
