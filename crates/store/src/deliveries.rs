//! Deliveries: the outbox. Each change of state is one conditional statement, so that of several nodes one sends.

use keyward_model::id::{DeliveryId, NoticeId};
use keyward_model::notice::{Channel, Delivery, DeliveryState};
use keyward_model::time::Timestamp;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Page, Store, StoreError, Tx, parsed};

const COLUMNS: &str = "id, notice, channel, target, state, attempts, due_at, problem, ended_at";

/// The most deliveries that one node sends at once.
pub const AT_ONCE: usize = 32;
/// The way a delivery takes: webhooks have one each, all mail goes through the one mail server.
const WAY: &str = "CASE channel WHEN 'mail' THEN 'mail' ELSE target END";
/// How many of those that wait longest are looked at to share out what is free.
const LOOKED_AT: u16 = 1000;

/// What a node that sends has room for.
#[derive(Debug)]
pub struct Room<'a> {
    /// By which ways it is sending now, one entry a delivery; not more than [`AT_ONCE`].
    pub under_way: &'a [&'a str],
    /// The most it sends at once by one way.
    pub each: u16,
}

/// In the statements below, `$1` is the instant, `$2` the share of each way, `$3…` the ways under way.
impl Room<'_> {
    fn under_way() -> String {
        let ways: Vec<_> = (3..3 + AT_ONCE).map(|at| format!("(CAST(${at} AS TEXT))")).collect();
        format!("WITH under_way (way) AS (VALUES {})", ways.join(", "))
    }

    /// What is due and not by a way whose share is used up.
    fn due() -> String {
        let full = "SELECT way FROM under_way GROUP BY way HAVING count(*) >= $2";
        format!("state = 'waiting' AND due_at <= $1 AND {WAY} NOT IN ({full})")
    }

    fn args(&self, now: Timestamp) -> Vec<Value> {
        let mut args: Vec<Value> = vec![now.as_millis().into(), i64::from(self.each).into()];
        args.extend(self.under_way.iter().map(|way| (*way).into()));
        // One statement, however many are under way: no way has an empty name.
        args.resize_with(2 + AT_ONCE, || "".into());
        args
    }
}

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// To this receiver: the id of a webhook or of a user, or the address of the team.
    pub target: Option<String>,
    /// Where they stand.
    pub state: Option<DeliveryState>,
    /// Of this notice.
    pub notice: Option<NoticeId>,
}

fn read(row: &Row) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: parsed(row.str(0)?, "deliveries.id")?,
        notice: parsed(row.str(1)?, "deliveries.notice")?,
        channel: parsed(row.str(2)?, "deliveries.channel")?,
        target: row.text(3)?,
        state: parsed(row.str(4)?, "deliveries.state")?,
        attempts: u16::try_from(row.int(5)?).unwrap_or(u16::MAX),
        due_at: Timestamp::from_millis(row.int(6)?),
        problem: row.text(7)?,
        ended_at: row.opt_int(8)?.map(Timestamp::from_millis),
    })
}

impl Store {
    /// Whether something is due that there is room for.
    pub async fn has_due_deliveries(&self, now: Timestamp, room: &Room<'_>) -> Result<bool, StoreError> {
        let sql = format!("{} SELECT 1 FROM deliveries WHERE {} LIMIT 1", Room::under_way(), Room::due());
        Ok(!self.query(&sql, &room.args(now)).await?.is_empty())
    }

    /// How many wait to be sent now, by channel; channels for which none does are left out.
    pub async fn count_due_deliveries(&self, now: Timestamp) -> Result<Vec<(Channel, i64)>, StoreError> {
        let sql = "SELECT channel, count(*) FROM deliveries WHERE state = 'waiting' AND due_at <= $1 GROUP BY channel";
        let rows = self.query(sql, &[now.as_millis().into()]).await?;
        rows.iter().map(|row| Ok((parsed(row.str(0)?, "deliveries.channel")?, row.int(1)?))).collect()
    }

    /// The delivery with this id.
    pub async fn find_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE id = $1");
        self.find(&sql, &[id.to_string().into()], read).await
    }

    /// What a notice says to its receivers.
    pub async fn find_notice_body(&self, notice: NoticeId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT body FROM notices WHERE id = $1";
        self.find(sql, &[notice.to_string().into()], |row| row.text(0)).await
    }

    /// Deliveries, the newest first.
    pub async fn list_deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Result<Vec<Delivery>, StoreError> {
        let mut listing = Listing::new(&format!("SELECT {COLUMNS} FROM deliveries"));
        listing.and("target = ?", filter.target.as_deref());
        listing.and("state = ?", filter.state.map(DeliveryState::as_str));
        listing.and("notice = ?", filter.notice.map(|n| n.to_string()));
        listing.and("id < ?", page.after.as_deref());
        listing.run_in_order(self, "id DESC", page.limit, read).await
    }
}

