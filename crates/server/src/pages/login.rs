//! Signing in, by password or passkey, and out.
//!
//! 1. `GET /login?continue=/path` shows both ways; whoever is signed in goes on at once, unless asked `again`
//! 2. `POST /login` takes name and password: whether there is such a user makes no difference to work and answer
//! 3. `POST /login/passkey/options` gives a challenge, `POST /login/passkey` takes what a passkey answered
//! 4. Either begins a login (`login/session.rs`) and leads on to `continue`

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{StatusCode, Uri};
use keyward_model::form::Form;
use keyward_model::id::UserId;
use keyward_model::legible;
use keyward_model::login::Method;
use keyward_model::password::Password;
use keyward_model::user::User;
use keyward_store::Tx;

use crate::app::App;
use crate::login::passkeys::{Offer, PasskeyError, Passkeys, Presented};
use crate::login::passwords::{HashingError, Verdict};
use crate::login::session;
use crate::login::throttle::Attempt;
use crate::pages::frame::{self, Frame, page};
use crate::pages::own_path::OwnPath;
use crate::pages::signed_in::{PageForm, SignedForm, Turn, field};
use crate::pages::visit::{self, Visit};
use crate::respond::{PageError, PageProblem, json_response, see_other};

/// Of a name, what is remembered of attempts at it, in bytes: no name is longer than 100 characters.
const MOST_NAME: usize = 400;

/// The paths.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/login", get(show).post(by_password))
        .route("/login/passkey", post(by_passkey))
        .route("/login/passkey/options", post(options))
        .route("/logout", post(sign_out))
        .route("/signed-out", get(signed_out))
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    asked: &'a Asked,
    name: &'a str,
    passkeys: bool,
    notice: Option<&'static str>,
}

/// What a page to sign in on was asked with.
pub(crate) struct Asked {
    /// Where to go on.
    pub(crate) back: OwnPath,
    /// Also by whoever is signed in.
    pub(crate) again: bool,
    /// To sign in as somebody else than they are.
    pub(crate) other: bool,
}

impl Asked {
    /// From the parameters of a form or query.
    pub(crate) fn read(form: &Form<'_>) -> Result<Self, PageError> {
        let again = field(form, "again")?;
        let back = OwnPath::parse(field(form, "continue")?);
        Ok(Self { back, again: !again.is_empty(), other: again == "other" })
    }

    /// From the query of a page.
    pub(crate) fn of(uri: &Uri) -> Result<Self, PageError> {
        let query = uri.query().unwrap_or_default().as_bytes();
        Self::read(&Form::parse(query).map_err(|_| PageProblem::Unreadable)?)
    }
}

async fn show(State(app): State<Arc<App>>, visit: Visit, uri: Uri) -> Result<Response, PageError> {
    let asked = Asked::of(&uri)?;
    let known = session::find(&app, &visit).await?;
    if known.is_some() && !asked.again {
        return Ok(see_other(asked.back.as_str()));
    }
    let name = known.filter(|_| !asked.other).map(|(_, user)| user.name).unwrap_or_default();
    Ok(shown(&app, &visit, (&asked, &name), None))
}

fn shown(
    app: &App,
    visit: &Visit,
    (asked, name): (&Asked, &str),
    refused: Option<(PageError, &'static str)>,
) -> Response {
    let (problem, notice) = refused.unzip();
    let frame = Frame::new(visit.language);
    page(&LoginPage { frame, asked, name, passkeys: app.sign_in.passkeys.is_some(), notice }, problem)
}

async fn by_password(
    State(app): State<Arc<App>>,
    visit: Visit,
    PageForm(form): PageForm,
) -> Result<Response, PageError> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let (asked, name) = (Asked::read(&form)?, legible::name(field(&form, "name")?));
    let (name, password) = (&*name, field(&form, "password")?);
    let refuse = |error: PageError, notice| Ok(shown(&app, &visit, (&asked, name), Some((error, notice))));
    let t = visit.language.texts();

    let (user, stored) = app.store.find_user_with_password(name).await?.unzip();
    let stored = stored.flatten();
    let device = user.as_ref().and_then(|user| visit.device_of(&app, user.id));
    let known_by = name.get(..name.floor_char_boundary(MOST_NAME)).unwrap_or_default();
    let attempt = Attempt { address: visit.address, name: known_by, device };
    if let Some(wait) = app.sign_in.throttle.charge(&app.failures, attempt, visit.now) {
        return refuse(PageError::too_many(wait), t.too_many);
    }
    let verdict = match app.sign_in.passwords.verify(Password::presented(password), stored.as_deref()).await {
        Ok(verdict) => verdict,
        Err(HashingError::Busy) => {
            app.sign_in.throttle.refund(&app.failures, attempt);
            return refuse(PageProblem::Busy.into(), t.busy);
        }
        Err(error) => return Err(PageError::fault(&error)),
    };
    let (Some(user), Some(stored), Verdict::Right | Verdict::Outdated(_)) = (&user, &stored, &verdict) else {
        let user = user.map(|user| user.id);
        if device.is_none() {
            // The network was charged before.
            session::note_failure(&app, user, Method::Password, &visit);
            return refuse(PageProblem::Wrong.into(), t.wrong);
        }
        let error = failed(&app, user, Method::Password, &visit);
        return refuse(error, if error.problem == PageProblem::TooMany { t.too_many } else { t.wrong });
    };
    app.sign_in.throttle.refund(&app.failures, attempt);
    let mut tx = app.store.begin().await?;
    // Between the read and this the password may have been changed because somebody else knew it.
    if !tx.password_is(user.id, stored).await? {
        return refuse(PageProblem::Wrong.into(), t.wrong);
    }
    if let Verdict::Outdated(anew) = &verdict {
        tx.rehash_password(user.id, stored, anew).await?;
    }
    match let_in(&app, tx, (user, Method::Password), (&visit, &asked.back)).await? {
        Some(response) => Ok(response),
        None => refuse(PageProblem::Wrong.into(), t.disabled),
    }
}

