//! Device grants. Every arrow is one conditional statement with the conditions of its arrow in
//! `keyward_model::device_grant`; `None` says that they did not hold.

use std::time::Duration;

use keyward_model::caller::Network;
use keyward_model::device_grant::{Approval, Claim, Denial, DeviceGrant, Digits, GrantState, GrantStateName};
use keyward_model::id::{DeviceGrantId, DeviceSessionId, LoginId, UserId};
use keyward_model::rights::Rights;
use keyward_model::secret::SecretHash;
use keyward_model::time::Timestamp;

use crate::engine::{Row, Value};
use crate::{SealedAnswer, Store, StoreError, Tx, parsed};

const COLUMNS: &str = "id, client, scope, res, label, network, user_agent, confirmation, interval_s, state, user_id, login, \
                       claimed_at, typed, approved_at, authenticated_at, method, approved_from, digits, wrong, session, \
                       ended_at, denial, created_at, expires_at, version";
/// What every end does: the code that people type is free again.
const END: &str = "ended_at = $2, user_code_mac = NULL, digits = NULL";

/// What finds a device grant: hashes of what the device holds and of what people type.
#[derive(Debug, Clone)]
pub struct GrantCodes {
    /// Of the `device_code`.
    pub device: SecretHash,
    /// Of the `user_code`, under a key of its own.
    pub user: SecretHash,
}

fn instant(row: &Row, column: usize) -> Result<Timestamp, StoreError> {
    row.int(column).map(Timestamp::from_millis)
}

fn read(row: &Row) -> Result<DeviceGrant, StoreError> {
    Ok(DeviceGrant {
        id: parsed(row.str(0)?, "device_grants.id")?,
        client: parsed(row.str(1)?, "device_grants.client")?,
        rights: Rights {
            scope: parsed(row.str(2)?, "device_grants.scope")?,
            res: parsed(row.str(3)?, "device_grants.res")?,
        },
        label: row.text(4)?,
        network: parsed(row.str(5)?, "device_grants.network")?,
        user_agent: row.text(6)?,
        confirmation: row.int(7)? != 0,
        interval: Duration::from_secs(u64::try_from(row.int(8)?).unwrap_or_default()),
        state: read_state(row)?,
        created_at: instant(row, 23)?,
        expires_at: instant(row, 24)?,
        version: row.int(25)?,
    })
}

fn read_state(row: &Row) -> Result<GrantState, StoreError> {
    let user = || parsed::<UserId>(row.str(10)?, "device_grants.user_id");
    let of = || row.opt_str(10)?.map(|user| parsed(user, "device_grants.user_id")).transpose();
    let claim = || {
        Ok::<_, StoreError>(Claim {
            user: user()?,
            login: parsed::<LoginId>(row.str(11)?, "device_grants.login")?,
            claimed_at: instant(row, 12)?,
            typed: row.int(13)? != 0,
        })
    };
    Ok(match parsed(row.str(9)?, "device_grants.state")? {
        GrantStateName::Pending => GrantState::Pending,
        GrantStateName::Claimed => GrantState::Claimed(claim()?),
        GrantStateName::Approved => GrantState::Approved(Approval {
            claim: claim()?,
            approved_at: instant(row, 14)?,
            authenticated_at: instant(row, 15)?,
            method: parsed(row.str(16)?, "device_grants.method")?,
            network: parsed(row.str(17)?, "device_grants.approved_from")?,
            digits: row.opt_str(18)?.and_then(Digits::parse),
            wrong: row.int(19)?,
        }),
        GrantStateName::Redeemed => GrantState::Redeemed {
            by: user()?,
            session: parsed(row.str(20)?, "device_grants.session")?,
            redeemed_at: instant(row, 21)?,
        },
        GrantStateName::Denied => GrantState::Denied {
            of: of()?,
            denied_at: instant(row, 21)?,
            reason: parsed(row.str(22)?, "device_grants.denial")?,
        },
        GrantStateName::Expired => GrantState::Expired { of: of()?, expired_at: instant(row, 21)? },
    })
}

