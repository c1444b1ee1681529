//! The account page: how its user signs in, and where they are signed in.

mod devices;
pub(crate) mod logins;
pub(crate) mod passkeys;
mod recovery_codes;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use http::Uri;
use keyward_model::event::Draft;
use keyward_model::form::Form;
use keyward_model::login::{Login, MOST_LOGINS};
use keyward_model::passkey::Passkey;
use keyward_store::Page;
use serde_json::json;

use crate::api::instant::Instant;
use crate::app::App;
use crate::login::session;
use crate::pages::chosen_password::{self, Refused};
use crate::pages::frame::{Frame, page};
use crate::pages::own_path::OwnPath;
use crate::pages::signed_in::{SignedForm, SignedIn, Turn, field, method_text};
use crate::pages::texts::Texts;
use crate::respond::{PageError, PageProblem, see_other};

/// The paths.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/account", get(show))
        .route("/account/password", post(set_password))
        .merge(passkeys::routes())
        .merge(recovery_codes::routes())
        .merge(logins::routes())
        .merge(devices::routes())
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    frame: Frame,
    by: &'a SignedIn,
    /// Whether they may change how they sign in without signing in once more.
    fresh: bool,
    passkeys: Option<Vec<Passkey>>,
    password_since: Option<Instant>,
    recovery_codes: u64,
    logins: Vec<Login>,
    done: Option<&'static str>,
    notice: Option<&'static str>,
}

impl AccountPage<'_> {
    fn minute(&self, at: &keyward_model::time::Timestamp) -> String {
        Instant(*at).minute()
    }

    fn method(&self, login: &Login) -> &'static str {
        method_text(login.method, self.frame.t)
    }
}

async fn show(State(app): State<Arc<App>>, by: SignedIn, uri: Uri) -> Result<Response, Turn> {
    let form = Form::parse(uri.query().unwrap_or_default().as_bytes()).map_err(|_| PageProblem::Unreadable)?;
    let done = done(field(&form, "done")?, by.visit.language.texts());
    Ok(shown(&app, &by, done, None).await?)
}

/// The page; with a refusal, what was refused.
async fn shown(
    app: &App,
    by: &SignedIn,
    done: Option<&'static str>,
    refused: Option<Refused>,
) -> Result<Response, PageError> {
    let (problem, notice) = refused.unzip();
    let all = Page { after: None, limit: MOST_LOGINS };
    let mut logins = app.store.list_logins(by.user.id, app.sign_in.standing(by.visit.now), &all).await?;
    logins.sort_by_key(|login| (login.id != by.login.id, std::cmp::Reverse(login.seen_at)));
    let passkeys = match app.sign_in.passkeys {
        Some(_) => Some(app.store.list_passkeys(by.user.id).await?),
        None => None,
    };
    let account = AccountPage {
        frame: Frame::new(by.visit.language),
        by,
        fresh: by.is_fresh(app),
        passkeys,
        password_since: app.store.find_password_change(by.user.id).await?.map(Instant),
        recovery_codes: app.store.count_recovery_codes(by.user.id).await?,
        logins,
        done,
        notice,
    };
    Ok(page(&account, problem))
}

/// What the page says when it is come back to. A closed list: a link must not make the page say just anything.
fn done(word: &str, t: &'static Texts) -> Option<&'static str> {
    match word {
        "invited" => Some(t.account_invited),
        "recovered" => Some(t.recovery_used),
        "password" => Some(t.done_password),
        "passkey-added" => Some(t.done_passkey_added),
        "passkey-removed" => Some(t.done_passkey_removed),
        "passkey-renamed" => Some(t.done_passkey_renamed),
        "login-ended" => Some(t.done_login_ended),
        "logins-ended" => Some(t.done_logins_ended),
        _ => None,
    }
}

/// Back to the page, which says what was done.
fn back(done: &str) -> Response {
    see_other(&format!("/account?done={done}"))
}

async fn set_password(State(app): State<Arc<App>>, SignedForm { by, form }: SignedForm) -> Result<Response, Turn> {
    by.step_up(&app, OwnPath::account())?;
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let hash = match chosen_password::hashed(&app, &by.visit, &by.user, field(&form, "password")?).await? {
        Ok(hash) => hash,
        Err(refused) => return Ok(shown(&app, &by, None, Some(refused)).await?),
    };
    let mut tx = by.begin(&app).await?;
    tx.put_password(by.user.id, &hash, by.visit.now).await?;
    tx.record(Draft { kind: "user.password_set", subject: by.user.id.to_string(), data: json!({ "by": "account" }) });
    // Whoever changes a password often does so because somebody else knows it.
    session::end_all(&mut tx, by.user.id, Some(by.login.id), "password_set").await?;
    tx.commit(&by.origin()).await?;
    Ok(back("password"))
}
