//! Transfers: a client offered to another owner, who accepts it or declines.
//!
//! 1. Its owner, or an administrator, offers it: one open offer a client, for 14 days    `offer`
//! 2. Whoever offered it may withdraw it, whoever is to get it may decline               `withdraw`, `decline`
//! 3. On acceptance it changes hands by one statement, and the tokens of before end      `accept`

use std::sync::Arc;

use axum::extract::Path;
use keyward_model::client::Client;
use keyward_model::event::Draft;
use keyward_model::id::{ClientId, UserId};
use keyward_model::rights::{Catalogue, ResSet, Rights, ScopeSet};
use keyward_model::time::Timestamp;
use keyward_model::transfer::{OFFER_STANDS, Transfer};
use keyward_model::user::User;
use keyward_store::{ClientRange, OpenTransfer, TokensOf, TransferFilter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Done, Json, Tagged};
use crate::api::call::{Call, Level, conflict};
use crate::api::condition::IfMatch;
use crate::api::instant::Instant;
use crate::api::list::{List, page};
use crate::api::reports::{self, Beyond};
use crate::api::{Query, clients, id};
use crate::app::App;
use crate::oauth::status_list::last_token_dead;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// A client offered to another owner.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Transfer)]
pub struct TransferView {
    /// What is offered.
    #[schema(value_type = String)]
    pub client: ClientId,
    /// What people call it.
    pub name: String,
    /// Who owns it; in the answer to an acceptance, who owned it.
    #[schema(value_type = String)]
    pub owner: UserId,
    /// Who offers it: the owner, or an administrator.
    #[schema(value_type = String)]
    pub offered_by: UserId,
    /// Who may accept it.
    #[schema(value_type = String)]
    pub offered_to: UserId,
    /// Since when it is offered.
    #[schema(value_type = String, format = DateTime)]
    pub offered_at: Instant,
    /// From when on it cannot be accepted any more.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Instant,
    /// Whether it can be accepted: the client is as it was offered, and whoever offers it still may.
    pub stands: bool,
    /// What client and credentials ask for and the new owner has not: they will be granted none of it. `null` for whom
    /// the rights of the new owner are no business.
    pub beyond: Option<Vec<Beyond>>,
    /// What the keys of the client can do under the new owner and cannot do now. Whoever has a key today has it then.
    /// `null` for whom the rights of the new owner are no business.
    pub gained: Option<Gained>,
}

/// Rights that come with a new owner.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Gained {
    /// Space-separated scopes.
    #[schema(value_type = String)]
    pub scope: ScopeSet,
    /// Resource paths.
    #[schema(value_type = Vec<String>)]
    pub res: ResSet,
}

/// To whom to offer a client.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTransfer {
    /// The user who is to own it.
    #[schema(value_type = String)]
    pub to: UserId,
}

/// Whether offers come to the calling user or from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Theirs to accept.
    Incoming,
    /// Made by them, or of their clients.
    Outgoing,
}

/// Which offers to list.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TransferQuery {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// `incoming`: the calling user's to accept; `outgoing`: made by them, or of their clients.
    #[param(value_type = Option<String>)]
    pub direction: Option<Direction>,
}

/// An offer, and what comes of it by the rights of now.
struct Outlook {
    open: OpenTransfer,
    beyond: Vec<Beyond>,
    /// What the client may be granted under the new owner.
    becomes: Rights,
    gained: Rights,
    stands: bool,
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, offer, withdraw))
        .routes(routes!(accept))
        .routes(routes!(decline))
}

/// List open offers
///
/// Without `direction`, `keyward:self` sees those that concern its user; whoever sees everything sees all.
#[utoipa::path(get, path = "/api/v1/transfers", tag = "transfers", params(TransferQuery),
    responses((status = 200, body = List<TransferView>), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<TransferQuery>) -> Result<axum::Json<List<TransferView>>, ApiError> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let filter = match query.direction {
        Some(Direction::Incoming) => TransferFilter { incoming: Some(call.user()), ..TransferFilter::default() },
        Some(Direction::Outgoing) => TransferFilter { outgoing: Some(call.user()), ..TransferFilter::default() },
        None => TransferFilter { concerning: call.only_of(), ..TransferFilter::default() },
    };
    let found = call.app.store.list_transfers(&filter, call.now, &page).await?;
    let List { items, next_cursor } = List::of(found, &page, |o| o.transfer.client.to_string(), |open| open);
    let mut views = Vec::with_capacity(items.len());
    for open in items {
        views.push(outlook(&call, open).await?.view(&call));
    }
    Ok(axum::Json(List { items: views, next_cursor }))
}

