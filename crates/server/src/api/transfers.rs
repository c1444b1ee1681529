//! Transfers: a client offered to another owner, who accepts it or declines.
//!
//! 1. Its owner, or an administrator, offers it: one open offer a client, for 14 days    `offer`
//! 2. Whoever offered it may withdraw it, whoever is to get it may decline               `withdraw`, `decline`
//! 3. On acceptance it changes hands by one statement, and the tokens of before end      `accept`

use std::sync::Arc;

use axum::extract::Path;
use keyward_model::event::Draft;
use keyward_model::id::{ClientId, UserId};
use keyward_model::rights::{ResSet, Rights, ScopeSet};
use keyward_model::transfer::{OFFER_STANDS, Transfer};
use keyward_store::{OpenTransfer, TokensOf, TransferFilter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Done, Json, Tagged};
use crate::api::call::{Call, Level, conflict};
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
    /// What client and credentials ask for and the new owner has not: they will be granted none of it.
    pub beyond: Vec<Beyond>,
    /// What the keys of the client can do under the new owner and cannot do now. Whoever has a key today has it then.
    pub gained: Gained,
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
        views.push(outlook(&call, open).await?.view());
    }
    Ok(axum::Json(List { items: views, next_cursor }))
}

/// Show the open offer of a client
#[utoipa::path(get, path = "/api/v1/clients/{id}/transfer", tag = "transfers", params(("id" = String, Path)),
    responses((status = 200, body = TransferView), (status = "default", body = ProblemDetails)))]
async fn get(call: Call, Path(path): Path<String>) -> Result<Tagged<TransferView>, ApiError> {
    let open = find(&call, id(&path)?).await?;
    Ok(tagged(outlook(&call, open).await?, false))
}

/// Offer a client to another owner
///
/// For its owner and for administrators. An offer stands for 14 days and for the client as it is now: a change of the
/// client ends it. A new offer takes the place of an open one.
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
    if to.disabled_at.is_some() {
        return Err(ApiError::field("to", "this user is disabled and cannot accept anything"));
    }
    let transfer = Transfer {
        client: client.id,
        owner: client.owner,
        offered_by: call.user(),
        offered_to: to.id,
        client_version: client.version,
        offered_at: call.now,
        expires_at: call.now.plus(OFFER_STANDS),
    };
    let mut tx = call.begin().await?;
    if let Some(replaced) = tx.remove_transfer(client.id).await? {
        let kind = if replaced.expires_at > call.now { "client.transfer_withdrawn" } else { "client.transfer_expired" };
        tx.record(draft(kind, &replaced));
    }
    if !tx.insert_transfer(&transfer).await.map_err(conflict)? {
        return Err(Problem::Conflict.because("the client or the new owner changed meanwhile; look, then try again"));
    }
    tx.record(draft("client.transfer_offered", &transfer));
    call.commit(tx).await?;
    let open = find(&call, client.id).await?;
    Ok(tagged(outlook(&call, open).await?, true))
}

/// Withdraw an offer
#[utoipa::path(delete, path = "/api/v1/clients/{id}/transfer", tag = "transfers", params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn withdraw(call: Call, Path(path): Path<String>) -> Result<Done, ApiError> {
    let open = find(&call, id(&path)?).await?;
    call.require_management_of(&open.client)?;
    end(&call, &open.transfer, "client.transfer_withdrawn").await
}

/// Accept a client: from now on it acts as the calling user
///
/// For the user to whom it is offered. Tokens got under the former owner end at once.
#[utoipa::path(post, path = "/api/v1/clients/{id}/transfer/accept", tag = "transfers", params(("id" = String, Path)),
    responses((status = 200, body = TransferView), (status = "default", body = ProblemDetails)))]
async fn accept(call: Call, Path(path): Path<String>) -> Result<Tagged<TransferView>, ApiError> {
    let outlook = outlook(&call, find_mine(&call, id(&path)?).await?).await?;
    let transfer = &outlook.open.transfer;
    let offerer = call.app.store.find_user(transfer.offered_by).await?.ok_or_else(void)?;
    let administers = call.app.registry.load().catalogue.expand(&offerer.rights.scope).contains(Level::Admin.scope());
    if offerer.id != outlook.open.client.owner && !administers {
        return Err(void());
    }
    if !outlook.gained.is_empty() {
        // Whoever has a key of the client today can do more with it afterwards: that is handing out.
        call.require_handing_out(&outlook.becomes)?;
    }
    let mut tx = call.begin().await?;
    if !tx.transfer_client(transfer, offerer.version, call.now).await? {
        return Err(void());
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
    Ok(tagged(outlook, false))
}

/// Decline a client
#[utoipa::path(post, path = "/api/v1/clients/{id}/transfer/decline", tag = "transfers", params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn decline(call: Call, Path(path): Path<String>) -> Result<Done, ApiError> {
    let open = find_mine(&call, id(&path)?).await?;
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

async fn outlook(call: &Call, open: OpenTransfer) -> Result<Outlook, ApiError> {
    let OpenTransfer { client, owner, offered_to, .. } = &open;
    let narrowed = call.app.store.list_narrowed_credentials((client.id, client.id), call.now).await?;
    let registry = call.app.registry.load();
    let catalogue = &registry.catalogue;
    let now = if owner.disabled_at.is_some() { Rights::default() } else { owner.rights.clone() };
    let becomes = client.rights.intersect(&offered_to.rights, catalogue);
    Ok(Outlook {
        beyond: reports::beyond(client, &narrowed, &offered_to.rights, catalogue),
        gained: becomes.beyond(&client.rights.intersect(&now, catalogue), catalogue),
        becomes,
        open,
    })
}

impl Outlook {
    fn view(self) -> TransferView {
        let transfer = self.open.transfer;
        TransferView {
            client: transfer.client,
            name: self.open.client.name,
            owner: transfer.owner,
            offered_by: transfer.offered_by,
            offered_to: transfer.offered_to,
            offered_at: Instant(transfer.offered_at),
            expires_at: Instant(transfer.expires_at),
            beyond: self.beyond,
            gained: Gained { scope: self.gained.scope, res: self.gained.res },
        }
    }
}

fn tagged(outlook: Outlook, made: bool) -> Tagged<TransferView> {
    let location = made.then(|| format!("/api/v1/clients/{}/transfer", outlook.open.client.id));
    Tagged { version: outlook.open.transfer.client_version, value: outlook.view(), location }
}

/// What the log says of an offer.
pub(crate) fn draft(kind: &'static str, transfer: &Transfer) -> Draft {
    let data = json!({
        "owner": transfer.owner, "offered_by": transfer.offered_by, "offered_to": transfer.offered_to,
        "expires_at": transfer.expires_at,
    });
    Draft { kind, subject: transfer.client.to_string(), data }
}
