//! Passwords, as Argon2id hashes.

use keyward_model::id::UserId;
use keyward_model::time::Timestamp;
use keyward_model::user::User;

use crate::{Store, StoreError, Tx, columns_of, users};

impl Store {
    /// The user of this name, and the hash of their password if they have one: one read whoever there is.
    pub async fn find_user_with_password(&self, name: &str) -> Result<Option<(User, Option<String>)>, StoreError> {
        let sql = format!(
            "SELECT {}, passwords.hash FROM users LEFT JOIN passwords ON passwords.user_id = users.id \
             WHERE users.name = $1",
            columns_of("users", users::COLUMNS)
        );
        self.find(&sql, &[name.into()], |row| Ok((users::read(row)?, row.opt_text(users::WIDTH)?))).await
    }

    /// Since when a user has the password they have.
    pub async fn find_password_change(&self, user: UserId) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT changed_at FROM passwords WHERE user_id = $1";
        self.find(sql, &[user.to_string().into()], |row| row.int(0).map(Timestamp::from_millis)).await
    }
}

impl Tx {
    /// Gives a user a password, in place of the one they had.
    pub async fn put_password(&mut self, user: UserId, hash: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "INSERT INTO passwords (user_id, hash, changed_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (user_id) DO UPDATE SET hash = $2, changed_at = $3";
        self.execute(sql, &[user.to_string().into(), hash.into(), now.as_millis().into()]).await.map(|_| ())
    }

    /// Whether this is still the hash of the user's password: between reading and using it, it may have been changed.
    pub async fn password_is(&mut self, user: UserId, hash: &str) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM passwords WHERE user_id = $1 AND hash = $2";
        Ok(self.find(sql, &[user.to_string().into(), hash.into()], |_| Ok(())).await?.is_some())
    }

    /// The same password under new parameters, unless it was changed meanwhile.
    pub async fn rehash_password(&mut self, user: UserId, old: &str, new: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE passwords SET hash = $3 WHERE user_id = $1 AND hash = $2";
        Ok(self.execute(sql, &[user.to_string().into(), old.into(), new.into()]).await? == 1)
    }
}
