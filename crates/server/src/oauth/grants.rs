//! The grants: which there are, and what each may use. Nothing below here names HTTP.

pub mod authorization_code;
pub mod client_credentials;
pub mod device_code;
pub mod refresh_token;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use keyward_model::form::Form;
use keyward_model::refresh_token::RefreshToken;
use keyward_model::rights::{Requested, RightsError};
use keyward_model::time::Timestamp;
use keyward_store::Origin;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::oauth::client_auth::Asker;
use crate::respond::{ErrorCode, OAuthError};

/// All grant types, as the metadata publishes them (RFC 8414 §2).
pub const GRANT_TYPES: &[&str] = &[
    client_credentials::GRANT_TYPE,
    authorization_code::GRANT_TYPE,
    refresh_token::GRANT_TYPE,
    device_code::GRANT_TYPE,
];

/// The most `resource` parameters in one request.
const MAX_RESOURCES: usize = 8;

/// What a grant works with: who asks, and when.
pub struct Call<'a> {
    /// The server.
    pub app: &'a Arc<App>,
    /// Who asks.
    pub(crate) asker: Asker,
    /// The parameters, for those that one grant alone has.
    pub form: &'a Form<'a>,
    /// From which network address.
    pub address: Option<IpAddr>,
    /// The instant of the request.
    pub now: Timestamp,
}

impl Call<'_> {
    /// A parameter that the grant cannot do without.
    pub(crate) fn required(&self, name: &'static str) -> Result<&str, OAuthError> {
        self.form.get(name)?.ok_or_else(|| ErrorCode::InvalidRequest.because(format!("{name} is missing")))
    }

    /// The refusal of a code that nobody was given. Whoever guesses is slowed down like whoever guesses keys.
    pub(crate) fn guessed(&self, why: &'static str) -> OAuthError {
        match self.app.failures.charge(self.address, None, self.now) {
            Some(wait) => {
                let why = "too many unknown codes; wait as long as Retry-After says";
                ErrorCode::TemporarilyUnavailable.because(why).retry_in(wait)
            }
            None => ErrorCode::InvalidGrant.because(why),
        }
    }

    /// Who does what this call does, from where and when.
    pub(crate) fn origin(&self) -> Origin {
        Origin { actor: self.asker.actor(), source: self.address.map(|address| address.to_string()), now: self.now }
    }
}

/// What is asked for, whatever the grant: the parameters as they were sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// `scope` (RFC 6749 §3.3).
    pub scope: Option<&'a str>,
    /// `res`: the same for resources.
    pub res: Option<&'a str>,
    /// `resource` (RFC 8707 §2); may be repeated.
    pub resources: Vec<&'a str>,
}

/// A successful response (RFC 6749 §5.1). Read back, it is written as the same bytes again. `Debug` prints no token.
#[derive(Serialize, Deserialize)]
pub struct TokenResponse {
    /// The JWT.
    pub access_token: String,
    /// Always `Bearer` (RFC 6750).
    #[serde(skip_deserializing, default = "bearer")]
    pub token_type: &'static str,
    /// Seconds until it ends.
    pub expires_in: i64,
    /// What was granted, with all it implies.
    pub scope: String,
    /// With what the next tokens are got (RFC 6749 §6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<RefreshToken>,
}

impl TokenResponse {
    /// A token that is over at once, to be given its time.
    pub(crate) fn bearer(access_token: String, scope: String) -> Self {
        Self { access_token, token_type: bearer(), expires_in: 0, scope, refresh_token: None }
    }
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expires_in, scope, .. } = self;
        write!(f, "TokenResponse {{ expires_in: {expires_in}, scope: {scope:?}, .. }}")
    }
}

fn bearer() -> &'static str {
    "Bearer"
}

impl<'a> Request<'a> {
    /// Reads the parameters that all grants share.
    pub fn read(form: &'a Form<'_>) -> Result<Self, OAuthError> {
        let resources: Vec<&str> = form.all("resource").filter(|r| !r.is_empty()).collect();
        if resources.len() > MAX_RESOURCES {
            return Err(ErrorCode::InvalidTarget.because(format!("more than {MAX_RESOURCES} resource parameters")));
        }
        Ok(Self { scope: form.get("scope")?, res: form.get("res")?, resources })
    }

    /// The rights it asks for.
    pub fn requested(&self) -> Result<Requested, OAuthError> {
        let wrong = |e: RightsError| ErrorCode::InvalidScope.because(e.to_string());
        Ok(Requested {
            scope: self.scope.map(str::parse).transpose().map_err(wrong)?,
            res: self.res.map(str::parse).transpose().map_err(wrong)?,
        })
    }
}

/// Whether this grant type exists.
pub fn find(grant_type: &str) -> Result<&'static str, OAuthError> {
    GRANT_TYPES.iter().copied().find(|known| *known == grant_type).ok_or_else(|| {
        ErrorCode::UnsupportedGrantType.because(format!("the grant types here are: {}", GRANT_TYPES.join(", ")))
    })
}

/// Carries out the grant.
pub async fn exchange(
    grant_type: &'static str,
    call: &Call<'_>,
    request: Request<'_>,
) -> Result<TokenResponse, OAuthError> {
    // Those that ask the database are boxed: the room for it would go along with every request for a client's own token.
    match grant_type {
        client_credentials::GRANT_TYPE => client_credentials::exchange(call, request),
        authorization_code::GRANT_TYPE => Box::pin(authorization_code::exchange(call)).await,
        refresh_token::GRANT_TYPE => Box::pin(refresh_token::exchange(call, request)).await,
        device_code::GRANT_TYPE => Box::pin(device_code::exchange(call, request)).await,
        _ => Err(ErrorCode::UnsupportedGrantType.because("this grant type is not available")),
    }
}
