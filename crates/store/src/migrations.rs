//! The steps that brought the schema to where it is; never changed once released.

use crate::engine::Migration;

/// All steps in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "initial", sql: include_str!("../migrations/0001_initial.sql") },
    Migration { version: 2, name: "callers", sql: include_str!("../migrations/0002_callers.sql") },
    Migration { version: 3, name: "notices", sql: include_str!("../migrations/0003_notices.sql") },
    Migration { version: 4, name: "transfers", sql: include_str!("../migrations/0004_transfers.sql") },
    Migration { version: 5, name: "observers", sql: include_str!("../migrations/0005_observers.sql") },
    Migration { version: 6, name: "leaks", sql: include_str!("../migrations/0006_leaks.sql") },
    Migration { version: 7, name: "device sessions", sql: include_str!("../migrations/0007_device_sessions.sql") },
    Migration { version: 8, name: "identities", sql: include_str!("../migrations/0008_identities.sql") },
    Migration { version: 9, name: "outbox", sql: include_str!("../migrations/0009_outbox.sql") },
    Migration { version: 10, name: "logins", sql: include_str!("../migrations/0010_logins.sql") },
    Migration { version: 11, name: "disabled", sql: include_str!("../migrations/0011_disabled.sql") },
    Migration { version: 12, name: "device grants", sql: include_str!("../migrations/0012_device_grants.sql") },
    Migration { version: 13, name: "refresh tokens", sql: include_str!("../migrations/0013_refresh_tokens.sql") },
];
