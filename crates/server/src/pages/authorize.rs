//! Letting an application in: the authorization endpoint (RFC 6749 §3.1). What is asked, and how it is answered, is in
//! `oauth/authorization.rs`.
//!
//! 1. `GET /authorize` shows who asks for what, to whoever is signed in; it never answers by itself, whatever was allowed
//!    before: RFC 8252 §8.6, for anybody can say that they are a public client
//! 2. `POST /authorize` takes the decision about what was shown, and leads back to the client

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::Uri;
use keyward_model::rights::Rights;

use crate::app::App;
use crate::oauth::authorization::{self, Approval, AuthorizationError, AuthorizationRequest, Refused};
use crate::pages::application;
use crate::pages::frame::{FormsLeadTo, Frame, page};
use crate::pages::own_path::OwnPath;
use crate::pages::rights::Sentences;
use crate::pages::signed_in::{SignedForm, SignedIn, Turn, field};
use crate::respond::{PageError, PageProblem, see_other};

/// The paths.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/authorize", get(show).post(decide))
}

#[derive(Template)]
#[template(path = "authorize.html")]
struct AuthorizePage<'a> {
    frame: Frame,
    by: &'a SignedIn,
    client: &'a str,
    /// An administrator answers for the client.
    verified: bool,
    /// Where it leads, unless that is a program on this machine.
    host: Option<&'a str>,
    offer: Sentences,
    offered: &'a str,
    query: &'a str,
    /// The way to another account.
    another: String,
}

/// An answer for the client, or a refusal to give one.
impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Here => Self::Turn(PageProblem::Application.into()),
            Refused::Back(url) => Self::Back(url),
            Refused::Fault(error) => Self::Turn(error.into()),
        }
    }
}

/// What is not a page.
enum Answer {
    Back(String),
    Turn(Turn),
}

impl From<Turn> for Answer {
    fn from(turn: Turn) -> Self {
        Self::Turn(turn)
    }
}

impl From<PageError> for Answer {
    fn from(error: PageError) -> Self {
        Self::Turn(error.into())
    }
}

impl axum::response::IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Back(url) => see_other(&url),
            Self::Turn(turn) => turn.into_response(),
        }
    }
}

async fn show(State(app): State<Arc<App>>, uri: Uri, by: Result<SignedIn, Turn>) -> Result<Response, Answer> {
    let query = uri.query().unwrap_or_default();
    let request = authorization::read(&app, query).await?;
    let back = |error, why| Answer::Back(request.back.error(error, why));
    let by = match by {
        Err(Turn::Login { .. }) if request.silent => {
            return Err(back(AuthorizationError::LoginRequired, "nobody is signed in"));
        }
        by => by?,
    };
    if request.silent {
        return Err(back(AuthorizationError::ConsentRequired, "users are always asked here"));
    }
    if !request.takes_login_of(by.auth_time(), by.visit.now) {
        return Err(Turn::Login { back: own_path(query), again: true }.into());
    }
    let offer = request.offer(&app, &by.user)?;
    require_fresh(&app, &by, query, &offer)?;
    shown(&app, &by, &request, (query, &offer)).await
}

async fn decide(State(app): State<Arc<App>>, SignedForm { by, form }: SignedForm) -> Result<Response, Answer> {
    let form = form.form().map_err(|_| PageError::from(PageProblem::Unreadable))?;
    let query = field(&form, "request")?;
    let request = authorization::read(&app, query).await?;
    if field(&form, "decision")? != "allow" {
        return Err(Answer::Back(request.back.error(AuthorizationError::AccessDenied, "the user did not allow it")));
    }
    // Whoever had to prove who they are did so to see the page; it may be left standing for a while, but not for ever.
    if !request.takes_login_of(by.auth_time(), by.visit.now) {
        by.step_up(&app, own_path(query))?;
    }
    let offer = request.offer(&app, &by.user)?;
    if field(&form, "offered")? != offer.to_text() {
        // It is not what they have seen.
        return shown(&app, &by, &request, (query, &offer)).await;
    }
    require_fresh(&app, &by, query, &offer)?;
    let approval = Approval {
        user: &by.user,
        rights: offer,
        authenticated_at: by.auth_time(),
        amr: by.amr(),
        from: by.visit.source(),
    };
    let mut tx = by.begin(&app).await?;
    let code = request.approve(&app, &mut tx, approval, by.visit.now).await?;
    tx.commit(&by.origin()).await.map_err(PageError::from)?;
    Ok(see_other(&request.back.code(&code)))
}

/// What reaches Keyward itself would outlast an open browser that somebody has found, as a device would that they let in:
/// they prove once more who they are, whatever the client asks.
fn require_fresh(app: &App, by: &SignedIn, query: &str, offer: &Rights) -> Result<(), Turn> {
    let administers = offer.scope.iter().any(|scope| scope.is_keyward());
    if administers { by.step_up(app, own_path(query)) } else { Ok(()) }
}

async fn shown(
    app: &App,
    by: &SignedIn,
    request: &AuthorizationRequest,
    (query, offer): (&str, &Rights),
) -> Result<Response, Answer> {
    let uri = &request.back.redirect_uri;
    let template = AuthorizePage {
        frame: Frame::new(by.visit.language),
        by,
        client: &request.client.name,
        verified: application::is_verified(app, request.client.owner).await?,
        host: (!uri.is_local()).then(|| uri.origin()),
        offer: Sentences::of(offer, &app.registry.load()),
        offered: &offer.to_text(),
        query,
        another: own_path(query).login_as_another(),
    };
    let mut response = page(&template, None);
    response.extensions_mut().insert(FormsLeadTo(uri.origin().to_owned()));
    Ok(response)
}

fn own_path(query: &str) -> OwnPath {
    OwnPath::parse(&format!("/authorize?{query}"))
}
