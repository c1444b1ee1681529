//! From where credentials are used: counted in memory, written down in batches.
//!
//! 1. A request adds to what is known of its caller, under a short lock that few others want     `accepted`, `refused`
//! 2. Every few seconds all of it is taken out and added to the table                             `flush`
//! 3. What could not be written goes back, and is written with the next flush
//! 4. Whoever judges by the table has every node do so at once                                     `flush_everywhere`
//! 5. What was written may be a reason to tell people something: whoever does is woken            `written`
//!
//! However many callers come while the database is away, memory holds 64 of a credential, the first of each of 64 further
//! networks, and 32,768 in all; whoever comes beyond that is counted in the one row of its credential for all others. No
//! count is lost by it. What others report is written down with their report, and never in memory: it begins with step 4.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyward_model::caller::{Caller, MOST_CALLERS, MOST_NETWORKS, Outcome, Shown, Sightings};
use keyward_model::event::Actor;
use keyward_model::id::CredentialId;
use keyward_model::time::Timestamp;
use keyward_store::{CallerCount, CountedCaller, Origin, Questions, Store, StoreError};
use tokio::sync::Notify;

use crate::app::App;
use crate::config::CallersConfig;
use crate::meter;

/// Parts of the memory, each under a lock of its own.
const SHARDS: usize = 64;
/// Callers in one part at most.
const MOST_IN_SHARD: usize = 512;
/// Callers written down by one transaction, so that nobody waits long behind it.
const BATCH: usize = 500;
/// How long whoever reads waits for what was just seen to be written down, and whoever judges for other nodes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps count of who uses which credential.
pub struct Callers {
    memory: Arc<Memory>,
    store: Store,
    every: Duration,
}

/// What flushes and reports have written since somebody last looked at it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    /// Since when those were seen who were let in, if any were.
    pub(crate) accepted_since: Option<Timestamp>,
    /// Whether somebody was refused.
    pub(crate) has_refused: bool,
}

impl Written {
    fn add(&mut self, sightings: &Sightings) {
        if sightings.accepted > 0 {
            let since = self.accepted_since.unwrap_or(sightings.first_seen_at);
            self.accepted_since = Some(since.min(sightings.first_seen_at));
        }
        self.has_refused |= sightings.refused > 0;
    }
}

/// Flushes until the server stops.
pub(crate) async fn keep_flushing(app: Arc<App>) {
    app.callers.keep_flushing().await;
}

/// Flushes whenever another node asks for it, until the server stops.
pub(crate) async fn keep_answering(app: Arc<App>, mut questions: Questions) {
    loop {
        let question = questions.next().await;
        let answered = async {
            app.callers.flush().await?;
            question.answer().await
        };
        if let Err(error) = answered.await {
            meter::DATABASE_ERRORS.increment();
            tracing::warn!(%error, "another node asked for callers, and was not told that they are written down");
        }
    }
}

impl Callers {
    /// Knows nobody yet.
    pub(crate) fn new(store: Store, config: &CallersConfig) -> Self {
        Self { memory: Arc::default(), store, every: Duration::from_secs(config.flush_s.into()) }
    }

    /// The credential was used, and let in.
    pub(crate) fn accepted(&self, credential: CredentialId, caller: Shown<'_>, now: Timestamp) {
        self.saw(credential, caller, &Sightings::one(Outcome::Accepted, now));
    }

    /// The credential was used with the right secret after its end.
    pub(crate) fn refused(&self, credential: CredentialId, caller: Shown<'_>, now: Timestamp) {
        self.saw(credential, caller, &Sightings::one(Outcome::Refused, now));
    }

    fn saw(&self, credential: CredentialId, caller: Shown<'_>, sightings: &Sightings) {
        if !self.memory.add_known(credential, caller, sightings) {
            self.memory.add(credential, Some(&caller.caller()), sightings);
        }
    }

    async fn keep_flushing(&self) {
        loop {
            // A part that is full does not wait for its turn.
            let _early = tokio::time::timeout(self.every, self.memory.full.notified()).await;
            if let Err(error) = self.flush().await {
                meter::DATABASE_ERRORS.increment();
                tracing::warn!(%error, "callers could not be written down; they are kept and written with the next flush");
                tokio::time::sleep(self.every).await;
            }
        }
    }