/// Show the open offer of a client
#[utoipa::path(get, path = "/api/v1/clients/{id}/transfer", tag = "transfers", params(("id" = String, Path)),
    responses((status = 200, body = TransferView), (status = "default", body = ProblemDetails)))]
async fn get(call: Call, Path(path): Path<String>) -> Result<Tagged<TransferView>, ApiError> {
    let open = find(&call, id(&path)?).await?;
    Ok(tagged(&call, outlook(&call, open).await?, false))
}

/// Offer a client to another owner
///
/// For its owner and for administrators. An offer stands for 14 days and for the client as it is now: a change of the
/// client ends it. A new offer takes the place of an open one. Somebody disabled can accept it when they are enabled again.
#[utoipa::path(post, path = "/api/v1/clients/{id}/transfer", tag = "transfers", request_body = NewTransfer,
    params(("id" = String, Path)),
    responses((status = 201, body = TransferView), (status = "default", body = ProblemDetails)))]
async fn offer(
    call: Call,
    Path(path): Path<String>,
    body: Json<NewTransfer>,
) -> Result<Tagged<TransferView>, ApiError> {
    let client = clients::find(&call, id(&path)?).await?;
    call.require_management_of(&client)?;
    let to = call.app.store.find_user(body.value.to).await?;
    let to = to.ok_or_else(|| ApiError::field("to", "there is no such user"))?;
    if to.id == client.owner {
        return Err(ApiError::field("to", "this user owns the client already"));
    }
    // Who may see no other users is not told how they stand.
    if to.disabled_at.is_some() && call.level >= Level::Support {
        return Err(ApiError::field("to", "this user is disabled and cannot accept anything"));
    }
    let mut tx = call.begin().await?;
    let transfer = Transfer {
        version: tx.next_transfer_version().await?,
        client: client.id,
        owner: client.owner,
        offered_by: call.user(),
        offered_to: to.id,
        client_version: client.version,
        offered_at: call.now,
        expires_at: call.now.plus(OFFER_STANDS),
    };
    if let Some(replaced) = tx.remove_transfer(client.id).await? {
        tx.record(ended(&replaced, call.now, "replaced"));
    }
    if !tx.insert_transfer(&transfer).await.map_err(conflict)? {
        return Err(Problem::Conflict.because("the client or the new owner changed meanwhile; look, then try again"));
    }
    tx.record(draft("client.transfer_offered", &transfer));
    call.commit(tx).await?;
    let open = find(&call, client.id).await?;
    Ok(tagged(&call, outlook(&call, open).await?, true))
}

/// Withdraw an offer
#[utoipa::path(delete, path = "/api/v1/clients/{id}/transfer", tag = "transfers",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn withdraw(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Done, ApiError> {
    let open = find(&call, id(&path)?).await?;
    call.require_management_of(&open.client)?;
    if_match.require(open.transfer.version)?;
    end(&call, &open.transfer, "client.transfer_withdrawn").await
}