impl Store {
    /// Stores a device grant that nobody has entered the code of; `false` if another has that code. It is no event: the
    /// log is for ever, and anybody may ask.
    pub async fn insert_device_grant(&self, grant: &DeviceGrant, codes: &GrantCodes) -> Result<bool, StoreError> {
        let sql = "INSERT INTO device_grants (id, client, scope, res, label, network, user_agent, confirmation, interval_s, \
                   created_at, expires_at, version, device_code_hash, user_code_mac, state, wrong) VALUES \
                   ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'pending', 0) \
                   ON CONFLICT (user_code_mac) DO NOTHING";
        let args: [Value; 14] = [
            grant.id.to_string().into(),
            grant.client.to_string().into(),
            grant.rights.scope.to_string().into(),
            grant.rights.res.to_text().into(),
            grant.label.as_str().into(),
            grant.network.to_string().into(),
            grant.user_agent.as_str().into(),
            i64::from(grant.confirmation).into(),
            i64::try_from(grant.interval.as_secs()).unwrap_or(i64::MAX).into(),
            grant.created_at.as_millis().into(),
            grant.expires_at.as_millis().into(),
            grant.version.into(),
            codes.device.as_bytes().into(),
            codes.user.as_bytes().into(),
        ];
        let mut tx = self.engine.begin().await?;
        let inserted = tx.execute(sql, &args).await? == 1;
        tx.commit(true).await?;
        Ok(inserted)
    }

    /// The device grant with this id.
    pub async fn find_device_grant(&self, id: DeviceGrantId) -> Result<Option<DeviceGrant>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM device_grants WHERE id = $1");
        self.find(&sql, &[id.to_string().into()], read).await
    }

    /// The device grant whose `device_code` has this hash.
    pub async fn find_device_grant_of_device(&self, code: &SecretHash) -> Result<Option<DeviceGrant>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM device_grants WHERE device_code_hash = $1");
        self.find(&sql, &[code.as_bytes().into()], read).await
    }

    /// The device grant whose `user_code` has this hash, unless it has ended.
    pub async fn find_device_grant_of_user(
        &self,
        code: &SecretHash,
        now: Timestamp,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM device_grants WHERE user_code_mac = $1 AND expires_at > $2");
        self.find(&sql, &[code.as_bytes().into(), now.as_millis().into()], read).await
    }

    /// The answer to a redemption, as long as nobody has come with the refresh token in it.
    pub async fn find_device_grant_answer(&self, id: DeviceGrantId) -> Result<Option<SealedAnswer>, StoreError> {
        let sql = "SELECT g.sealed, g.sealed_until FROM device_grants g JOIN refresh_tokens r ON r.session = g.session \
                   WHERE g.id = $1 AND g.sealed IS NOT NULL AND r.previous_hash IS NULL";
        self.find(sql, &[id.to_string().into()], |row| {
            Ok(SealedAnswer { sealed: row.blob(0)?, until: instant(row, 1)? })
        })
        .await
    }

    /// How many devices of a network have asked since then.
    pub async fn count_device_grants(&self, network: Network, since: Timestamp) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM device_grants WHERE network = $1 AND created_at > $2";
        let args = [network.to_string().into(), since.as_millis().into()];
        let count = self.find(sql, &args, |row| row.int(0)).await?.unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// How many codes somebody could enter now.
    pub async fn count_open_user_codes(&self, now: Timestamp) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM device_grants WHERE ended_at IS NULL AND expires_at > $1";
        let count = self.find(sql, &[now.as_millis().into()], |row| row.int(0)).await?.unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