    /// Callers in memory that are not written down yet.
    pub(crate) fn unwritten(&self) -> usize {
        (0..SHARDS).map(|at| self.memory.shard(at).callers).sum()
    }

    /// Writes down everything that was counted before the call. What cannot be written is kept for the next flush.
    ///
    /// Of a commit whose outcome stays unknown the counts are kept too: they may be added twice, and are never lost.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let (memory, store) = (Arc::clone(&self.memory), self.store.clone());
        // Whoever gives up while another flush is under way leaves nothing behind, however long that one takes.
        let alone = Arc::clone(&memory.flushing).lock_owned().await;
        // In a task of its own: whoever waits for it may give up, and what was taken out of memory must not go with them.
        let flushing = tokio::spawn(async move {
            let written = memory.flush(&store).await;
            drop(alone);
            written
        });
        flushing
            .await
            .unwrap_or_else(|error| Err(StoreError::Unavailable(format!("a flush of callers ended: {error}"))))
    }

    /// Has every node write down what it has counted, so that whoever judges by the table then overlooks nobody.
    ///
    /// A node that does not say in time that it has is judged without: it may be gone, and must not hold up an end for ever.
    pub(crate) async fn flush_everywhere(&self) -> Result<(), StoreError> {
        let ((), nodes) = tokio::try_join!(self.flush(), self.store.ask_others(PATIENCE))?;
        if nodes > 0 {
            tracing::warn!(nodes, "callers are judged without what other nodes have seen in their last seconds");
        }
        Ok(())
    }

    /// These were written down without a flush, with the report that told of them.
    pub(crate) fn note_written(&self, counts: &[CallerCount]) {
        self.memory.note_written(counts);
    }

    /// Waits until callers are written down; says whose, so that looking for them costs little.
    pub(crate) async fn written(&self) -> Written {
        self.memory.fresh.notified().await;
        std::mem::take(&mut *self.memory.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same for whoever only reads of it: while the database does not write, what was written before is all there is.
    pub(crate) async fn flush_if_possible(&self) {
        let flushed = tokio::time::timeout(PATIENCE, self.flush()).await;
        let late = |_| Err(StoreError::Unavailable(format!("nothing is written within {PATIENCE:?}")));
        if let Err(error) = flushed.unwrap_or_else(late) {
            tracing::warn!(%error, "callers are listed without those who came last");
        }
    }

    /// The last flush, after the last request.
    pub(crate) async fn flush_at_the_end(&self) {
        if let Err(error) = self.flush().await {
            let callers = self.unwritten();
            tracing::error!(%error, callers, "what was last counted of callers is lost: the database is away at the stop");
        }
    }
}

/// What is not written down yet.
struct Memory {
    shards: [Mutex<Shard>; SHARDS],
    /// Woken when a part is full.
    full: Notify,
    /// What was written, and whoever waits for it.
    written: Mutex<Written>,
    fresh: Notify,
    /// Held by the flush under way: when another has waited for it, everything counted before is written.
    flushing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Shard {
    credentials: HashMap<CredentialId, Tally>,
    callers: usize,
}

/// What was seen of one credential.
#[derive(Default)]
struct Tally {
    callers: Vec<(Caller<'static>, Sightings)>,
    /// Those who are not told apart.
    other: Option<Sightings>,
}

impl Default for Memory {
    fn default() -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        let (written, flushing) = (Mutex::default(), Arc::default());
        Self { shards, full: Notify::new(), written, fresh: Notify::new(), flushing }
    }
}

impl Memory {
    fn add(&self, credential: CredentialId, caller: Option<&Caller<'_>>, sightings: &Sightings) {
        // The end of an id is random.
        let shard = &mut *self.shard(credential.as_uuid().as_u128() as usize);
        let has_room = shard.callers < MOST_IN_SHARD;
        let tally = shard.credentials.entry(credential).or_default();
        if tally.add(caller, sightings, has_room) {
            shard.callers += 1;
            if shard.callers == MOST_IN_SHARD {
                self.full.notify_one();
            }
        }
    }

    /// Counts a caller that is known at sight; false if it is not.
    fn add_known(&self, credential: CredentialId, caller: Shown<'_>, sightings: &Sightings) -> bool {
        let mut shard = self.shard(credential.as_uuid().as_u128() as usize);
        let known = shard.credentials.get_mut(&credential);
        let known = known.and_then(|tally| tally.callers.iter_mut().find(|(known, _)| caller.is(known)));
        known.map(|(_, known)| known.add(sightings)).is_some()
    }

    fn shard(&self, at: usize) -> MutexGuard<'_, Shard> {
        match self.shards.get(at % SHARDS) {
            Some(shard) => shard.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("a remainder is below its divisor"),
        }
    }

    /// Everything counted so far, in the order of the table.
    fn take(&self) -> Vec<CallerCount> {
        let mut counts = Vec::new();
        for at in 0..SHARDS {
            let credentials = std::mem::take(&mut *self.shard(at)).credentials;
            for (credential, tally) in credentials {
                let known =
                    tally.callers.into_iter().map(|(caller, sightings)| (CountedCaller::Known(caller), sightings));
                let other = tally.other.map(|sightings| (CountedCaller::Together(None), sightings));
                let count = |(caller, sightings)| CallerCount { credential, caller, sightings };
                counts.extend(known.chain(other).map(count));
            }
        }
        counts.sort_by_key(|count| count.credential);
        counts
    }

    async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let counts = self.take();
        let mut batches = counts.chunks(BATCH);
        while let Some(batch) = batches.next() {
            if let Err(error) = write(store, batch).await {
                for count in [batch].into_iter().chain(batches).flatten() {
                    self.add(count.credential, count.caller.known(), &count.sightings);
                }
                return Err(error);
            }
            self.note_written(batch);
        }
        Ok(())
    }

    fn note_written(&self, batch: &[CallerCount]) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        batch.iter().for_each(|count| written.add(&count.sightings));
        drop(written);
        self.fresh.notify_one();
    }
}

