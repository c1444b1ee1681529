//! Signing a device in, as whoever is asked sees it (RFC 8628 §3.3). What is decided, `device_grants.rs` decides.
//!
//! 1. `GET /D/{code}` takes the code out of the URL and leads on: following a link does nothing else       §3.3.1
//! 2. `GET /device` asks whoever is signed in for the code, or to compare the one that they came with
//! 3. `POST /device` binds the grant to this login; `POST /device/switch` gives it free for another account
//! 4. `GET /device/confirm` asks, `POST /device/decision` takes the answer              `confirm.rs`      §5.4
//! 5. `GET /device/done` says what became of it, `POST /device/undo` takes it back      `outcome.rs`
//! 6. `GET /device/status` tells the open page when that has changed                    `status.rs`

mod confirm;
mod held;
mod outcome;
pub(crate) mod status;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use keyward_model::caller::Network;
use keyward_model::form::Form;
use keyward_model::user_code::UserCode;

use crate::app::App;
use crate::device_grants::{self, Refusal, Visitor};
use crate::pages::frame::{Frame, page};
use crate::pages::own_path::OwnPath;
use crate::pages::signed_in::{SignedForm, SignedIn, Turn, field};
use crate::pages::visit::Visit;
use crate::respond::{PageError, PageProblem, see_other};
use held::Held;

const START: &str = "/device";
const CONFIRM: &str = "/device/confirm";
const DONE: &str = "/device/done";

/// The paths.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/D/{code}", get(by_link))
        .route(START, get(show).post(enter))
        .route("/device/switch", post(switch))
        .merge(confirm::routes())
        .merge(outcome::routes())
        .merge(status::routes())
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage<'a> {
    frame: Frame,
    by: &'a SignedIn,
    /// The code they came with, to be compared.
    held: Option<&'a str>,
    notice: Option<&'static str>,
}

/// Where a QR code leads. Nobody need be signed in, so nothing is said of the code.
async fn by_link(State(app): State<Arc<App>>, visit: Visit, Path(code): Path<String>) -> Response {
    let mut response = see_other(START);
    match UserCode::parse(&code) {
        Some(code) => Held::link(code).keep(&app, visit.now, &mut response),
        None => Held::forget(&mut response),
    }
    response
}

async fn show(by: SignedIn, held: Held) -> Response {
    let code = held.uncompared().map(UserCode::reveal);
    let held = code.as_ref().map(|code| code.as_str());
    page(&DevicePage { frame: Frame::new(by.visit.language), by: &by, held, notice: None }, None)
}

/// The page to type a code on, once more.
fn asked_again(by: &SignedIn, problem: impl Into<PageError>, notice: &'static str) -> Response {
    let frame = Frame::new(by.visit.language);
    let mut response = page(&DevicePage { frame, by, held: None, notice: Some(notice) }, Some(problem.into()));
    Held::forget(&mut response);
    response
}

/// A code, and what is known of how it came.
struct Entered {
    text: String,
    typed: bool,
    /// They say that the device shows another, or that there is none.
    is_foreign: bool,
}

/// The code that was compared stands in the form too. The browser may hold another by now: any page can lead it to a link.
fn entered(form: &Form<'_>) -> Result<Entered, PageError> {
    let (text, compared) = (field(form, "code")?.to_owned(), field(form, "compared")?);
    Ok(Entered { text, typed: compared.is_empty(), is_foreign: !matches!(compared, "" | "yes") })
}

async fn enter(State(app): State<Arc<App>>, SignedForm { by, form }: SignedForm) -> Result<Response, Turn> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let Entered { text, typed, is_foreign } = entered(&form)?;
    let (visitor, t) = (visitor(&by), by.visit.language.texts());
    let asked = match device_grants::claim(&app, &visitor, &text, typed).await {
        Ok(asked) => asked,
        Err(Refusal::Unknown | Refusal::Ended) => return Ok(asked_again(&by, PageProblem::Invalid, t.code_unknown)),
        Err(Refusal::TooMany(wait)) => return Ok(asked_again(&by, PageError::too_many(wait), t.code_too_many)),
        Err(refusal) => return outcome::refused(&by, refusal),
    };
    let held = Held { grant: Some(asked.id), code: UserCode::parse(&text), typed };
    let mut response = if is_foreign {
        // Whoever sees no device with this code is asked nothing more: it is somebody else's.
        device_grants::deny(&app, &visitor, asked.id).await.or_else(outcome::only_faults)?;
        see_other(DONE)
    } else {
        see_other(CONFIRM)
    };
    held.keep(&app, by.visit.now, &mut response);
    Ok(response)
}

/// Gives a code free that this login has entered, for the account they sign in with next. The browser keeps the code.
async fn switch(State(app): State<Arc<App>>, held: Held, SignedForm { by, .. }: SignedForm) -> Result<Response, Turn> {
    if let Some(grant) = held.grant {
        device_grants::release(&app, &visitor(&by), grant).await.or_else(outcome::only_faults)?;
    }
    let mut response = see_other(&OwnPath::parse(START).login_as_another());
    Held { grant: None, ..held }.keep(&app, by.visit.now, &mut response);
    Ok(response)
}

/// Who decides, and how they come.
fn visitor(by: &SignedIn) -> Visitor {
    Visitor {
        user: by.user.id,
        login: by.login.id,
        method: by.login.method,
        authenticated_at: by.auth_time(),
        // Without a listener there is no address; then no device is in the same network.
        network: Network::from(by.visit.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        source: by.visit.source(),
        now: by.visit.now,
    }
}
