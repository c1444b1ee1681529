//! The test kit: what integration tests start and look at.
#![allow(clippy::expect_used, clippy::panic, reason = "a test kit reports a broken machine by failing the test")]

pub mod keyward;
pub mod postgres;
pub mod run;