impl Tally {
    /// Adds to what is known; true if that made one caller more.
    fn add(&mut self, caller: Option<&Caller<'_>>, sightings: &Sightings, has_room: bool) -> bool {
        if let Some(caller) = caller {
            if let Some((_, known)) = self.callers.iter_mut().find(|(known, _)| is_same(known, caller)) {
                known.add(sightings);
                return false;
            }
            if has_room && self.has_place(caller) {
                self.callers.push((caller.clone().into_owned(), *sightings));
                return true;
            }
        }
        match &mut self.other {
            Some(other) => other.add(sightings),
            None => self.other = Some(*sightings),
        }
        false
    }

    /// Beyond those that are told apart, the first of a network is: from where a key is used must not get lost.
    fn has_place(&self, caller: &Caller<'_>) -> bool {
        let known = self.callers.len();
        known < MOST_CALLERS
            || known < MOST_CALLERS + MOST_NETWORKS
                && self.callers.iter().all(|(known, _)| known.network != caller.network)
    }
}

/// Whether both are one caller: what differs most often is looked at first.
fn is_same(one: &Caller<'_>, other: &Caller<'_>) -> bool {
    one.instance == other.instance
        && one.network == other.network
        && one.user_agent == other.user_agent
        && one.reporter == other.reporter
}

