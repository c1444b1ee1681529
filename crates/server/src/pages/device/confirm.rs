//! The question whether the device is theirs, with all that is known of it, and the answer. "No" asks nothing; "yes" counts
//! only with everything that `device_grants.rs` asks for, whatever the form looked like.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use keyward_model::id::DeviceGrantId;
use keyward_model::login::Method;
use keyward_model::user_code::UserCode;
use keyward_store::StoreError;

use crate::app::App;
use crate::device_grants::{self, Asked, Consent, Refusal};
use crate::pages::application;
use crate::pages::device::held::Held;
use crate::pages::device::{CONFIRM, DONE, outcome, visitor};
use crate::pages::frame::{Frame, page};
use crate::pages::rights::Sentences;
use crate::pages::signed_in::{SignedForm, SignedIn, Turn, field};
use crate::pages::texts::Texts;
use crate::respond::{PageError, PageProblem, see_other};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route(CONFIRM, get(show)).route("/device/decision", post(decide))
}

#[derive(Template)]
#[template(path = "device_confirm.html")]
struct ConfirmPage<'a> {
    frame: Frame,
    by: &'a SignedIn,
    device: Device,
    care: Care,
    notice: Option<&'static str>,
}

/// What is known of whoever asks.
struct Device {
    grant: DeviceGrantId,
    label: String,
    client: String,
    /// An administrator answers for the client.
    verified: bool,
    network: String,
    own_network: String,
    same_network: bool,
    asked: String,
    /// The code, where it was not typed and may be shown for comparing.
    code: Option<String>,
    rights: Sentences,
    /// The same in one line, which the form sends back: a yes is to this and to nothing else.
    offer: String,
}

/// What is asked before a "yes" counts.
struct Care {
    /// To sign in once more: with their passkey, if they have one.
    sign_in: bool,
    /// To type the code.
    type_code: bool,
    /// To say that the device is before them.
    acknowledge: bool,
    /// To take their time.
    wait: Option<String>,
}

impl Care {
    async fn of(app: &App, by: &SignedIn, asked: &Asked) -> Result<Self, PageError> {
        let friction = &asked.friction;
        let t = by.visit.language.texts();
        let wait = friction.delay.saturating_sub(by.visit.now.since(asked.claimed_at));
        Ok(Self {
            sign_in: friction.must_sign_in_afresh && !has_proved(app, by, asked).await?,
            type_code: friction.must_type_code,
            acknowledge: friction.must_acknowledge,
            wait: (!wait.is_zero()).then(|| t.care_wait.replace('%', &friction.delay.as_secs().to_string())),
        })
    }

    fn is_high(&self) -> bool {
        self.sign_in || self.type_code || self.wait.is_some()
    }

    /// Whether there is anything to say yes to before something else is done.
    fn may_approve(&self) -> bool {
        !self.sign_in && !self.type_code
    }
}

/// Whether they have signed in since the device asked; with a passkey, if they have one: that is signed for this server, by
/// somebody who is there.
async fn has_proved(app: &App, by: &SignedIn, asked: &Asked) -> Result<bool, StoreError> {
    if by.auth_time() < asked.asked_at {
        return Ok(false);
    }
    let needs_passkey = by.login.method != Method::Passkey && app.sign_in.passkeys.is_some();
    Ok(!needs_passkey || app.store.list_passkeys(by.user.id).await?.is_empty())
}

async fn show(State(app): State<Arc<App>>, by: SignedIn, held: Held) -> Result<Response, Turn> {
    shown(&app, &by, &held, None).await
}

