//! Measures Keyward against the limit server: the same load, alternating rounds, ratios.
//!
//! `scenario` holds one file per question asked; each is built from `subject` (the servers), `load` (the
//! requests) and `measure` (rounds in pairs), and answers with the `Comparison`s that `report` prints.
#![allow(
    clippy::disallowed_methods,
    reason = "a stopwatch reads the real clock, and the driver has nothing to do while it waits"
)]
#![allow(clippy::print_stdout, reason = "the library of a program for the terminal: it says what takes long")]

pub mod device;
pub mod http;
pub mod load;
pub mod measure;
pub mod placement;
pub mod process;
pub mod report;
pub mod scenario;
pub mod seed;
pub mod subject;
pub mod table;
pub mod wire;
