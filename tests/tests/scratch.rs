#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#[path="../it/real_clients.rs"] mod real_clients;
#[path="../it/postgres.rs"] mod postgres;
