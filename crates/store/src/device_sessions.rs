//! Device sessions. Every change of state is one conditional statement.

use std::sync::LazyLock;

use keyward_model::client::Client;
use keyward_model::device_session::{DeviceSession, SessionState};
use keyward_model::id::{ClientId, DeviceSessionId, UserId};
use keyward_model::rights::Rights;
use keyward_model::time::Timestamp;
use keyward_model::user::User;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::status_list::LOWERED;
use crate::{Page, Store, StoreError, Tx, clients, columns_of, parsed, users};

const COLUMNS: &str = "id, user_id, client, label, scope, res, status_index, authenticated_at, expires_at, ended_at, \
                       end_reason, created_from, created_at, updated_at, version, amr";
const WIDTH: usize = 16;

static WITH_ALL: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}, {}, {}, {}, {LOWERED} FROM device_sessions JOIN clients ON clients.id = device_sessions.client \
         JOIN users ON users.id = device_sessions.user_id",
        columns_of("device_sessions", COLUMNS),
        columns_of("clients", clients::COLUMNS),
        clients::APIS,
        columns_of("users", users::COLUMNS),
    )
});

static FIND_WHO: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {}, {}, {}, {LOWERED} FROM clients CROSS JOIN users WHERE clients.id = $1 AND users.id = $2",
        columns_of("clients", clients::COLUMNS),
        clients::APIS,
        columns_of("users", users::COLUMNS),
    )
});

/// Which device sessions to list.
#[derive(Debug, Clone, Default)]
pub struct DeviceSessionFilter {
    /// Of this user.
    pub user: Option<UserId>,
    /// Through this client.
    pub client: Option<ClientId>,
}

/// Who is signed in.
#[derive(Debug)]
pub struct FoundSession {
    /// The device session.
    pub session: DeviceSession,
    /// Its client.
    pub client: Client,
    /// Its user.
    pub user: User,
    /// From which place in the log on scopes and APIs must be known to judge by them.
    pub true_from: i64,
}

/// Who a device session is to be begun for.
#[derive(Debug)]
pub struct FoundWho {
    /// Through which client.
    pub client: Client,
    /// Who.
    pub user: User,
    /// From which place in the log on scopes and APIs must be known to judge by them.
    pub true_from: i64,
}

/// Client and user, and what stands behind them.
fn read_who(row: &Row) -> Result<FoundWho, StoreError> {
    let mut client = row.clone();
    let mut user = client.split_off(clients::WIDTH);
    let lowered = user.split_off(users::WIDTH);
    Ok(FoundWho { client: clients::read(&client)?, user: users::read(&user)?, true_from: lowered.int(0)? })
}

fn read(row: &Row) -> Result<DeviceSession, StoreError> {
    let state = match (row.opt_int(9)?, row.opt_str(10)?) {
        (None, None) => SessionState::Active,
        (Some(ended_at), Some(reason)) => SessionState::Ended {
            ended_at: Timestamp::from_millis(ended_at),
            reason: parsed(reason, "device_sessions.end_reason")?,
        },
        _ => return Err(StoreError::Corrupt("device_sessions: an end without its instant or reason".to_owned())),
    };
    Ok(DeviceSession {
        id: parsed(row.str(0)?, "device_sessions.id")?,
        user: parsed(row.str(1)?, "device_sessions.user_id")?,
        client: parsed(row.str(2)?, "device_sessions.client")?,
        label: row.text(3)?,
        rights: Rights {
            scope: parsed(row.str(4)?, "device_sessions.scope")?,
            res: parsed(row.str(5)?, "device_sessions.res")?,
        },
        state,
        status_index: row.int(6)?,
        authenticated_at: Timestamp::from_millis(row.int(7)?),
        expires_at: Timestamp::from_millis(row.int(8)?),
        created_from: row.opt_text(11)?,
        created_at: Timestamp::from_millis(row.int(12)?),
        updated_at: Timestamp::from_millis(row.int(13)?),
        version: row.int(14)?,
        amr: row.text(15)?,
    })
}

fn read_with_all(row: &Row) -> Result<FoundSession, StoreError> {
    let mut session = row.clone();
    let FoundWho { client, user, true_from } = read_who(&session.split_off(WIDTH))?;
    Ok(FoundSession { session: read(&session)?, client, user, true_from })
}

