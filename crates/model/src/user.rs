//! Users: people, whose rights bound every key they own.

use serde::{Deserialize, Serialize};

use crate::id::UserId;
use crate::rights::Rights;
use crate::time::Timestamp;

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `user_…`.
    pub id: UserId,
    /// What people call them; unique.
    pub name: String,
    /// Where notices go.
    pub email: Option<String>,
    /// What they may do now, and so the most any of their keys may do.
    pub rights: Rights,
    /// Since when they are disabled, with all their clients.
    pub disabled_at: Option<Timestamp>,
    /// When they were added.
    pub created_at: Timestamp,
    /// When they were last changed.
    pub updated_at: Timestamp,
    /// Grows by one with each change; the `ETag` (RFC 9110 §8.8.3).
    pub version: i64,
}

/// Whether something is in use or switched off, as filters name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// In use.
    Active,
    /// Switched off.
    Disabled,
}
