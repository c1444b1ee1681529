//! The scope catalogue.

use std::sync::Arc;

use axum::extract::Path;
use keyward_model::api::ScopeEntry;
use keyward_model::event::Draft;
use keyward_model::rights::{Catalogue, MAX_SET, Scope, ScopeSet};
use keyward_store::{StoreError, TokensOf, Tx};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::body::{Begun, Done, Json, Tagged, stale};
use crate::api::call::{Call, Level, conflict};
use crate::api::condition::IfMatch;
use crate::api::instant::Instant;
use crate::api::list::{List, Paging, page};
use crate::api::{Query, changes, id, line};
use crate::app::App;
use crate::respond::{ApiError, Problem, ProblemDetails};

/// A scope of the catalogue.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Scope)]
pub struct ScopeView {
    /// Its name, as tokens carry it.
    #[schema(value_type = String)]
    pub name: Scope,
    /// What it allows, in words for people.
    pub description: String,
    /// The scopes it brings with it.
    #[schema(value_type = Vec<String>)]
    pub implies: Vec<Scope>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Instant,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Instant,
}

/// A scope to add.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScope {
    /// Its name: 1 to 128 visible ASCII characters other than `"` and `\` (RFC 6749 §3.3).
    #[schema(value_type = String)]
    pub name: Scope,
    /// What it allows, in words for people: at most 100 characters.
    #[serde(default)]
    pub description: String,
    /// The scopes it brings with it.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub implies: Vec<Scope>,
}

/// A change of a scope: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeChange {
    /// What it allows, in words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The scopes it brings with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub implies: Option<Vec<Scope>>,
}

impl From<ScopeEntry> for ScopeView {
    fn from(entry: ScopeEntry) -> Self {
        Self {
            name: entry.name,
            description: entry.description,
            implies: entry.implies.iter().cloned().collect(),
            created_at: Instant(entry.created_at),
            updated_at: Instant(entry.updated_at),
        }
    }
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, change, delete))
}

/// List scopes
#[utoipa::path(get, path = "/api/v1/scopes", tag = "scopes", params(Paging),
    responses((status = 200, body = List<ScopeView>), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<Paging>) -> Result<axum::Json<List<ScopeView>>, ApiError> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let mut found = call.app.store.list_scopes().await?;
    found.retain(|entry| page.after.as_deref().is_none_or(|after| after < entry.name.as_str()));
    // Databases order text each in their own way; the cursor needs one order.
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(axum::Json(List::of(found, &page, |s| s.name.to_string(), ScopeView::from)))
}

/// Add a scope
#[utoipa::path(post, path = "/api/v1/scopes", tag = "scopes", request_body = NewScope,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless for 24 hours")),
    responses((status = 201, body = ScopeView), (status = "default", body = ProblemDetails)))]
async fn create(call: Call, body: Json<NewScope>) -> Result<Tagged<ScopeView>, ApiError> {
    call.require(Level::Admin)?;
    if let Some(made) = body.made_before(&call).await? {
        return again(&call, &made).await;
    }
    let new = body.value.clone();
    require_nameable(&new.name)?;
    let entry = ScopeEntry {
        name: new.name,
        description: line(new.description, "description")?,
        implies: implied(new.implies)?,
        created_at: call.now,
        updated_at: call.now,
        version: 1,
    };
    let mut tx = match body.begin(&call).await? {
        Begun::First(tx) => tx,
        Begun::Again(made) => return again(&call, &made).await,
    };
    judge(&mut tx, &entry).await?;
    tx.insert_scope(&entry).await.map_err(taken)?;
    body.note_made(&call, &mut tx, entry.name.as_str()).await?;
    tx.record(Draft { kind: "scope.created", subject: entry.name.to_string(), data: describe(&entry) });
    call.commit(tx).await?;
    Ok(tagged(entry, true))
}

/// The answer to a repetition.
async fn again(call: &Call, made: &str) -> Result<Tagged<ScopeView>, ApiError> {
    Ok(tagged(find(call, id(made)?).await?, true))
}

/// Show a scope
#[utoipa::path(get, path = "/api/v1/scopes/{name}", tag = "scopes", params(("name" = String, Path)),
    responses((status = 200, body = ScopeView), (status = "default", body = ProblemDetails)))]
async fn get(call: Call, Path(path): Path<String>) -> Result<Tagged<ScopeView>, ApiError> {
    Ok(tagged(find(&call, id(&path)?).await?, false))
}

/// Change a scope
#[utoipa::path(patch, path = "/api/v1/scopes/{name}", tag = "scopes", request_body = ScopeChange,
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 200, body = ScopeView), (status = "default", body = ProblemDetails)))]
async fn change(
    call: Call,
    Path(path): Path<String>,
    if_match: IfMatch,
    body: Json<ScopeChange>,
) -> Result<Tagged<ScopeView>, ApiError> {
    call.require(Level::Admin)?;
    let mut entry = find(&call, id(&path)?).await?;
    require_not_keyward(&entry.name)?;
    if_match.require(entry.version)?;
    let (before, change) = (describe(&entry), body.value);
    if let Some(new) = change.description {
        entry.description = line(new, "description")?;
    }
    if let Some(new) = change.implies {
        entry.implies = implied(new)?;
    }
    entry.updated_at = call.now;
    let mut tx = call.begin().await?;
    let lowered = judge(&mut tx, &entry).await?;
    let Some(entry) = tx.update_scope(&entry, entry.version).await? else { return Err(stale()) };
    let mut data = changes::between(&before, &describe(&entry));
    if !lowered.is_empty() {
        changes::end_tokens(&call, &mut tx, TokensOf::Holders(&lowered), &mut data).await?;
    }
    tx.record(Draft { kind: "scope.changed", subject: entry.name.to_string(), data });
    call.commit(tx).await?;
    Ok(tagged(entry, false))
}