impl Tx {
    /// How many deliveries to a receiver stand there.
    pub async fn count_deliveries(&mut self, target: &str, state: DeliveryState) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM deliveries WHERE target = $1 AND state = $2";
        let count = self.find(sql, &[target.into(), state.as_str().into()], |row| row.int(0)).await?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }

    /// Puts a delivery into the outbox, once for each notice and receiver.
    pub async fn insert_delivery(&mut self, delivery: &Delivery) -> Result<bool, StoreError> {
        let sql = format!(
            "INSERT INTO deliveries ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (notice, target) DO NOTHING"
        );
        let args: [Value; 9] = [
            delivery.id.to_string().into(),
            delivery.notice.to_string().into(),
            delivery.channel.as_str().into(),
            delivery.target.as_str().into(),
            delivery.state.as_str().into(),
            i64::from(delivery.attempts).into(),
            delivery.due_at.as_millis().into(),
            delivery.problem.as_str().into(),
            delivery.ended_at.map(Timestamp::as_millis).into(),
        ];
        Ok(self.execute(&sql, &args).await? == 1)
    }

    /// Takes deliveries that are due and for which there is room: until `leased_until` nobody else takes them. Whoever
    /// fails to report by then has died.
    pub async fn claim_deliveries(
        &mut self,
        now: Timestamp,
        leased_until: Timestamp,
        room: &Room<'_>,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut args = room.args(now);
        let [lease, free] = [args.len() + 1, args.len() + 2];
        args.push(leased_until.as_millis().into());
        args.push(i64::try_from(AT_ONCE.saturating_sub(room.under_way.len())).unwrap_or(0).into());
        // Of those that have room, the ones that wait longest are shared out: a slow receiver with a long queue neither
        // keeps the others waiting nor is gone through again and again.
        let sql = format!(
            "{} UPDATE deliveries SET due_at = ${lease}, attempts = attempts + 1 WHERE id IN \
             (SELECT id FROM (SELECT id, due_at, row_number() OVER (PARTITION BY way ORDER BY due_at, id) \
               + (SELECT count(*) FROM under_way u WHERE u.way = due.way) AS place FROM \
               (SELECT id, due_at, {WAY} AS way FROM deliveries WHERE {} ORDER BY due_at LIMIT {LOOKED_AT}) AS due) \
              AS placed WHERE place <= $2 ORDER BY due_at LIMIT ${free}) \
             AND state = 'waiting' AND due_at <= $1 RETURNING {COLUMNS}",
            Room::under_way(),
            Room::due(),
        );
        self.tx.query(&sql, &args).await?.iter().map(read).collect()
    }

    /// Notes that a delivery arrived; `false` if it was taken over meanwhile.
    pub async fn finish_delivery(&mut self, delivery: &Delivery, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE deliveries SET state = 'sent', problem = '', ended_at = $3 \
                   WHERE id = $1 AND state = 'waiting' AND due_at = $2";
        Ok(self.execute(sql, &leased(delivery, now)).await? == 1)
    }

    /// Notes that an attempt failed, and when to try again; `false` if the delivery was taken over meanwhile.
    pub async fn retry_delivery(&mut self, delivery: &Delivery, at: Timestamp, why: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE deliveries SET due_at = $3, problem = $4 WHERE id = $1 AND state = 'waiting' AND due_at = $2";
        let [id, lease, at] = leased(delivery, at);
        Ok(self.execute(sql, &[id, lease, at, why.into()]).await? == 1)
    }

    /// Gives a delivery up; `false` if it was taken over meanwhile.
    pub async fn give_up_delivery(
        &mut self,
        delivery: &Delivery,
        now: Timestamp,
        why: &str,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE deliveries SET state = 'dead', problem = $4, ended_at = $3 \
                   WHERE id = $1 AND state = 'waiting' AND due_at = $2";
        let [id, lease, now] = leased(delivery, now);
        Ok(self.execute(sql, &[id, lease, now, why.into()]).await? == 1)
    }

    /// Lets a delivery that ended begin anew; `None` if it still waits.
    pub async fn resend_delivery(&mut self, id: DeliveryId, now: Timestamp) -> Result<Option<Delivery>, StoreError> {
        let sql = format!(
            "UPDATE deliveries SET state = 'waiting', attempts = 0, due_at = $2, problem = '', ended_at = NULL \
             WHERE id = $1 AND state IN ('sent', 'dead') RETURNING {COLUMNS}"
        );
        self.find(&sql, &[id.to_string().into(), now.as_millis().into()], read).await
    }

    /// Lets dead deliveries to a receiver begin anew, the oldest first and not more than `most`; gives how many.
    pub async fn resend_dead_deliveries(&mut self, target: &str, now: Timestamp, most: u64) -> Result<u64, StoreError> {
        let sql = "UPDATE deliveries SET state = 'waiting', attempts = 0, due_at = $2, problem = '', ended_at = NULL \
                   WHERE id IN (SELECT id FROM deliveries WHERE target = $1 AND state = 'dead' ORDER BY id LIMIT $3) \
                   AND state = 'dead'";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.execute(sql, &[target.into(), now.as_millis().into(), most.into()]).await
    }
}

/// The lease is known by its end: whoever takes a delivery over gives it another.
fn leased(delivery: &Delivery, at: Timestamp) -> [Value; 3] {
    [delivery.id.to_string().into(), delivery.due_at.as_millis().into(), at.as_millis().into()]
}