async fn shown(
    app: &Arc<App>,
    by: &SignedIn,
    held: &Held,
    refused: Option<(PageError, &'static str)>,
) -> Result<Response, Turn> {
    let Some(grant) = held.grant else { return outcome::refused(by, Refusal::Foreign) };
    let asked = match device_grants::look(app, &visitor(by), grant).await {
        Ok(asked) => asked,
        Err(Refusal::Ended) => return Ok(see_other(DONE)),
        Err(refusal) => return outcome::refused(by, refusal),
    };
    let care = Care::of(app, by, &asked).await?;
    // Whoever is to type the code from the device does not find it here.
    let code = held.code.as_ref().filter(|_| !held.typed && !care.type_code).map(UserCode::reveal);
    let verified = application::is_verified(app, asked.owner).await?;
    let device = Device {
        grant: asked.id,
        verified,
        network: asked.network.to_string(),
        own_network: by.visit.network(),
        same_network: asked.network == asked.own_network,
        asked: ago(by.visit.now.since(asked.asked_at), by.visit.language.texts()),
        code: code.map(|code| code.to_string()),
        rights: Sentences::new(asked.scopes, &asked.res),
        offer: asked.offer,
        label: asked.label,
        client: asked.client_name,
    };
    let (problem, notice) = refused.unzip();
    Ok(page(&ConfirmPage { frame: Frame::new(by.visit.language), by, device, care, notice }, problem))
}

fn ago(age: Duration, t: &Texts) -> String {
    match age.as_secs() / 60 {
        0 => t.asked_now.to_owned(),
        minutes => t.asked_minutes.replace('%', &minutes.to_string()),
    }
}

async fn decide(
    State(app): State<Arc<App>>,
    held: Held,
    SignedForm { by, form }: SignedForm,
) -> Result<Response, Turn> {
    let form = form.form().map_err(|_| PageProblem::Unreadable)?;
    let grant: DeviceGrantId = field(&form, "grant")?.parse().map_err(|_| PageProblem::Unreadable)?;
    // What the form showed is decided, although the browser may have entered another code since.
    let held = if held.grant == Some(grant) { held } else { Held { grant: Some(grant), ..Held::default() } };
    let decided = if field(&form, "answer")? == "yes" {
        let (offer, here) = (field(&form, "offer")?.to_owned(), field(&form, "here")?);
        let consent = Consent { offer, acknowledged: !here.is_empty() };
        approve(&app, &by, grant, consent).await
    } else {
        device_grants::deny(&app, &visitor(&by), grant).await
    };
    let t = by.visit.language.texts();
    let unfit = PageError::from(PageProblem::Invalid);
    let refused = match decided {
        Ok(()) | Err(Refusal::Ended | Refusal::Approved) => {
            let mut response = see_other(DONE);
            held.keep(&app, by.visit.now, &mut response);
            return Ok(response);
        }
        Err(Refusal::Changed) => (PageProblem::Changed.into(), t.rights_changed),
        Err(Refusal::TypeCode) => (unfit, t.care_type),
        Err(Refusal::SignInAfresh) => (unfit, t.care_sign_in),
        Err(Refusal::Acknowledge) => (unfit, t.here_missing),
        Err(Refusal::TooSoon(wait)) => (PageError::too_many(wait), t.too_fast),
        Err(refusal) => return outcome::refused(&by, refusal),
    };
    shown(&app, &by, &held, Some(refused)).await
}

async fn approve(app: &Arc<App>, by: &SignedIn, grant: DeviceGrantId, consent: Consent) -> Result<(), Refusal> {
    let asked = device_grants::look(app, &visitor(by), grant).await?;
    if asked.friction.must_sign_in_afresh && !has_proved(app, by, &asked).await? {
        return Err(Refusal::SignInAfresh);
    }
    device_grants::approve(app, &visitor(by), grant, consent).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::texts::Language;

    #[test]
    fn the_age_of_a_request_is_said_in_minutes() {
        let said = |seconds| ago(Duration::from_secs(seconds), Language::English.texts());
        assert_eq!((said(0), said(59)), ("less than a minute ago".to_owned(), "less than a minute ago".to_owned()));
        assert_eq!((said(60), said(599)), ("1 min ago".to_owned(), "9 min ago".to_owned()));
    }
}
