//! Signing in with a recovery code, for whoever has lost everything else. A code cannot be guessed, so a right one is always
//! let in (docs/decisions/0005).

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::Uri;
use keyward_model::event::Draft;
use keyward_model::legible;
use keyward_model::login::Method;
use keyward_model::recovery::RecoveryCode;
use keyward_model::secret::Secret;
use serde_json::json;

use crate::app::App;
use crate::pages::frame::{Frame, page};
use crate::pages::login::{Asked, failed, let_in};
use crate::pages::own_path::OwnPath;
use crate::pages::signed_in::{PageForm, field};
use crate::pages::visit::Visit;
use crate::respond::{PageError, PageProblem};

/// The paths.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/login/recovery", get(show).post(by_code))
}

#[derive(Template)]
#[template(path = "recovery.html")]
struct RecoveryPage<'a> {
    frame: Frame,
    asked: &'a Asked,
    name: &'a str,
    notice: Option<&'static str>,
}

async fn show(visit: Visit, uri: Uri) -> Result<Response, PageError> {
    let (frame, asked) = (Frame::new(visit.language), Asked::of(&uri)?);
    Ok(page(&RecoveryPage { frame, asked: &asked, name: "", notice: None }, None))
}

async fn by_code(State(app): State<Arc<App>>, visit: Visit, PageForm(form): PageForm) -> Result<Response, PageError> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let (asked, name) = (Asked::read(&form)?, legible::name(field(&form, "name")?));
    let name = &*name;
    let t = visit.language.texts();
    let refuse = |error: PageError, notice| {
        let frame = Frame::new(visit.language);
        Ok(page(&RecoveryPage { frame, asked: &asked, name, notice: Some(notice) }, Some(error)))
    };
    // What is no code is looked for like one: nobody has it.
    let code = RecoveryCode::parse(field(&form, "code")?).map_or_else(|| Secret::new([0; 32]), |code| code.secret());
    let code = app.hashing_key.hash(&code);
    let (user, is_theirs) = app.store.find_user_with_recovery_code(name, &code).await?.unzip();
    let (Some(user), Some(true)) = (&user, is_theirs) else {
        let error = failed(&app, user.map(|user| user.id), Method::RecoveryCode, &visit);
        return refuse(error, if error.problem == PageProblem::TooMany { t.too_many } else { t.recovery_wrong });
    };
    let mut tx = app.store.begin().await?;
    if !tx.use_recovery_code(user.id, &code).await? {
        return refuse(PageProblem::Wrong.into(), t.recovery_wrong);
    }
    let data = json!({ "network": visit.network() });
    tx.record(Draft { kind: "recovery.used", subject: user.id.to_string(), data });
    let account = OwnPath::parse("/account?done=recovered");
    match let_in(&app, tx, (user, Method::RecoveryCode), (&visit, &account)).await? {
        Some(response) => Ok(response),
        None => refuse(PageProblem::Wrong.into(), t.disabled),
    }
}
