//! Single tokens ended before their time (RFC 7009).

use keyward_model::id::{CredentialId, TokenId};
use keyward_model::time::Timestamp;

use crate::engine::Value;
use crate::{Store, StoreError, Tx, parsed};

impl Store {
    /// All revoked tokens that are not dead anyway, for the memory of a node that starts.
    pub async fn list_revoked_tokens(&self, now: Timestamp) -> Result<Vec<(TokenId, Timestamp)>, StoreError> {
        let sql = "SELECT jti, expires_at FROM revoked_tokens WHERE expires_at > $1";
        let rows = self.query(sql, &[now.as_millis().into()]).await?;
        rows.iter()
            .map(|r| Ok((parsed(&r.text(0)?, "revoked_tokens.jti")?, Timestamp::from_millis(r.int(1)?))))
            .collect()
    }

    /// Whether this token was revoked.
    pub async fn is_token_revoked(&self, jti: TokenId) -> Result<bool, StoreError> {
        let rows = self.query("SELECT 1 FROM revoked_tokens WHERE jti = $1", &[jti.to_string().into()]).await?;
        Ok(!rows.is_empty())
    }
}

impl Tx {
    /// How many revoked tokens are not dead yet.
    pub async fn count_revoked_tokens(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        self.count("SELECT count(*) FROM revoked_tokens WHERE expires_at > $1", &[now.as_millis().into()]).await
    }

    /// Revokes one token; `false` if it already was.
    pub async fn insert_revoked_token(
        &mut self,
        jti: TokenId,
        credential: CredentialId,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO revoked_tokens (jti, credential, expires_at, revoked_at) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (jti) DO NOTHING";
        let args: [Value; 4] = [
            jti.to_string().into(),
            credential.to_string().into(),
            expires_at.as_millis().into(),
            now.as_millis().into(),
        ];
        Ok(self.execute(sql, &args).await? == 1)
    }

    /// Forgets the revoked tokens that are dead by now.
    pub async fn forget_dead_tokens(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        self.execute("DELETE FROM revoked_tokens WHERE expires_at <= $1", &[now.as_millis().into()]).await
    }
}
