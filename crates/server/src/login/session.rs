//! A login begins, is found again, and ends. Each has a token that only the browser's cookie holds; kept is its hash.

use keyward_model::entropy::EntropyError;
use keyward_model::event::{Actor, Draft};
use keyward_model::id::{LoginId, UserId};
use keyward_model::legible::kept;
use keyward_model::login::{Login, Method};
use keyward_model::secret::Secret;
use keyward_model::time::Timestamp;
use keyward_model::user::User;
use keyward_store::{Origin, StoreError, Tx};
use serde_json::json;

use crate::app::App;
use crate::meter;
use crate::notices::note_sign_in;
use crate::pages::visit::Visit;
use crate::respond::PageError;

/// The longest user agent that is kept, in bytes.
const MOST_USER_AGENT: usize = 200;
/// The use of a login is written down at most this often.
const SEEN_EVERY: std::time::Duration = std::time::Duration::from_mins(5);

/// Begins a login of a user who proved who they are, with all that `tx` holds already. It always gets a token of its own,
/// and the one this browser came with ends: whoever knew that knows nothing now. `None` if the user is disabled.
pub(crate) async fn begin(
    app: &App,
    mut tx: Tx,
    (user, method): (&User, Method),
    visit: &Visit,
) -> Result<Option<Secret>, PageError> {
    if let Some(wait) = app.sign_in.throttle.charge_change(user.id, visit.now) {
        return Err(PageError::too_many(wait));
    }
    let token = Secret::new(app.entropy.bytes()?);
    let login = Login {
        id: LoginId::new(visit.now, &app.entropy)?,
        user: user.id,
        method,
        network: visit.network(),
        user_agent: kept(visit.user_agent.as_str().into(), MOST_USER_AGENT).into_owned(),
        created_at: visit.now,
        seen_at: visit.now,
        ends_at: visit.now.plus(app.sign_in.lasts()),
    };
    if let Some(before) = &visit.login
        && let Some((user, login)) = tx.end_login_of(&app.hashing_key.hash(before)).await?
    {
        tx.record(ended_draft(user, login, "replaced"));
    }
    for unused in tx.make_place_for_login(user.id).await? {
        tx.record(ended_draft(user.id, unused, "too_many"));
    }
    if !tx.insert_login(&login, &app.hashing_key.hash(&token)).await? {
        return Ok(None);
    }
    let data = json!({
        "login": login.id, "method": method, "amr": method.amr(), "network": login.network, "user_agent": login.user_agent,
        "ends_at": login.ends_at,
    });
    tx.record(Draft { kind: "login.succeeded", subject: user.id.to_string(), data });
    if visit.device_of(app, user.id).is_none() {
        note_sign_in(app, &mut tx, user, &login).await.map_err(|error| PageError::fault(&error))?;
    }
    let actor = Actor::Login { user: user.id, login: login.id };
    tx.commit(&Origin { actor, source: visit.source(), now: visit.now }).await?;
    Ok(Some(token))
}

/// The login this browser has, and its user, if it stands.
pub(crate) async fn find(app: &App, visit: &Visit) -> Result<Option<(Login, User)>, StoreError> {
    let Some(token) = &visit.login else { return Ok(None) };
    app.store.find_login(&app.hashing_key.hash(token), app.sign_in.standing(visit.now)).await
}

/// Notes that a login is in use, now and then. That it could not be noted hinders nobody.
pub(crate) async fn note_seen(app: &App, login: &Login, now: Timestamp) {
    let before = now.minus(SEEN_EVERY);
    if login.seen_at >= before {
        return;
    }
    if let Err(error) = app.store.note_login_seen(login.id, now, before).await {
        meter::DATABASE_ERRORS.increment();
        tracing::warn!(%error, login = %login.id, "the use of a login could not be noted");
    }
}

/// Ends a login; false if it had ended.
pub(crate) async fn end(tx: &mut Tx, user: UserId, login: LoginId, because: &str) -> Result<bool, StoreError> {
    let ended = tx.end_login(user, login).await?;
    if ended {
        tx.record(ended_draft(user, login, because));
    }
    Ok(ended)
}

/// Ends all logins of a user but this one; gives how many.
pub(crate) async fn end_all(
    tx: &mut Tx,
    user: UserId,
    but: Option<LoginId>,
    because: &str,
) -> Result<usize, StoreError> {
    let ended = tx.end_logins(user, but).await?;
    for login in &ended {
        tx.record(ended_draft(user, *login, because));
    }
    Ok(ended.len())
}

fn ended_draft(user: UserId, login: LoginId, because: &str) -> Draft {
    let data = json!({ "login": login, "because": because });
    Draft { kind: "login.ended", subject: user.to_string(), data }
}

/// Notes a failure as an event: of users there are, and of each no more than a few. Apart from the request, so that the
/// time an answer takes does not tell whether there is such a user.
pub(crate) fn note_failure(app: &std::sync::Arc<App>, user: Option<UserId>, method: Method, visit: &Visit) {
    tracing::info!(user = user.map(tracing::field::display), %method, source = visit.source(), "a sign-in failed");
    let Some(user) = user.filter(|user| app.sign_in.throttle.is_noted(*user, visit.now)) else { return };
    let origin = Origin { actor: Actor::system("login"), source: visit.source(), now: visit.now };
    let data = json!({ "method": method, "network": visit.network() });
    let (app, draft) = (std::sync::Arc::clone(app), Draft { kind: "login.failed", subject: user.to_string(), data });
    drop(tokio::spawn(async move {
        if let Err(error) = record(&app, draft, &origin).await {
            meter::DATABASE_ERRORS.increment();
            tracing::warn!(%error, "a failed sign-in could not be noted");
        }
    }));
}

async fn record(app: &App, draft: Draft, origin: &Origin) -> Result<(), StoreError> {
    let mut tx = app.store.begin().await?;
    tx.record(draft);
    tx.commit(origin).await.map(drop)
}

/// What a form of a login is known by: nobody who has not its token can know it, and nobody who knows it can find the token.
pub(crate) fn form_token(token: &Secret) -> String {
    use base64::Engine as _;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(b"keyward form token\0");
    context.update(token.expose());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(context.finish())
}

impl From<EntropyError> for PageError {
    fn from(error: EntropyError) -> Self {
        Self::fault(&error)
    }
}
