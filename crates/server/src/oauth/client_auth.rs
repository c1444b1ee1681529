//! Client authentication (RFC 6749 §2.3): a seam of its own, whatever the grant.
//!
//! 1. Find the credentials in the header or in the body, in one place only    RFC 6749 §2.3.1
//! 2. Read the key; the credential's id inside it finds its row
//! 3. Compare the secret, the same work whoever asks
//! 4. Only after the right secret: say what else is in the way
//! 5. Without a secret: a public client, which names itself by its `client_id`    RFC 6749 §3.2.1

use std::net::IpAddr;

use http::{HeaderMap, header};
use keyward_model::basic::{Basic, BasicError};
use keyward_model::caller::Shown;
use keyward_model::client::{Client, ClientKind};
use keyward_model::event::Actor;
use keyward_model::form::Form;
use keyward_model::id::{ClientId, CredentialId};
use keyward_model::key::Key;
use keyward_model::time::Timestamp;

use crate::app::App;
use crate::meter;
use crate::oauth::caller;
use crate::oauth::form::FormRequest;
use crate::oauth::key_warning::EndedKey;
use crate::principals::Principal;
use crate::proof::prove;
use crate::respond::{ErrorCode, OAuthError};

/// The authentication methods, as the metadata names them (RFC 8414 §2).
pub const METHODS: &[&str] = &["client_secret_basic", "client_secret_post"];

/// Who asks at an OAuth endpoint.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A client that proved who it is with one of its credentials.
    Confidential(Principal),
    /// A client that has none and says who it is: anybody may say the same.
    Public(Box<Client>),
}

impl Asker {
    /// Which client.
    pub(crate) fn client(&self) -> &Client {
        match self {
            Self::Confidential(principal) => &principal.client,
            Self::Public(client) => client,
        }
    }

    /// For the log.
    pub(crate) fn actor(&self) -> Actor {
        let client = self.client().id;
        match self.credential() {
            Some(credential) => Actor::Client { client, credential },
            None => Actor::PublicClient { client },
        }
    }

    /// With which credential.
    pub(crate) fn credential(&self) -> Option<CredentialId> {
        match self {
            Self::Confidential(principal) => Some(principal.entry.credential.id),
            Self::Public(_) => None,
        }
    }
}

/// What a client presents.
#[derive(Clone, Copy)]
struct Presented<'a> {
    client_id: &'a str,
    secret: &'a str,
}

/// The client that sent this request, authenticated.
pub(crate) async fn authenticate(app: &App, request: &FormRequest, form: &Form<'_>) -> Result<Principal, OAuthError> {
    let authorization = basic(&request.headers)?;
    let presented = presented(authorization.as_ref(), form)?;
    Attempt::of(request, form, presented)?.admit(app).await
}

/// The client that sent this request: authenticated, or a public one by its name.
pub(crate) async fn identify(app: &App, request: &FormRequest, form: &Form<'_>) -> Result<Asker, OAuthError> {
    let authorization = basic(&request.headers)?;
    match named(authorization.as_ref(), form)? {
        Some(client_id) => {
            let attempt = Attempt::of(request, form, Presented { client_id, secret: "" })?;
            Box::pin(attempt.recognize(app)).await.map(Asker::Public)
        }
        None => {
            let presented = presented(authorization.as_ref(), form)?;
            Attempt::of(request, form, presented)?.admit(app).await.map(Asker::Confidential)
        }
    }
}

/// The client whose key is in the header of a request to an API, which a gateway asks about.
pub(crate) async fn authenticate_in_header(
    app: &App,
    headers: &HeaderMap,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<Principal, OAuthError> {
    let authorization = basic(headers)?;
    let Some(authorization) = &authorization else { return Err(ErrorCode::InvalidClient.because("no key was sent")) };
    let presented = Presented { client_id: authorization.client_id(), secret: authorization.secret() };
    let caller = caller::by_headers(headers, address)?;
    let principal = Attempt { presented, caller, address, now }.admit(app).await?;
    app.callers.accepted(principal.entry.credential.id, caller, now);
    Ok(principal)
}

/// One try to be let in.
struct Attempt<'a> {
    presented: Presented<'a>,
    caller: Shown<'a>,
    address: Option<IpAddr>,
    now: Timestamp,
}

