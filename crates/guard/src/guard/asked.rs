//! Something that one task fetches now and then, and that others may ask for: however many ask, one fetch answers all.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::fetch::Fault;

#[derive(Default)]
pub(super) struct Asked {
    /// By requests, whoever sends them: heard once in a while.
    wanted: Notify,
    /// By the issuer or the API itself: heard at once.
    urged: Notify,
    /// Whether whoever wants something would wait for nothing.
    resting: AtomicBool,
    begun: AtomicU64,
    ended: watch::Sender<Round>,
}

/// One fetch, or one attempt.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    number: u64,
    fault: Option<Fault>,
}

impl Asked {
    /// Asks on behalf of a request; whether it comes so soon that the request may wait for it.
    pub(super) fn want(&self) -> bool {
        self.wanted.notify_one();
        !self.resting.load(Ordering::Acquire)
    }

    /// Asks, and waits for the outcome of a fetch that begins from now on.
    pub(super) async fn fresh(&self) -> Result<(), Fault> {
        let next = self.begun.load(Ordering::Acquire) + 1;
        self.urged.notify_one();
        self.after(next).await
    }

    /// Waits for the outcome of the first fetch.
    pub(super) async fn first(&self) -> Result<(), Fault> {
        self.after(1).await
    }

    async fn after(&self, number: u64) -> Result<(), Fault> {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(|round| round.number >= number).await {
            Ok(round) => round.fault.clone().map_or(Ok(()), Err),
            Err(_) => Err(Fault("the guard was dropped".into())),
        }
    }

    /// To be told of the end of the next fetch.
    pub(super) fn watch(&self) -> watch::Receiver<Round> {
        self.ended.subscribe()
    }

    /// For the task: a fetch begins, which is what all want who asked until now.
    pub(super) fn begin(&self) {
        for asked in [&self.wanted, &self.urged] {
            pin!(asked.notified()).enable();
        }
        // Whoever asks from here on waits for the next one.
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// For the task: the fetch ended.
    pub(super) fn end(&self, fault: Option<Fault>) {
        let number = self.begun.load(Ordering::Acquire);
        self.ended.send_replace(Round { number, fault });
    }

    /// For the task: there is nothing to be fetched, for it is known.
    pub(super) fn end_at_once(&self) {
        self.begin();
        self.end(None);
    }

    /// For the task: when it is urged.
    pub(super) async fn urged(&self) {
        self.urged.notified().await;
    }

    /// For the task: waits so long, or until somebody asks; true if somebody did. Requests are not heard before `gap`.
    pub(super) async fn rest(&self, time: Duration, gap: Duration) -> bool {
        let wanted = async {
            self.resting.store(true, Ordering::Release);
            sleep(gap).await;
            self.resting.store(false, Ordering::Release);
            self.wanted.notified().await;
        };
        let asked = async {
            tokio::select! {
                () = wanted => {}
                () = self.urged() => {}
            }
        };
        let asked = timeout(time, asked).await.is_ok();
        self.resting.store(false, Ordering::Release);
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::time::Instant;

    const GAP: Duration = Duration::from_secs(10);
    const USUAL: Duration = Duration::from_secs(300);

    /// A task that fetches, and when it did.
    fn fetching(asked: &Arc<Asked>) -> Arc<AtomicU64> {
        let (asked, fetched) = (Arc::clone(asked), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&fetched);
        tokio::spawn(async move {
            loop {
                asked.begin();
                count.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(100)).await;
                asked.end(None);
                asked.rest(USUAL, GAP).await;
            }
        });
        fetched
    }

    #[tokio::test(start_paused = true)]
    async fn however_much_is_wanted_it_is_fetched_once_in_a_while() {
        let asked = Arc::new(Asked::default());
        let fetched = fetching(&asked);
        asked.first().await.unwrap();
        for _ in 0..1000 {
            asked.want();
            sleep(Duration::from_millis(100)).await;
        }
        // A hundred seconds, ten apart.
        assert!((10..=11).contains(&fetched.load(Ordering::SeqCst)), "{fetched:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_urged_is_fetched_at_once_and_anew() {
        let asked = Arc::new(Asked::default());
        let fetched = fetching(&asked);
        asked.first().await.unwrap();
        let began = Instant::now();
        let (a, b) = tokio::join!(asked.fresh(), asked.fresh());
        assert_eq!((a, b, fetched.load(Ordering::SeqCst)), (Ok(()), Ok(()), 2));
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_to_wait_for_what_does_not_come() {
        let asked = Arc::new(Asked::default());
        fetching(&asked);
        assert!(asked.want(), "it is being fetched");
        asked.first().await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(!asked.want());
        sleep(GAP + GAP).await;
        assert!(asked.want());
    }
}
