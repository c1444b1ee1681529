//! The connection that hears of commits and questions of any node, and comes back by itself.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::Fault;
use super::questions::{LOCK, Said, Talk};
use super::{CHANNEL, GRACE};
use crate::StoreError;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often to look whether the server still answers and still takes writes.
const CHECK: Duration = Duration::from_secs(15);

/// Starts to listen with the first subscription and ends with the last handle on the engine.
pub(super) struct Listener {
    config: Config,
    tls: MakeRustlsConnect,
    runtime: Handle,
    ears: Ears,
    task: Mutex<Option<AbortHandle>>,
}

/// To whom is told what is heard.
#[derive(Clone)]
struct Ears {
    changes: watch::Sender<u64>,
    talk: Arc<Talk>,
}

impl Listener {
    pub(super) fn new(config: Config, tls: MakeRustlsConnect, runtime: Handle) -> Self {
        let ears = Ears { changes: watch::Sender::new(0), talk: Arc::new(Talk::new()) };
        Self { config, tls, runtime, ears, task: Mutex::new(None) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        let receiver = self.ears.changes.subscribe();
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_none() {
            let work = listen_for_ever(self.config.clone(), self.tls.clone(), self.ears.clone());
            *task = Some(self.runtime.spawn(work).abort_handle());
        }
        receiver
    }

    pub(super) fn talk(&self) -> &Talk {
        &self.ears.talk
    }

    pub(super) fn stop(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            task.abort();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Ears {
    fn hear(&self, payload: &str) {
        match Said::parse(payload) {
            Some(said) => self.talk.hear(said),
            None => announce(&self.changes),
        }
    }
}

async fn listen_for_ever(config: Config, tls: MakeRustlsConnect, ears: Ears) {
    let mut pause = FIRST_PAUSE;
    loop {
        let before = *ears.changes.borrow();
        let error = listen(&config, &tls, &ears).await;
        ears.talk.listen_by(None);
        if *ears.changes.borrow() != before {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(%error, ?pause, "the connection that listens for changes is lost; polling until it is back");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Listens until the connection fails, and returns why it did.
async fn listen(config: &Config, tls: &MakeRustlsConnect, ears: &Ears) -> StoreError {
    let limit = config.get_connect_timeout().copied().unwrap_or(GRACE) + GRACE;
    let (client, mut connection) = match timeout(limit, config.connect(tls.clone())).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return Fault::from(error).error,
        Err(_elapsed) => return StoreError::Unavailable("no connection in time".to_owned()),
    };
    let hear = async {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(told))) => ears.hear(told.payload()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Fault::from(error).error,
                None => return StoreError::Unavailable("connection closed".to_owned()),
            }
        }
    };
    tokio::select! {
        error = hear => error,
        error = watch_over(&client, ears) => error,
    }
}

async fn watch_over(client: &Client, ears: &Ears) -> StoreError {
    let mut is_asked = match begin(client, ears).await {
        Ok(is_asked) => is_asked,
        Err(error) => return error,
    };
    // Whatever was committed while nobody listened is news now.
    announce(&ears.changes);
    loop {
        sleep(CHECK).await;
        match ask(client, "SHOW transaction_read_only").await {
            Ok(answer) if is_on(&answer) => {
                return StoreError::Unavailable("the server no longer takes writes".to_owned());
            }
            Ok(_) if is_asked => {}
            Ok(_) => match lock(client).await {
                Ok(locked) => is_asked = locked,
                Err(error) => return error,
            },
            Err(error) => return error,
        }
    }
}

/// So that the server soon lets go of the session of a node that was cut off: whoever asks would wait for it.
const KEEPALIVES: &str = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// The lock comes last: whoever is seen to hold it hears what is asked, and knows by which session. Gives whether it is held.
async fn begin(client: &Client, ears: &Ears) -> Result<bool, StoreError> {
    let answer = ask(client, &format!("{KEEPALIVES}; LISTEN {CHANNEL}; SELECT pg_backend_pid() AS session")).await?;
    ears.talk.listen_by(session_of(&answer));
    let is_asked = lock(client).await?;
    if !is_asked {
        tracing::warn!(
            "something else holds Keyward's advisory lock: until it lets go, other nodes do not ask this one"
        );
    }
    Ok(is_asked)
}

/// Nobody ever holds it alone, except for somebody else's program.
async fn lock(client: &Client) -> Result<bool, StoreError> {
    let (class, object) = LOCK;
    let answer = ask(client, &format!("SELECT pg_try_advisory_lock_shared({class}, {object})")).await?;
    Ok(answer.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))))
}

async fn ask(client: &Client, sql: &str) -> Result<Vec<SimpleQueryMessage>, StoreError> {
    match timeout(GRACE, client.simple_query(sql)).await {
        Ok(answer) => answer.map_err(|error| Fault::from(error).error),
        Err(_elapsed) => Err(StoreError::Unavailable("no answer in time".to_owned())),
    }
}

fn session_of(answer: &[SimpleQueryMessage]) -> Option<i64> {
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get("session")?.parse().ok(),
        _ => None,
    })
}

fn is_on(answer: &[SimpleQueryMessage]) -> bool {
    answer.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("on")))
}

fn announce(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count = count.wrapping_add(1));
}
