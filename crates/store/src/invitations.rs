//! Invitations: a link by which a user sets their first password or passkey, or another when they have lost it.

use keyward_model::id::UserId;
use keyward_model::secret::SecretHash;
use keyward_model::time::Timestamp;
use keyward_model::user::User;

use crate::engine::Value;
use crate::{Store, StoreError, Tx, columns_of, users};

impl Store {
    /// Whom this invitation is for, if it still stands. Looking does not use it up.
    pub async fn find_invited(&self, token: &SecretHash, now: Timestamp) -> Result<Option<User>, StoreError> {
        let sql = format!(
            "SELECT {} FROM invitations JOIN users ON users.id = invitations.user_id \
             WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2 AND users.disabled_at IS NULL",
            columns_of("users", users::COLUMNS)
        );
        self.find(&sql, &[token.as_bytes().into(), now.as_millis().into()], users::read).await
    }
}

impl Tx {
    /// Invites a user, in place of the invitation they had.
    pub async fn put_invitation(
        &mut self,
        user: UserId,
        token: &SecretHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO invitations (user_id, token_hash, created_at, expires_at) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (user_id) DO UPDATE SET token_hash = $2, created_at = $3, expires_at = $4, \
                   used_at = NULL";
        let args: [Value; 4] =
            [user.to_string().into(), token.as_bytes().into(), now.as_millis().into(), expires_at.as_millis().into()];
        self.execute(sql, &args).await.map(|_| ())
    }

    /// Uses an invitation up, if it stands and its user is not disabled; of several at once, one does.
    pub async fn use_invitation(&mut self, token: &SecretHash, now: Timestamp) -> Result<Option<User>, StoreError> {
        let sql = "UPDATE invitations SET used_at = $2 WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2 \
                   AND EXISTS (SELECT 1 FROM users WHERE id = user_id AND disabled_at IS NULL) RETURNING user_id";
        let user = self.find(sql, &[token.as_bytes().into(), now.as_millis().into()], |row| row.text(0)).await?;
        let Some(user) = user else { return Ok(None) };
        let sql = format!("SELECT {} FROM users WHERE id = $1", users::COLUMNS);
        self.find(&sql, &[user.into()], users::read).await
    }

    /// Forgets invitations that were used or whose time is over.
    pub async fn forget_invitations(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let sql = "DELETE FROM invitations WHERE used_at IS NOT NULL OR expires_at <= $1";
        self.execute(sql, &[now.as_millis().into()]).await
    }
}
