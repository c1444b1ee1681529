//! Logins of an account: ended one by one, or all but the one in use.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use keyward_model::id::LoginId;

use crate::app::App;
use crate::login::session;
use crate::pages::account::back;
use crate::pages::signed_in::{SignedForm, Turn};
use crate::respond::PageProblem;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/account/logins/end", post(end_others)).route("/account/logins/{id}/end", post(end))
}

async fn end(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    SignedForm { by, .. }: SignedForm,
) -> Result<Response, Turn> {
    let id: LoginId = id.parse().map_err(|_| PageProblem::NotFound)?;
    let mut tx = by.begin(&app).await?;
    session::end(&mut tx, by.user.id, id, "revoked").await?;
    tx.commit(&by.origin()).await?;
    Ok(back("login-ended"))
}

async fn end_others(State(app): State<Arc<App>>, SignedForm { by, .. }: SignedForm) -> Result<Response, Turn> {
    let mut tx = by.begin(&app).await?;
    session::end_all(&mut tx, by.user.id, Some(by.login.id), "revoked").await?;
    tx.commit(&by.origin()).await?;
    Ok(back("logins-ended"))
}