impl<'a> Attempt<'a> {
    fn of(request: &'a FormRequest, form: &'a Form<'_>, presented: Presented<'a>) -> Result<Self, OAuthError> {
        let caller = caller::of(request, form)?;
        Ok(Self { presented, caller, address: request.address, now: request.now })
    }

    /// Nobody learns whether there is a client that has secrets and sent none.
    async fn recognize(self, app: &App) -> Result<Box<Client>, OAuthError> {
        let found = match self.presented.client_id.parse::<ClientId>() {
            Ok(id) => app.store.find_client_and_owner(id).await?,
            Err(_) => None,
        };
        let named = match found.filter(|(client, _)| client.kind == ClientKind::Public) {
            None => Err(Refusal::Unproven),
            Some((client, _)) if client.disabled_at.is_some() => Err(Refusal::ClientDisabled),
            Some((_, owner)) if owner.disabled_at.is_some() => Err(Refusal::OwnerDisabled),
            Some((client, _)) => Ok(Box::new(client)),
        };
        named.map_err(|refusal| refuse(app, &self, refusal))
    }

    async fn admit(self, app: &App) -> Result<Principal, OAuthError> {
        let outcome = verify(app, &self.presented, self.now).await?;
        if let (Err(Refusal::Ended(_)), Ok(key)) = (&outcome, Key::parse(self.presented.secret)) {
            // Whoever still comes with the right secret of an ended key is to be moved to another.
            app.callers.refused(key.credential, self.caller, self.now);
        }
        outcome.map_err(|refusal| refuse(app, &self, refusal))
    }
}

/// The client that names itself without a secret, which may be left out or empty (RFC 6749 §2.3.1).
fn named<'a>(authorization: Option<&'a Basic>, form: &'a Form<'_>) -> Result<Option<&'a str>, OAuthError> {
    let (id, secret) = (form.get("client_id")?, form.get("client_secret")?);
    Ok(match authorization {
        Some(authorization) if authorization.secret().is_empty() && secret.is_none() => {
            Some(authorization.client_id()).filter(|own| id.is_none_or(|id| id == *own))
        }
        None if secret.is_none() => id,
        _ => None,
    })
}

/// Finds the credentials. RFC 6749 §2.3: "The client MUST NOT use more than one authentication method in each request."
fn presented<'a>(authorization: Option<&'a Basic>, form: &'a Form<'_>) -> Result<Presented<'a>, OAuthError> {
    let (body_id, body_secret) = (form.get("client_id")?, form.get("client_secret")?);
    let Some(authorization) = authorization else {
        return match (body_id, body_secret) {
            (Some(id), Some(secret)) => Ok(Presented { client_id: id, secret }),
            (Some(_), None) => Err(ErrorCode::InvalidClient.because("the client_secret is missing")),
            (None, Some(_)) => Err(ErrorCode::InvalidRequest.because("the client_id is missing")),
            (None, None) => Err(ErrorCode::InvalidClient.because(
                "no client authentication: send HTTP Basic with client_id and client_secret, or both in the body",
            )),
        };
    };
    if body_secret.is_some() {
        return Err(ErrorCode::InvalidRequest.because("two authentication methods at once: use the header or the body"));
    }
    if body_id.is_some_and(|id| id != authorization.client_id()) {
        return Err(ErrorCode::InvalidRequest.because("the client_id of the body is not the one of the header"));
    }
    Ok(Presented { client_id: authorization.client_id(), secret: authorization.secret() })
}

