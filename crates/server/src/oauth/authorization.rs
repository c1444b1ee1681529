//! The authorization request: RFC 6749 §4.1.1, with PKCE for everybody (RFC 7636, RFC 9700 §2.1.1). What it asks for, how a
//! refusal gets back, and the code in the end; nothing of HTTP.
//!
//! 1. The client is one that may, and the redirect URI one of its own: otherwise nobody is led anywhere    §4.1.2.1
//! 2. A code in the query is asked for, with a challenge                                                   §4.1.1, RFC 7636 §4.3
//! 3. What may be given: requested ∩ client ∩ user, as far as the client's APIs know it
//! 4. The user allows it: a code, which is kept as a hash for a minute                                     §4.1.2
//! 5. Whatever the answer, it says who gives it                                                            RFC 9207 §2

use std::time::Duration;

use keyward_model::client::Client;
use keyward_model::event::Draft;
use keyward_model::form::{Form, FormError};
use keyward_model::id::ClientId;
use keyward_model::pkce::{self, CodeChallenge};
use keyward_model::redirect_uri::RedirectUri;
use keyward_model::rights::{Requested, Rights};
use keyward_model::secret::Secret;
use keyward_model::time::Timestamp;
use keyward_model::user::User;
use keyward_store::{Authorization, StoreError, Tx};
use serde_json::json;

use crate::app::App;
use crate::respond::{PageError, printable};

/// How long a code can be redeemed. RFC 6749 §4.1.2 recommends ten minutes at most; programs need seconds.
const CODE_LASTS: Duration = Duration::from_secs(60);
/// Whoever is asked to prove who they are has done so, if it was within this time.
const JUST_NOW: Duration = Duration::from_secs(60);
/// The longest query: it goes through the login and back in the URL.
pub(crate) const MOST_QUERY: usize = 2000;

/// A request that can be put to the user.
#[derive(Debug)]
pub(crate) struct AuthorizationRequest {
    /// Who asks.
    pub(crate) client: Client,
    /// Where the answer goes.
    pub(crate) back: Back,
    /// The user must not be asked anything (OpenID Connect Core §3.1.2.1, `prompt=none`).
    pub(crate) silent: bool,
    code_challenge: CodeChallenge,
    requested: Requested,
    /// How long ago the user may have proved who they are.
    max_age: Option<Duration>,
}

/// Where an answer goes, and what it carries besides.
#[derive(Debug)]
pub(crate) struct Back {
    /// One of the client's own.
    pub(crate) redirect_uri: RedirectUri,
    state: Option<String>,
    issuer: String,
}

/// Why a request is not put to anybody.
#[derive(Debug)]
pub(crate) enum Refused {
    /// RFC 6749 §4.1.2.1: "MUST NOT automatically redirect the user-agent to the invalid redirection URI."
    Here,
    /// The client is told, at this URL.
    Back(String),
    /// A fault of our own.
    Fault(PageError),
}

/// What a client is told (RFC 6749 §4.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthorizationError {
    InvalidRequest,
    UnsupportedResponseType,
    InvalidScope,
    AccessDenied,
    /// OpenID Connect Core §3.1.2.6, as all below.
    LoginRequired,
    ConsentRequired,
    RequestNotSupported,
    RequestUriNotSupported,
}

impl AuthorizationError {
    /// The word on the wire.
    const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::AccessDenied => "access_denied",
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
        }
    }
}

impl Back {
    /// The URL that tells the client of a refusal.
    pub(crate) fn error(&self, error: AuthorizationError, why: &str) -> String {
        self.url(&[("error", error.as_str()), ("error_description", &printable(why))])
    }

    /// The URL that brings the client the code.
    pub(crate) fn code(&self, code: &Secret) -> String {
        self.url(&[("code", &code.reveal())])
    }

