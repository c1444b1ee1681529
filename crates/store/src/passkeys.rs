//! Passkeys, and the challenges answered with them.

use keyward_model::id::{PasskeyId, UserId};
use keyward_model::passkey::{MOST_PASSKEYS, Passkey};
use keyward_model::time::Timestamp;
use keyward_model::user::User;

use crate::engine::{Row, Value};
use crate::{Store, StoreError, Tx, columns_of, parsed, users};

const COLUMNS: &str = "id, user_id, name, credential_id, verifier, created_at, used_at";
const WIDTH: usize = 7;

fn read(row: &Row) -> Result<Passkey, StoreError> {
    Ok(Passkey {
        id: parsed(row.str(0)?, "passkeys.id")?,
        user: parsed(row.str(1)?, "passkeys.user_id")?,
        name: row.text(2)?,
        credential_id: row.blob(3)?,
        verifier: row.text(4)?,
        created_at: Timestamp::from_millis(row.int(5)?),
        used_at: row.opt_int(6)?.map(Timestamp::from_millis),
    })
}

impl Store {
    /// The passkey that an authenticator calls so, and its user.
    pub async fn find_passkey(&self, credential_id: &[u8]) -> Result<Option<(Passkey, User)>, StoreError> {
        let (passkey, user) = (columns_of("passkeys", COLUMNS), columns_of("users", users::COLUMNS));
        let sql = format!(
            "SELECT {passkey}, {user} FROM passkeys JOIN users ON users.id = passkeys.user_id \
             WHERE passkeys.credential_id = $1"
        );
        self.find(&sql, &[credential_id.into()], |row| {
            let mut passkey = row.clone();
            let user = passkey.split_off(WIDTH);
            Ok((read(&passkey)?, users::read(&user)?))
        })
        .await
    }

    /// The passkeys of a user, oldest first: never more than a user may have.
    pub async fn list_passkeys(&self, user: UserId) -> Result<Vec<Passkey>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM passkeys WHERE user_id = $1 ORDER BY id");
        self.query(&sql, &[user.to_string().into()]).await?.iter().map(read).collect()
    }
}

impl Tx {
    /// Adds a passkey; `false` if its user has as many as one may have, `Conflict` if the authenticator's name is taken.
    pub async fn insert_passkey(&mut self, passkey: &Passkey) -> Result<bool, StoreError> {
        let user: Value = passkey.user.to_string().into();
        let count = self.count("SELECT COUNT(*) FROM passkeys WHERE user_id = $1", std::slice::from_ref(&user)).await?;
        if count >= MOST_PASSKEYS as u64 {
            return Ok(false);
        }
        let sql = format!("INSERT INTO passkeys ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)");
        let args: [Value; 7] = [
            passkey.id.to_string().into(),
            user,
            passkey.name.as_str().into(),
            passkey.credential_id.as_slice().into(),
            passkey.verifier.as_str().into(),
            passkey.created_at.as_millis().into(),
            passkey.used_at.map(Timestamp::as_millis).into(),
        ];
        self.execute(&sql, &args).await.map(|_| true)
    }

    /// Notes that a passkey was used, and its counter with it, if it is still as it was judged by: it may have been
    /// removed or used meanwhile.
    pub async fn use_passkey(&mut self, was: &Passkey, verifier: &str, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE passkeys SET verifier = $3, used_at = $4 WHERE id = $1 AND verifier = $2";
        let args: [Value; 4] =
            [was.id.to_string().into(), was.verifier.as_str().into(), verifier.into(), now.as_millis().into()];
        Ok(self.execute(sql, &args).await? == 1)
    }

    /// Names a passkey of a user anew.
    pub async fn rename_passkey(&mut self, user: UserId, id: PasskeyId, name: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE passkeys SET name = $3 WHERE user_id = $1 AND id = $2";
        Ok(self.execute(sql, &[user.to_string().into(), id.to_string().into(), name.into()]).await? == 1)
    }

    /// Removes a passkey of a user, unless it is all they have to sign in with; gives it.
    pub async fn remove_passkey(&mut self, user: UserId, id: PasskeyId) -> Result<Option<Passkey>, StoreError> {
        let sql = format!(
            "DELETE FROM passkeys WHERE user_id = $1 AND id = $2 AND (EXISTS \
             (SELECT 1 FROM passwords WHERE passwords.user_id = $1) \
             OR EXISTS (SELECT 1 FROM passkeys other WHERE other.user_id = $1 AND other.id <> $2)) RETURNING {COLUMNS}"
        );
        self.find(&sql, &[user.to_string().into(), id.to_string().into()], read).await
    }

    /// Takes a challenge as answered; `false` if it was answered before.
    pub async fn spend_challenge(&mut self, challenge: &[u8], expires_at: Timestamp) -> Result<bool, StoreError> {
        let sql = "INSERT INTO spent_challenges (challenge, expires_at) VALUES ($1, $2) \
                   ON CONFLICT (challenge) DO NOTHING";
        Ok(self.execute(sql, &[challenge.into(), expires_at.as_millis().into()]).await? == 1)
    }

    /// Forgets the challenges that could not be answered any more anyway.
    pub async fn forget_challenges(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        self.execute("DELETE FROM spent_challenges WHERE expires_at <= $1", &[now.as_millis().into()]).await
    }
}
