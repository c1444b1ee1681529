//! Devices of an account: what acts for its user, named and ended; and the way out for whoever finds one that is not theirs.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::Uri;
use keyward_model::device_session::{DeviceSession, MOST_SESSIONS};
use keyward_model::event::Draft;
use keyward_model::form::Form;
use keyward_model::id::DeviceSessionId;
use keyward_model::time::Timestamp;
use keyward_store::{FoundSession, Tx};
use serde_json::json;

use crate::api::device_sessions::{draft, renamed_draft};
use crate::api::instant::Instant;
use crate::api::line;
use crate::app::App;
use crate::device_grants;
use crate::login::session;
use crate::notices::{Message, Outbox};
use crate::pages::frame::{Frame, page};
use crate::pages::rights::Sentences;
use crate::pages::signed_in::{SignedForm, SignedIn, Turn, field};
use crate::pages::texts::Texts;
use crate::respond::{PageError, PageProblem, see_other};
use crate::standing;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/account/devices", get(show))
        .route("/account/devices/end", post(end_all))
        .route("/account/devices/{id}/rename", post(rename))
        .route("/account/devices/{id}/end", post(end))
        .route("/account/devices/{id}/disown", post(disown))
}

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage<'a> {
    frame: Frame,
    by: &'a SignedIn,
    devices: Vec<Device>,
    done: Option<&'static str>,
}

/// A device session, as its user sees it.
struct Device {
    id: DeviceSessionId,
    /// The client's name where the session has none.
    label: String,
    client: String,
    begun: String,
    from: Option<String>,
    /// When it last got tokens.
    used: Option<String>,
    ends: String,
    rights: Sentences,
    /// Its client is disabled.
    stopped: bool,
}

async fn show(State(app): State<Arc<App>>, by: SignedIn, uri: Uri) -> Result<Response, Turn> {
    let form = Form::parse(uri.query().unwrap_or_default().as_bytes()).map_err(|_| PageProblem::Unreadable)?;
    let done = done(field(&form, "done")?, by.visit.language.texts());
    let found = app.store.list_signed_in(by.user.id, by.visit.now, MOST_SESSIONS).await?;
    let devices = found.into_iter().map(|(found, used_at)| device(&app, found, used_at)).collect();
    Ok(page(&DevicesPage { frame: Frame::new(by.visit.language), by: &by, devices, done }, None))
}

fn device(app: &App, found: FoundSession, used_at: Option<Timestamp>) -> Device {
    let FoundSession { session, client, user, .. } = found;
    let signed_in = standing::SignedIn { session, client, user };
    let registry = app.registry.load();
    let rights = Sentences::of(&signed_in.ceiling(&registry), &registry);
    let standing::SignedIn { session, client, .. } = signed_in;
    Device {
        id: session.id,
        label: if session.label.is_empty() { client.name.clone() } else { session.label },
        client: client.name,
        begun: Instant(session.created_at).minute(),
        from: session.created_from,
        used: used_at.filter(|at| *at > session.created_at).map(|at| Instant(at).minute()),
        ends: Instant(session.expires_at).minute(),
        rights,
        stopped: client.disabled_at.is_some(),
    }
}

/// A closed list, as on the account page.
fn done(word: &str, t: &'static Texts) -> Option<&'static str> {
    match word {
        "renamed" => Some(t.done_device_renamed),
        "ended" => Some(t.done_device_ended),
        "disowned" => Some(t.done_device_disowned),
        "all-ended" => Some(t.done_devices_ended),
        _ => None,
    }
}

fn back(done: &str) -> Response {
    see_other(&format!("/account/devices?done={done}"))
}

/// The session, if it is theirs.
async fn find(app: &App, by: &SignedIn, id: &str) -> Result<DeviceSession, PageError> {
    let id = id.parse().map_err(|_| PageProblem::NotFound)?;
    let found = app.store.find_device_session(id).await?.filter(|session| session.user == by.user.id);
    found.ok_or_else(|| PageProblem::NotFound.into())
}

async fn rename(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    SignedForm { by, form }: SignedForm,
) -> Result<Response, Turn> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let label = line(field(&form, "label")?.to_owned(), "label").map_err(|_| PageProblem::Invalid)?;
    let session = find(&app, &by, &id).await?;
    let mut tx = by.begin(&app).await?;
    let renamed = tx.rename_device_session(session.id, &label, session.version, by.visit.now).await?;
    tx.record(renamed_draft(&session, &renamed.ok_or(PageProblem::Changed)?));
    by.commit(&app, tx).await?;
    Ok(back("renamed"))
}

async fn end(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    SignedForm { by, .. }: SignedForm,
) -> Result<Response, Turn> {
    let session = find(&app, &by, &id).await?;
    let mut tx = by.begin(&app).await?;
    revoke(&mut tx, &session, &by).await?;
    by.commit(&app, tx).await?;
    Ok(back("ended"))
}

/// Ends it as any other, and tells administrators besides that somebody else had got hold of an account.
async fn disown(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    SignedForm { by, .. }: SignedForm,
) -> Result<Response, Turn> {
    let session = find(&app, &by, &id).await?;
    let client = app.store.find_client(session.client).await?.ok_or(PageProblem::NotFound)?;
    let message = Message::disowned(&session, &client, &by.user, by.visit.now, &app.entropy)?;
    let mut tx = by.begin(&app).await?;
    revoke(&mut tx, &session, &by).await?;
    if !Outbox::open(&app, &mut tx).await?.note(&message, None).await.map_err(|error| PageError::fault(&error))? {
        // It was said before.
        return Ok(back("disowned"));
    }
    let data = json!({
        "user": session.user, "client": session.client, "label": session.label, "created_from": session.created_from,
    });
    tx.record(Draft { kind: "device_session.disowned", subject: session.id.to_string(), data });
    by.commit(&app, tx).await?;
    Ok(back("disowned"))
}

/// What has ended stays as it has.
async fn revoke(tx: &mut Tx, session: &DeviceSession, by: &SignedIn) -> Result<(), PageError> {
    if let Some(revoked) = tx.revoke_device_session(session.id, by.visit.now).await? {
        tx.record(draft("device_session.revoked", &revoked));
    }
    Ok(())
}

async fn end_all(State(app): State<Arc<App>>, SignedForm { by, .. }: SignedForm) -> Result<Response, Turn> {
    let mut tx = by.begin(&app).await?;
    session::end_all(&mut tx, by.user.id, Some(by.login.id), "revoked").await?;
    // What was allowed and not fetched first: whoever fetches it meanwhile begins a session, and that is found below.
    for grant in &tx.undo_device_grants(by.user.id, by.visit.now).await? {
        tx.record(device_grants::draft("device_grant.denied", grant));
    }
    tx.withdraw_authorization_codes(by.user.id).await?;
    for session in &tx.revoke_surplus_device_sessions(by.user.id, 0, by.visit.now).await? {
        tx.record(draft("device_session.revoked", session));
    }
    by.commit(&app, tx).await?;
    Ok(back("all-ended"))
}
