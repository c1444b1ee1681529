//! Recovery codes. A code that was used has no row.

use keyward_model::id::UserId;
use keyward_model::secret::SecretHash;

use keyward_model::user::User;

use crate::{Store, StoreError, Tx, columns_of, users};

impl Store {
    /// The user of this name, and whether this is a code of theirs: one read whoever there is.
    pub async fn find_user_with_recovery_code(
        &self,
        name: &str,
        code: &SecretHash,
    ) -> Result<Option<(User, bool)>, StoreError> {
        let sql = format!(
            "SELECT {}, recovery_codes.user_id FROM users LEFT JOIN recovery_codes \
             ON recovery_codes.user_id = users.id AND recovery_codes.code_hash = $2 WHERE users.name = $1",
            columns_of("users", users::COLUMNS)
        );
        let read = |row: &crate::engine::Row| Ok((users::read(row)?, row.opt_str(users::WIDTH)?.is_some()));
        self.find(&sql, &[name.into(), code.as_bytes().into()], read).await
    }

    /// How many codes a user has left.
    pub async fn count_recovery_codes(&self, user: UserId) -> Result<u64, StoreError> {
        let sql = "SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1";
        let count = self.find(sql, &[user.to_string().into()], |row| row.int(0)).await?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }
}

impl Tx {
    /// Gives a user these codes, in place of those they had.
    pub async fn replace_recovery_codes(&mut self, user: UserId, codes: &[SecretHash]) -> Result<(), StoreError> {
        let user = user.to_string();
        self.execute("DELETE FROM recovery_codes WHERE user_id = $1", &[user.as_str().into()]).await?;
        for code in codes {
            let sql = "INSERT INTO recovery_codes (user_id, code_hash) VALUES ($1, $2)";
            self.execute(sql, &[user.as_str().into(), code.as_bytes().into()]).await?;
        }
        Ok(())
    }

    /// Uses a code up; `false` if the user has none such: of several uses at once, one does.
    pub async fn use_recovery_code(&mut self, user: UserId, code: &SecretHash) -> Result<bool, StoreError> {
        let sql = "DELETE FROM recovery_codes WHERE user_id = $1 AND code_hash = $2";
        Ok(self.execute(sql, &[user.to_string().into(), code.as_bytes().into()]).await? == 1)
    }
}
