//! Credentials. Every change of state is one conditional statement.

use keyward_model::client::Client;
use keyward_model::credential::{Credential, EndReason, State, StateName};
use keyward_model::id::{ClientId, CredentialId, UserId};
use keyward_model::secret::SecretHash;
use keyward_model::time::Timestamp;
use keyward_model::user::User;

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Page, Store, StoreError, Tx, parsed};

pub(crate) const COLUMNS: &str = "id, client, label, purpose, secret_hash, scope, res, state, expires_at, retire_at, ended_at, \
                       end_reason, successor, status_index, created_by, created_at, updated_at, version, leaked_at";
/// How many columns that is.
pub(crate) const WIDTH: usize = 19;

/// It still authenticates at the instant `$2`: no deadline of it has passed, written down or not.
pub(crate) const AUTHENTICATES: &str = "state IN ('active', 'retiring') AND (expires_at IS NULL OR expires_at > $2) \
                                        AND (retire_at IS NULL OR retire_at > $2)";

/// Which credentials to list.
#[derive(Debug, Clone, Default)]
pub struct CredentialFilter {
    /// Of this client.
    pub client: Option<ClientId>,
    /// Of clients owned by this user.
    pub owner: Option<UserId>,
    /// In this state at this instant.
    pub state: Option<(StateName, Timestamp)>,
    /// That authenticate at this instant.
    pub authenticates_at: Option<Timestamp>,
}

/// Whether the credential in these columns (`c.`, or nothing before their names) authenticates at the value `now`.
/// Deadlines count as soon as they pass, whatever was last written; see `Credential::state_at`.
pub(crate) fn authenticates(of: &str, now: &str) -> String {
    format!(
        "{of}ended_at IS NULL AND ({of}expires_at IS NULL OR {of}expires_at > {now}) \
         AND ({of}retire_at IS NULL OR {of}retire_at > {now})"
    )
}

pub(crate) fn read(row: &Row) -> Result<Credential, StoreError> {
    let instant = |column| Ok::<_, StoreError>(row.opt_int(column)?.map(Timestamp::from_millis));
    let corrupt = |what: &str| StoreError::Corrupt(format!("credentials: {what}"));
    let ended_at = || instant(10)?.ok_or_else(|| corrupt("an ended one without ended_at"));
    let state = match parsed(row.str(7)?, "credentials.state")? {
        StateName::Active => State::Active,
        StateName::Retiring => {
            State::Retiring { retire_at: instant(9)?.ok_or_else(|| corrupt("a retiring one without retire_at"))? }
        }
        StateName::Expired => State::Expired {
            ended_at: ended_at()?,
            reason: parsed(row.opt_str(11)?.unwrap_or_default(), "credentials.end_reason")?,
        },
        StateName::Revoked => State::Revoked { ended_at: ended_at()? },
        StateName::Purged => State::Purged { ended_at: ended_at()? },
    };
    Ok(Credential {
        id: parsed(row.str(0)?, "credentials.id")?,
        client: parsed(row.str(1)?, "credentials.client")?,
        label: row.text(2)?,
        purpose: parsed(row.str(3)?, "credentials.purpose")?,
        secret_hash: row
            .opt_blob(4)?
            .map(|b| SecretHash::from_bytes(&b).ok_or_else(|| corrupt("a secret_hash of another length")))
            .transpose()?,
        scope: row.opt_str(5)?.map(|t| parsed(t, "credentials.scope")).transpose()?,
        res: row.opt_str(6)?.map(|t| parsed(t, "credentials.res")).transpose()?,
        state,
        expires_at: instant(8)?,
        leaked_at: instant(18)?,
        successor: row.opt_str(12)?.map(|t| parsed(t, "credentials.successor")).transpose()?,
        status_index: row.int(13)?,
        created_by: parsed(row.str(14)?, "credentials.created_by")?,
        created_at: Timestamp::from_millis(row.int(15)?),
        updated_at: Timestamp::from_millis(row.int(16)?),
        version: row.int(17)?,
    })
}

