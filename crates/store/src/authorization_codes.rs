//! Authorization codes: a minute each, redeemed once, by one conditional statement.

use std::time::Duration;

use keyward_model::id::{ClientId, DeviceSessionId, UserId};
use keyward_model::pkce::CodeChallenge;
use keyward_model::redirect_uri::RedirectUri;
use keyward_model::rights::Rights;
use keyward_model::secret::SecretHash;
use keyward_model::time::Timestamp;

use crate::engine::Row;
use crate::{Store, StoreError, Tx, parsed};

/// How long a code stays known after its end: whoever comes with it again ends what it gave.
const KEPT_AFTER_END: Duration = Duration::from_secs(600);

/// What a user let a client have, to be had with the code.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// Which client.
    pub client: ClientId,
    /// Who.
    pub user: UserId,
    /// Where the code was sent.
    pub redirect_uri: RedirectUri,
    /// What only whoever asked for the code can answer.
    pub code_challenge: CodeChallenge,
    /// What the user let it have.
    pub rights: Rights,
    /// When the user proved who they are.
    pub authenticated_at: Timestamp,
    /// How, in the words of RFC 8176 with spaces between.
    pub amr: String,
    /// From which network address.
    pub created_from: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// Until when it can be had.
    pub expires_at: Timestamp,
}

/// With what somebody comes for it.
#[derive(Debug)]
pub struct Redeemed<'a> {
    /// The code.
    pub code: &'a SecretHash,
    /// Which client comes.
    pub client: ClientId,
    /// Where the client says the code was sent.
    pub redirect_uri: &'a str,
    /// The challenge that its verifier answers.
    pub code_challenge: &'a CodeChallenge,
}

const COLUMNS: &str = "client, user_id, redirect_uri, code_challenge, scope, res, authenticated_at, amr, created_from, \
                       created_at, expires_at";

fn read(row: &Row) -> Result<Authorization, StoreError> {
    Ok(Authorization {
        client: parsed(row.str(0)?, "authorization_codes.client")?,
        user: parsed(row.str(1)?, "authorization_codes.user_id")?,
        redirect_uri: parsed(row.str(2)?, "authorization_codes.redirect_uri")?,
        code_challenge: parsed(row.str(3)?, "authorization_codes.code_challenge")?,
        rights: Rights {
            scope: parsed(row.str(4)?, "authorization_codes.scope")?,
            res: parsed(row.str(5)?, "authorization_codes.res")?,
        },
        authenticated_at: Timestamp::from_millis(row.int(6)?),
        amr: row.text(7)?,
        created_from: row.opt_text(8)?,
        created_at: Timestamp::from_millis(row.int(9)?),
        expires_at: Timestamp::from_millis(row.int(10)?),
    })
}

impl Store {
    /// Whether there is such a code, redeemed or not.
    pub async fn is_authorization_code(&self, code: &SecretHash) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM authorization_codes WHERE code_hash = $1";
        Ok(self.find(sql, &[code.as_bytes().into()], |_| Ok(())).await?.is_some())
    }
}

impl Tx {
    /// Keeps what a user let a client have.
    pub async fn insert_authorization_code(
        &mut self,
        code: &SecretHash,
        given: &Authorization,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO authorization_codes ({COLUMNS}, code_hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        );
        let args = [
            given.client.to_string().into(),
            given.user.to_string().into(),
            given.redirect_uri.as_str().into(),
            given.code_challenge.as_str().into(),
            given.rights.scope.to_string().into(),
            given.rights.res.to_text().into(),
            given.authenticated_at.as_millis().into(),
            given.amr.as_str().into(),
            given.created_from.as_deref().into(),
            given.created_at.as_millis().into(),
            given.expires_at.as_millis().into(),
            code.as_bytes().into(),
        ];
        self.execute(&sql, &args).await.map(|_| ())
    }

    /// Gives what belongs to the code, once: to the client that it was sent to, where it was sent, with its verifier.
    pub async fn redeem_authorization_code(
        &mut self,
        with: &Redeemed<'_>,
        now: Timestamp,
    ) -> Result<Option<Authorization>, StoreError> {
        let sql = format!(
            "UPDATE authorization_codes SET redeemed_at = $5 WHERE code_hash = $1 AND client = $2 AND redirect_uri = $3 \
             AND code_challenge = $4 AND redeemed_at IS NULL AND expires_at > $5 RETURNING {COLUMNS}"
        );
        let args = [
            with.code.as_bytes().into(),
            with.client.to_string().into(),
            with.redirect_uri.into(),
            with.code_challenge.as_str().into(),
            now.as_millis().into(),
        ];
        self.find(&sql, &args, read).await
    }

    /// Notes which session a code gave.
    pub async fn note_session_of_code(
        &mut self,
        code: &SecretHash,
        session: DeviceSessionId,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE authorization_codes SET session = $2 WHERE code_hash = $1";
        self.execute(sql, &[code.as_bytes().into(), session.to_string().into()]).await.map(|_| ())
    }

    /// The session that a code gave which was redeemed before.
    pub async fn find_session_of_code(&mut self, code: &SecretHash) -> Result<Option<DeviceSessionId>, StoreError> {
        let sql = "SELECT session FROM authorization_codes WHERE code_hash = $1 AND session IS NOT NULL";
        self.find(sql, &[code.as_bytes().into()], |row| parsed(row.str(0)?, "authorization_codes.session")).await
    }

    /// Takes back what a user let clients have that have not come for it.
    pub async fn withdraw_authorization_codes(&mut self, user: UserId) -> Result<u64, StoreError> {
        let sql = "DELETE FROM authorization_codes WHERE user_id = $1 AND redeemed_at IS NULL";
        self.execute(sql, &[user.to_string().into()]).await
    }

    /// Forgets codes that ended some time ago, at most so many; gives how many.
    pub async fn forget_authorization_codes(&mut self, now: Timestamp, most: u16) -> Result<u64, StoreError> {
        let sql = "DELETE FROM authorization_codes WHERE code_hash IN \
                   (SELECT code_hash FROM authorization_codes WHERE expires_at <= $1 LIMIT $2)";
        self.execute(sql, &[now.minus(KEPT_AFTER_END).as_millis().into(), i64::from(most).into()]).await
    }
}
