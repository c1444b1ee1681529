//! The last events of the feed, one memory for all readers: a reader is only a place in the log and what wakes it.
//!
//! Nobody waits for a reader. Whoever comes back after more was told than is kept, or than is told one by one, is told
//! to begin anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyward_model::event::Event;
use keyward_model::time::Timestamp;
use keyward_store::{Head, LogRange, Revocation, Revocations, Store, StoreError};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::marks::{Known, Marks};
use crate::meter;

/// Places and tokens that are told one by one, in one event and to one reader that catches up.
const MOST_TOLD: u16 = 1_000;
/// Events of the log that are kept for readers that come back.
const MOST_PARTS: usize = 4_096;
/// Places and tokens that are kept in all of them.
const MOST_KEPT: usize = 65_536;
/// So many events of the log are looked at when a node starts, for readers that come from before or from another node.
const LOOK_BACK: i64 = 4_096;

/// One event as readers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// The place in the log up to which a reader knows everything once it has this.
    pub(super) known: Known,
    /// What happened.
    pub(super) event: &'static str,
    /// Its particulars: a JSON object in one line.
    pub(super) data: Arc<str>,
}

/// What there is for a reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This happened; with it, everything up to the place is known.
    Told(Vec<Told>, Known),
    /// Nothing happened up to this place.
    Nothing(Known),
    /// Too much for it, or nobody knows what: it begins anew at this place.
    Reset(Known),
}

/// The memory, and whether it is true.
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    /// Counts what was told.
    told: watch::Sender<u64>,
    /// When the log was last read to its end.
    looked_at: Mutex<Instant>,
    closed: watch::Sender<bool>,
}

struct Ring {
    /// Everything after this place is known.
    first: i64,
    /// Everything up to this place is known.
    last: i64,
    /// Before this place a number alone may be of a log that is lost.
    certain_from: i64,
    parts: VecDeque<Part>,
    kept: usize,
    marks: Marks,
}

/// What one event of the log told.
struct Part {
    seq: i64,
    count: usize,
    told: Vec<Told>,
}

impl Feed {
    /// Remembers what the end of the log was about.
    pub(crate) async fn load(store: &Store, applied: i64, now: Timestamp) -> Result<Self, StoreError> {
        let range = LogRange { after: applied.saturating_sub(LOOK_BACK).max(0), upto: applied };
        let found = store.list_revocations(range, MOST_TOLD, now).await?;
        let mut ring = Ring::begin(range.after, Marks::of_heads(&store.list_heads(range).await?));
        ring.add(range.upto, &found);
        Ok(Self::of(ring))
    }

    fn of(ring: Ring) -> Self {
        Self {
            ring: Mutex::new(ring),
            told: watch::Sender::new(0),
            looked_at: Mutex::new(Instant::now()),
            closed: watch::Sender::new(false),
        }
    }

