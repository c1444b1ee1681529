//! The OAuth 2.0 endpoints.

pub(crate) mod authorization;
pub(crate) mod caller;
pub mod client_auth;
pub mod device_authorization;
pub mod form;
pub mod grants;
pub mod identity_token;
pub mod introspect;
pub mod jwks;
pub(crate) mod key_warning;
pub mod metadata;
pub mod revocations;
pub mod revoke;
pub(crate) mod sealed_response;
pub mod session_tokens;
pub mod status_list;
pub mod token;
