//! Which log a place is of. After a failover or a restore that lost events, new ones have the numbers of those lost: the
//! number alone does not say what a reader knows. A piece of the event's hash does, for every event holds the one before.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use keyward_model::event::Event;
use keyward_store::Head;

/// So many of the last events are told from those of another log.
const MOST: usize = 8_192;

/// The first 64 bits of an event's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    fn of(hash: &str) -> Option<Self> {
        hash.get(..16)?.parse().ok()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Mark {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// A place in the log, and which log, if that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: i64,
    pub(super) log: Option<Mark>,
}

/// The marks of the last events, in their order, without gaps.
#[derive(Default)]
pub(super) struct Marks {
    last: i64,
    marks: VecDeque<Mark>,
}

impl Marks {
    pub(super) fn of_heads<'a>(heads: impl IntoIterator<Item = &'a Head>) -> Self {
        let mut marks = Self::default();
        heads.into_iter().for_each(|head| marks.add(head.seq, &head.hash));
        marks
    }

    pub(super) fn add_events(&mut self, events: &[Event]) {
        events.iter().for_each(|event| self.add(event.seq, &event.hash));
    }

    fn add(&mut self, seq: i64, hash: &str) {
        let mark = Mark::of(hash);
        if mark.is_none() || seq != self.last + 1 {
            self.marks.clear();
        }
        self.last = seq;
        self.marks.extend(mark);
        if self.marks.len() > MOST {
            self.marks.pop_front();
        }
    }

    /// This place with its mark.
    pub(super) fn at(&self, id: i64) -> Known {
        let back = usize::try_from(self.last.saturating_sub(id)).ok();
        let at = back.and_then(|back| self.marks.len().checked_sub(back.saturating_add(1)));
        Known { id, log: at.and_then(|at| self.marks.get(at)).copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: i64) -> Head {
        Head { seq, hash: format!("{seq:016x}{}", "f".repeat(48)) }
    }

    #[test]
    fn the_last_events_have_their_marks_and_no_other_place_has_one() {
        let most = i64::try_from(MOST).unwrap();
        let marks = Marks::of_heads((3..most + 5).map(head).collect::<Vec<_>>().iter());
        let log = |id| marks.at(id).log.map(|mark| mark.to_string());
        assert_eq!(log(most + 4).unwrap(), format!("{:016x}", most + 4));
        assert_eq!(log(5).unwrap(), "0000000000000005");
        for none in [i64::MIN, -1, 0, 4, most + 5, i64::MAX] {
            assert_eq!(log(none), None, "{none}");
        }
        assert_eq!("0000000000000005".parse(), Ok(Mark(5)));
    }

    #[test]
    fn nothing_is_known_of_before_a_gap() {
        let marks = Marks::of_heads(&[head(1), head(2), head(7)]);
        assert_eq!([1, 2, 6].map(|id| marks.at(id).log), [None; 3]);
        assert_eq!(marks.at(7).log, Some(Mark(7)));
    }
}
