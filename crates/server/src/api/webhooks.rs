//! Webhooks: receivers of notices over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use keyward_model::event::Draft;
use keyward_model::id::WebhookId;
use keyward_model::notice::{Channel, NoticeKind};
use keyward_model::webhook::{Webhook, WebhookSecret, sealed_name};
use keyward_store::Tx;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Begun, Done, Json, Tagged, stale};
use crate::api::call::{Call, Level};
use crate::api::condition::IfMatch;
use crate::api::instant::Instant;
use crate::api::list::{List, Paging, page};
use crate::api::notices::DeliveryView;
use crate::api::{Query, id, name};
use crate::app::{App, StartError};
use crate::notices::{Message, Outbox};
use crate::respond::{ApiError, Problem, ProblemDetails};

/// The most webhooks there can be: each notice goes to all that want it.
const MOST: u16 = 100;
/// For how long the secret before a change signs too.
const SIGNS_TOO: Duration = Duration::from_secs(24 * 3600);

/// A receiver of notices over HTTP, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Webhook)]
pub struct WebhookView {
    /// `webhook_…`
    #[schema(value_type = String)]
    pub id: WebhookId,
    /// What people call it.
    pub name: String,
    /// Where notices are sent. A query, which may be a secret, is shown as `?…`.
    pub url: String,
    /// What it is told; everything if empty.
    #[schema(value_type = Vec<String>)]
    pub kinds: Vec<NoticeKind>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Instant,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Instant,
}

/// A webhook with its secret, shown this once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct IssuedWebhook {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: WebhookView,
    /// `whsec_…`: what the receiver verifies signatures with. Absent when the request was a repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for IssuedWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedWebhook").field("webhook", &self.webhook).finish_non_exhaustive()
    }
}

/// A webhook to add.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// What people call it: 1 to 100 characters.
    pub name: String,
    /// Where notices are sent: https, at an address of the public internet unless the server's settings open others.
    pub url: String,
    /// What it is told: `credential.ending`, `credential.revoked_in_use`, `credential.new_network`,
    /// `credential.leak_reported`, `device_session.disowned`, `login.new_network`; everything if empty.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub kinds: Vec<NoticeKind>,
}

/// A change of a webhook: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookChange {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where notices are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it is told; everything if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub kinds: Option<Vec<NoticeKind>>,
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        Self {
            id: webhook.id,
            name: webhook.name,
            url: without_query(webhook.url),
            kinds: webhook.kinds,
            created_at: Instant(webhook.created_at),
            updated_at: Instant(webhook.updated_at),
        }
    }
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, change, delete))
        .routes(routes!(rotate))
        .routes(routes!(test))
}

/// List webhooks
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks", params(Paging),
    responses((status = 200, body = List<WebhookView>), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<Paging>) -> Result<axum::Json<List<WebhookView>>, ApiError> {
    call.require(Level::Admin)?;
    let page = page(query.limit, query.cursor.as_deref())?;
    let found = call.app.store.list_webhooks(&page).await?;
    Ok(axum::Json(List::of(found, &page, |webhook| webhook.id.to_string(), WebhookView::from)))
}

/// Add a webhook: its secret is shown this once
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", request_body = NewWebhook,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless for 24 hours")),
    responses((status = 201, body = IssuedWebhook), (status = "default", body = ProblemDetails)))]
async fn create(call: Call, body: Json<NewWebhook>) -> Result<Tagged<IssuedWebhook>, ApiError> {
    call.require(Level::Admin)?;
    if let Some(made) = body.made_before(&call).await? {
        return again(&call, &made).await;
    }
    let new = body.value.clone();
    let webhook = Webhook {
        id: WebhookId::new(call.now, &call.app.entropy)?,
        name: name(new.name)?,
        url: url(&call, new.url)?,
        kinds: kinds(new.kinds)?,
        created_at: call.now,
        updated_at: call.now,
        version: 1,
    };
    let mut tx = match body.begin(&call).await? {
        Begun::First(tx) => tx,
        Begun::Again(made) => return again(&call, &made).await,
    };
    let (secret, sealed) = new_secret(&call, &mut tx, webhook.id).await?;
    if !tx.insert_webhook(&webhook, sealed, MOST).await? {
        return Err(Problem::Conflict.because(format!("there are {MOST} webhooks already; delete one first")));
    }
    body.note_made(&call, &mut tx, &webhook.id.to_string()).await?;
    tx.record(Draft { kind: "webhook.created", subject: webhook.id.to_string(), data: describe(&webhook) });
    call.commit(tx).await?;
    Ok(issued(webhook, Some(secret), true))
}