    fn url(&self, answer: &[(&str, &str)]) -> String {
        let state = self.state.as_deref().map(|state| ("state", state));
        let all: Vec<_> = answer.iter().copied().chain(state).chain([("iss", self.issuer.as_str())]).collect();
        self.redirect_uri.with(&all)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

/// Reads a request from the query it came with.
pub(crate) async fn read(app: &App, query: &str) -> Result<AuthorizationRequest, Refused> {
    let form = Form::parse(query.as_bytes()).map_err(|_| Refused::Here)?;
    let (client, redirect_uri) = addressed(app, &form).await?;
    // A state that stands twice is no state: the answer goes without it, and says what is wrong.
    let state = form.get("state").ok().flatten().map(str::to_owned);
    let back = Back { redirect_uri, state, issuer: app.issuer.clone() };
    match Asked::read(query, &form) {
        Ok(Asked { code_challenge, requested, silent, max_age }) => {
            Ok(AuthorizationRequest { client, back, silent, code_challenge, requested, max_age })
        }
        Err((error, why)) => Err(Refused::Back(back.error(error, &why))),
    }
}

/// Client and redirect URI: whatever is wrong with these stays here.
async fn addressed(app: &App, form: &Form<'_>) -> Result<(Client, RedirectUri), Refused> {
    let once = |name| form.get(name).ok().flatten().ok_or(Refused::Here);
    let id: ClientId = once("client_id")?.parse().map_err(|_| Refused::Here)?;
    let presented: RedirectUri = once("redirect_uri")?.parse().map_err(|_| Refused::Here)?;
    let (client, owner) = app.store.find_client_and_owner(id).await?.ok_or(Refused::Here)?;
    let may = client.disabled_at.is_none()
        && owner.disabled_at.is_none()
        && client.redirect_uris.iter().any(|own| own.matches(&presented));
    if may { Ok((client, presented)) } else { Err(Refused::Here) }
}

/// What is asked for, whoever asks.
struct Asked {
    code_challenge: CodeChallenge,
    requested: Requested,
    silent: bool,
    max_age: Option<Duration>,
}

type Problem = (AuthorizationError, String);

impl Asked {
    fn read(query: &str, form: &Form<'_>) -> Result<Self, Problem> {
        use AuthorizationError::{
            InvalidRequest, InvalidScope, RequestNotSupported, RequestUriNotSupported, UnsupportedResponseType,
        };
        let get = |name| form.get(name).map_err(|error: FormError| (InvalidRequest, error.to_string()));
        let refuse = |error: AuthorizationError, why: &str| Err((error, why.to_owned()));
        if query.len() > MOST_QUERY {
            return refuse(InvalidRequest, "the request is longer than 2000 characters: keep what state stands for");
        }
        get("state")?;
        if get("request")?.is_some() {
            return refuse(RequestNotSupported, "request objects are not taken here");
        }
        if get("request_uri")?.is_some() {
            return refuse(RequestUriNotSupported, "request objects are not taken here");
        }
        match get("response_type")? {
            Some("code") => {}
            None => return refuse(InvalidRequest, "response_type is missing"),
            Some(_) => return refuse(UnsupportedResponseType, "the response_type here is code"),
        }
        if get("response_mode")?.is_some_and(|mode| mode != "query") {
            return refuse(InvalidRequest, "the response_mode here is query");
        }
        let Some(challenge) = get("code_challenge")? else {
            return refuse(InvalidRequest, "code_challenge is missing: every client uses PKCE with S256 here");
        };
        if get("code_challenge_method")? != Some(pkce::METHOD) {
            return refuse(InvalidRequest, "the code_challenge_method here is S256");
        }
        let code_challenge = challenge.parse().map_err(|error: pkce::PkceError| (InvalidRequest, error.to_string()))?;
        let wrong = |error: keyward_model::rights::RightsError| (InvalidScope, error.to_string());
        let requested = Requested {
            scope: get("scope")?.map(str::parse).transpose().map_err(wrong)?,
            res: get("res")?.map(str::parse).transpose().map_err(wrong)?,
        };
        let prompts: Vec<&str> = get("prompt")?.unwrap_or_default().split(' ').filter(|p| !p.is_empty()).collect();
        if prompts.contains(&"none") && prompts.len() > 1 {
            return refuse(InvalidRequest, "prompt=none stands by itself");
        }
        let max_age = match get("max_age")?.map(str::parse::<u32>).transpose() {
            Ok(seconds) => seconds.map(|seconds| Duration::from_secs(seconds.into()).max(JUST_NOW)),
            Err(_) => return refuse(InvalidRequest, "max_age is a whole number of seconds"),
        };
        let anew = prompts.iter().any(|prompt| matches!(*prompt, "login" | "select_account")).then_some(JUST_NOW);
        let max_age = [max_age, anew].into_iter().flatten().min();
        Ok(Self { code_challenge, requested, silent: prompts.contains(&"none"), max_age })
    }
}

/// How and when the user proved who they are, and from where they allow it.
#[derive(Debug)]
pub(crate) struct Approval<'a> {
    /// Who.
    pub(crate) user: &'a User,
    /// What.
    pub(crate) rights: Rights,
    /// When they proved it.
    pub(crate) authenticated_at: Timestamp,
    /// How.
    pub(crate) amr: &'a [&'a str],
    /// From which network address.
    pub(crate) from: Option<String>,
}

impl AuthorizationRequest {
    /// Whether somebody who proved who they are at this instant need not do so again.
    pub(crate) fn takes_login_of(&self, authenticated_at: Timestamp, now: Timestamp) -> bool {
        self.max_age.is_none_or(|most| now.since(authenticated_at) <= most)
    }

    /// What the client would be given by this user; with nothing of what it asks for, it is told so.
    pub(crate) fn offer(&self, app: &App, user: &User) -> Result<Rights, Refused> {
        let registry = app.registry.load();
        let known = registry.known_to_apis_of(&self.client);
        let within = self.client.rights.intersect(&user.rights, &registry.catalogue);
        let within = Rights { scope: within.scope.intersect(&known), res: within.res };
        let asked = Rights {
            scope: self.requested.scope.clone().unwrap_or_else(|| within.scope.clone()),
            res: self.requested.res.clone().unwrap_or_else(|| within.res.clone()),
        };
        let offer = asked.intersect(&within, &registry.catalogue);
        if offer.scope.is_empty() || offer.res.is_empty() {
            let why = "nothing may be granted: what is asked for, the client and the user have nothing in common";
            return Err(Refused::Back(self.back.error(AuthorizationError::InvalidScope, why)));
        }
        Ok(offer)
    }

    /// Keeps what the user allowed; gives the code for it.
    pub(crate) async fn approve(
        &self,
        app: &App,
        tx: &mut Tx,
        approval: Approval<'_>,
        now: Timestamp,
    ) -> Result<Secret, PageError> {
        let code = Secret::new(app.entropy.bytes()?);
        let data = json!({
            "user": approval.user.id, "scope": approval.rights.scope, "res": approval.rights.res,
            "redirect_uri": self.back.redirect_uri.as_str(),
        });
        let given = Authorization {
            client: self.client.id,
            user: approval.user.id,
            redirect_uri: self.back.redirect_uri.clone(),
            code_challenge: self.code_challenge.clone(),
            rights: approval.rights,
            authenticated_at: approval.authenticated_at,
            amr: approval.amr.join(" "),
            created_from: approval.from,
            created_at: now,
            expires_at: now.plus(CODE_LASTS),
        };
        tx.insert_authorization_code(&app.hashing_key.hash(&code), &given).await?;
        tx.record(Draft { kind: "authorization.allowed", subject: self.client.id.to_string(), data });
        Ok(code)
    }
}
