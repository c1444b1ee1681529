//! All integration tests: one binary, one file a subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod authority;
mod crashes;
mod introspect;
mod keys;
mod migrations;
mod nodes;
mod postgres;
mod races;
mod real_clients;
mod revoke;
mod token;