impl Store {
    /// The credential with this id: one indexed read, the only one a token request may need for it.
    pub async fn find_credential(&self, id: CredentialId) -> Result<Option<Credential>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM credentials WHERE id = $1");
        self.find(&sql, &[id.to_string().into()], read).await
    }

    /// Credentials in the order in which they were issued.
    pub async fn list_credentials(
        &self,
        filter: &CredentialFilter,
        page: &Page,
    ) -> Result<Vec<Credential>, StoreError> {
        let mut listing = Listing::new(&format!("SELECT {COLUMNS} FROM credentials"));
        listing.and("client = ?", filter.client.map(|c| c.to_string()));
        listing.and("client IN (SELECT id FROM clients WHERE owner = ?)", filter.owner.map(|o| o.to_string()));
        if let Some((state, now)) = filter.state {
            // Deadlines count as soon as they pass, whatever was last written; see `Credential::state_at`.
            let now = Some(now.as_millis());
            match state {
                StateName::Active | StateName::Retiring => {
                    listing.and("expires_at IS NULL OR expires_at > ?", now);
                    listing.and("retire_at IS NULL OR retire_at > ?", now);
                    listing.and("state = ?", Some(state.as_str()));
                }
                StateName::Expired => drop(listing.and(
                    "state = 'expired' OR (state IN ('active', 'retiring') AND (expires_at <= ? OR retire_at <= ?))",
                    now,
                )),
                StateName::Revoked | StateName::Purged => drop(listing.and("state = ?", Some(state.as_str()))),
            }
        }
        if let Some(now) = filter.authenticates_at {
            let now = listing.value(now.as_millis());
            listing.only(&authenticates("", &now));
        }
        listing.run(self, "id", page, read).await
    }
}

impl Tx {
    /// The credential as it is in the middle of this transaction: nobody changes it before the commit.
    pub async fn find_credential(&mut self, id: CredentialId) -> Result<Option<Credential>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM credentials WHERE id = $1");
        self.find(&sql, &[id.to_string().into()], read).await
    }

    /// Whether these three are still of the version they were judged by.
    pub async fn are_unchanged(
        &mut self,
        credential: &Credential,
        client: &Client,
        owner: &User,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM credentials c JOIN clients k ON k.id = c.client JOIN users u ON u.id = k.owner \
                   WHERE c.id = $1 AND c.version = $2 AND k.version = $3 AND u.version = $4 AND u.id = $5";
        let args: [Value; 5] = [
            credential.id.to_string().into(),
            credential.version.into(),
            client.version.into(),
            owner.version.into(),
            owner.id.to_string().into(),
        ];
        Ok(self.find(sql, &args, |_| Ok(())).await?.is_some())
    }

    /// The ids of a client's credentials.
    pub async fn list_credential_ids(&mut self, client: ClientId) -> Result<Vec<CredentialId>, StoreError> {
        self.list_ids("SELECT id FROM credentials WHERE client = $1 ORDER BY id", client).await
    }

    /// The ids of those of a client's credentials that have not ended.
    pub async fn list_unended_credential_ids(&mut self, client: ClientId) -> Result<Vec<CredentialId>, StoreError> {
        self.list_ids("SELECT id FROM credentials WHERE client = $1 AND ended_at IS NULL ORDER BY id", client).await
    }

    async fn list_ids(&mut self, sql: &str, client: ClientId) -> Result<Vec<CredentialId>, StoreError> {
        let rows = self.tx.query(sql, &[client.to_string().into()]).await?;
        rows.iter().map(|row| parsed(row.str(0)?, "credentials.id")).collect()
    }

    /// How many credentials of a client authenticate at this instant, as this transaction sees it.
    pub async fn count_working_credentials(
        &mut self,
        client: ClientId,
        state: StateName,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM credentials WHERE client = $1 AND state = $3 AND ended_at IS NULL \
                   AND (expires_at IS NULL OR expires_at > $2) AND (retire_at IS NULL OR retire_at > $2)";
        self.count(sql, &[client.to_string().into(), now.as_millis().into(), state.as_str().into()]).await
    }

    /// Stores a new credential.
    pub async fn insert_credential(&mut self, credential: &Credential) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO credentials ({COLUMNS}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
        );
        self.execute(&sql, &values(credential)).await.map(|_| ())
    }

    /// Changes label, expiry, scope and res if the credential still authenticates and nobody has changed it since
    /// `version` was read; `None` otherwise.
    pub async fn update_credential(
        &mut self,
        credential: &Credential,
        version: i64,
        now: Timestamp,
    ) -> Result<Option<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET updated_at = $2, version = version + 1, label = $3, expires_at = $4, scope = $5, \
             res = $6 WHERE id = $1 AND version = $7 AND {AUTHENTICATES} RETURNING {COLUMNS}"
        );
        let args = [
            credential.id.to_string().into(),
            now.as_millis().into(),
            credential.label.as_str().into(),
            credential.expires_at.map(Timestamp::as_millis).into(),
            credential.scope.as_ref().map(ToString::to_string).into(),
            credential.res.as_ref().map(|r| r.to_text()).into(),
            version.into(),
        ];
        self.find(&sql, &args, read).await
    }

    /// Revokes a credential that still authenticates; `None` if it had already ended.
    pub async fn revoke_credential(
        &mut self,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET state = 'revoked', ended_at = $2, updated_at = $2, version = version + 1 \
             WHERE id = $1 AND {AUTHENTICATES} RETURNING {COLUMNS}"
        );
        self.find(&sql, &[id.to_string().into(), now.as_millis().into()], read).await
    }

    /// Retires a credential that still authenticates because it has leaked, unless it is known to have: until this hard
    /// end, or until the end it has if that is earlier. `None` if nothing was to be done.
    pub async fn retire_leaked_credential(
        &mut self,
        id: CredentialId,
        retire_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET state = 'retiring', leaked_at = $2, updated_at = $2, version = version + 1, \
             retire_at = CASE WHEN retire_at <= $3 AND (expires_at IS NULL OR retire_at <= expires_at) THEN retire_at \
                              WHEN expires_at <= $3 THEN expires_at ELSE $3 END \
             WHERE id = $1 AND leaked_at IS NULL AND {AUTHENTICATES} RETURNING {COLUMNS}"
        );
        let args = [id.to_string().into(), now.as_millis().into(), retire_at.as_millis().into()];
        self.find(&sql, &args, read).await
    }

    /// Ends the bootstrap credential because it has done what it was for; `false` if it had already ended, so that of
    /// two uses at once only one succeeds.
    pub async fn use_up_bootstrap_credential(&mut self, id: CredentialId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE credentials SET state = 'expired', ended_at = $2, end_reason = $3, updated_at = $2, \
                   version = version + 1 WHERE id = $1 AND purpose = 'bootstrap' AND state = 'active'";
        let args = [id.to_string().into(), now.as_millis().into(), EndReason::BootstrapUsed.as_str().into()];
        Ok(self.execute(sql, &args).await? == 1)
    }

    /// Writes down the ends that time has brought; gives the credentials that ended.
    pub async fn expire_credentials(&mut self, now: Timestamp, most: u16) -> Result<Vec<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET state = 'expired', version = version + 1, updated_at = $1, \
             end_reason = CASE WHEN retire_at IS NOT NULL AND (expires_at IS NULL OR retire_at < expires_at) \
                               THEN 'retire_at' ELSE 'expires_at' END, \
             ended_at = CASE WHEN retire_at IS NOT NULL AND (expires_at IS NULL OR retire_at < expires_at) \
                             THEN retire_at ELSE expires_at END \
             WHERE id IN (SELECT id FROM credentials WHERE ended_at IS NULL AND expires_at <= $1 \
                          UNION SELECT id FROM credentials WHERE ended_at IS NULL AND retire_at <= $1 LIMIT $2) \
             AND ended_at IS NULL RETURNING {COLUMNS}"
        );
        let args = [now.as_millis().into(), i64::from(most).into()];
        self.tx.query(&sql, &args).await?.iter().map(read).collect()
    }

    /// Erases the secret hashes of credentials that ended before `ended_before`; gives the credentials.
    pub async fn purge_credentials(
        &mut self,
        ended_before: Timestamp,
        now: Timestamp,
        most: u16,
    ) -> Result<Vec<Credential>, StoreError> {
        let sql = format!(
            "UPDATE credentials SET state = 'purged', secret_hash = NULL, updated_at = $2, version = version + 1 \
             WHERE id IN (SELECT id FROM credentials WHERE ended_at IS NOT NULL AND secret_hash IS NOT NULL \
                          AND ended_at < $1 LIMIT $3) AND secret_hash IS NOT NULL RETURNING {COLUMNS}"
        );
        let args = [ended_before.as_millis().into(), now.as_millis().into(), i64::from(most).into()];
        self.tx.query(&sql, &args).await?.iter().map(read).collect()
    }
}

