//! Nouns and rules of Keyward: identifiers, API keys, rights, credential states, tokens, events.
//!
//! Nothing here does I/O, waits, or reads a clock: the time and randomness a rule needs are passed in.

pub mod api;
pub mod basic;
pub mod caller;
mod checksummed;
pub mod client;
pub mod credential;
pub mod device_grant;
pub mod device_session;
pub mod entropy;
pub mod event;
pub mod form;
pub mod id;
pub mod jws;
pub mod key;
pub mod legible;
pub mod login;
pub mod notice;
pub mod passkey;
pub mod password;
pub mod pkce;
pub mod recovery;
pub mod redirect_uri;
pub mod refresh_token;
pub mod rights;
pub mod sealing;
pub mod secret;
pub mod time;
pub mod token;
pub mod transfer;
pub mod user;
pub mod user_code;
pub mod webhook;
pub mod words;
