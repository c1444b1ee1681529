//! The steps that brought the schema to where it is; never changed once released.

use crate::engine::Migration;

/// All steps in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "initial", sql: include_str!("../migrations/0001_initial.sql") },
    Migration { version: 2, name: "callers", sql: include_str!("../migrations/0002_callers.sql") },
    Migration { version: 3, name: "notices", sql: include_str!("../migrations/0003_notices.sql") },
    Migration { version: 4, name: "transfers", sql: include_str!("../migrations/0004_transfers.sql") },
    Migration { version: 5, name: "logins", sql: include_str!("../migrations/0005_logins.sql") },
];
