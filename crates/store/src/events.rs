//! The event log: appended to by every commit, read by caches, feeds and auditors.

use std::sync::LazyLock;

use keyward_model::event::{Actor, Draft, Event};
use keyward_model::time::Timestamp;

use crate::engine::Row;
use crate::listing::Listing;
use crate::{LogRange, Page, Store, StoreError, Tx};

const COLUMNS: &str = "seq, at, kind, subject, actor, source, data, prev, hash";

static FIND_LAST: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {COLUMNS} FROM events WHERE subject = $1 AND kind = $2 ORDER BY seq DESC LIMIT 1")
});

/// Who commits, from where and when.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who.
    pub actor: Actor,
    /// The network address, if it came from a network.
    pub source: Option<String>,
    /// When.
    pub now: Timestamp,
}

/// A place in the log, and in which log: no other log has an event with this hash there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The place of an event; 0 before the first.
    pub seq: i64,
    /// Its hash; 64 zeros before the first. Empty in no log.
    pub hash: String,
}

impl Head {
    /// What comes behind this place, of events listed from it on; `None` if they are of a log that does not have it.
    pub fn behind<'a>(&self, events: &'a [Event]) -> Option<&'a [Event]> {
        match events.split_first() {
            Some((first, _)) if self.seq == 0 => (first.prev == self.hash).then_some(events),
            Some((own, behind)) => (own.seq == self.seq && own.hash == self.hash).then_some(behind),
            None => (self.seq == 0 && !self.hash.is_empty()).then_some(events),
        }
    }
}

/// Which events to list.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this kind.
    pub kind: Option<String>,
    /// About this subject.
    pub subject: Option<String>,
}

fn read(row: &Row) -> Result<Event, StoreError> {
    let json = |column: usize, name: &str| {
        let text = row.text(column)?;
        serde_json::from_str(&text).map_err(|_| StoreError::Corrupt(format!("events.{name} is not JSON")))
    };
    Ok(Event {
        seq: row.int(0)?,
        at: row.int(1)?,
        kind: row.text(2)?,
        subject: row.text(3)?,
        actor: serde_json::from_value(json(4, "actor")?)
            .map_err(|_| StoreError::Corrupt("events.actor is not an actor".to_owned()))?,
        source: row.opt_text(5)?,
        data: json(6, "data")?,
        prev: row.text(7)?,
        hash: row.text(8)?,
    })
}

fn read_head(row: &Row) -> Result<Head, StoreError> {
    Ok(Head { seq: row.int(0)?, hash: row.text(1)? })
}

impl Store {
    /// Events after a place in the log, oldest first.
    pub async fn list_events(&self, filter: &EventFilter, after: i64, limit: u16) -> Result<Vec<Event>, StoreError> {
        let mut listing = Listing::new(&format!("SELECT {COLUMNS} FROM events"));
        listing.and("seq > ?", Some(after));
        listing.and("kind = ?", filter.kind.as_deref());
        listing.and("subject = ?", filter.subject.as_deref());
        listing.run(self, "seq", &Page { after: None, limit }, read).await
    }

    /// The newest event of a kind about a subject.
    pub async fn find_last_event(&self, subject: &str, kind: &str) -> Result<Option<Event>, StoreError> {
        self.find(&FIND_LAST, &[subject.into(), kind.into()], read).await
    }

    /// The place of the newest event; 0 in an empty log.
    pub async fn last_event(&self) -> Result<i64, StoreError> {
        Ok(self.head().await?.seq)
    }

    /// The newest event's place and hash.
    pub async fn head(&self) -> Result<Head, StoreError> {
        let head = self.find("SELECT seq, hash FROM event_head WHERE id = 1", &[], read_head).await?;
        head.ok_or_else(|| StoreError::Corrupt("event_head is empty".to_owned()))
    }

    /// Place and hash of each event in this part of the log.
    pub async fn list_heads(&self, of: LogRange) -> Result<Vec<Head>, StoreError> {
        let sql = "SELECT seq, hash FROM events WHERE seq > $1 AND seq <= $2 ORDER BY seq";
        self.query(sql, &[of.after.into(), of.upto.into()]).await?.iter().map(read_head).collect()
    }
}

impl Tx {
    /// The newest event of a kind about a subject: none comes while this transaction lasts.
    pub async fn find_last_event(&mut self, subject: &str, kind: &str) -> Result<Option<Event>, StoreError> {
        self.find(&FIND_LAST, &[subject.into(), kind.into()], read).await
    }

    /// The newest events about a subject, at most so many, the newest first.
    pub async fn list_last_events(&mut self, subject: &str, limit: u16) -> Result<Vec<Event>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE subject = $1 ORDER BY seq DESC LIMIT $2");
        let rows = self.tx.query(&sql, &[subject.into(), i64::from(limit).into()]).await?;
        rows.iter().map(read).collect()
    }

    /// Appends the recorded events to the log and makes everything durable; gives the place of the last event.
    ///
    /// The end of the chain is held since the beginning, so events stand in the order of their commits.
    pub async fn commit(mut self, origin: &Origin) -> Result<i64, StoreError> {
        let drafts = std::mem::take(&mut self.drafts);
        if drafts.is_empty() {
            self.tx.commit(false).await?;
            return Ok(0);
        }
        let count = i64::try_from(drafts.len()).unwrap_or(i64::MAX);
        let taken = "UPDATE event_head SET seq = seq + $1 WHERE id = 1 RETURNING seq, hash";
        let (last, mut prev) = self
            .find(taken, &[count.into()], |row| Ok((row.int(0)?, row.text(1)?)))
            .await?
            .ok_or_else(|| StoreError::Corrupt("event_head is empty".to_owned()))?;
        for (seq, draft) in (last - count + 1..).zip(drafts) {
            prev = self.append(origin, seq, draft, prev).await?;
        }
        self.execute("UPDATE event_head SET hash = $1 WHERE id = 1", &[prev.into()]).await?;
        self.tx.commit(true).await?;
        Ok(last)
    }

    async fn append(&mut self, origin: &Origin, seq: i64, draft: Draft, prev: String) -> Result<String, StoreError> {
        let mut event = Event {
            seq,
            at: origin.now.as_millis(),
            kind: draft.kind.to_owned(),
            subject: draft.subject,
            actor: origin.actor.clone(),
            source: origin.source.clone(),
            data: draft.data,
            prev,
            hash: String::new(),
        };
        event.hash = event.expected_hash();
        let actor = serde_json::to_string(&event.actor).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let args = [
            event.seq.into(),
            event.at.into(),
            event.kind.into(),
            event.subject.into(),
            actor.into(),
            event.source.into(),
            event.data.to_string().into(),
            event.prev.into(),
            event.hash.as_str().into(),
        ];
        let sql = format!("INSERT INTO events ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
        self.execute(&sql, &args).await?;
        Ok(event.hash)
    }
}
