//! An invitation: a link by which somebody sets their first password or passkey, or another after losing it.
//!
//! 1. `GET /invitation/{token}` shows what it is for: programs that look at links in mail use nothing up
//! 2. `POST /invitation` with a password, or `POST /invitation/passkey` with a passkey made for it, uses it up in the same
//!    transaction that sets what was chosen, ends every other login of the user, and begins one

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use keyward_model::event::Draft;
use keyward_model::login::Method;
use keyward_model::secret::{Secret, SecretHash};
use keyward_model::user::User;
use keyward_store::Tx;
use serde_json::json;

use crate::app::App;
use crate::login::session;
use crate::pages::account::passkeys as passkey_forms;
use crate::pages::chosen_password::{self, Refused};
use crate::pages::frame::{Frame, page};
use crate::pages::login::{let_in, offer, passkeys};
use crate::pages::own_path::OwnPath;
use crate::pages::signed_in::{PageForm, field};
use crate::pages::visit::Visit;
use crate::respond::{PageError, PageProblem};

/// The paths.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/invitation/{token}", get(show))
        .route("/invitation", post(set_password))
        .route("/invitation/passkey", post(add_passkey))
        .route("/invitation/passkey/options", post(options))
}

#[derive(Template)]
#[template(path = "invitation.html")]
struct InvitationPage<'a> {
    frame: Frame,
    token: &'a str,
    name: &'a str,
    passkeys: bool,
    notice: Option<&'static str>,
}

/// Somebody with an invitation that stands.
struct Invited {
    token: SecretHash,
    user: User,
}

async fn invited(app: &App, visit: &Visit, token: &str) -> Result<Invited, PageError> {
    let token = Secret::parse(token).map(|token| app.hashing_key.hash(&token)).ok_or(PageProblem::Ended)?;
    let user = app.store.find_invited(&token, visit.now).await?.ok_or(PageProblem::Ended)?;
    Ok(Invited { token, user })
}

async fn show(State(app): State<Arc<App>>, visit: Visit, Path(token): Path<String>) -> Result<Response, PageError> {
    let invited = invited(&app, &visit, &token).await?;
    Ok(shown(&app, &visit, (&token, &invited.user.name), None))
}

fn shown(app: &App, visit: &Visit, (token, name): (&str, &str), refused: Option<Refused>) -> Response {
    let (problem, notice) = refused.unzip();
    let frame = Frame::new(visit.language);
    page(&InvitationPage { frame, token, name, passkeys: app.sign_in.passkeys.is_some(), notice }, problem)
}

async fn set_password(
    State(app): State<Arc<App>>,
    visit: Visit,
    PageForm(form): PageForm,
) -> Result<Response, PageError> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let token = field(&form, "token")?;
    let invited = invited(&app, &visit, token).await?;
    let hash = match chosen_password::hashed(&app, &visit, &invited.user, field(&form, "password")?).await? {
        Ok(hash) => hash,
        Err(refused) => return Ok(shown(&app, &visit, (token, &invited.user.name), Some(refused))),
    };
    let mut tx = use_up(&app, &visit, &invited).await?;
    tx.put_password(invited.user.id, &hash, visit.now).await?;
    let data = json!({ "by": "invitation" });
    tx.record(Draft { kind: "user.password_set", subject: invited.user.id.to_string(), data });
    welcome(&app, tx, (&invited.user, Method::Password), &visit).await
}

async fn options(State(app): State<Arc<App>>, visit: Visit, PageForm(form): PageForm) -> Result<Response, PageError> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let Invited { user, .. } = invited(&app, &visit, field(&form, "token")?).await?;
    let known = app.store.list_passkeys(user.id).await?;
    let by = (&app.sign_in.seal, &app.entropy);
    offer(passkeys(&app)?.offer_registration(by, &user, &known, visit.now))
}

async fn add_passkey(
    State(app): State<Arc<App>>,
    visit: Visit,
    PageForm(form): PageForm,
) -> Result<Response, PageError> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let token = field(&form, "token")?;
    let invited = invited(&app, &visit, token).await?;
    let made = passkey_forms::made(&app, &invited.user, &visit, &form)?;
    let t = visit.language.texts();
    let mut tx = use_up(&app, &visit, &invited).await?;
    if let Err(notice) = passkey_forms::insert(&mut tx, &made, t).await? {
        let shown = shown(&app, &visit, (token, &invited.user.name), Some((PageProblem::Invalid.into(), notice)));
        return Ok(shown);
    }
    welcome(&app, tx, (&invited.user, Method::Passkey), &visit).await
}

async fn use_up(app: &App, visit: &Visit, invited: &Invited) -> Result<Tx, PageError> {
    let mut tx = app.store.begin().await?;
    tx.use_invitation(&invited.token, visit.now).await?.ok_or(PageProblem::Ended)?;
    // Whoever is invited anew has perhaps lost what somebody else has found.
    session::end_all(&mut tx, invited.user.id, None, "invitation_used").await?;
    Ok(tx)
}

async fn welcome(app: &App, tx: Tx, by: (&User, Method), visit: &Visit) -> Result<Response, PageError> {
    let account = OwnPath::parse("/account?done=invited");
    let_in(app, tx, by, (visit, &account)).await?.ok_or_else(|| PageProblem::Ended.into())
}

/// The link of an invitation.
pub(crate) fn link(issuer: &str, token: &Secret) -> String {
    format!("{issuer}/invitation/{}", *token.reveal())
}
