//! New recovery codes, shown once.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use keyward_model::event::Draft;
use keyward_model::recovery::{CODES, RecoveryCode};
use serde_json::json;
use zeroize::Zeroizing;

use crate::app::App;
use crate::pages::frame::{Frame, page};
use crate::pages::own_path::OwnPath;
use crate::pages::signed_in::{SignedForm, Turn};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/account/recovery-codes", post(make))
}

#[derive(Template)]
#[template(path = "codes.html")]
struct CodesPage {
    frame: Frame,
    codes: Vec<Zeroizing<String>>,
}

async fn make(State(app): State<Arc<App>>, SignedForm { by, .. }: SignedForm) -> Result<Response, Turn> {
    by.step_up(&app, OwnPath::account())?;
    let codes = (0..CODES).map(|_| RecoveryCode::generate(&app.entropy)).collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<_> = codes.iter().map(|code| app.hashing_key.hash(&code.secret())).collect();
    let mut tx = by.begin(&app).await?;
    tx.replace_recovery_codes(by.user.id, &hashes).await?;
    let data = json!({ "count": codes.len() });
    tx.record(Draft { kind: "recovery.codes_made", subject: by.user.id.to_string(), data });
    tx.commit(&by.origin()).await?;
    let codes = codes.iter().map(RecoveryCode::reveal).collect();
    Ok(page(&CodesPage { frame: Frame::new(by.visit.language), codes }, None))
}
