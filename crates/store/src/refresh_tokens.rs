//! Refresh tokens: one row a device session, with the token that counts and the one before. Taking a token and putting
//! its successor in its place is one conditional statement.

use keyward_model::id::DeviceSessionId;
use keyward_model::secret::SecretHash;
use keyward_model::time::Timestamp;

use crate::{Store, StoreError, Tx};

/// A refresh token in the place of another.
#[derive(Debug)]
pub struct Succession {
    /// Of this session.
    pub session: DeviceSessionId,
    /// The one that was presented.
    pub presented: SecretHash,
    /// Its successor.
    pub next: SecretHash,
    /// When the session ends if nobody comes with the successor.
    pub idle_at: Timestamp,
    /// The answer, for whoever presented the token and did not get it.
    pub answer: SealedAnswer,
}

/// An answer that only whoever sent the request can open, and until when it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAnswer {
    /// Nonce, ciphertext and tag.
    pub sealed: Vec<u8>,
    /// From when on it is not given any more.
    pub until: Timestamp,
}

/// What a refresh token is to its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// The one that counts.
    Current,
    /// The one before it, and the answer it got is still given.
    Answered(SealedAnswer),
    /// One that was replaced.
    Replaced,
}

/// Whether a session stands, with the instant as `$2`: it has not ended, and neither client nor user is disabled.
const STANDS: &str = "EXISTS (SELECT 1 FROM device_sessions s JOIN clients k ON k.id = s.client \
                      JOIN users u ON u.id = s.user_id WHERE s.id = $1 AND s.ended_at IS NULL AND s.expires_at > $2 \
                      AND k.disabled_at IS NULL AND u.disabled_at IS NULL)";

impl Store {
    /// What this refresh token is to the session; `None` if the session has none, or was idle for too long.
    pub async fn find_refresh_token(
        &self,
        session: DeviceSessionId,
        presented: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<Presented>, StoreError> {
        let sql = "SELECT CASE WHEN current_hash = $2 THEN 2 WHEN previous_hash = $2 THEN 1 ELSE 0 END, sealed_response, \
                   sealed_until FROM refresh_tokens WHERE session = $1 AND idle_at > $3";
        let args = [session.to_string().into(), presented.as_bytes().into(), now.as_millis().into()];
        self.find(sql, &args, |row| {
            Ok(match (row.int(0)?, row.opt_int(2)?.map(Timestamp::from_millis)) {
                (2, _) => Presented::Current,
                (1, Some(until)) if until > now => Presented::Answered(SealedAnswer { sealed: row.blob(1)?, until }),
                _ => Presented::Replaced,
            })
        })
        .await
    }
}

impl Tx {
    /// The first refresh token of a session.
    pub async fn insert_refresh_token(
        &mut self,
        session: DeviceSessionId,
        token: &SecretHash,
        (now, idle_at): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO refresh_tokens (session, current_hash, rotated_at, idle_at) VALUES ($1, $2, $3, $4)";
        let args =
            [session.to_string().into(), token.as_bytes().into(), now.as_millis().into(), idle_at.as_millis().into()];
        self.execute(sql, &args).await.map(|_| ())
    }

    /// Puts a successor in the place of the refresh token that counts; `false` if another does by now, or the session
    /// does not stand.
    pub async fn rotate_refresh_token(&mut self, to: &Succession, now: Timestamp) -> Result<bool, StoreError> {
        let sql = format!(
            "UPDATE refresh_tokens SET previous_hash = current_hash, current_hash = $4, rotated_at = $2, idle_at = $5, \
             sealed_response = $6, sealed_until = $7 \
             WHERE session = $1 AND current_hash = $3 AND idle_at > $2 AND {STANDS}"
        );
        let args = [
            to.session.to_string().into(),
            now.as_millis().into(),
            to.presented.as_bytes().into(),
            to.next.as_bytes().into(),
            to.idle_at.as_millis().into(),
            to.answer.sealed.as_slice().into(),
            to.answer.until.as_millis().into(),
        ];
        Ok(self.execute(&sql, &args).await? == 1)
    }

    /// Forgets answers that are not given any more, at most so many; gives how many.
    pub async fn forget_sealed_answers(&mut self, now: Timestamp, most: u16) -> Result<u64, StoreError> {
        let sql = "UPDATE refresh_tokens SET sealed_response = NULL, sealed_until = NULL WHERE session IN \
                   (SELECT session FROM refresh_tokens WHERE sealed_until <= $1 LIMIT $2)";
        self.execute(sql, &[now.as_millis().into(), i64::from(most).into()]).await
    }

    /// A session that has ended has no refresh token.
    pub(crate) async fn delete_refresh_token(&mut self, session: DeviceSessionId) -> Result<(), StoreError> {
        let sql = "DELETE FROM refresh_tokens WHERE session = $1";
        self.execute(sql, &[session.to_string().into()]).await.map(|_| ())
    }
}
