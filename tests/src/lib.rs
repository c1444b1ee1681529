//! The test kit: what integration tests start and look at.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test kit reports a broken machine by failing the test"
)]

mod api;
pub mod authenticator;
pub mod authority;
pub mod browser;
pub mod clients;
pub mod devices;
pub mod echo;
pub mod feed;
pub mod gateways;
pub mod keyward;
pub mod mail;
pub mod person;
pub mod postgres;
pub mod provider;
pub mod receiver;
pub mod relay;
pub mod run;
pub mod server;
mod sessions;
pub mod tokens;
pub mod visitor;

/// An HTTP client that follows no redirect.
pub fn http() -> reqwest::Client {
    http_from(None)
}

/// The same from this address of the machine.
pub fn http_from(address: Option<std::net::IpAddr>) -> reqwest::Client {
    // Another test of this process may have installed it.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).local_address(address);
    client.build().expect("a client needs nothing but the provider")
}
