//! The event log, wherever it is read: from the server, or straight from its database.

use keyward_model::event::Event;
use keyward_server::api::events::{EventQuery, Events};
use keyward_server::config::Config;
use keyward_store::{EventFilter, Store};

use crate::options::Global;
use crate::remote::Remote;
use crate::settings;

/// A log to read.
pub(super) enum Log {
    /// What the server says.
    Server(Box<Remote>),
    /// What the database holds.
    Database(Store),
}

impl Log {
    /// The log as the server tells it.
    pub(super) async fn of_server(global: &Global) -> anyhow::Result<Self> {
        Ok(Self::Server(Box::new(global.remote().await?)))
    }

    /// The log as it is stored.
    pub(super) async fn of_database(config: &Config) -> anyhow::Result<Self> {
        Ok(Self::Database(settings::open_beside(config).await?))
    }

    /// The events after a place that match, oldest first; none at the end of the log. `limit` may be exceeded by one.
    pub(super) async fn after(&self, seq: i64, filter: &EventFilter, limit: u16) -> anyhow::Result<Vec<Event>> {
        match self {
            Self::Database(store) => Ok(store.list_events(filter, seq, limit).await?),
            Self::Server(remote) => {
                let EventFilter { kind, subject } = filter.clone();
                let query = EventQuery { after: Some(seq), limit: Some(limit), kind, subject };
                Ok(remote.query::<Events>("events", &query).await?.items)
            }
        }
    }

    /// The place of the newest event; 0 in an empty log.
    pub(super) async fn last(&self) -> anyhow::Result<i64> {
        if let Self::Database(store) = self {
            return Ok(store.last_event().await?);
        }
        // Places have no gaps: whether anything comes after a place tells on which side of it the end is.
        let goes_on = async |seq| anyhow::Ok(!self.after(seq, &EventFilter::default(), 1).await?.is_empty());
        let mut beyond = 1;
        while goes_on(beyond).await? {
            beyond *= 2;
        }
        let mut last = beyond / 2;
        while last < beyond {
            let middle = last.midpoint(beyond);
            if goes_on(middle).await? { last = middle + 1 } else { beyond = middle }
        }
        Ok(last)
    }
}
