//! Deliveries: the outbox. Each change of state is one conditional statement, so that of several nodes one sends.

use keyward_model::id::{DeliveryId, NoticeId};
use keyward_model::notice::{Delivery, DeliveryState};
use keyward_model::time::Timestamp;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Page, Store, StoreError, Tx, parsed};

const COLUMNS: &str = "id, notice, channel, target, state, attempts, due_at, problem, ended_at";

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// To this receiver: the id of a webhook, or an address.
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
    /// Whether something waits to be sent.
    pub async fn has_due_deliveries(&self, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM deliveries WHERE state = 'waiting' AND due_at <= $1 LIMIT 1";
        Ok(!self.query(sql, &[now.as_millis().into()]).await?.is_empty())
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

    /// Takes deliveries that are due, not more than `each` for one receiver: until `leased_until` nobody else takes
    /// them. Whoever fails to report by then has died.
    pub async fn claim_deliveries(
        &mut self,
        now: Timestamp,
        leased_until: Timestamp,
        each: u16,
        most: u16,
    ) -> Result<Vec<Delivery>, StoreError> {
        // A slow receiver with a long queue must not keep the others waiting.
        let sql = format!(
            "UPDATE deliveries SET due_at = $2, attempts = attempts + 1 WHERE id IN (SELECT id FROM \
             (SELECT id, due_at, row_number() OVER (PARTITION BY target ORDER BY due_at, id) AS place FROM deliveries \
              WHERE state = 'waiting' AND due_at <= $1) AS due WHERE place <= $3 ORDER BY due_at LIMIT $4) \
             AND state = 'waiting' AND due_at <= $1 RETURNING {COLUMNS}"
        );
        let args: [Value; 4] =
            [now.as_millis().into(), leased_until.as_millis().into(), i64::from(each).into(), i64::from(most).into()];
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
