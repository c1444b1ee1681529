//! Logins: browsers in which somebody is signed in.

use std::time::Duration;

use keyward_model::id::{LoginId, UserId};
use keyward_model::login::{Login, MOST_LOGINS};
use keyward_model::secret::SecretHash;
use keyward_model::time::Timestamp;
use keyward_model::user::User;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Page, Store, StoreError, Tx, columns_of, parsed, users};

const COLUMNS: &str = "id, user_id, method, network, user_agent, created_at, seen_at, ends_at";
const WIDTH: usize = 8;
/// What makes a login one that still counts: its end, its last use, and that its user is not disabled.
const STANDS: &str = "login_sessions.ends_at > $1 AND login_sessions.seen_at > $2 AND users.disabled_at IS NULL";

/// The instant, and how long a login may be unused.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// As of when.
    pub now: Timestamp,
    /// A login that was unused for so long has ended.
    pub idle: Duration,
}

impl Standing {
    fn values(self) -> [Value; 2] {
        [self.now.as_millis().into(), self.now.minus(self.idle).as_millis().into()]
    }
}

fn read(row: &Row) -> Result<Login, StoreError> {
    Ok(Login {
        id: parsed(row.str(0)?, "login_sessions.id")?,
        user: parsed(row.str(1)?, "login_sessions.user_id")?,
        method: parsed(row.str(2)?, "login_sessions.method")?,
        network: row.text(3)?,
        user_agent: row.text(4)?,
        created_at: Timestamp::from_millis(row.int(5)?),
        seen_at: Timestamp::from_millis(row.int(6)?),
        ends_at: Timestamp::from_millis(row.int(7)?),
    })
}

fn select() -> String {
    let (login, user) = (columns_of("login_sessions", COLUMNS), columns_of("users", users::COLUMNS));
    format!("SELECT {login}, {user} FROM login_sessions JOIN users ON users.id = login_sessions.user_id")
}

impl Store {
    /// The login whose token has this hash, and its user, if it stands.
    pub async fn find_login(&self, token: &SecretHash, at: Standing) -> Result<Option<(Login, User)>, StoreError> {
        let sql = format!("{} WHERE {STANDS} AND login_sessions.token_hash = $3", select());
        let [now, idle] = at.values();
        self.find(&sql, &[now, idle, token.as_bytes().into()], |row| {
            let mut login = row.clone();
            let user = login.split_off(WIDTH);
            Ok((read(&login)?, users::read(&user)?))
        })
        .await
    }

    /// The logins of a user that stand, oldest first.
    pub async fn list_logins(&self, user: UserId, at: Standing, page: &Page) -> Result<Vec<Login>, StoreError> {
        let mut listing = Listing::with(&select(), at.values().into());
        listing.only(STANDS);
        listing.and("login_sessions.user_id = ?", Some(user.to_string()));
        listing.run(self, "login_sessions.id", page, read).await
    }

    /// Notes that a login is used, if that was last noted before `before`. Nobody waits for it, and it is no event.
    pub async fn note_login_seen(&self, id: LoginId, now: Timestamp, before: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.engine.begin().await?;
        let sql = "UPDATE login_sessions SET seen_at = $2 WHERE id = $1 AND seen_at < $3";
        tx.execute(sql, &[id.to_string().into(), now.as_millis().into(), before.as_millis().into()]).await?;
        tx.commit(false).await
    }
}

impl Tx {
    /// Makes place for one more login of a user: of too many, those that were unused for longest end. Gives those.
    pub async fn make_place_for_login(&mut self, user: UserId) -> Result<Vec<LoginId>, StoreError> {
        let sql = "DELETE FROM login_sessions WHERE user_id = $1 AND id NOT IN \
                   (SELECT id FROM login_sessions WHERE user_id = $1 ORDER BY seen_at DESC, id DESC LIMIT $2) RETURNING id";
        self.ended(sql, &[user.to_string().into(), (i64::from(MOST_LOGINS) - 1).into()]).await
    }

    /// Adds a login, unless its user is disabled (`false`).
    pub async fn insert_login(&mut self, login: &Login, token: &SecretHash) -> Result<bool, StoreError> {
        let sql = format!(
            "INSERT INTO login_sessions ({COLUMNS}, token_hash) \
             SELECT $1, id, $3, $4, $5, $6, $7, $8, $9 FROM users WHERE id = $2 AND disabled_at IS NULL"
        );
        let args: [Value; 9] = [
            login.id.to_string().into(),
            login.user.to_string().into(),
            login.method.as_str().into(),
            login.network.as_str().into(),
            login.user_agent.as_str().into(),
            login.created_at.as_millis().into(),
            login.seen_at.as_millis().into(),
            login.ends_at.as_millis().into(),
            token.as_bytes().into(),
        ];
        Ok(self.execute(&sql, &args).await? == 1)
    }

    /// Ends one login of a user; `false` if it had ended.
    pub async fn end_login(&mut self, user: UserId, id: LoginId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM login_sessions WHERE user_id = $1 AND id = $2";
        Ok(self.execute(sql, &[user.to_string().into(), id.to_string().into()]).await? == 1)
    }

    /// Ends the login whose token has this hash, whoever's it is; gives whose.
    pub async fn end_login_of(&mut self, token: &SecretHash) -> Result<Option<(UserId, LoginId)>, StoreError> {
        let sql = "DELETE FROM login_sessions WHERE token_hash = $1 RETURNING user_id, id";
        let read =
            |row: &Row| Ok((parsed(row.str(0)?, "login_sessions.user_id")?, parsed(row.str(1)?, "login_sessions.id")?));
        self.find(sql, &[token.as_bytes().into()], read).await
    }

    /// Ends all logins of a user but this one; gives those it ended.
    pub async fn end_logins(&mut self, user: UserId, but: Option<LoginId>) -> Result<Vec<LoginId>, StoreError> {
        let sql = "DELETE FROM login_sessions WHERE user_id = $1 AND id <> $2 RETURNING id";
        let but = but.map(|id| id.to_string()).unwrap_or_default();
        self.ended(sql, &[user.to_string().into(), but.into()]).await
    }

    async fn ended(&mut self, sql: &str, args: &[Value]) -> Result<Vec<LoginId>, StoreError> {
        let rows = self.tx.query(sql, args).await?;
        rows.iter().map(|row| parsed(row.str(0)?, "login_sessions.id")).collect()
    }

    /// Forgets logins that have ended by themselves, at most so many.
    pub async fn forget_logins(&mut self, at: Standing, most: u16) -> Result<u64, StoreError> {
        let sql = "DELETE FROM login_sessions WHERE id IN \
                   (SELECT id FROM login_sessions WHERE ends_at <= $1 OR seen_at <= $2 LIMIT $3)";
        let [now, idle] = at.values();
        self.execute(sql, &[now, idle, i64::from(most).into()]).await
    }
}
