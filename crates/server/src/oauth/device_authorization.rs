//! Device authorization endpoint: RFC 8628 §3.1 and §3.2.
//!
//! 1. Find out who asks, as at the token endpoint                      §3.1, RFC 6749 §2.3, §3.2.1
//! 2. Charge the budgets: whoever asks need not have proved anything   §5.2
//! 3. A client for which the grant is switched on
//! 4. How much: requested ∩ what the client may give devices           RFC 6749 §3.3
//! 5. Two codes, kept as hashes                                        §5.1, §5.2
//! 6. The answer                                                       §3.2

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use keyward_model::client::Client;
use keyward_model::device_grant::{DeviceGrant, GrantState, LIFETIME, MOST_LABEL};
use keyward_model::form::Form;
use keyward_model::id::DeviceGrantId;
use keyward_model::legible::kept;
use keyward_model::rights::{self, Excess, Rights};
use keyward_model::secret::Secret;
use keyward_model::user_code::UserCode;
use keyward_store::GrantCodes;
use serde::Serialize;

use crate::app::App;
use crate::device_grants::ceiling;
use crate::oauth::form::FormRequest;
use crate::oauth::grants::Request;
use crate::oauth::token::no_store;
use crate::oauth::{caller, client_auth};
use crate::respond::{ErrorCode, OAuthError, json_response};

/// Between two questions that are held while nothing is decided, so short a pause is no more load than the usual five
/// seconds between two that are not.
const INTERVAL: Duration = Duration::from_secs(2);
/// RFC 8628 §3.2: what a client must assume without being told.
const INTERVAL_UNHELD: Duration = Duration::from_secs(5);
/// How often another code is tried if one is taken. Of 25 billion, hardly any ever is.
const ATTEMPTS: u8 = 4;

/// RFC 8628 §3.2.
#[derive(Serialize)]
struct DeviceAuthorizationResponse<'a> {
    device_code: &'a str,
    user_code: &'a str,
    verification_uri: String,
    verification_uri_complete: String,
    expires_in: u64,
    interval: u64,
    /// Ours: the device must ask for the digits that are shown at the approval.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    confirmation_required: bool,
}

/// `POST /auth/device`
pub async fn device_authorization(State(app): State<Arc<App>>, request: FormRequest) -> Result<Response, OAuthError> {
    let (now, form) = (request.now, request.form()?);
    let from = caller::of(&request, &form)?;
    let asker = client_auth::identify(&app, &request, &form).await?;
    if let Some(credential) = asker.credential() {
        app.callers.accepted(credential, from, now);
    }
    let client = asker.client();
    if let Some(wait) = app.device_grants.budgets.charge_asking(from.network, client.id, now) {
        let why = "too many devices ask at once; wait as long as Retry-After says";
        return Err(ErrorCode::TemporarilyUnavailable.because(why).retry_in(wait));
    }
    let (rights, confirmation) = rights(&app, client, &Request::read(&form)?)?;
    let seen = from.caller();
    let device = Secret::new(app.entropy.bytes()?);
    let grant = DeviceGrant {
        id: DeviceGrantId::new(now, &app.entropy)?,
        client: client.id,
        rights,
        label: label(&form)?,
        network: seen.network,
        user_agent: seen.user_agent.into_owned(),
        confirmation,
        interval: interval(&app),
        state: GrantState::Pending,
        created_at: now,
        expires_at: now.plus(LIFETIME),
        version: 1,
    };
    let user_code = keep(&app, &grant, &device).await?.reveal();
    let answer = DeviceAuthorizationResponse {
        device_code: &device.reveal(),
        user_code: &user_code,
        verification_uri: format!("{}/device", app.issuer),
        // A path in capitals takes the least room in a QR code.
        verification_uri_complete: format!("{}/D/{}", app.issuer, *user_code),
        expires_in: LIFETIME.as_secs(),
        interval: grant.interval.as_secs(),
        confirmation_required: confirmation,
    };
    Ok(no_store(json_response(StatusCode::OK, &answer)))
}

/// What the device asks for, if its client may give it.
fn rights(app: &App, client: &Client, request: &Request<'_>) -> Result<(Rights, bool), OAuthError> {
    let registry = app.registry.load();
    let (Some(policy), Some(ceiling)) = (&client.device, ceiling(&registry, client)) else {
        let why = "devices may not be signed in through this client; its owner can allow it";
        return Err(ErrorCode::UnauthorizedClient.because(why));
    };
    let granted = rights::grant(&request.requested()?, &ceiling, &registry.catalogue);
    let rights = granted.map_err(|excess| {
        ErrorCode::InvalidScope.because(match excess {
            Excess::Scope(scope) => format!("scope {scope} is more than a device may be given through this client"),
            Excess::Res(res) => format!("res {res} is more than a device may be given through this client"),
            Excess::Nothing => "this client has nothing to give to devices; its owner can change it".to_owned(),
        })
    })?;
    Ok((rights, policy.confirmation))
}

fn label(form: &Form<'_>) -> Result<String, OAuthError> {
    Ok(kept(form.get("device_label")?.unwrap_or_default().into(), MOST_LABEL).into_owned())
}

fn interval(app: &App) -> Duration {
    let holds = !app.device_grants.hold.is_zero() && app.device_grants.waiting.has_place();
    if holds { INTERVAL } else { INTERVAL_UNHELD }
}

/// Stores the grant under a code that no other has.
async fn keep(app: &App, grant: &DeviceGrant, device: &Secret) -> Result<UserCode, OAuthError> {
    for _ in 0..ATTEMPTS {
        let code = UserCode::generate(&app.entropy)?;
        let user = app.device_grants.user_codes.hash(&code.secret());
        let codes = GrantCodes { device: app.hashing_key.hash(device), user };
        if app.store.insert_device_grant(grant, &codes).await? {
            return Ok(code);
        }
    }
    Err(ErrorCode::ServerError.because("no code is free at this moment; try again").retry_in(Duration::from_secs(1)))
}