impl Store {
    /// The device session with this id.
    pub async fn find_device_session(&self, id: DeviceSessionId) -> Result<Option<DeviceSession>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM device_sessions WHERE id = $1");
        self.find(&sql, &[id.to_string().into()], read).await
    }

    /// A device session with its client and its user, all as of one instant.
    pub async fn find_signed_in(&self, id: DeviceSessionId) -> Result<Option<FoundSession>, StoreError> {
        let sql = format!("SELECT {} WHERE device_sessions.id = $1", *WITH_ALL);
        self.find(&sql, &[id.to_string().into()], read_with_all).await
    }

    /// The device sessions of a user that have not ended, with their clients and when they were last refreshed; the
    /// newest first.
    pub async fn list_signed_in(
        &self,
        user: UserId,
        now: Timestamp,
        most: u16,
    ) -> Result<Vec<(FoundSession, Option<Timestamp>)>, StoreError> {
        let sql = format!(
            "SELECT (SELECT rotated_at FROM refresh_tokens WHERE session = device_sessions.id), {} \
             WHERE device_sessions.user_id = $1 AND device_sessions.ended_at IS NULL \
             AND device_sessions.expires_at > $2 ORDER BY device_sessions.id DESC LIMIT $3",
            *WITH_ALL
        );
        let args = [user.to_string().into(), now.as_millis().into(), i64::from(most).into()];
        let read = |row: &Row| {
            let mut used_at = row.clone();
            let found = used_at.split_off(1);
            Ok((read_with_all(&found)?, used_at.opt_int(0)?.map(Timestamp::from_millis)))
        };
        self.query(&sql, &args).await?.iter().map(read).collect()
    }

    /// A client and a user; `None` if there is not the one or the other.
    pub async fn find_client_and_user(&self, client: ClientId, user: UserId) -> Result<Option<FoundWho>, StoreError> {
        self.find(&FIND_WHO, &[client.to_string().into(), user.to_string().into()], read_who).await
    }

    /// Device sessions in the order in which they were begun.
    pub async fn list_device_sessions(
        &self,
        filter: &DeviceSessionFilter,
        page: &Page,
    ) -> Result<Vec<DeviceSession>, StoreError> {
        let mut listing = Listing::new(&format!("SELECT {COLUMNS} FROM device_sessions"));
        listing.and("user_id = ?", filter.user.map(|user| user.to_string()));
        listing.and("client = ?", filter.client.map(|client| client.to_string()));
        listing.run(self, "id", page, read).await
    }
}

