//! What became of a device: let in, signed in, or neither; and the way back.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use keyward_model::device_grant::{Denial, DeviceGrant, Digits, GrantState};
use keyward_model::id::DeviceGrantId;

use crate::app::App;
use crate::device_grants::{self, Refusal};
use crate::pages::device::held::Held;
use crate::pages::device::{DONE, START, visitor};
use crate::pages::frame::{Frame, page};
use crate::pages::script;
use crate::pages::signed_in::{SignedForm, SignedIn, Turn, field};
use crate::pages::texts::Texts;
use crate::respond::{PageError, PageProblem, see_other};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route(DONE, get(show)).route("/device/undo", post(undo))
}

#[derive(Template)]
#[template(path = "device_done.html")]
struct DonePage<'a> {
    frame: Frame,
    by: &'a SignedIn,
    title: String,
    text: &'static str,
    /// In which mood: `good`, `waiting` or `bad`.
    mood: Mood,
    /// What the device asks for.
    digits: Option<String>,
    /// What can be taken back.
    undo: Option<DeviceGrantId>,
    /// The script that looks on.
    watch: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Waiting,
    Bad,
}

impl<'a> DonePage<'a> {
    fn new(by: &'a SignedIn, mood: Mood, title: String, text: &'static str) -> Self {
        let (frame, watch) = (Frame::new(by.visit.language), script::watch_url());
        Self { frame, by, title, text, mood, digits: None, undo: None, watch }
    }

    fn bad(by: &'a SignedIn, (title, text): (&'static str, &'static str)) -> Self {
        Self::new(by, Mood::Bad, title.to_owned(), text)
    }
}

async fn show(State(app): State<Arc<App>>, by: SignedIn, held: Held) -> Result<Response, Turn> {
    let grant = match held.grant {
        Some(grant) => app.store.find_device_grant(grant).await?,
        None => None,
    };
    let Some(grant) = grant else { return refused(&by, Refusal::Foreign) };
    let state = grant.state_at(by.visit.now);
    if state.user().is_some_and(|user| user != by.user.id) {
        return refused(&by, Refusal::Foreign);
    }
    let t = by.visit.language.texts();
    let shown = match state {
        GrantState::Pending => return Ok(see_other(START)),
        // The question leads here where there is nothing to ask: client or user may not do this any more.
        GrantState::Claimed(_) => DonePage::bad(&by, t.blocked),
        GrantState::Approved(approval) => DonePage {
            digits: approval.digits.map(Digits::reveal),
            undo: Some(grant.id),
            ..DonePage::new(&by, Mood::Waiting, t.approved_title.to_owned(), t.approved_text)
        },
        GrantState::Redeemed { session, .. } => {
            let session = app.store.find_device_session(session).await?;
            if session.is_some_and(|session| session.is_active(by.visit.now)) {
                let title = t.redeemed_title.replace('%', label(&grant, t));
                DonePage { undo: Some(grant.id), ..DonePage::new(&by, Mood::Good, title, t.redeemed_text) }
            } else {
                DonePage::bad(&by, t.undone)
            }
        }
        GrantState::Denied { reason, .. } => DonePage::bad(&by, denial(reason, t)),
        GrantState::Expired { .. } => DonePage::bad(&by, t.expired),
    };
    Ok(page(&shown, None))
}

fn label<'a>(grant: &'a DeviceGrant, t: &Texts) -> &'a str {
    if grant.label.is_empty() { t.device_unnamed } else { &grant.label }
}

fn denial(reason: Denial, t: &Texts) -> (&'static str, &'static str) {
    match reason {
        Denial::Refused => t.denied,
        Denial::Undone => t.undone,
        Denial::Contested => t.contested,
        Denial::Unconfirmed => t.unconfirmed,
        Denial::Cancelled => t.cancelled,
    }
}

async fn undo(State(app): State<Arc<App>>, SignedForm { by, form }: SignedForm) -> Result<Response, Turn> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let grant = field(&form, "grant")?.parse().map_err(|_| PageProblem::Unreadable)?;
    match device_grants::undo(&app, &visitor(&by), grant).await {
        // What has ended already is said on that page too.
        Ok(_) | Err(Refusal::Ended) => Ok(see_other(DONE)),
        Err(refusal) => refused(&by, refusal),
    }
}

/// What a page says that cannot ask or answer.
pub(super) fn refused(by: &SignedIn, refusal: Refusal) -> Result<Response, Turn> {
    let t = by.visit.language.texts();
    let (text, problem) = match refusal {
        Refusal::Approved => return Ok(see_other(DONE)),
        Refusal::Contested => (t.contested, PageProblem::Ended),
        Refusal::Nothing => (t.blocked, PageProblem::Wrong),
        Refusal::TooMany(wait) | Refusal::TooSoon(wait) => return Err(PageError::too_many(wait).into()),
        Refusal::Fault(error) => return Err(error.into()),
        Refusal::Entropy(error) => return Err(error.into()),
        Refusal::Unknown
        | Refusal::Foreign
        | Refusal::Ended
        | Refusal::TypeCode
        | Refusal::SignInAfresh
        | Refusal::Acknowledge
        | Refusal::Changed => (t.nothing, PageProblem::NotFound),
    };
    Ok(page(&DonePage::bad(by, text), Some(problem.into())))
}

/// Of what was to happen on the way to another page only our own faults are told.
pub(super) fn only_faults(refusal: Refusal) -> Result<(), Turn> {
    match refusal {
        Refusal::Fault(error) => Err(error.into()),
        Refusal::Entropy(error) => Err(error.into()),
        Refusal::TooMany(wait) => Err(PageError::too_many(wait).into()),
        _ => Ok(()),
    }
}