/// One transaction. It appends no event: use is not a change, and the log must not grow with it.
async fn write(store: &Store, batch: &[CallerCount]) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    tx.count_callers(batch).await?;
    let now = batch.iter().map(|count| count.sightings.last_seen_at).max().unwrap_or(Timestamp::from_millis(0));
    tx.commit(&Origin { actor: Actor::system("callers"), source: None, now }).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use keyward_model::entropy::Entropy;
    use keyward_store::Options;
    use proptest::prelude::*;
    use tokio::time::Instant;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn credentials(count: usize) -> Vec<CredentialId> {
        let entropy = Entropy::seeded(1);
        (0..count).map(|_| CredentialId::new(at(0), &entropy).unwrap()).collect()
    }

    fn caller(instance: &str) -> Caller<'_> {
        Caller::new("192.0.2.1".parse().unwrap(), b"press/2", instance)
    }

    fn seen(memory: &Memory, credential: CredentialId, instance: &str, when: i64) {
        memory.add(credential, Some(&caller(instance)), &Sightings::one(Outcome::Accepted, at(when)));
    }

    fn sum(counts: &[CallerCount]) -> i64 {
        counts.iter().map(|count| count.sightings.accepted).sum()
    }

    #[test]
    fn beyond_those_that_are_told_apart_the_first_of_each_network_is() {
        let (memory, credential) = (Memory::default(), credentials(1)[0]);
        for name in 0..70 {
            seen(&memory, credential, &format!("i{name}"), 1);
        }
        for network in 0..70 {
            for name in ["a", "b"] {
                let caller = Caller::new(format!("198.51.100.{network}").parse().unwrap(), b"press/2", name);
                memory.add(credential, Some(&caller), &Sightings::one(Outcome::Accepted, at(2)));
            }
        }
        let counts = memory.take();
        let networks: std::collections::HashSet<_> =
            counts.iter().filter_map(|count| Some(count.caller.known()?.network.to_string())).collect();
        assert_eq!((counts.len(), networks.len(), sum(&counts)), (64 + 64 + 1, 1 + 64, 70 + 140));
    }

    /// Time stands still here but while everybody waits for it: however slow the machine is, no more of it goes by.
    #[tokio::test(start_paused = true)]
    async fn whatever_is_counted_is_written_down_within_flush_s() {
        let directory = std::env::temp_dir().join(format!("keyward-callers-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let url = format!("sqlite:{}", directory.join("keyward.db").display());
        let store = Store::open(&Options::new(url.parse().unwrap())).await.unwrap();
        let callers = Arc::new(Callers::new(store, &CallersConfig { flush_s: 5 }));
        let flushing = Arc::clone(&callers);
        tokio::spawn(async move { flushing.keep_flushing().await });
        for pause in [0, 3, 4, 7] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            seen(&callers.memory, credentials(1)[0], "press 7", 1);
            let counted = Instant::now();
            callers.written().await;
            // Timers are exact to the millisecond.
            assert!(counted.elapsed() < callers.every + Duration::from_millis(10), "{:?}", counted.elapsed());
            assert_eq!(callers.unwritten(), 0);
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn memory_grows_to_its_bound_and_counts_on() {
        let memory = Memory::default();
        let many = credentials(2000);
        for (n, credential) in many.iter().cycle().take(100_000).enumerate() {
            seen(&memory, *credential, &format!("press {n}"), 1);
        }
        let held: usize = (0..SHARDS).map(|shard| memory.shard(shard).callers).sum();
        assert!(memory.full.notified().now_or_never().is_some(), "a full part asks to be written down at once");
        assert_eq!(held, SHARDS * MOST_IN_SHARD, "2000 credentials with 50 callers each fill every part");
        let counts = memory.take();
        assert_eq!(sum(&counts), 100_000);
        let others = counts.iter().filter(|count| count.caller.known().is_none()).count();
        assert_eq!((counts.len(), others), (held + many.len(), many.len()), "one more for each credential");
        assert!(memory.take().is_empty());
    }

    #[test]
    fn of_one_credential_sixty_four_are_told_apart() {
        let memory = Memory::default();
        let credential = credentials(1)[0];
        for n in (0..80).chain(0..80) {
            seen(&memory, credential, &format!("press {n}"), n);
        }
        let counts = memory.take();
        let other = counts.iter().find(|count| count.caller.known().is_none()).unwrap();
        assert_eq!((counts.len(), other.sightings.accepted, sum(&counts)), (65, 32, 160));
        assert_eq!((other.sightings.first_seen_at, other.sightings.last_seen_at), (at(64), at(79)));
    }

    proptest! {
        #[test]
        fn taking_out_and_putting_back_at_any_time_changes_no_sum(uses in prop::collection::vec((0usize..3, 0u8..90, any::<bool>()), 1..300)) {
            let memory = Memory::default();
            let credentials = credentials(3);
            for (n, (credential, instance, is_away)) in uses.iter().enumerate() {
                seen(&memory, credentials[*credential], &instance.to_string(), i64::try_from(n).unwrap());
                if *is_away {
                    for count in memory.take().iter().rev() {
                        memory.add(count.credential, count.caller.known(), &count.sightings);
                    }
                }
            }
            let counts = memory.take();
            for (at, credential) in credentials.iter().enumerate() {
                let of_it: Vec<_> = counts.iter().filter(|count| count.credential == *credential).cloned().collect();
                let expected = uses.iter().filter(|(used, ..)| *used == at).count();
                prop_assert_eq!(sum(&of_it), i64::try_from(expected).unwrap());
                prop_assert!(of_it.len() <= MOST_CALLERS + 1);
            }
        }
    }
}