/// The `Authorization: Basic` header, if there is one.
fn basic(headers: &HeaderMap) -> Result<Option<Basic>, OAuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ErrorCode::InvalidRequest.because("more than one Authorization header"));
    }
    let code = |error: &BasicError| match error {
        BasicError::Scheme => ErrorCode::InvalidClient,
        _ => ErrorCode::InvalidRequest,
    };
    Basic::parse(value.as_bytes()).map(Some).map_err(|error| code(&error).because(error.to_string()))
}

/// What stands in the way of a client.
enum Refusal {
    /// No such client, no such key, or a wrong secret: nobody learns which.
    Unproven,
    /// The secret is right, but the credential has ended.
    Ended(EndedKey),
    /// The secret is right, but the client is disabled.
    ClientDisabled,
    /// The secret is right, but the owner is disabled.
    OwnerDisabled,
}

async fn verify(
    app: &App,
    presented: &Presented<'_>,
    now: Timestamp,
) -> Result<Result<Principal, Refusal>, OAuthError> {
    let proven = prove(app, presented.secret).await?;
    let Some(principal) = proven.filter(|principal| names(principal, presented.client_id)) else {
        return Ok(Err(Refusal::Unproven));
    };
    // Tokens end with whole seconds. In the second of its own end a key could only get one that is over already, and a
    // client that is told "expires_in": 0 would ask again at once.
    if let Some(ended) = EndedKey::of(app, &principal, now.end_of_second()) {
        return Ok(Err(Refusal::Ended(ended)));
    }
    if principal.client.disabled_at.is_some() || principal.client.kind == ClientKind::Public {
        return Ok(Err(Refusal::ClientDisabled));
    }
    if principal.owner.disabled_at.is_some() {
        return Ok(Err(Refusal::OwnerDisabled));
    }
    Ok(Ok(principal))
}

fn names(principal: &Principal, client_id: &str) -> bool {
    client_id.parse::<ClientId>().is_ok_and(|id| id == principal.client.id)
}

fn refuse(app: &App, attempt: &Attempt<'_>, refusal: Refusal) -> OAuthError {
    let Attempt { presented, address, now, .. } = attempt;
    let address = *address;
    let client = presented.client_id.parse::<ClientId>().ok();
    meter::AUTHENTICATION_FAILURES.increment();
    // Whoever has the right secret is no guesser: a whole fleet is to hear what became of its key.
    let guessed = matches!(refusal, Refusal::Unproven);
    if let Some(wait) = guessed.then(|| app.failures.charge(address, client, *now)).flatten() {
        if let Some(refused) = app.failures.tell(address, *now) {
            let source = address.map(tracing::field::display);
            tracing::warn!(client = client.map(display), source, refused, "too many failed authentications");
        }
        return OAuthError {
            retry_after: Some(wait),
            is_told: true,
            ..ErrorCode::TemporarilyUnavailable
                .because("too many failed authentications; wait as long as Retry-After says")
        };
    }
    let (description, cause) = match &refusal {
        Refusal::Unproven if presented.secret.is_empty() => {
            ("the client_secret is missing, or there is no such public client".to_owned(), "no such public client")
        }
        Refusal::Unproven => ("client_id or client_secret is wrong".to_owned(), "unknown client or wrong secret"),
        Refusal::Ended(key) => (key.notice().to_owned(), "ended credential"),
        Refusal::ClientDisabled => ("this client is disabled; ask its owner".to_owned(), "disabled client"),
        Refusal::OwnerDisabled => {
            ("the owner of this client is disabled; ask an administrator".to_owned(), "disabled owner")
        }
    };
    tracing::info!(client = client.map(display), source = address.map(display), cause, "authentication failed");
    let ended_key = match refusal {
        Refusal::Ended(key) => Some(key),
        _ => None,
    };
    OAuthError { ended_key, ..ErrorCode::InvalidClient.because(description) }
}
