//! Passkeys of an account: added, named, removed.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use keyward_model::event::Draft;
use keyward_model::form::Form;
use keyward_model::id::PasskeyId;
use keyward_model::legible::kept;
use keyward_model::passkey::{MOST_NAME, Passkey};
use keyward_model::user::User;
use keyward_store::{StoreError, Tx};
use serde_json::json;

use crate::app::App;
use crate::login::passkeys::Answered;
use crate::pages::account::{back, shown};
use crate::pages::login::{offer, passkeys};
use crate::pages::own_path::OwnPath;
use crate::pages::signed_in::{SignedForm, Turn, field};
use crate::pages::texts::Texts;
use crate::pages::visit::Visit;
use crate::respond::{PageError, PageProblem};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/account/passkeys", post(add))
        .route("/account/passkeys/options", post(options))
        .route("/account/passkeys/{id}/rename", post(rename))
        .route("/account/passkeys/{id}/remove", post(remove))
}

async fn options(State(app): State<Arc<App>>, SignedForm { by, .. }: SignedForm) -> Result<Response, Turn> {
    by.step_up(&app, OwnPath::account())?;
    let known = app.store.list_passkeys(by.user.id).await?;
    let vouching = (&app.sign_in.seal, &app.entropy);
    Ok(offer(passkeys(&app)?.offer_registration(vouching, &by.user, &known, by.visit.now))?)
}

async fn add(State(app): State<Arc<App>>, SignedForm { by, form }: SignedForm) -> Result<Response, Turn> {
    by.step_up(&app, OwnPath::account())?;
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let made = made(&app, &by.user, &by.visit, &form)?;
    let mut tx = by.begin(&app).await?;
    if let Err(notice) = insert(&mut tx, &made, by.visit.language.texts()).await? {
        drop(tx);
        return Ok(shown(&app, &by, None, Some((PageProblem::Invalid.into(), notice))).await?);
    }
    tx.commit(&by.origin()).await?;
    Ok(back("passkey-added"))
}

/// A passkey made just now, and the challenge it was made for.
pub(crate) struct MadeNow {
    passkey: Passkey,
    answered: Answered,
}

/// Verifies what the browser sent of a passkey that it made.
pub(crate) fn made(app: &App, user: &User, visit: &Visit, form: &Form<'_>) -> Result<MadeNow, PageError> {
    let said = (field(form, "ceremony")?, field(form, "credential")?);
    let made = passkeys(app)?.register(&app.sign_in.seal, user.id, said, visit.now).map_err(|error| {
        tracing::info!(%error, user = %user.id, "a new passkey was refused");
        PageProblem::Wrong
    })?;
    let name = name(field(form, "name")?).unwrap_or_else(|| platform(&visit.user_agent).to_owned());
    let passkey = Passkey {
        id: PasskeyId::new(visit.now, &app.entropy)?,
        user: user.id,
        name,
        credential_id: made.credential_id,
        verifier: made.verifier,
        created_at: visit.now,
        used_at: None,
    };
    Ok(MadeNow { passkey, answered: made.answered })
}

/// Adds it, once; or why it cannot be added.
pub(crate) async fn insert(
    tx: &mut Tx,
    made: &MadeNow,
    t: &'static Texts,
) -> Result<Result<(), &'static str>, PageError> {
    let MadeNow { passkey, answered } = made;
    if !tx.spend_challenge(&answered.challenge, answered.expires_at).await? {
        return Err(PageProblem::Wrong.into());
    }
    match tx.insert_passkey(passkey).await {
        Ok(true) => {}
        Ok(false) => return Ok(Err(t.passkeys_full)),
        Err(StoreError::Conflict { .. }) => return Ok(Err(t.passkey_known)),
        Err(error) => return Err(error.into()),
    }
    tx.record(draft("passkey.added", passkey));
    Ok(Ok(()))
}

fn draft(kind: &'static str, passkey: &Passkey) -> Draft {
    let data = json!({ "passkey": passkey.id, "name": passkey.name });
    Draft { kind, subject: passkey.user.to_string(), data }
}

async fn rename(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    SignedForm { by, form }: SignedForm,
) -> Result<Response, Turn> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let (id, name) = (named(&id)?, name(field(&form, "name")?).ok_or(PageProblem::Invalid)?);
    let mut tx = by.begin(&app).await?;
    if !tx.rename_passkey(by.user.id, id, &name).await? {
        return Err(PageProblem::NotFound.into());
    }
    let data = json!({ "passkey": id, "name": name });
    tx.record(Draft { kind: "passkey.renamed", subject: by.user.id.to_string(), data });
    tx.commit(&by.origin()).await?;
    Ok(back("passkey-renamed"))
}

async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    SignedForm { by, .. }: SignedForm,
) -> Result<Response, Turn> {
    by.step_up(&app, OwnPath::account())?;
    let id = named(&id)?;
    let mut tx = by.begin(&app).await?;
    let Some(removed) = tx.remove_passkey(by.user.id, id).await? else {
        drop(tx);
        let is_there = app.store.list_passkeys(by.user.id).await?.iter().any(|passkey| passkey.id == id);
        let refused = (PageProblem::Invalid.into(), by.visit.language.texts().passkey_last);
        return if is_there {
            Ok(shown(&app, &by, None, Some(refused)).await?)
        } else {
            Err(PageProblem::NotFound.into())
        };
    };
    tx.record(draft("passkey.removed", &removed));
    tx.commit(&by.origin()).await?;
    Ok(back("passkey-removed"))
}

fn named(id: &str) -> Result<PasskeyId, PageError> {
    id.parse().map_err(|_| PageProblem::NotFound.into())
}

/// A name that somebody gives; `None` if nothing is left of it.
fn name(text: &str) -> Option<String> {
    let name = kept(text.into(), MOST_NAME).into_owned();
    (!name.is_empty()).then_some(name)
}

/// What a passkey is called that nobody named: where it was made.
fn platform(user_agent: &str) -> &'static str {
    const KNOWN: [(&str, &str); 7] = [
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Mac OS X", "Mac"),
        ("Windows", "Windows"),
        ("CrOS", "Chromebook"),
        ("Linux", "Linux"),
    ];
    KNOWN.iter().find(|(mark, _)| user_agent.contains(mark)).map_or("Passkey", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passkey_without_a_name_is_called_after_where_it_was_made() {
        for (user_agent, name) in [
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15", "iPhone"),
            ("Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36", "Android"),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)", "Mac"),
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64)", "Windows"),
            ("", "Passkey"),
        ] {
            assert_eq!(platform(user_agent), name, "{user_agent}");
        }
    }
}
