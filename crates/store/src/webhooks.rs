//! Webhooks: receivers of notices over HTTP.

use keyward_model::id::WebhookId;
use keyward_model::time::Timestamp;
use keyward_model::webhook::Webhook;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Page, Store, StoreError, Tx, parsed};

const COLUMNS: &str = "id, name, url, kinds, created_at, updated_at, version";

/// The secrets of a webhook, sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedWebhook {
    /// Whose they are.
    pub id: WebhookId,
    /// The one in force.
    pub sealed: Vec<u8>,
    /// The one before, and until when it signs too.
    pub before: Option<(Vec<u8>, Timestamp)>,
}

fn read(row: &Row) -> Result<Webhook, StoreError> {
    let kinds = row.str(3)?.split_whitespace().map(|kind| parsed(kind, "webhooks.kinds"));
    Ok(Webhook {
        id: parsed(row.str(0)?, "webhooks.id")?,
        name: row.text(1)?,
        url: row.text(2)?,
        kinds: kinds.collect::<Result<_, _>>()?,
        created_at: Timestamp::from_millis(row.int(4)?),
        updated_at: Timestamp::from_millis(row.int(5)?),
        version: row.int(6)?,
    })
}

fn read_sealed(row: &Row) -> Result<SealedWebhook, StoreError> {
    let before = row.opt_blob(2)?.zip(row.opt_int(3)?);
    Ok(SealedWebhook {
        id: parsed(row.str(0)?, "webhooks.id")?,
        sealed: row.blob(1)?,
        before: before.map(|(sealed, until)| (sealed, Timestamp::from_millis(until))),
    })
}

impl Store {
    /// The webhook with this id.
    pub async fn find_webhook(&self, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE id = $1");
        self.find(&sql, &[id.to_string().into()], read).await
    }

    /// Its secrets.
    pub async fn find_sealed_webhook(&self, id: WebhookId) -> Result<Option<SealedWebhook>, StoreError> {
        let sql = "SELECT id, sealed, sealed_before, before_until FROM webhooks WHERE id = $1";
        self.find(sql, &[id.to_string().into()], read_sealed).await
    }

    /// Webhooks in the order in which they were added.
    pub async fn list_webhooks(&self, page: &Page) -> Result<Vec<Webhook>, StoreError> {
        Listing::new(&format!("SELECT {COLUMNS} FROM webhooks")).run(self, "id", page, read).await
    }
}

impl Tx {
    /// All webhooks: there are few.
    pub async fn list_webhooks(&mut self) -> Result<Vec<Webhook>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM webhooks ORDER BY id");
        self.tx.query(&sql, &[]).await?.iter().map(read).collect()
    }

    /// The secrets of all webhooks, for sealing them anew.
    pub async fn list_sealed_webhooks(&mut self) -> Result<Vec<SealedWebhook>, StoreError> {
        let sql = "SELECT id, sealed, sealed_before, before_until FROM webhooks ORDER BY id";
        self.tx.query(sql, &[]).await?.iter().map(read_sealed).collect()
    }

    /// Adds a webhook unless there are `most` already; `false` if there are.
    pub async fn insert_webhook(&mut self, webhook: &Webhook, sealed: Vec<u8>, most: u16) -> Result<bool, StoreError> {
        let sql = "INSERT INTO webhooks (id, name, url, kinds, sealed, created_at, updated_at, version) \
                   SELECT $1, $2, $3, $4, $5, CAST($6 AS BIGINT), CAST($7 AS BIGINT), 1 \
                   WHERE (SELECT count(*) FROM webhooks) < $8";
        let args: [Value; 8] = [
            webhook.id.to_string().into(),
            webhook.name.as_str().into(),
            webhook.url.as_str().into(),
            kinds(webhook).into(),
            sealed.into(),
            webhook.created_at.as_millis().into(),
            webhook.updated_at.as_millis().into(),
            i64::from(most).into(),
        ];
        Ok(self.execute(sql, &args).await? == 1)
    }

    /// Writes the webhook if nobody has changed it since `version` was read; `None` if somebody has.
    pub async fn update_webhook(&mut self, webhook: &Webhook, version: i64) -> Result<Option<Webhook>, StoreError> {
        let sql = format!(
            "UPDATE webhooks SET name = $2, url = $3, kinds = $4, updated_at = $5, version = version + 1 \
             WHERE id = $1 AND version = $6 RETURNING {COLUMNS}"
        );
        let args: [Value; 6] = [
            webhook.id.to_string().into(),
            webhook.name.as_str().into(),
            webhook.url.as_str().into(),
            kinds(webhook).into(),
            webhook.updated_at.as_millis().into(),
            version.into(),
        ];
        self.find(&sql, &args, read).await
    }

    /// Gives a webhook another secret; the one before signs too until `before_until`. `None` if an earlier one does so
    /// still, or if somebody changed the webhook since `version` was read.
    pub async fn replace_webhook_secret(
        &mut self,
        webhook: &Webhook,
        sealed: Vec<u8>,
        before_until: Timestamp,
    ) -> Result<Option<Webhook>, StoreError> {
        let sql = format!(
            "UPDATE webhooks SET sealed_before = sealed, before_until = $3, sealed = $2, updated_at = $4, \
             version = version + 1 WHERE id = $1 AND version = $5 AND (before_until IS NULL OR before_until <= $4) \
             RETURNING {COLUMNS}"
        );
        let args: [Value; 5] = [
            webhook.id.to_string().into(),
            sealed.into(),
            before_until.as_millis().into(),
            webhook.updated_at.as_millis().into(),
            webhook.version.into(),
        ];
        self.find(&sql, &args, read).await
    }

    /// Replaces the sealed secrets, when the master key changes.
    pub async fn reseal_webhook(&mut self, webhook: &SealedWebhook) -> Result<bool, StoreError> {
        let sql = "UPDATE webhooks SET sealed = $2, sealed_before = $3 WHERE id = $1";
        let before = webhook.before.as_ref().map(|(sealed, _)| sealed.clone());
        let args: [Value; 3] = [webhook.id.to_string().into(), webhook.sealed.clone().into(), before.into()];
        Ok(self.execute(sql, &args).await? == 1)
    }

    /// Deletes a webhook with what is on its way to it; `false` if somebody changed it since `version` was read.
    pub async fn delete_webhook(&mut self, id: WebhookId, version: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM webhooks WHERE id = $1 AND version = $2";
        if self.execute(sql, &[id.to_string().into(), version.into()]).await? == 0 {
            return Ok(false);
        }
        self.execute("DELETE FROM deliveries WHERE target = $1", &[id.to_string().into()]).await?;
        Ok(true)
    }

    /// Forgets the secrets whose day of signing too is over.
    pub async fn forget_webhook_secrets(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let sql = "UPDATE webhooks SET sealed_before = NULL, before_until = NULL WHERE before_until <= $1";
        self.execute(sql, &[now.as_millis().into()]).await
    }
}

fn kinds(webhook: &Webhook) -> String {
    webhook.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ")
}