impl Tx {
    /// The device grant with this id, as this transaction sees it.
    pub async fn find_device_grant(&mut self, id: DeviceGrantId) -> Result<Option<DeviceGrant>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM device_grants WHERE id = $1");
        self.find(&sql, &[id.to_string().into()], read).await
    }

    /// One arrow: what it sets if it is there. `$1` is the grant, `$2` the instant.
    async fn arrow(
        &mut self,
        (id, now): (DeviceGrantId, Timestamp),
        set: &str,
        if_it_is: &str,
        further: &[Value],
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let sql = format!(
            "UPDATE device_grants SET {set}, version = version + 1 WHERE id = $1 AND expires_at > $2 AND {if_it_is} \
             RETURNING {COLUMNS}"
        );
        let args = [&[id.to_string().into(), now.as_millis().into()], further].concat();
        self.find(&sql, &args, read).await
    }

    /// Somebody enters the code: the first, and then only the same user. In another browser of theirs it moves there.
    pub async fn claim_device_grant(
        &mut self,
        id: DeviceGrantId,
        claim: &Claim,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        // What was typed in this browser stays typed, whatever link is followed there afterwards.
        let set = "state = 'claimed', user_id = $3, \
                   typed = CASE WHEN state = 'claimed' AND login = $4 AND typed > $5 THEN typed ELSE $5 END, \
                   claimed_at = CASE WHEN state = 'claimed' AND login = $4 THEN claimed_at ELSE $2 END, login = $4";
        let user: Value = claim.user.to_string().into();
        let further = [user, claim.login.to_string().into(), i64::from(claim.typed).into()];
        let if_it_is = "(state = 'pending' OR (state = 'claimed' AND user_id = $3))";
        self.arrow((id, claim.claimed_at), set, if_it_is, &further).await
    }

    /// Another account enters the code than the one that has: it is in more hands than it should be.
    pub async fn contest_device_grant(
        &mut self,
        id: DeviceGrantId,
        user: UserId,
        now: Timestamp,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let set = format!("state = 'denied', denial = '{}', {END}", Denial::Contested);
        let if_it_is = "state IN ('claimed', 'approved') AND user_id <> $3";
        self.arrow((id, now), &set, if_it_is, &[user.to_string().into()]).await
    }

    /// Lets the device in: by the browser that entered the code, and by nobody who is disabled.
    pub async fn approve_device_grant(
        &mut self,
        id: DeviceGrantId,
        approval: &Approval,
        rights: &Rights,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let set = "state = 'approved', approved_at = $2, authenticated_at = $5, method = $6, approved_from = $7, \
                   digits = $8, scope = $9, res = $10";
        let if_it_is = "state = 'claimed' AND user_id = $3 AND login = $4 \
                        AND EXISTS (SELECT 1 FROM users WHERE users.id = $3 AND users.disabled_at IS NULL)";
        let further = [
            approval.claim.user.to_string().into(),
            approval.claim.login.to_string().into(),
            approval.authenticated_at.as_millis().into(),
            approval.method.as_str().into(),
            approval.network.to_string().into(),
            approval.digits.map(Digits::reveal).into(),
            rights.scope.to_string().into(),
            rights.res.to_text().into(),
        ];
        self.arrow((id, approval.approved_at), set, if_it_is, &further).await
    }

    /// Gives the code free in the browser that entered it.
    pub async fn release_device_grant(
        &mut self,
        id: DeviceGrantId,
        (user, login): (UserId, LoginId),
        now: Timestamp,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let set = "state = 'pending', user_id = NULL, login = NULL, claimed_at = NULL, typed = NULL";
        let if_it_is = "state = 'claimed' AND user_id = $3 AND login = $4";
        self.arrow((id, now), set, if_it_is, &[user.to_string().into(), login.to_string().into()]).await
    }

    /// Says no in the browser that entered the code.
    pub async fn refuse_device_grant(
        &mut self,
        id: DeviceGrantId,
        (user, login): (UserId, LoginId),
        now: Timestamp,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let set = format!("state = 'denied', denial = '{}', {END}", Denial::Refused);
        let if_it_is = "state = 'claimed' AND user_id = $3 AND login = $4";
        self.arrow((id, now), &set, if_it_is, &[user.to_string().into(), login.to_string().into()]).await
    }

    /// Takes an approval back that the device has not heard of.
    pub async fn undo_device_grant(
        &mut self,
        id: DeviceGrantId,
        user: UserId,
        now: Timestamp,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let set = format!("state = 'denied', denial = '{}', {END}", Denial::Undone);
        self.arrow((id, now), &set, "state = 'approved' AND user_id = $3", &[user.to_string().into()]).await
    }

    /// Takes back all approvals of a user that their devices have not heard of; gives the grants.
    pub async fn undo_device_grants_of(
        &mut self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<DeviceGrant>, StoreError> {
        let sql = format!(
            "UPDATE device_grants SET state = 'denied', denial = '{}', {END}, version = version + 1 \
             WHERE user_id = $1 AND state = 'approved' AND expires_at > $2 RETURNING {COLUMNS}",
            Denial::Undone
        );
        let args = [user.to_string().into(), now.as_millis().into()];
        self.tx.query(&sql, &args).await?.iter().map(read).collect()
    }

    /// The device gives up.
    pub async fn cancel_device_grant(
        &mut self,
        id: DeviceGrantId,
        now: Timestamp,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let set = format!("state = 'denied', denial = '{}', {END}", Denial::Cancelled);
        self.arrow((id, now), &set, "state IN ('pending', 'claimed', 'approved')", &[]).await
    }

    /// Counts digits that were wrong; after so many nothing comes of the grant.
    pub async fn count_wrong_confirmation(
        &mut self,
        id: DeviceGrantId,
        most: i64,
        now: Timestamp,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let set = format!(
            "wrong = wrong + 1, state = CASE WHEN wrong + 1 >= $3 THEN 'denied' ELSE state END, \
             denial = CASE WHEN wrong + 1 >= $3 THEN '{}' ELSE denial END, \
             ended_at = CASE WHEN wrong + 1 >= $3 THEN $2 ELSE ended_at END, \
             digits = CASE WHEN wrong + 1 >= $3 THEN NULL ELSE digits END, \
             user_code_mac = CASE WHEN wrong + 1 >= $3 THEN NULL ELSE user_code_mac END",
            Denial::Unconfirmed
        );
        self.arrow((id, now), &set, "state = 'approved' AND digits IS NOT NULL", &[most.into()]).await
    }

    /// The device fetches what was decided: once, and only while user and client are in use.
    pub async fn redeem_device_grant(
        &mut self,
        id: DeviceGrantId,
        session: DeviceSessionId,
        answer: &SealedAnswer,
        now: Timestamp,
    ) -> Result<Option<DeviceGrant>, StoreError> {
        let set = format!("state = 'redeemed', session = $3, sealed = $4, sealed_until = $5, {END}");
        let if_it_is = "state = 'approved' \
            AND EXISTS (SELECT 1 FROM users WHERE users.id = user_id AND users.disabled_at IS NULL) \
            AND EXISTS (SELECT 1 FROM clients WHERE clients.id = device_grants.client AND clients.disabled_at IS NULL)";
        let session: Value = session.to_string().into();
        let further = [session, answer.sealed.as_slice().into(), answer.until.as_millis().into()];
        self.arrow((id, now), &set, if_it_is, &further).await
    }

    /// Forgets answers that are not given any more, at most so many; gives how many.
    pub async fn forget_device_grant_answers(&mut self, now: Timestamp, most: u16) -> Result<u64, StoreError> {
        let sql = "UPDATE device_grants SET sealed = NULL, sealed_until = NULL WHERE id IN \
                   (SELECT id FROM device_grants WHERE sealed_until <= $1 LIMIT $2)";
        self.execute(sql, &[now.as_millis().into(), i64::from(most).into()]).await
    }

    /// Writes down the ends that time has brought; gives the grants that ended.
    pub async fn expire_device_grants(&mut self, now: Timestamp, most: u16) -> Result<Vec<DeviceGrant>, StoreError> {
        let sql = format!(
            "UPDATE device_grants SET state = 'expired', ended_at = expires_at, user_code_mac = NULL, digits = NULL, \
             version = version + 1 WHERE id IN \
             (SELECT id FROM device_grants WHERE ended_at IS NULL AND expires_at <= $1 LIMIT $2) \
             AND ended_at IS NULL RETURNING {COLUMNS}"
        );
        let args = [now.as_millis().into(), i64::from(most).into()];
        self.tx.query(&sql, &args).await?.iter().map(read).collect()
    }

    /// Deletes device grants that ended before this instant; gives how many.
    pub async fn forget_device_grants(&mut self, ended_before: Timestamp, most: u16) -> Result<u64, StoreError> {
        let sql = "DELETE FROM device_grants WHERE id IN \
                   (SELECT id FROM device_grants WHERE ended_at IS NOT NULL AND ended_at < $1 LIMIT $2)";
        self.execute(sql, &[ended_before.as_millis().into(), i64::from(most).into()]).await
    }
}
