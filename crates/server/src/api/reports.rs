//! Reports: clients whose owner cannot answer for them, or has less than they ask for.

use std::sync::Arc;

use keyward_model::client::Client;
use keyward_model::credential::Credential;
use keyward_model::id::{ClientId, CredentialId, UserId};
use keyward_model::rights::{Catalogue, ResSet, Rights, ScopeSet};
use keyward_model::user::User;
use keyward_store::{ClientRange, Page};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Query;
use crate::api::call::Call;
use crate::api::instant::Instant;
use crate::api::list::{List, page};
use crate::app::App;
use crate::respond::{ApiError, ProblemDetails};

/// Clients looked at for one page.
const LOOKED_AT: u16 = 200;
/// Credentials with rights of their own that are looked at for one page: more than one client's, or no page would end.
const NARROWED: u16 = 1000;

/// What somebody asks for and their owner has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Beyond {
    /// The credential that asks for it by its own scope or res; `null` for the client itself.
    #[schema(value_type = Option<String>)]
    pub credential: Option<CredentialId>,
    /// Space-separated scopes.
    #[schema(value_type = String)]
    pub scope: ScopeSet,
    /// Resource paths that the owner's do not cover.
    #[schema(value_type = Vec<String>)]
    pub res: ResSet,
}

/// A client whose owner is disabled, or has less than it asks for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Orphan {
    /// Which.
    #[schema(value_type = String)]
    pub client: ClientId,
    /// What people call it.
    pub name: String,
    /// Since when the client itself is disabled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Instant>,
    /// Whose it is.
    #[schema(value_type = String)]
    pub owner: UserId,
    /// What people call the owner.
    pub owner_name: String,
    /// Since when the owner is disabled: nothing of theirs works.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub owner_disabled_at: Option<Instant>,
    /// What is asked for and never granted, because the owner has not got it.
    pub beyond: Vec<Beyond>,
}

/// Which clients to look at.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct OrphanQuery {
    /// The most entries to give: 1 to 200, 50 if absent.
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Owned by this user.
    #[param(value_type = Option<String>)]
    pub owner: Option<UserId>,
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(owners))
}

/// List clients whose owner is disabled, or has less rights than client or credentials ask for
///
/// A page looks at 200 clients and at 1000 credentials with rights of their own at most: it may have few entries, or
/// none, and still a `next_cursor`.
#[utoipa::path(get, path = "/api/v1/reports/owners", tag = "reports", params(OrphanQuery),
    responses((status = 200, body = List<Orphan>), (status = "default", body = ProblemDetails)))]
async fn owners(call: Call, Query(query): Query<OrphanQuery>) -> Result<axum::Json<List<Orphan>>, ApiError> {
    let Page { after, limit } = page(query.limit, query.cursor.as_deref())?;
    if let (Some(own), Some(asked)) = (call.only_of(), query.owner)
        && own != asked
    {
        return Ok(axum::Json(List { items: Vec::new(), next_cursor: None }));
    }
    let owner = call.only_of().or(query.owner);
    let store = &call.app.store;
    let mut looked_at = store.list_clients_with_owners(owner, &Page { after, limit: LOOKED_AT }).await?;
    let mut more = looked_at.len() > usize::from(LOOKED_AT);
    looked_at.truncate(LOOKED_AT.into());
    let (Some((first, _)), Some((last, _))) = (looked_at.first(), looked_at.last()) else {
        return Ok(axum::Json(List { items: Vec::new(), next_cursor: None }));
    };
    let range = ClientRange { first: first.id, last: last.id, owner };
    let narrowed = store.list_narrowed_credentials(&range, call.now, NARROWED + 1).await?;
    if let Some(beyond) = narrowed.get(usize::from(NARROWED)) {
        // Of this client not all were read: it begins the next page.
        looked_at.retain(|(client, _)| client.id < beyond.client);
        more = true;
    }
    let last = looked_at.last().map(|(client, _)| client.id);
    let registry = call.app.registry.load();
    let entries = looked_at.into_iter().filter_map(|(client, owner)| {
        let beyond = beyond(&client, &narrowed, &owner.rights, &registry.catalogue);
        (owner.disabled_at.is_some() || !beyond.is_empty()).then(|| orphan(client, owner, beyond))
    });
    let mut items: Vec<Orphan> = entries.take(usize::from(limit) + 1).collect();
    let next = if items.len() > usize::from(limit) {
        items.truncate(limit.into());
        items.last().map(|orphan| orphan.client)
    } else {
        last.filter(|_| more)
    };
    Ok(axum::Json(List { items, next_cursor: next.map(|client| client.to_string()) }))
}

fn orphan(client: Client, owner: User, beyond: Vec<Beyond>) -> Orphan {
    Orphan {
        client: client.id,
        name: client.name,
        disabled_at: client.disabled_at.map(Instant),
        owner: owner.id,
        owner_name: owner.name,
        owner_disabled_at: owner.disabled_at.map(Instant),
        beyond,
    }
}

/// What a client, and those of its credentials that have rights of their own, ask for beyond this ceiling.
pub(super) fn beyond(client: &Client, narrowed: &[Credential], ceiling: &Rights, catalogue: &Catalogue) -> Vec<Beyond> {
    let of_client = (None, client.rights.beyond(ceiling, catalogue));
    let of_credential = |credential: &Credential| {
        // What it has not of its own is its client's, which is told there.
        let own = Rights {
            scope: credential.scope.clone().unwrap_or_default(),
            res: credential.res.clone().unwrap_or_default(),
        };
        (Some(credential.id), own.beyond(ceiling, catalogue))
    };
    let of_credentials = narrowed.iter().filter(|credential| credential.client == client.id).map(of_credential);
    std::iter::once(of_client)
        .chain(of_credentials)
        .filter(|(_, rights)| !rights.is_empty())
        .map(|(credential, rights)| Beyond { credential, scope: rights.scope, res: rights.res })
        .collect()
}