/// Begins the login of somebody who proved who they are, and leads on; `None` if they are disabled.
pub(crate) async fn let_in(
    app: &App,
    tx: Tx,
    (user, method): (&User, Method),
    (visit, back): (&Visit, &OwnPath),
) -> Result<Option<Response>, PageError> {
    let Some(token) = session::begin(app, tx, (user, method), visit).await? else { return Ok(None) };
    let mut response = see_other(back.as_str());
    visit.remember(app, user.id, &token, &mut response);
    Ok(Some(response))
}

/// Charges a failure to the network it came from, and notes it. Beyond the budget nothing is noted either: one network must
/// not fill the log, however many users it guesses at.
pub(crate) fn failed(app: &Arc<App>, user: Option<UserId>, method: Method, visit: &Visit) -> PageError {
    if let Some(wait) = app.failures.charge(visit.address, None, visit.now) {
        return PageError::too_many(wait);
    }
    session::note_failure(app, user, method, visit);
    PageProblem::Wrong.into()
}

async fn options(State(app): State<Arc<App>>, visit: Visit) -> Result<Response, PageError> {
    let offered = passkeys(&app)?.offer_sign_in(&app.sign_in.seal, &app.entropy, visit.now);
    offer(offered)
}

async fn by_passkey(
    State(app): State<Arc<App>>,
    visit: Visit,
    PageForm(form): PageForm,
) -> Result<Response, PageError> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let asked = Asked::read(&form)?;
    let t = visit.language.texts();
    let refuse = |error: PageError, notice| Ok(shown(&app, &visit, (&asked, ""), Some((error, notice))));
    let (ceremony, answer) = (field(&form, "ceremony")?, field(&form, "credential")?);
    let (user, tx) = match judge(&app, &visit, ceremony, answer).await? {
        Ok(judged) => judged,
        Err(whose) => {
            let error = failed(&app, whose, Method::Passkey, &visit);
            return refuse(error, if error.problem == PageProblem::TooMany { t.too_many } else { t.passkey_refused });
        }
    };
    match let_in(&app, tx, (&user, Method::Passkey), (&visit, &asked.back)).await? {
        Some(response) => Ok(response),
        None => refuse(PageProblem::Wrong.into(), t.disabled),
    }
}

/// Who answered with their passkey, and the transaction in which the challenge is spent; or whose passkey was refused, if it
/// is one we know.
async fn judge(
    app: &App,
    visit: &Visit,
    ceremony: &str,
    answer: &str,
) -> Result<Result<(User, Tx), Option<UserId>>, PageError> {
    let passkeys = passkeys(app)?;
    let Ok(presented) = Presented::parse(answer) else { return Ok(Err(None)) };
    let Some((passkey, user)) = app.store.find_passkey(presented.credential_id()).await? else { return Ok(Err(None)) };
    let verified = passkeys.verify(&app.sign_in.seal, &passkey, (ceremony, &presented), visit.now);
    let (answered, verifier) = match verified {
        Ok(verified) => verified,
        Err(error @ PasskeyError::Stored(_)) => return Err(PageError::fault(&error)),
        Err(error) => {
            tracing::info!(%error, passkey = %passkey.id, "a passkey was refused");
            return Ok(Err(Some(user.id)));
        }
    };
    let mut tx = app.store.begin().await?;
    let is_first = tx.spend_challenge(&answered.challenge, answered.expires_at).await?
        && tx.use_passkey(&passkey, &verifier, visit.now).await?;
    Ok(if is_first { Ok((user, tx)) } else { Err(Some(user.id)) })
}

/// What verifies passkeys, if they are offered here at all.
pub(crate) fn passkeys(app: &App) -> Result<&Passkeys, PageError> {
    app.sign_in.passkeys.as_ref().ok_or_else(|| PageProblem::NotFound.into())
}

/// An offer for the script.
pub(crate) fn offer(offered: Result<Offer, PasskeyError>) -> Result<Response, PageError> {
    offered.map(|offer| json_response(StatusCode::OK, &offer)).map_err(|error| PageError::fault(&error))
}

async fn sign_out(State(app): State<Arc<App>>, SignedForm { by, .. }: SignedForm) -> Result<Response, Turn> {
    let mut tx = app.store.begin().await?;
    session::end(&mut tx, by.user.id, by.login.id, "signed_out").await?;
    tx.commit(&by.origin()).await?;
    let mut response = see_other("/signed-out");
    visit::forget_login(&mut response);
    Ok(response)
}

async fn signed_out(visit: Visit) -> Response {
    frame::message(visit.language, visit.language.texts().signed_out).into_response()
}