/// Delete a scope: whoever held it holds nothing by it from then on
#[utoipa::path(delete, path = "/api/v1/scopes/{name}", tag = "scopes",
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 204), (status = "default", body = ProblemDetails)))]
async fn delete(call: Call, Path(path): Path<String>, if_match: IfMatch) -> Result<Done, ApiError> {
    call.require(Level::Admin)?;
    let entry = find(&call, id(&path)?).await?;
    require_not_keyward(&entry.name)?;
    if_match.require(entry.version)?;
    let mut tx = call.begin().await?;
    require_unused(&mut tx, &entry.name).await?;
    if !tx.delete_scope(&entry.name, entry.version).await? {
        return Err(stale());
    }
    tx.record(Draft { kind: "scope.deleted", subject: entry.name.to_string(), data: describe(&entry) });
    call.commit(tx).await?;
    Ok(Done)
}

async fn find(call: &Call, name: Scope) -> Result<ScopeEntry, ApiError> {
    let found = call.app.store.list_scopes().await?.into_iter().find(|entry| entry.name == name);
    found.ok_or_else(|| Problem::NotFound.because("there is no such scope"))
}

fn implied(scopes: Vec<Scope>) -> Result<ScopeSet, ApiError> {
    if scopes.len() > MAX_SET {
        return Err(ApiError::field("implies", format!("a scope may imply at most {MAX_SET} others")));
    }
    // Otherwise whoever manages the catalogue could hand out Keyward's own scopes under another name.
    if let Some(scope) = scopes.iter().find(|s| s.is_keyward()) {
        return Err(ApiError::field("implies", format!("no other scope can imply {scope}")));
    }
    Ok(scopes.into_iter().collect())
}

/// Refuses an entry that implies what does not exist, or itself by way of others; gives the scopes that imply less with it.
async fn judge(tx: &mut Tx, entry: &ScopeEntry) -> Result<ScopeSet, ApiError> {
    let mut entries: Vec<(Scope, ScopeSet)> =
        tx.list_scopes().await?.into_iter().map(|known| (known.name, known.implies)).collect();
    let before = Catalogue::new(entries.clone()).unwrap_or_default();
    entries.retain(|(name, _)| *name != entry.name);
    entries.push((entry.name.clone(), entry.implies.clone()));
    if let Some(unknown) = entry.implies.iter().find(|s| !entries.iter().any(|(name, _)| name == *s)) {
        return Err(ApiError::field("implies", format!("there is no scope {unknown}; add it first")));
    }
    match Catalogue::new(entries) {
        Ok(after) => Ok(before.lowered_in(&after)),
        Err(circle) => Err(ApiError::field("implies", circle.to_string())),
    }
}

async fn require_unused(tx: &mut Tx, name: &Scope) -> Result<(), ApiError> {
    let in_the_way = |what: String| Err(Problem::Conflict.because(format!("{what}; change that first")));
    if let Some(other) = tx.list_scopes().await?.iter().find(|other| other.implies.contains(name.as_str())) {
        return in_the_way(format!("the scope {} implies {name}", other.name));
    }
    if let Some(api) = tx.list_apis().await?.iter().find(|api| api.scopes.contains(name.as_str())) {
        return in_the_way(format!("the API {} ({}) knows {name}", api.name, api.id));
    }
    if tx.scope_is_held(name).await? {
        // A scope of the same name made later would silently be theirs.
        return in_the_way(format!("users, clients or credentials hold {name}"));
    }
    Ok(())
}

fn require_not_keyward(name: &Scope) -> Result<(), ApiError> {
    if name.is_keyward() {
        return Err(Problem::Conflict.because("Keyward's own scopes are what they are"));
    }
    Ok(())
}

fn require_nameable(name: &Scope) -> Result<(), ApiError> {
    if name.is_keyward() {
        return Err(ApiError::field("name", "names that begin with keyward: are Keyward's own"));
    }
    // A URL with such a segment means another one (RFC 3986 §5.2.4), so nobody could ever change it again.
    if matches!(name.as_str(), "." | "..") {
        return Err(ApiError::field("name", "a scope cannot be named like a step in a path"));
    }
    Ok(())
}

fn taken(error: StoreError) -> ApiError {
    if error.is_conflict_on("scopes.name") {
        return Problem::Conflict.because("there is a scope with this name");
    }
    conflict(error)
}

fn tagged(entry: ScopeEntry, made: bool) -> Tagged<ScopeView> {
    let location = made.then(|| format!("/api/v1/scopes/{}", segment(entry.name.as_str())));
    Tagged { version: entry.version, value: entry.into(), location }
}

/// A name as one segment of a path (RFC 3986 §3.3).
fn segment(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,;=".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn describe(entry: &ScopeEntry) -> serde_json::Value {
    json!({ "description": entry.description, "implies": entry.implies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_as_one_segment_of_a_path() {
        assert_eq!(segment("lager:read.all"), "lager:read.all");
        assert_eq!(segment("https://example.org/a?b#c%d"), "https:%2F%2Fexample.org%2Fa%3Fb%23c%25d");
    }
}
