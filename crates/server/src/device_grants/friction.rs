//! How much stands between somebody and letting a device in: the less is known of where they and the device are, the more.
//!
//! No device is refused for its network alone: a television in a home network and a telephone in a mobile one are as usual
//! as both in one.

use std::time::Duration;

/// A network from which so many devices asked within [`LATELY`] may be where somebody collects approvals.
const MANY: u64 = 5;
/// What "lately" means there.
pub(super) const LATELY: Duration = Duration::from_mins(10);
/// A link this old was perhaps sent and not scanned.
const OLD: Duration = Duration::from_mins(2);
/// For so long, whoever is asked must have had the question before them.
const DELAY: Duration = Duration::from_secs(5);

/// What is known of a device that asks and of whoever is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Both are in one network.
    pub(super) same_network: bool,
    /// How many devices of its network asked lately, this one among them.
    pub(super) asked_lately: u64,
    /// How long ago it asked.
    pub(super) age: Duration,
    /// Whether its code was typed; else a link was followed.
    pub(super) typed: bool,
    /// Whether it would get rights over Keyward itself.
    pub(super) administers: bool,
}

/// How much stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Friction {
    /// In one word.
    pub grade: Grade,
    /// Why; none if there is no reason.
    pub reasons: Vec<Reason>,
    /// They must say that they have the device before them, although it seems to be elsewhere.
    pub must_acknowledge: bool,
    /// They must type the code that the device shows, although they followed a link.
    pub must_type_code: bool,
    /// They must sign in once more, after the device has asked.
    pub must_sign_in_afresh: bool,
    /// For so long after they entered the code they cannot say yes.
    pub delay: Duration,
}

/// How much, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// One tap.
    Low,
    /// Both places are shown, and a box is to be ticked.
    Raised,
    /// All that there is.
    High,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The device is in another network than whoever is asked.
    OtherNetwork,
    /// From its network many devices asked lately.
    ManyAsked,
    /// They followed a link that is some minutes old.
    OldLink,
    /// The device would get rights over Keyward itself.
    Administration,
}

/// How much stands in the way, by what is known.
pub(super) fn friction(facts: Facts) -> Friction {
    let elsewhere = !facts.same_network;
    let reasons = [
        (elsewhere, Reason::OtherNetwork),
        // In one hall many devices may be set up at once, by somebody who stands there.
        (elsewhere && facts.asked_lately >= MANY, Reason::ManyAsked),
        (elsewhere && !facts.typed && facts.age > OLD, Reason::OldLink),
        (facts.administers, Reason::Administration),
    ];
    let reasons: Vec<Reason> = reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect();
    let grade = reasons.iter().map(|reason| reason.grade()).max().unwrap_or(Grade::Low);
    let afresh = reasons.iter().any(|reason| matches!(reason, Reason::ManyAsked | Reason::Administration));
    Friction {
        grade,
        must_acknowledge: grade >= Grade::Raised,
        must_type_code: grade == Grade::High && !facts.typed,
        must_sign_in_afresh: afresh,
        delay: if grade == Grade::High { DELAY } else { Duration::ZERO },
        reasons,
    }
}

impl Reason {
    const fn grade(self) -> Grade {
        match self {
            Self::OtherNetwork => Grade::Raised,
            Self::ManyAsked | Self::OldLink | Self::Administration => Grade::High,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Facts =
        Facts { same_network: true, asked_lately: 1, age: Duration::from_secs(20), typed: false, administers: false };

    #[test]
    fn in_one_network_one_tap_is_enough_however_many_devices_there_are() {
        let hall = Facts { asked_lately: 40, age: Duration::from_mins(9), ..USUAL };
        for facts in [USUAL, hall] {
            let friction = friction(facts);
            assert!(!friction.must_acknowledge && !friction.must_type_code && !friction.must_sign_in_afresh);
            assert_eq!((friction.grade, friction.reasons, friction.delay), (Grade::Low, Vec::new(), Duration::ZERO));
        }
    }

    #[test]
    fn a_telephone_in_a_mobile_network_ticks_a_box() {
        let friction = friction(Facts { same_network: false, ..USUAL });
        assert_eq!((friction.grade, friction.must_acknowledge), (Grade::Raised, true));
        assert!(!friction.must_type_code && !friction.must_sign_in_afresh);
    }

    #[test]
    fn what_looks_like_a_collector_of_approvals_meets_all_there_is() {
        let elsewhere = Facts { same_network: false, ..USUAL };
        let collector = friction(Facts { asked_lately: 5, ..elsewhere });
        assert_eq!((collector.grade, collector.delay), (Grade::High, DELAY));
        assert!(collector.must_type_code && collector.must_sign_in_afresh && collector.must_acknowledge);
        let sent = friction(Facts { age: Duration::from_mins(3), ..elsewhere });
        assert!(sent.must_type_code && !sent.must_sign_in_afresh, "{sent:?}");
        let typed = friction(Facts { age: Duration::from_mins(3), typed: true, ..elsewhere });
        assert_eq!(typed.grade, Grade::Raised, "a code that was typed is as old as it may be");
        let administration = friction(Facts { administers: true, ..USUAL });
        assert!(administration.must_type_code && administration.must_sign_in_afresh);
    }
}