/// The answer to a repetition.
async fn again(call: &Call, made: &str) -> Result<Tagged<IssuedWebhook>, ApiError> {
    Ok(issued(find(call, made).await?, None, true))
}

/// Show a webhook
#[utoipa::path(get, path = "/api/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, body = WebhookView), (status = "default", body = ProblemDetails)))]
async fn get(call: Call, Path(path): Path<String>) -> Result<Tagged<WebhookView>, ApiError> {
    call.require(Level::Admin)?;
    Ok(tagged(find(&call, &path).await?))
}

/// Change a webhook
#[utoipa::path(patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", request_body = WebhookChange,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 200, body = WebhookView), (status = "default", body = ProblemDetails)))]
async fn change(
    call: Call,
    Path(path): Path<String>,
    if_match: IfMatch,
    body: Json<WebhookChange>,
) -> Result<Tagged<WebhookView>, ApiError> {
    call.require(Level::Admin)?;
    let mut webhook = find(&call, &path).await?;
    if_match.require(webhook.version)?;
    let change = body.value;
    if let Some(new) = change.name {
        webhook.name = name(new)?;
    }
    if let Some(new) = change.url {
        webhook.url = url(&call, new)?;
    }
    if let Some(new) = change.kinds {
        webhook.kinds = kinds(new)?;
    }
    webhook.updated_at = call.now;
    let mut tx = call.begin().await?;
    let Some(webhook) = tx.update_webhook(&webhook, webhook.version).await? else { return Err(stale()) };
    tx.record(Draft { kind: "webhook.changed", subject: webhook.id.to_string(), data: describe(&webhook) });
    call.commit(tx).await?;
    Ok(tagged(webhook))
}

/// Delete a webhook, with what is on its way to it
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn delete(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Done, ApiError> {
    call.require(Level::Admin)?;
    let webhook = find(&call, &path).await?;
    if_match.require(webhook.version)?;
    let mut tx = call.begin().await?;
    if !tx.delete_webhook(webhook.id, webhook.version).await? {
        return Err(stale());
    }
    tx.record(Draft { kind: "webhook.deleted", subject: webhook.id.to_string(), data: describe(&webhook) });
    call.commit(tx).await?;
    Ok(Done)
}

/// Give a webhook another secret: for a day, what it receives is signed with both
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/rotate", tag = "webhooks", params(("id" = String, Path)),
    responses((status = 200, body = IssuedWebhook), (status = "default", body = ProblemDetails)))]
async fn rotate(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Tagged<IssuedWebhook>, ApiError> {
    call.require(Level::Admin)?;
    let webhook = Webhook { updated_at: call.now, ..find(&call, &path).await? };
    if_match.require(webhook.version)?;
    let mut tx = call.begin().await?;
    let (secret, sealed) = new_secret(&call, &mut tx, webhook.id).await?;
    let changed = tx.replace_webhook_secret(&webhook, sealed, call.now.plus(SIGNS_TOO)).await?;
    let Some(webhook) = changed else { return Err(not_rotated(&call, webhook.id).await?) };
    tx.record(Draft { kind: "webhook.rotated", subject: webhook.id.to_string(), data: describe(&webhook) });
    call.commit(tx).await?;
    Ok(issued(webhook, Some(secret), false))
}

/// Why a webhook got no other secret.
async fn not_rotated(call: &Call, id: WebhookId) -> Result<ApiError, ApiError> {
    let before = call.app.store.find_sealed_webhook(id).await?.and_then(|sealed| sealed.before);
    // A receiver that has not changed yet would be cut off long before its day is over.
    Ok(before.filter(|(_, until)| call.now < *until).map_or_else(stale, |(_, until)| {
        Problem::Conflict.because(format!(
            "the secret before signs too until {}: rotate again after that; if a secret leaked, delete the webhook and \
             add it anew",
            Instant(until)
        ))
    }))
}

/// Send a webhook a test notice, whatever kinds it wants; the delivery tells what became of it
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", tag = "notices", params(("id" = String, Path)),
    responses((status = 200, body = DeliveryView), (status = "default", body = ProblemDetails)))]
