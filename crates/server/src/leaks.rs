//! Leaked keys: whoever finds one may report it, and proves by the key itself that there is something to report.
//!
//! 1. The report: a key, and where it was found, in JSON or as a form of bearable size
//! 2. The key is proven as at the token endpoint, the same work whatever it is
//! 3. The right key of a credential that authenticates ends as `[leaks] on_report` says, with one event; people are told
//! 4. Every report is charged to the failure budget of its network, and everybody gets the same answer: what the key
//!    was, neither this answer nor the next one tells

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use keyward_model::event::{Actor, Draft};
use keyward_model::form::Form;
use keyward_model::legible::kept;
use keyward_model::time::Timestamp;
use keyward_store::Origin;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::api::body;
use crate::app::App;
use crate::config::OnReport;
use crate::notices::{Leak, Message, Outbox};
use crate::principals::Principal;
use crate::proof::prove;
use crate::request::Arrival;
use crate::respond::{ApiError, Problem, Told, json_response};

/// The largest report, in bytes.
const MAX_BODY: usize = 4 * 1024;
/// What is kept of where a key was found, in bytes.
const MOST_WHERE: usize = 200;
/// How long a reported key may go on where it is retired.
const RETIRES_IN: Duration = Duration::from_secs(3600);

/// What a finder says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default, rename = "where")]
    place: Cow<'a, str>,
}

/// A report of a leaked key. Holds a secret: never shown.
pub(crate) struct Report {
    now: Timestamp,
    source: Option<IpAddr>,
    key: Zeroizing<String>,
    place: String,
}

impl FromRequest<Arc<App>> for Report {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let now = app.clock.now();
        let source = Arrival::address(request.extensions());
        if request.uri().query().is_some() {
            return Err(Problem::Malformed.because("a key belongs into the body, not into the URL"));
        }
        let essence = body::essence(&request);
        let collected = body::collect(request, MAX_BODY, app.body_timeout).await?;
        let (key, place) = match essence.as_str() {
            "application/json" => {
                body::require_object(&collected)?;
                // What the parser quotes of a report could be the key.
                let said: Said<'_> = serde_json::from_slice(&collected)
                    .map_err(|_| Problem::Malformed.because("send {\"key\": \"kw_…\", \"where\": \"…\"}"))?;
                (said.key.into_owned(), said.place.into_owned())
            }
            "application/x-www-form-urlencoded" => {
                let unreadable = |_| Problem::Malformed.because("the form cannot be read: send key=kw_…&where=…");
                let form = Form::parse(&collected).map_err(unreadable)?;
                let text = |name| form.get(name).map(|value| value.unwrap_or_default().to_owned()).map_err(unreadable);
                (text("key")?, text("where")?)
            }
            _ => return Err(Problem::MediaType.because("send a report as application/json or as a form")),
        };
        let (key, place) = (Zeroizing::new(key), kept(place.into(), MOST_WHERE).into_owned());
        Ok(Self { now, source, key, place })
    }
}

/// `POST /leaks`
pub(crate) async fn report(State(app): State<Arc<App>>, report: Report) -> Result<Response, ApiError> {
    let wait = app.failures.charge(report.source, None, report.now);
    let holder = prove(&app, &report.key).await?;
    let live = holder.filter(|holder| holder.entry.credential.state_at(report.now).authenticates());
    // A key that works ends however many reports came before; what is only noted could be noted again and again.
    let is_heard = wait.is_none() || app.leaks.on_report != OnReport::Note;
    if let Some(holder) = live.filter(|_| is_heard) {
        act(&app, &holder, &report).await?;
    }
    if let Some(wait) = wait {
        if let Some(refused) = app.failures.tell(report.source, report.now) {
            let source = report.source.map(tracing::field::display);
            tracing::warn!(source, refused, "too many reports from one network");
        }
        let why = "too many reports; wait as long as Retry-After says, then send this one again";
        let refusal = ApiError { retry_after: Some(wait), ..Problem::TooMany.because(why) };
        let mut response = refusal.into_response();
        response.extensions_mut().insert(Told);
        return Ok(response);
    }
    let answer = json!({ "status": "received", "detail": "if this is a key that works, its owner is told" });
    let mut response = json_response(StatusCode::ACCEPTED, &answer);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `/leaks` by another method
pub(crate) async fn post_only() -> ApiError {
    Problem::MethodNotAllowed.because("a leaked key is reported by POST, in the body")
}

/// Does to a proven key what the settings say, if nobody has done so before.
async fn act(app: &App, holder: &Principal, report: &Report) -> Result<(), ApiError> {
    let credential = &holder.entry.credential;
    let (id, was) = (credential.id, credential.state_at(report.now).name());
    let mut tx = app.store.begin().await?;
    let (kind, retire_at) = match app.leaks.on_report {
        OnReport::Revoke => {
            let Some(_) = tx.revoke_credential(id, report.now).await? else { return Ok(()) };
            ("credential.revoked", None)
        }
        OnReport::Retire => {
            let retire_at = report.now.plus(RETIRES_IN);
            let retired = tx.retire_leaked_credential(id, retire_at, report.now).await?;
            let Some(retired) = retired else { return Ok(()) };
            ("credential.leak_reported", retired.ends_at(report.now))
        }
        OnReport::Note => ("credential.leak_reported", None),
    };
    let leak = Leak { place: &report.place, source: report.source, on_report: app.leaks.on_report, retire_at };
    let message = Message::leak(holder, &leak, report.now, &app.entropy)?;
    Outbox::open(app, &mut tx).await?.note(&message, None).await?;
    let data = json!({
        "client": holder.client.id, "was": was, "because": "leak_reported", "where": report.place, "retire_at": retire_at,
    });
    tx.record(Draft { kind, subject: id.to_string(), data });
    let origin =
        Origin { actor: Actor::system("leaks"), source: report.source.map(|a| a.to_string()), now: report.now };
    let seq = tx.commit(&origin).await?;
    app.wait_until_applied(seq).await?;
    tracing::warn!(credential = %id, kind, source = origin.source, "a leaked key was reported");
    Ok(())
}
