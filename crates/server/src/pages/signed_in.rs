//! Who is signed in. A page that needs somebody takes [`SignedIn`], a form of it [`SignedForm`]: whoever is not signed in is
//! led to `/login` and comes back.
//!
//! 1. The cookie's token, hashed, names the login; it, its user and its time are judged by one read
//! 2. A form carries the token of its login besides
//! 3. What must not be done by whoever finds an open browser asks [`SignedIn::step_up`] first

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use keyward_model::event::Actor;
use keyward_model::login::{Login, Method};
use keyward_model::time::Timestamp;
use keyward_model::user::User;
use keyward_store::{Origin, Tx};

use crate::app::App;
use crate::login::session;
use crate::oauth::form::FormRequest;
use crate::pages::own_path::OwnPath;
use crate::pages::visit::{self, Visit};
use crate::respond::{PageError, PageProblem, see_other};

/// The parameter in which a form carries the token of its login.
pub(crate) const FORM_TOKEN: &str = "form_token";

/// Somebody who is signed in.
pub(crate) struct SignedIn {
    /// Who, as they are now.
    pub(crate) user: User,
    /// In which login.
    pub(crate) login: Login,
    /// What the forms of this login carry.
    pub(crate) csrf: String,
    /// The visit.
    pub(crate) visit: Visit,
}

/// Why a page is not given: a refusal, or somewhere else to go first.
pub(crate) enum Turn {
    /// A refusal.
    Refuse(PageError),
    /// To sign in, and then back; without the cookie of a login that has ended.
    Login {
        /// Where to come back to.
        back: OwnPath,
        /// Whether those who are signed in are asked too.
        again: bool,
    },
}

impl IntoResponse for Turn {
    fn into_response(self) -> Response {
        match self {
            Self::Refuse(error) => error.into_response(),
            Self::Login { back, again } => {
                let mut response = see_other(&back.login(again));
                if !again {
                    visit::forget_login(&mut response);
                }
                response
            }
        }
    }
}

impl<E: Into<PageError>> From<E> for Turn {
    fn from(error: E) -> Self {
        Self::Refuse(error.into())
    }
}

impl SignedIn {
    /// When they proved who they are.
    pub(crate) fn auth_time(&self) -> Timestamp {
        self.login.created_at
    }

    /// How they proved it (RFC 8176).
    pub(crate) fn amr(&self) -> &'static [&'static str] {
        self.login.method.amr()
    }

    /// Whether they proved it a short while ago.
    pub(crate) fn is_fresh(&self, app: &App) -> bool {
        self.visit.now.since(self.auth_time()) <= app.sign_in.fresh()
    }

    /// Asks whoever proved it longer ago to do so once more, and then to come back.
    pub(crate) fn step_up(&self, app: &App, back: OwnPath) -> Result<(), Turn> {
        if self.is_fresh(app) { Ok(()) } else { Err(Turn::Login { back, again: true }) }
    }

    /// Begins a change, within what one user may change in a while.
    pub(crate) async fn begin(&self, app: &App) -> Result<Tx, PageError> {
        match app.sign_in.throttle.charge_change(self.user.id, self.visit.now) {
            Some(wait) => Err(PageError::too_many(wait)),
            None => Ok(app.store.begin().await?),
        }
    }

    /// Who does what they do here, from where and when.
    pub(crate) fn origin(&self) -> Origin {
        let actor = Actor::Login { user: self.user.id, login: self.login.id };
        Origin { actor, source: self.visit.source(), now: self.visit.now }
    }
}

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = Turn;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Turn> {
        let Ok(visit) = Visit::from_request_parts(parts, app).await;
        // A form cannot be gone back to: what was in it is lost.
        let back = parts.uri.path_and_query().filter(|_| parts.method.is_safe());
        let Some((login, user)) = session::find(app, &visit).await? else {
            let back = back.map_or_else(OwnPath::account, |path| OwnPath::parse(path.as_str()));
            return Err(Turn::Login { back, again: false });
        };
        session::note_seen(app, &login, visit.now).await;
        let csrf = visit.login.as_ref().map(session::form_token).unwrap_or_default();
        Ok(Self { user, login, csrf, visit })
    }
}

/// A form that somebody sends from a page of their login.
pub(crate) struct SignedForm {
    /// Who sends it.
    pub(crate) by: SignedIn,
    /// What it says.
    pub(crate) form: FormRequest,
}

impl FromRequest<Arc<App>> for SignedForm {
    type Rejection = Turn;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Turn> {
        let (mut parts, body) = request.into_parts();
        let by = SignedIn::from_request_parts(&mut parts, app).await?;
        let form = PageForm::from_request(Request::from_parts(parts, body), app).await?.0;
        let token =
            form.form().map_err(|_| PageProblem::Unreadable)?.get(FORM_TOKEN).unwrap_or_default().map(str::to_owned);
        let is_own = token.is_some_and(|token| {
            aws_lc_rs::constant_time::verify_slices_are_equal(token.as_bytes(), by.csrf.as_bytes()).is_ok()
        });
        if is_own { Ok(Self { by, form }) } else { Err(PageProblem::Foreign.into()) }
    }
}

/// A form of a page, whoever sends it.
pub(crate) struct PageForm(pub(crate) FormRequest);

impl FromRequest<Arc<App>> for PageForm {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, PageError> {
        FormRequest::from_request(request, app).await.map(Self).map_err(|_| PageProblem::Unreadable.into())
    }
}

/// A parameter of a form; empty if it is not there.
pub(crate) fn field<'a>(form: &'a keyward_model::form::Form<'_>, name: &'static str) -> Result<&'a str, PageError> {
    Ok(form.get(name).map_err(|_| PageProblem::Unreadable)?.unwrap_or_default())
}

/// How somebody signed in, for people.
pub(crate) fn method_text(method: Method, t: &crate::pages::texts::Texts) -> &'static str {
    match method {
        Method::Password => t.method_password,
        Method::Passkey => t.method_passkey,
        Method::RecoveryCode => t.method_recovery_code,
    }
}