    /// Takes up what the next part of the log is about.
    pub(crate) async fn take_up(&self, store: &Store, range: LogRange, now: Timestamp) -> Result<(), StoreError> {
        let found = store.list_revocations(range, MOST_TOLD, now).await?;
        if self.ring().add(range.upto, &found) {
            self.told.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    /// Passes over a part of the log that concerns no verifier.
    pub(crate) fn pass_over(&self, upto: i64) {
        self.ring().last = upto;
    }

    /// Notes which events these are, before what they are about.
    pub(crate) fn mark(&self, events: &[Event]) {
        self.ring().marks.add_events(events);
    }

    /// Forgets everything: the log is another one, and this is its end. All readers are told.
    pub(crate) fn begin_anew(&self, head: &Head) {
        {
            let mut ring = self.ring();
            let certain_from = ring.certain_from.max(ring.last + 1);
            *ring = Ring { certain_from, ..Ring::begin(head.seq, Marks::of_heads([head])) };
        }
        self.told.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Notes that the log was read to its end just now.
    pub(crate) fn note_look(&self) {
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago that was.
    pub(super) fn age(&self) -> Duration {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Ends all reading, for good.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Changes when the feed is closed.
    pub(super) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Changes whenever something is told.
    pub(super) fn wake(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// What there is for whoever knows everything up to this place; for whoever knows nothing, a beginning.
    pub(super) fn next(&self, known: Option<Known>) -> Next {
        let next = self.ring().next(known);
        if matches!(next, Next::Reset(_)) {
            meter::FEED_RESETS.increment();
        }
        next
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Nothing is known but that nothing is missed from this place on.
    fn begin(at: i64, marks: Marks) -> Self {
        Self { first: at, last: at, certain_from: 0, parts: VecDeque::new(), kept: 0, marks }
    }

    /// Adds what the log is about up to this place; whether there is anything to tell.
    fn add(&mut self, upto: i64, found: &Revocations) -> bool {
        let too_much = found.after > self.last;
        if too_much {
            // Whoever knows less than that begins anew, so what came before is of no use to anybody.
            self.parts.clear();
            (self.first, self.kept) = (found.after, 0);
        }
        self.last = upto;
        for changes in found.changes.chunk_by(|(one, _), (next, _)| one == next) {
            let Some((seq, _)) = changes.first() else { continue };
            let told = told(*seq, changes.iter().map(|(_, change)| change));
            told.iter().for_each(|_| meter::FEED_EVENTS.increment());
            self.kept += changes.len();
            self.parts.push_back(Part { seq: *seq, count: changes.len(), told });
        }
        while self.parts.len() > MOST_PARTS || self.kept > MOST_KEPT {
            let Some(oldest) = self.parts.pop_front() else { break };
            (self.first, self.kept) = (oldest.seq, self.kept - oldest.count);
        }
        too_much || !found.changes.is_empty()
    }

    fn next(&self, known: Option<Known>) -> Next {
        let last = self.marks.at(self.last);
        let Some(Known { id: known, .. }) = known.filter(|known| self.can_continue(*known)) else {
            return Next::Reset(last);
        };
        let behind = self.parts.partition_point(|part| part.seq <= known);
        let news = self.parts.range(behind..);
        if news.clone().map(|part| part.count).sum::<usize>() > usize::from(MOST_TOLD) {
            return Next::Reset(last);
        }
        let mark = |told: &Told| Told { known: self.marks.at(told.known.id), ..told.clone() };
        let told: Vec<Told> = news.flat_map(|part| &part.told).map(mark).collect();
        if told.is_empty() { Next::Nothing(last) } else { Next::Told(told, last) }
    }

    /// Whether the place is one of this log, and everything after it is known.
    fn can_continue(&self, known: Known) -> bool {
        let is_of_this_log =
            if known.log.is_some() { self.marks.at(known.id) == known } else { known.id >= self.certain_from };
        is_of_this_log && (self.first..=self.last).contains(&known.id)
    }
}

/// What one event of the log told. Only with the last of it everything up to its place is known.
fn told<'a>(seq: i64, changes: impl Iterator<Item = &'a Revocation>) -> Vec<Told> {
    let (mut ended, mut restored, mut tokens, mut keys) = (Vec::new(), Vec::new(), Vec::new(), false);
    for change in changes {
        match change {
            Revocation::Ended(place) => ended.push(*place),
            Revocation::Restored(place) => restored.push(*place),
            Revocation::Token(jti, until) => tokens.push(json!({ "jti": jti, "exp": until.as_seconds() })),
            Revocation::Keys => keys = true,
        }
    }
    let mut places = Map::new();
    for (name, mut list) in [("ended", ended), ("restored", restored)] {
        if !list.is_empty() {
            list.sort_unstable();
            places.insert(name.to_owned(), json!(list));
        }
    }
    let events = [
        keys.then(|| ("keys", json!({}))),
        (!tokens.is_empty()).then(|| ("tokens", json!({ "revoked": tokens }))),
        (!places.is_empty()).then_some(("places", Value::Object(places))),
    ];
    let mut told: Vec<Told> = events
        .into_iter()
        .flatten()
        .map(|(event, data)| Told { known: Known { id: seq - 1, log: None }, event, data: data.to_string().into() })
        .collect();
    if let Some(last) = told.last_mut() {
        last.known.id = seq;
    }
    told
}

#[cfg(test)]
mod tests {
    use keyward_model::id::TokenId;
    use proptest::prelude::*;

    use super::*;

    fn empty(first: i64) -> Ring {
        Ring::begin(first, Marks::default())
    }

    /// A place whose log nobody names.
    fn at(id: i64) -> Known {
        Known { id, log: None }
    }

    fn head(seq: i64, log: u64) -> Head {
        Head { seq, hash: format!("{log:016x}{:048}", 0) }
    }

    /// Places that the event at this place of the log ended, in a part of it that begins behind another.
    fn ended(after: i64, seq: i64, places: impl IntoIterator<Item = i64>) -> Revocations {
        let changes = places.into_iter().map(|place| (seq, Revocation::Ended(place))).collect();
        Revocations { after, changes }
    }

    #[test]
    fn only_the_last_of_an_event_says_that_all_of_it_is_known() {
        let token = Revocation::Token(TokenId::from_uuid(Default::default()), Timestamp::from_millis(5_999));
        let changes = [Revocation::Ended(7), Revocation::Restored(9), token, Revocation::Keys, Revocation::Ended(3)];
        let said = |told: Told| format!("{} {} {}", told.known.id, told.event, told.data);
        assert_eq!(
            told(6, changes.iter()).into_iter().map(said).collect::<Vec<_>>(),
            [
                "5 keys {}",
                r#"5 tokens {"revoked":[{"exp":5,"jti":"tok_00000000000000000000000000"}]}"#,
                r#"6 places {"ended":[3,7],"restored":[9]}"#,
            ]
        );
    }

    #[test]
    fn who_is_behind_is_told_what_they_missed_and_nobody_knows_more_than_the_log() {
        let mut ring = empty(10);
        assert_eq!(ring.next(Some(at(10))), Next::Nothing(at(10)));
        assert!(ring.add(13, &ended(10, 12, [1])));
        assert!(!ring.add(15, &Revocations { after: 13, changes: Vec::new() }));
        assert!(ring.add(16, &ended(15, 16, [2])));
        let ids = |known| match ring.next(Some(at(known))) {
            Next::Told(told, Known { id: 16, .. }) => told.iter().map(|told| told.known.id).collect(),
            _ => Vec::new(),
        };
        assert_eq!((ids(10), ids(11), ids(12), ids(15)), (vec![12, 16], vec![12, 16], vec![16], vec![16]));
        assert_eq!(ring.next(Some(at(16))), Next::Nothing(at(16)));
        for known in [None, Some(-1), Some(9), Some(17)] {
            assert_eq!(ring.next(known.map(at)), Next::Reset(at(16)), "{known:?}");
        }
    }

    #[test]
    fn more_than_is_told_one_by_one_is_a_reset_at_once_or_together() {
        let most = i64::from(MOST_TOLD);
        let mut ring = empty(0);
        ring.add(1, &ended(0, 1, 0..most));
        assert!(matches!(ring.next(Some(at(0))), Next::Told(_, Known { id: 1, .. })));
        ring.add(2, &ended(1, 2, [most]));
        assert_eq!(ring.next(Some(at(0))), Next::Reset(at(2)));
        assert!(matches!(ring.next(Some(at(1))), Next::Told(_, Known { id: 2, .. })));
        // The database gave only what came after the event at 4.
        let changes = vec![(5, Revocation::Ended(7))];
        assert!(ring.add(6, &Revocations { after: 4, changes }));
        assert_eq!((ring.next(Some(at(2))), ring.next(Some(at(3)))), (Next::Reset(at(6)), Next::Reset(at(6))));
        assert!(matches!(ring.next(Some(at(4))), Next::Told(_, Known { id: 6, .. })));
        assert_eq!(ring.next(Some(at(5))), Next::Nothing(at(6)));
    }

    #[test]
    fn a_place_of_a_lost_log_is_not_continued_however_far_the_new_one_is() {
        let feed = Feed::of(Ring::begin(20, Marks::of_heads(&[head(20, 1)])));
        let of = |id, log: u64| Some(Known { id, log: Some(format!("{log:x}").parse().unwrap()) });
        assert_eq!(feed.next(of(20, 1)), Next::Nothing(of(20, 1).unwrap()));
        assert_eq!(feed.next(of(20, 2)), Next::Reset(of(20, 1).unwrap()));
        let mut wake = feed.wake();
        wake.mark_unchanged();
        feed.begin_anew(&head(15, 3));
        assert!(wake.has_changed().unwrap(), "those who read are told");
        {
            let mut ring = feed.ring();
            for seq in 16..=30 {
                ring.marks = Marks::of_heads(&(15..=seq).map(|seq| head(seq, seq as u64 + 100)).collect::<Vec<_>>());
                ring.add(seq, &ended(seq - 1, seq, [seq]));
            }
        }
        let can_continue = |known| !matches!(feed.next(known), Next::Reset(_));
        for lost in [of(20, 1), of(15, 1), Some(at(15)), Some(at(20)), of(14, 114), None] {
            assert!(!can_continue(lost), "{lost:?}");
        }
        for known in [of(15, 115), of(20, 120), of(30, 130), Some(at(21)), Some(at(30))] {
            assert!(can_continue(known), "{known:?}");
        }
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_who_is_not_reset_misses_nothing(
            sizes in prop::collection::vec(0_i64..1_000, 1..200), known in 0_i64..200
        ) {
            let mut ring = empty(0);
            let mut missed = Vec::new();
            for (seq, size) in (1_i64..).zip(&sizes) {
                let places: Vec<i64> = (0..*size).map(|n| seq * 10_000 + n).collect();
                if seq > known {
                    missed.extend_from_slice(&places);
                }
                ring.add(seq, &ended(seq - 1, seq, places));
                prop_assert!(ring.kept <= MOST_KEPT && ring.parts.len() <= MOST_PARTS);
                prop_assert_eq!(ring.kept, ring.parts.iter().map(|part| part.count).sum::<usize>());
            }
            match ring.next(Some(at(known))) {
                Next::Told(told, _) => {
                    let text = |list: &[i64]| list.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
                    let told = told.iter().map(|told| told.data.replace(r#"{"ended":["#, "").replace("]}", ""));
                    prop_assert_eq!(told.collect::<Vec<_>>().join(","), text(&missed));
                }
                Next::Nothing(_) => prop_assert!(missed.is_empty()),
                Next::Reset(_) => prop_assert!(known > ring.last || !missed.is_empty()),
            }
        }
    }
}
