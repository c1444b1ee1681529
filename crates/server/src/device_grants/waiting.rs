//! Whoever waits for a device grant to change: polls that are held, and pages. The event log wakes them, on every node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyward_model::event::Event;
use keyward_model::id::DeviceGrantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Those who wait.
pub(crate) struct Waiting {
    by_grant: Mutex<HashMap<DeviceGrantId, watch::Sender<()>>>,
    closed: watch::Sender<bool>,
    places: Arc<Semaphore>,
}

/// Hears of one grant from the moment it was made, so that nothing is missed between a look and the wait.
pub(crate) struct Waiter<'a> {
    waiting: &'a Waiting,
    grant: DeviceGrantId,
    changes: watch::Receiver<()>,
    closed: watch::Receiver<bool>,
}

impl Waiting {
    /// With places for so many polls at once.
    pub(crate) fn new(places: u32) -> Self {
        Self {
            by_grant: Mutex::default(),
            closed: watch::Sender::new(false),
            places: Arc::new(Semaphore::new(usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS))),
        }
    }

    /// A place for one more poll, if there is one.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Whether there is one.
    pub(crate) fn has_place(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// Begins to hear of a grant.
    pub(crate) fn hear(&self, grant: DeviceGrantId) -> Waiter<'_> {
        let changes = self.lock().entry(grant).or_default().subscribe();
        Waiter { waiting: self, grant, changes, closed: self.closed.subscribe() }
    }

    /// Wakes whom an event concerns.
    pub(crate) fn wake(&self, event: &Event) {
        if !event.kind.starts_with("device_grant.") {
            return;
        }
        if let Ok(grant) = event.subject.parse()
            && let Some(changes) = self.lock().get(&grant)
        {
            changes.send_replace(());
        }
    }

    /// Wakes everybody: what has happened meanwhile nobody knows.
    pub(crate) fn wake_all(&self) {
        for changes in self.lock().values() {
            changes.send_replace(());
        }
    }

    /// The server stops: nobody is held any more.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceGrantId, watch::Sender<()>>> {
        self.by_grant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// Waits for the next change; false if none came in this time, or the server stops.
    pub(crate) async fn changed(&mut self, within: Duration) -> bool {
        tokio::select! {
            biased;
            changed = self.changes.changed() => changed.is_ok(),
            _ = self.closed.wait_for(|closed| *closed) => false,
            () = tokio::time::sleep(within) => false,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut by_grant = self.waiting.lock();
        // Under the lock it stops to listen: of two that go at once, neither must take the other for one that stays.
        self.changes = watch::Sender::new(()).subscribe();
        if by_grant.get(&self.grant).is_some_and(|changes| changes.receiver_count() == 0) {
            by_grant.remove(&self.grant);
        }
    }
}

#[cfg(test)]
mod tests {
    use keyward_model::event::Actor;
    use uuid::Uuid;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn event(kind: &str, subject: String) -> Event {
        let (actor, data, prev) = (Actor::system("test"), serde_json::Value::Null, String::new());
        Event { seq: 1, at: 0, kind: kind.into(), subject, actor, source: None, data, hash: prev.clone(), prev }
    }

    fn grant(n: u128) -> DeviceGrantId {
        DeviceGrantId::from_uuid(Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn a_change_between_the_look_and_the_wait_is_not_missed_and_others_are_let_sleep() {
        let waiting = Waiting::new(1);
        let (mut one, mut other) = (waiting.hear(grant(1)), waiting.hear(grant(2)));
        waiting.wake(&event("device_grant.approved", grant(1).to_string()));
        waiting.wake(&event("user.changed", grant(2).to_string()));
        assert!(one.changed(LONG).await);
        assert!(!other.changed(Duration::ZERO).await);
        waiting.close();
        assert!(!other.changed(LONG).await, "nobody is held when the server stops");
    }

    #[tokio::test]
    async fn nothing_is_left_of_those_who_went() {
        let waiting = Waiting::new(1);
        let (one, two) = (waiting.hear(grant(1)), waiting.hear(grant(1)));
        drop(one);
        assert_eq!(waiting.lock().len(), 1);
        drop(two);
        assert!(waiting.lock().is_empty());
        for n in 0..2_000 {
            let both = [waiting.hear(grant(n)), waiting.hear(grant(n))];
            std::thread::scope(|at_once| both.map(|waiter| at_once.spawn(move || drop(waiter))).map(drop));
        }
        assert!(waiting.lock().is_empty());
        let place = waiting.place();
        assert!(place.is_some() && waiting.place().is_none() && !waiting.has_place());
        drop(place);
        assert!(waiting.place().is_some());
    }
}
