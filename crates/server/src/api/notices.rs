//! Notices, and their deliveries to whoever is told.

use std::sync::Arc;

use axum::extract::Path;
use keyward_model::event::Draft;
use keyward_model::id::{CredentialId, DeliveryId, NoticeId};
use keyward_model::notice::{Channel, Delivery, DeliveryState, Notice, NoticeKind};
use keyward_store::{DeliveryFilter, NoticeFilter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::Json;
use crate::api::call::{Call, Level};
use crate::api::instant::Instant;
use crate::api::list::{List, page};
use crate::api::{Query, id};
use crate::app::App;
use crate::notices::MOST_WAITING;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// The most deliveries that one request lets begin anew.
const MOST_RESENT: u64 = 1000;

/// Something people are told.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Notice)]
pub struct NoticeView {
    /// `notice_…`: the `webhook-id` of each of its deliveries.
    #[schema(value_type = String)]
    pub id: NoticeId,
    /// `credential.ending`, `credential.revoked_in_use`, `credential.new_network`, `credential.leak_reported`,
    /// `device_session.disowned`, `login.new_network` or `webhook.test`.
    #[schema(value_type = String)]
    pub kind: NoticeKind,
    /// Which key it is about, if it is about one.
    #[schema(value_type = Option<String>)]
    pub credential: Option<CredentialId>,
    /// What receivers get.
    #[schema(value_type = Object)]
    pub body: Value,
    /// When it became due.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Instant,
}

/// A notice on its way to one receiver.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Delivery)]
pub struct DeliveryView {
    /// `delivery_…`
    #[schema(value_type = String)]
    pub id: DeliveryId,
    /// What is delivered.
    #[schema(value_type = String)]
    pub notice: NoticeId,
    /// `webhook` or `mail`.
    #[schema(value_type = String)]
    pub channel: Channel,
    /// To whom: the id of a webhook or of a user, or the address of the team.
    pub target: String,
    /// `waiting`, `sent` or `dead`.
    #[schema(value_type = String)]
    pub state: DeliveryState,
    /// How often it was tried since it last began to wait.
    pub attempts: u16,
    /// When it is tried next, while it waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Instant>,
    /// Why the last attempt failed; empty if none did.
    pub problem: String,
    /// When it was sent or given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Instant>,
}

/// Which notices to list.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct NoticeQuery {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// About this key.
    #[param(value_type = Option<String>)]
    pub credential: Option<CredentialId>,
    /// Of this kind.
    #[param(value_type = Option<String>)]
    pub kind: Option<NoticeKind>,
}

/// Which deliveries to list.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DeliveryQuery {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// To this receiver: the id of a webhook or of a user, or the address of the team.
    pub target: Option<String>,
    /// `waiting`, `sent` or `dead`.
    #[param(value_type = Option<String>)]
    pub state: Option<DeliveryState>,
    /// Of this notice.
    #[param(value_type = Option<String>)]
    pub notice: Option<NoticeId>,
}

/// To whom everything that was given up is to be sent again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    /// The `target` of the deliveries.
    pub target: String,
}

/// What is on its way again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Resent {
    /// How many wait again.
    pub resent: u64,
    /// How many are dead still: ask again for those.
    pub left: u64,
}

impl From<Notice> for NoticeView {
    fn from(notice: Notice) -> Self {
        Self {
            id: notice.id,
            kind: notice.kind,
            credential: notice.credential,
            body: serde_json::from_str(&notice.body).unwrap_or_default(),
            created_at: Instant(notice.created_at),
        }
    }
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            notice: delivery.notice,
            channel: delivery.channel,
            target: delivery.target,
            state: delivery.state,
            attempts: delivery.attempts,
            due_at: (delivery.state == DeliveryState::Waiting).then_some(Instant(delivery.due_at)),
            problem: delivery.problem,
            ended_at: delivery.ended_at.map(Instant),
        }
    }
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(deliveries))
        .routes(routes!(resend))
        .routes(routes!(resend_dead))
}

/// List notices, the newest first
#[utoipa::path(get, path = "/api/v1/notices", tag = "notices", params(NoticeQuery),
    responses((status = 200, body = List<NoticeView>), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<NoticeQuery>) -> Result<axum::Json<List<NoticeView>>, ApiError> {
    call.require(Level::Support)?;
    let page = page(query.limit, query.cursor.as_deref())?;
    let filter = NoticeFilter { credential: query.credential, kind: query.kind };
    let found = call.app.store.list_notices(&filter, &page).await?;
    Ok(axum::Json(List::of(found, &page, |notice| notice.id.to_string(), NoticeView::from)))
}

/// List deliveries, the newest first: those with the state `dead` were given up
#[utoipa::path(get, path = "/api/v1/deliveries", tag = "notices", params(DeliveryQuery),
    responses((status = 200, body = List<DeliveryView>), (status = "default", body = ProblemDetails)))]
async fn deliveries(
    call: Call,
    Query(query): Query<DeliveryQuery>,
) -> Result<axum::Json<List<DeliveryView>>, ApiError> {
    call.require(Level::Support)?;
    let page = page(query.limit, query.cursor.as_deref())?;
    let filter = DeliveryFilter { target: query.target, state: query.state, notice: query.notice };
    let found = call.app.store.list_deliveries(&filter, &page).await?;
    Ok(axum::Json(List::of(found, &page, |delivery| delivery.id.to_string(), DeliveryView::from)))
}

/// Send a delivery again that was sent or given up
#[utoipa::path(post, path = "/api/v1/deliveries/{id}/resend", tag = "notices", params(("id" = String, Path)),
    responses((status = 200, body = DeliveryView), (status = "default", body = ProblemDetails)))]
async fn resend(call: Call, Path(path): Path<String>) -> Result<axum::Json<DeliveryView>, ApiError> {
    call.require(Level::Admin)?;
    let id = id(&path)?;
    let mut tx = call.begin().await?;
    let Some(delivery) = tx.resend_delivery(id, call.now).await? else {
        return Err(match call.app.store.find_delivery(id).await? {
            Some(_) => Problem::Conflict.because("this delivery still waits to be sent"),
            None => Problem::NotFound.because("there is no such delivery"),
        });
    };
    let data = json!({ "notice": delivery.notice, "channel": delivery.channel });
    tx.record(Draft { kind: "delivery.resent", subject: delivery.id.to_string(), data });
    call.commit(tx).await?;
    Ok(axum::Json(delivery.into()))
}

/// Send again what was given up to one receiver, the oldest first: at most 1000 by one request
#[utoipa::path(post, path = "/api/v1/deliveries/resend", tag = "notices", request_body = Resend,
    responses((status = 200, body = Resent), (status = "default", body = ProblemDetails)))]
async fn resend_dead(call: Call, body: Json<Resend>) -> Result<axum::Json<Resent>, ApiError> {
    call.require(Level::Admin)?;
    let target = body.value.target;
    let mut tx = call.begin().await?;
    let waiting = tx.count_deliveries(&target, DeliveryState::Waiting).await?;
    let most = MOST_RESENT.min(MOST_WAITING.saturating_sub(waiting));
    if most == 0 {
        return Err(
            Problem::Conflict.because("too many wait for this receiver already; try again when some have arrived")
        );
    }
    let resent = tx.resend_dead_deliveries(&target, call.now, most).await?;
    let left = tx.count_deliveries(&target, DeliveryState::Dead).await?;
    if resent > 0 {
        tx.record(Draft { kind: "deliveries.resent", subject: target, data: json!({ "count": resent }) });
    }
    call.commit(tx).await?;
    Ok(axum::Json(Resent { resent, left }))
}
