//! What one node asks of all others, and how it knows that they have done it.
//!
//! 1. Whoever listens holds an advisory lock for as long as its session lasts: `pg_locks` names the nodes that hear
//! 2. The question is a notification: who asks, and the number of the question               `ask 17 3`
//! 3. Each that has done it says so, by the session that the lock names it by              `done 17 3 42`

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::{CHANNEL, Postgres};
use crate::StoreError;

/// Taken in common by all that listen: two numbers, of which the first is Keyward's.
pub(super) const LOCK: (i32, i32) = (0x6b65_7977, 1);
/// What is said of each kind while somebody does not look; of more the oldest is lost, and whoever asked waits in vain for a
/// while.
const UNHEARD: usize = 256;

/// Which question of which node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    /// The session by which the asking node listens; 0 if it does not, and will hear no answer.
    asker: i64,
    count: u64,
}

/// What nodes say to each other on the channel, beside that there are new events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Ask(Number),
    Done { number: Number, by: i64 },
}

impl Said {
    /// `None` for whatever else was said.
    pub(super) fn parse(payload: &str) -> Option<Self> {
        let mut words = payload.split(' ');
        let verb = words.next()?;
        let number = Number { asker: words.next()?.parse().ok()?, count: words.next()?.parse().ok()? };
        let said = match verb {
            "ask" => Self::Ask(number),
            "done" => Self::Done { number, by: words.next()?.parse().ok()? },
            _ => return None,
        };
        words.next().is_none().then_some(said)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(Number { asker, count }) => write!(f, "ask {asker} {count}"),
            Self::Done { number: Number { asker, count }, by } => write!(f, "done {asker} {count} {by}"),
        }
    }
}

/// What this node hears of the others, and by which session.
pub(super) struct Talk {
    /// With the session by which it was heard: the asker knows this node by it.
    questions: broadcast::Sender<(Number, i64)>,
    /// With the session of who has done it.
    answers: broadcast::Sender<(Number, i64)>,
    /// The session that listens; 0 while none does.
    session: AtomicI64,
    asked: AtomicU64,
}

impl Talk {
    pub(super) fn new() -> Self {
        let [questions, answers] = [UNHEARD, UNHEARD].map(broadcast::Sender::new);
        Self { questions, answers, session: AtomicI64::new(0), asked: AtomicU64::new(0) }
    }

    /// From now on this session listens, or none.
    pub(super) fn listen_by(&self, session: Option<i64>) {
        self.session.store(session.unwrap_or(0), Ordering::Release);
    }

    pub(super) fn hear(&self, said: Said) {
        // Nobody may be waiting for it.
        let _heard_by = match said {
            Said::Ask(number) => self.questions.send((number, self.session())),
            Said::Done { number, by } => self.answers.send((number, by)),
        };
    }

    fn session(&self) -> i64 {
        self.session.load(Ordering::Acquire)
    }
}

/// What other nodes ask of this one.
#[derive(Debug)]
pub(in super::super) struct Questions {
    heard: broadcast::Receiver<(Number, i64)>,
    of: Postgres,
}

impl Questions {
    pub(in super::super) async fn next(&mut self) -> Question {
        loop {
            match self.heard.recv().await {
                // Its own it hears too.
                Ok((number, by)) if by != number.asker => return Question { number, by, of: self.of.clone() },
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "questions of other nodes came too fast"),
                // Never: what it is heard from goes with `of`.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

/// What another node has asked.
#[derive(Debug)]
pub struct Question {
    number: Number,
    by: i64,
    of: Postgres,
}

impl Question {
    /// Says that this node has done it.
    pub async fn answer(self) -> Result<(), StoreError> {
        self.of.say(Said::Done { number: self.number, by: self.by }).await
    }
}

impl Postgres {
    /// Asks all other nodes that listen, and returns how many of them have not answered in time.
    pub(in super::super) async fn ask_others(&self, at_most: Duration) -> Result<usize, StoreError> {
        let (talk, end) = (self.talk(), Instant::now() + at_most);
        let late = |_| StoreError::Unavailable("the other nodes could not be asked in time".to_owned());
        // Before anybody can answer.
        let mut answers = talk.answers.subscribe();
        let asker = talk.session();
        let mut silent = timeout_at(end, self.list_listening()).await.map_err(late)??;
        silent.remove(&asker);
        if silent.is_empty() {
            return Ok(0);
        }
        let number = Number { asker, count: talk.asked.fetch_add(1, Ordering::Relaxed) };
        timeout_at(end, self.say(Said::Ask(number))).await.map_err(late)??;
        let all = async {
            while !silent.is_empty() {
                match answers.recv().await {
                    Ok((answered, by)) if answered == number => drop(silent.remove(&by)),
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        };
        let _in_time = timeout_at(end, all).await;
        Ok(silent.len())
    }

    /// What other nodes ask, from now on.
    pub(in super::super) fn questions(&self) -> Questions {
        Questions { heard: self.talk().questions.subscribe(), of: self.clone() }
    }

    async fn list_listening(&self) -> Result<HashSet<i64>, StoreError> {
        let (class, object) = LOCK;
        let sql = format!(
            "SELECT CAST(pid AS BIGINT) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted \
             AND classid = {class} AND objid = {object} AND objsubid = 2 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        self.query(&sql, &[]).await?.iter().map(|row| row.int(0)).collect()
    }

    async fn say(&self, said: Said) -> Result<(), StoreError> {
        let sql = format!("SELECT CAST(pg_notify('{CHANNEL}', $1) AS TEXT)");
        self.query(&sql, &[said.to_string().into()]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_nothing_else_is() {
        let number = Number { asker: 17, count: 3 };
        for said in [Said::Ask(number), Said::Done { number, by: 42 }] {
            assert_eq!(Said::parse(&said.to_string()), Some(said));
        }
        for other in
            ["", "ask", "ask 17", "ask 17 -3", "ask 17 3 42", "done 17 3", "done 17 3 42 1", "do 17 3", "ask  17 3"]
        {
            assert_eq!(Said::parse(other), None, "{other}");
        }
    }
}
