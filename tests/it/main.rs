//! All integration tests: one binary, one file a subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod account_devices;
mod api_reference;
mod apis;
mod attacks;
mod audit;
mod authority;
mod authorization;
mod browser;
mod caller_counts;
mod caller_nodes;
mod callers;
mod cli;
mod cli_login;
mod cli_rotation;
mod connections;
mod crashes;
mod demo;
mod device_browser;
mod device_crashes;
mod device_grants;
mod device_grants_model;
mod device_holds;
mod device_pages;
mod device_sessions;
mod dice;
mod events;
mod ext_authz;
mod forward_auth;
mod gateway_keys;
mod gateways;
mod guard;
mod guard_axum;
mod guard_bound;
mod identity_issuers;
mod introspect;
mod invitations;
mod key_warning;
mod keys;
mod leaks;
mod limits;
mod login;
mod logs;
mod lost_events;
mod lowered_rights;
mod mail;
mod metrics;
mod migrations;
mod nodes;
mod notices;
mod owners;
mod passkeys;
mod passwords;
mod postgres;
mod proxies;
mod races;
mod real_clients;
mod real_device_clients;
mod recovery_codes;
mod refresh_tokens;
mod revocations;
mod revocations_walk;
mod revoke;
mod rotation;
mod rotation_model;
mod scanners;
mod scopes;
mod serve;
mod session_tokens;
mod sign_in_notices;
mod signing_keys;
mod status_list;
mod terminal;
mod tls;
mod token;
mod traces;
mod transfers;
mod two_token;
mod users;
mod watch;
mod webhooks;
