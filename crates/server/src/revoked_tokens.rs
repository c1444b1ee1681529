//! The single tokens that were revoked before their time (RFC 7009), in bounded memory.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use keyward_model::id::TokenId;
use keyward_model::time::Timestamp;
use keyward_store::{Store, StoreError};

/// Beyond this many, the database is asked for the others.
const MOST: usize = 100_000;

/// Tokens that are revoked and not dead yet.
#[derive(Default)]
pub(crate) struct RevokedTokens(RwLock<Known>);

#[derive(Default)]
struct Known {
    until: HashMap<TokenId, Timestamp>,
    /// Whether there are more than are known here.
    more: bool,
}

impl RevokedTokens {
    /// Reads those that are revoked already.
    pub(crate) async fn load(store: &Store, now: Timestamp) -> Result<Self, StoreError> {
        let revoked = Self::default();
        for (jti, expires_at) in store.list_revoked_tokens(now).await? {
            revoked.add(jti, expires_at, now);
        }
        Ok(revoked)
    }

    /// Knows what these know, and nothing else.
    pub(crate) fn replace(&self, read: Self) {
        let read = read.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = read;
    }

    /// Adds one, forgetting the dead ones when there is no room.
    pub(crate) fn add(&self, jti: TokenId, expires_at: Timestamp, now: Timestamp) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.until.len() >= MOST {
            known.until.retain(|_, until| *until > now);
        }
        if known.until.len() >= MOST {
            known.more = true;
        } else {
            known.until.insert(jti, expires_at);
        }
    }

    /// Whether this token is revoked.
    pub(crate) async fn contains(&self, store: &Store, jti: TokenId) -> Result<bool, StoreError> {
        let more = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if known.until.contains_key(&jti) {
                return Ok(true);
            }
            known.more
        };
        if more { store.is_token_revoked(jti).await } else { Ok(false) }
    }
}