async fn test(call: Call, Path(path): Path<String>) -> Result<axum::Json<DeliveryView>, ApiError> {
    call.require(Level::Admin)?;
    let webhook = find(&call, &path).await?;
    let notice = Message::test(call.now, &call.app.entropy)?;
    let mut tx = call.begin().await?;
    tx.insert_notice(&notice, None).await?;
    let mut outbox = Outbox::open(&call.app, &mut tx).await?;
    let delivery = outbox.address(&notice, Channel::Webhook, webhook.id.to_string()).await?;
    let data = json!({ "notice": notice.id });
    tx.record(Draft { kind: "webhook.tested", subject: webhook.id.to_string(), data });
    call.commit(tx).await?;
    Ok(axum::Json(delivery.into()))
}

async fn find(call: &Call, path: &str) -> Result<Webhook, ApiError> {
    let found = call.app.store.find_webhook(id(path)?).await?;
    found.ok_or_else(|| Problem::NotFound.because("there is no such webhook"))
}

/// A secret, and the same sealed under the master key that is in force as long as the transaction lasts.
async fn new_secret(call: &Call, tx: &mut Tx, id: WebhookId) -> Result<(WebhookSecret, Vec<u8>), ApiError> {
    let secret = WebhookSecret::generate(&call.app.entropy)?;
    let name = sealed_name(id);
    let sealed = call.app.master_of(tx).await?.seal(&name, secret.expose());
    Ok((secret, sealed.map_err(|error| StartError::Sealed(name, error))?))
}

/// What stands for a query where a URL is shown.
const HIDDEN: &str = "?…";

fn without_query(mut url: String) -> String {
    if let Some(at) = url.find('?') {
        url.replace_range(at.., HIDDEN);
    }
    url
}

fn url(call: &Call, text: String) -> Result<String, ApiError> {
    if text.trim().ends_with(HIDDEN) {
        return Err(ApiError::field("url", "must hold its query, which is not shown; leave the url out to keep it"));
    }
    let url = call.app.notices.target(text.trim());
    Ok(url.map_err(|why| ApiError::field("url", why))?.into())
}

fn kinds(mut kinds: Vec<NoticeKind>) -> Result<Vec<NoticeKind>, ApiError> {
    if kinds.contains(&NoticeKind::Test) {
        return Err(ApiError::field("kinds", "a test goes to whoever is tested; leave webhook.test out"));
    }
    kinds.sort_unstable_by_key(|kind| kind.as_str());
    kinds.dedup();
    Ok(kinds)
}

fn tagged(webhook: Webhook) -> Tagged<WebhookView> {
    Tagged { version: webhook.version, value: webhook.into(), location: None }
}

fn issued(webhook: Webhook, secret: Option<WebhookSecret>, made: bool) -> Tagged<IssuedWebhook> {
    let location = made.then(|| format!("/api/v1/webhooks/{}", webhook.id));
    let secret = secret.map(|secret| secret.reveal().to_string());
    Tagged { version: webhook.version, value: IssuedWebhook { webhook: webhook.into(), secret }, location }
}

/// The host alone: the rest of a URL may be a secret between its receiver and whoever added it.
fn describe(webhook: &Webhook) -> serde_json::Value {
    let url: Option<reqwest::Url> = webhook.url.parse().ok();
    let host = url.as_ref().and_then(|url| url.host_str());
    json!({ "name": webhook.name, "host": host, "kinds": webhook.kinds })
}