/// Accept a client: from now on it acts as the calling user
///
/// For the user to whom it is offered. Tokens got under the former owner end at once. A repetition changes nothing.
#[utoipa::path(post, path = "/api/v1/clients/{id}/transfer/accept", tag = "transfers",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 200, body = TransferView), (status = "default", body = ProblemDetails)))]
async fn accept(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Tagged<TransferView>, ApiError> {
    let client = id(&path)?;
    let open = match find_mine(&call, client).await {
        Ok(open) => open,
        Err(error) => return again(&call, client, &if_match).await?.ok_or(error),
    };
    if_match.require(open.transfer.version)?;
    let outlook = outlook(&call, open).await?;
    if !outlook.stands {
        return Err(void());
    }
    let transfer = &outlook.open.transfer;
    if !outlook.gained.is_empty() {
        // Whoever has a key of the client today can do more with it afterwards: that is handing out.
        call.require_handing_out(&outlook.becomes)?;
    }
    let mut tx = call.begin().await?;
    clients::require_room(&call, &mut tx, call.user()).await?;
    if !tx.transfer_client(&outlook.open, call.now).await? {
        call.app.settle(tx, &call.origin()).await?;
        return again(&call, client, &if_match).await?.ok_or_else(changed);
    }
    tx.remove_transfer(transfer.client).await?;
    // Verifiers offline know no owners: the tokens of before end with the places they name in the status list.
    tx.end_tokens(TokensOf::Client(transfer.client), last_token_dead(call.now), call.now).await?;
    for credential in tx.list_unended_credential_ids(transfer.client).await? {
        let data = json!({ "client": transfer.client, "owner": transfer.offered_to });
        tx.record(Draft { kind: "credential.transferred", subject: credential.to_string(), data });
    }
    let mut accepted = draft("client.transfer_accepted", transfer);
    if let Value::Object(members) = &mut accepted.data {
        members.insert("gained".to_owned(), json!({ "scope": outlook.gained.scope, "res": outlook.gained.res }));
    }
    tx.record(accepted);
    call.commit(tx).await?;
    Ok(tagged(&call, outlook, false))
}

/// What the log keeps of an acceptance.
#[derive(Deserialize)]
struct Accepted {
    owner: UserId,
    offered_by: UserId,
    offered_to: UserId,
    offered_at: Timestamp,
    expires_at: Timestamp,
    version: i64,
    gained: Gained,
}

/// The answer to an acceptance again, if the client is the caller's by one: the first answer may have been lost.
async fn again(call: &Call, client: ClientId, if_match: &IfMatch) -> Result<Option<Tagged<TransferView>>, ApiError> {
    let Some(client) = call.app.store.find_client(client).await? else { return Ok(None) };
    let event = call.app.store.find_last_event(&client.id.to_string(), "client.transfer_accepted").await?;
    let accepted = event.and_then(|event| serde_json::from_value::<Accepted>(event.data).ok());
    let by_caller = |accepted: &Accepted| accepted.offered_to == call.user() && client.owner == call.user();
    let Some(accepted) = accepted.filter(by_caller) else { return Ok(None) };
    if_match.require(accepted.version)?;
    // Whoever did it may still be waiting for it to be in force.
    call.app.catch_up_with_log().await?;
    let value = TransferView {
        client: client.id,
        beyond: Some(beyond(call, &client, call.acting()).await?),
        name: client.name,
        owner: accepted.owner,
        offered_by: accepted.offered_by,
        offered_to: accepted.offered_to,
        offered_at: Instant(accepted.offered_at),
        expires_at: Instant(accepted.expires_at),
        stands: true,
        gained: Some(accepted.gained),
    };
    Ok(Some(Tagged { value, version: accepted.version, location: None }))
}

/// Decline a client
#[utoipa::path(post, path = "/api/v1/clients/{id}/transfer/decline", tag = "transfers",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn decline(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Done, ApiError> {
    let open = find_mine(&call, id(&path)?).await?;
    if_match.require(open.transfer.version)?;
    end(&call, &open.transfer, "client.transfer_declined").await
}

async fn end(call: &Call, transfer: &Transfer, kind: &'static str) -> Result<Done, ApiError> {
    let mut tx = call.begin().await?;
    if !tx.end_transfer(transfer, call.now).await? {
        return Err(Problem::Conflict.because("the offer was answered, withdrawn or replaced meanwhile"));
    }
    tx.record(draft(kind, transfer));
    call.commit(tx).await?;
    Ok(Done)
}

/// The open offer of a client, if it is the caller's business.
async fn find(call: &Call, client: ClientId) -> Result<OpenTransfer, ApiError> {
    let open = call.app.store.find_transfer(client, call.now).await?.ok_or_else(nothing)?;
    let Transfer { owner, offered_by, offered_to, .. } = open.transfer;
    match call.only_of() {
        Some(user) if ![owner, offered_by, offered_to].contains(&user) => Err(nothing()),
        _ => Ok(open),
    }
}

/// The open offer of a client, if it is the caller's to accept.
async fn find_mine(call: &Call, client: ClientId) -> Result<OpenTransfer, ApiError> {
    let open = call.app.store.find_transfer(client, call.now).await?;
    open.filter(|open| open.transfer.offered_to == call.user()).ok_or_else(nothing)
}