impl Tx {
    /// Stores a new device session.
    pub async fn insert_device_session(&mut self, session: &DeviceSession) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO device_sessions ({COLUMNS}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
        );
        self.execute(&sql, &values(session)).await.map(|_| ())
    }

    /// Names a device session anew, if it has not ended and still has this version.
    pub async fn rename_device_session(
        &mut self,
        id: DeviceSessionId,
        label: &str,
        version: i64,
        now: Timestamp,
    ) -> Result<Option<DeviceSession>, StoreError> {
        let sql = format!(
            "UPDATE device_sessions SET label = $2, updated_at = $4, version = version + 1 \
             WHERE id = $1 AND version = $3 AND ended_at IS NULL AND expires_at > $4 RETURNING {COLUMNS}"
        );
        let args: [Value; 4] = [id.to_string().into(), label.into(), version.into(), now.as_millis().into()];
        self.find(&sql, &args, read).await
    }

    /// Whether a device session goes on, with the rights it was judged by, through this version of its client and as this
    /// version of its user. That it was used meanwhile changes nothing.
    pub async fn is_still_signed_in(
        &mut self,
        session: &DeviceSession,
        client: &Client,
        user: &User,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM device_sessions s JOIN clients k ON k.id = s.client JOIN users u ON u.id = s.user_id \
                   WHERE s.id = $1 AND s.ended_at IS NULL AND s.expires_at > $2 AND s.status_index = $3 \
                   AND k.version = $4 AND u.version = $5";
        let args: [Value; 5] = [
            session.id.to_string().into(),
            now.as_millis().into(),
            session.status_index.into(),
            client.version.into(),
            user.version.into(),
        ];
        Ok(self.find(sql, &args, |_| Ok(())).await?.is_some())
    }

    /// A client and a user, as this transaction sees them; `None` if there is not the one or the other.
    pub async fn find_client_and_user(
        &mut self,
        client: ClientId,
        user: UserId,
    ) -> Result<Option<FoundWho>, StoreError> {
        self.find(&FIND_WHO, &[client.to_string().into(), user.to_string().into()], read_who).await
    }

    /// Ends a device session that has not ended; `None` if it had.
    pub async fn revoke_device_session(
        &mut self,
        id: DeviceSessionId,
        now: Timestamp,
    ) -> Result<Option<DeviceSession>, StoreError> {
        let sql = format!(
            "UPDATE device_sessions SET ended_at = $2, end_reason = 'revoked', updated_at = $2, version = version + 1 \
             WHERE id = $1 AND ended_at IS NULL AND expires_at > $2 RETURNING {COLUMNS}"
        );
        let revoked = self.find(&sql, &[id.to_string().into(), now.as_millis().into()], read).await?;
        self.without_refresh_tokens(revoked.into_iter().collect()).await.map(|mut ended| ended.pop())
    }

    /// Ends the sessions of a user that were unused for longest, where there are more than so many.
    pub async fn revoke_surplus_device_sessions(
        &mut self,
        user: UserId,
        most: u16,
        now: Timestamp,
    ) -> Result<Vec<DeviceSession>, StoreError> {
        let sql = format!(
            "UPDATE device_sessions SET ended_at = $2, end_reason = 'revoked', updated_at = $2, version = version + 1 \
             WHERE user_id = $1 AND ended_at IS NULL AND id NOT IN (SELECT s.id FROM device_sessions s \
             LEFT JOIN refresh_tokens r ON r.session = s.id WHERE s.user_id = $1 AND s.ended_at IS NULL \
             ORDER BY coalesce(r.rotated_at, s.created_at) DESC, s.id DESC LIMIT $3) RETURNING {COLUMNS}"
        );
        let args = [user.to_string().into(), now.as_millis().into(), i64::from(most).into()];
        let ended = self.tx.query(&sql, &args).await?.iter().map(read).collect::<Result<_, _>>()?;
        self.without_refresh_tokens(ended).await
    }

    /// Writes down the ends that time has brought, also to sessions that nobody used for too long; gives those that ended.
    pub async fn expire_device_sessions(
        &mut self,
        now: Timestamp,
        most: u16,
    ) -> Result<Vec<DeviceSession>, StoreError> {
        let sql = format!(
            "UPDATE device_sessions SET ended_at = CASE WHEN expires_at <= $1 THEN expires_at ELSE $1 END, \
             end_reason = 'expired', updated_at = $1, version = version + 1 WHERE id IN \
             (SELECT id FROM device_sessions WHERE ended_at IS NULL AND expires_at <= $1 \
             UNION ALL SELECT session FROM refresh_tokens WHERE idle_at <= $1 LIMIT $2) \
             AND ended_at IS NULL RETURNING {COLUMNS}"
        );
        let args = [now.as_millis().into(), i64::from(most).into()];
        let ended = self.tx.query(&sql, &args).await?.iter().map(read).collect::<Result<_, _>>()?;
        self.without_refresh_tokens(ended).await
    }

    /// Sessions that have ended: what got them tokens goes.
    async fn without_refresh_tokens(&mut self, ended: Vec<DeviceSession>) -> Result<Vec<DeviceSession>, StoreError> {
        for session in &ended {
            self.delete_refresh_token(session.id).await?;
        }
        Ok(ended)
    }

    /// Deletes device sessions that ended before this instant; gives how many.
    pub async fn forget_device_sessions(&mut self, ended_before: Timestamp, most: u16) -> Result<u64, StoreError> {
        let sql = "DELETE FROM device_sessions WHERE id IN \
                   (SELECT id FROM device_sessions WHERE ended_at IS NOT NULL AND ended_at < $1 LIMIT $2)";
        self.execute(sql, &[ended_before.as_millis().into(), i64::from(most).into()]).await
    }
}

fn values(session: &DeviceSession) -> [Value; WIDTH] {
    let (ended_at, reason) = match session.state {
        SessionState::Active => (None, None),
        SessionState::Ended { ended_at, reason } => (Some(ended_at.as_millis()), Some(reason.as_str())),
    };
    [
        session.id.to_string().into(),
        session.user.to_string().into(),
        session.client.to_string().into(),
        session.label.as_str().into(),
        session.rights.scope.to_string().into(),
        session.rights.res.to_text().into(),
        session.status_index.into(),
        session.authenticated_at.as_millis().into(),
        session.expires_at.as_millis().into(),
        ended_at.into(),
        reason.into(),
        session.created_from.as_deref().into(),
        session.created_at.as_millis().into(),
        session.updated_at.as_millis().into(),
        session.version.into(),
        session.amr.as_str().into(),
    ]
}