fn values(credential: &Credential) -> [Value; 19] {
    let (retire_at, reason) = match credential.state {
        State::Retiring { retire_at } => (Some(retire_at), None),
        State::Expired { reason, .. } => (None, Some(reason)),
        State::Active | State::Revoked { .. } | State::Purged { .. } => (None, None),
    };
    [
        credential.id.to_string().into(),
        credential.client.to_string().into(),
        credential.label.as_str().into(),
        credential.purpose.as_str().into(),
        credential.secret_hash.as_ref().map(|h| h.as_bytes().to_vec()).into(),
        credential.scope.as_ref().map(ToString::to_string).into(),
        credential.res.as_ref().map(|r| r.to_text()).into(),
        credential.state.name().as_str().into(),
        credential.expires_at.map(Timestamp::as_millis).into(),
        retire_at.map(Timestamp::as_millis).into(),
        credential.state.ended_at().map(Timestamp::as_millis).into(),
        reason.map(EndReason::as_str).into(),
        credential.successor.map(|s| s.to_string()).into(),
        credential.status_index.into(),
        credential.created_by.to_string().into(),
        credential.created_at.as_millis().into(),
        credential.updated_at.as_millis().into(),
        credential.version.into(),
        credential.leaked_at.map(Timestamp::as_millis).into(),
    ]
}