fn nothing() -> ApiError {
    Problem::NotFound.because("no such client is on offer to you; GET /api/v1/transfers lists those that are")
}

fn void() -> ApiError {
    Problem::Conflict.because(
        "this offer counts no more: it was withdrawn, or the client or whoever offered it has changed since; let its \
         owner or an administrator offer it again",
    )
}

fn changed() -> ApiError {
    Problem::Conflict
        .because("the offer, the client or its people changed meanwhile; look at the offer, then try again")
}

/// What a client and its credentials ask for beyond what this user has.
async fn beyond(call: &Call, client: &Client, user: &User) -> Result<Vec<Beyond>, ApiError> {
    let range = ClientRange { first: client.id, last: client.id, owner: None };
    let narrowed = call.app.store.list_narrowed_credentials(&range, call.now, u16::MAX).await?;
    Ok(reports::beyond(client, &narrowed, &user.rights, &call.app.registry.load().catalogue))
}

async fn outlook(call: &Call, open: OpenTransfer) -> Result<Outlook, ApiError> {
    let OpenTransfer { client, owner, offered_to, .. } = &open;
    let beyond = beyond(call, client, offered_to).await?;
    let registry = call.app.registry.load();
    let catalogue = &registry.catalogue;
    let now = if owner.disabled_at.is_some() { Rights::default() } else { owner.rights.clone() };
    let becomes = client.rights.intersect(&offered_to.rights, catalogue);
    Ok(Outlook {
        stands: stands(&open, catalogue),
        beyond,
        gained: becomes.beyond(&client.rights.intersect(&now, catalogue), catalogue),
        becomes,
        open,
    })
}

/// Whether it can be accepted. That it cannot while who is to get it is disabled is theirs to know, who then cannot ask.
fn stands(open: &OpenTransfer, catalogue: &Catalogue) -> bool {
    let OpenTransfer { transfer, client, offered_by, .. } = open;
    let is_as_offered = client.version == transfer.client_version && client.owner == transfer.owner;
    let may_offer =
        offered_by.id == client.owner || catalogue.expand(&offered_by.rights.scope).contains(Level::Admin.scope());
    is_as_offered && may_offer && offered_by.disabled_at.is_none()
}

impl Outlook {
    fn view(self, call: &Call) -> TransferView {
        let transfer = self.open.transfer;
        // Otherwise whoever owns a client learns the rights of anybody by offering it to them.
        let is_business = transfer.offered_to == call.user() || call.level >= Level::Support;
        TransferView {
            client: transfer.client,
            name: self.open.client.name,
            owner: transfer.owner,
            offered_by: transfer.offered_by,
            offered_to: transfer.offered_to,
            offered_at: Instant(transfer.offered_at),
            expires_at: Instant(transfer.expires_at),
            stands: self.stands,
            beyond: is_business.then_some(self.beyond),
            gained: is_business.then_some(Gained { scope: self.gained.scope, res: self.gained.res }),
        }
    }
}

fn tagged(call: &Call, outlook: Outlook, made: bool) -> Tagged<TransferView> {
    let location = made.then(|| format!("/api/v1/clients/{}/transfer", outlook.open.client.id));
    Tagged { version: outlook.open.transfer.version, value: outlook.view(call), location }
}

/// What the log says of an offer.
pub(crate) fn draft(kind: &'static str, transfer: &Transfer) -> Draft {
    let data = json!({
        "owner": transfer.owner, "offered_by": transfer.offered_by, "offered_to": transfer.offered_to,
        "offered_at": transfer.offered_at, "expires_at": transfer.expires_at, "version": transfer.version,
    });
    Draft { kind, subject: transfer.client.to_string(), data }
}

/// What the log says of an offer that ends by something else.
pub(super) fn ended(transfer: &Transfer, now: Timestamp, because: &'static str) -> Draft {
    if transfer.expires_at <= now {
        return draft("client.transfer_expired", transfer);
    }
    let mut draft = draft("client.transfer_withdrawn", transfer);
    if let Value::Object(members) = &mut draft.data {
        members.insert("because".to_owned(), json!(because));
    }
    draft
}
