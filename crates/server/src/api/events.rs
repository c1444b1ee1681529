//! The event log, for people and programs that follow it.

use std::sync::Arc;

use keyward_model::event::Event;
use keyward_model::id::{ClientId, UserId};
use keyward_store::EventFilter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Query;
use crate::api::call::{Call, Level};
use crate::app::App;
use crate::respond::{ApiError, Problem, ProblemDetails};

const DEFAULT_LIMIT: u16 = 100;
const MAX_LIMIT: u16 = 1000;

/// A part of the log, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// The entries.
    #[schema(value_type = Vec<EventSchema>)]
    pub items: Vec<Event>,
    /// Ask with this `after` for the next part; `null` if this is the end of the log for now.
    pub next_after: Option<i64>,
}

/// One entry of the log. Its hash covers everything else in it, so it is given exactly as it was written.
#[derive(Debug, ToSchema)]
#[schema(as = Event)]
pub struct EventSchema {
    /// Its place: 1, 2, 3, … without gaps.
    pub seq: i64,
    /// When, in Unix milliseconds.
    pub at: i64,
    /// What happened, e.g. `credential.revoked`.
    pub kind: String,
    /// What it happened to: an identifier or a scope's name.
    pub subject: String,
    /// Who did it.
    pub actor: ActorSchema,
    /// The network address it came from, if it came from a network.
    pub source: Option<String>,
    /// What changed.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
    /// The `hash` of the entry before; 64 zeros for the first. Lower-case hexadecimal.
    pub prev: String,
    /// SHA-256 over the compact JSON of everything else, members in alphabetical order.
    pub hash: String,
}

/// Who did something: somebody through a token or with a browser, a client about itself (no `user`), or the server itself
/// (`system`).
#[derive(Debug, ToSchema)]
#[schema(as = Actor)]
pub struct ActorSchema {
    /// On whose behalf.
    #[schema(required = false)]
    pub user: String,
    /// Through which client.
    #[schema(required = false)]
    pub client: String,
    /// With which credential.
    #[schema(required = false)]
    pub credential: String,
    /// In which device session, where the token is the user's own.
    #[schema(required = false)]
    pub session: String,
    /// In which login, where it was done with a browser.
    #[schema(required = false)]
    pub login: String,
    /// Which part of the server: `start`, `schedule`, `console` or `leaks`.
    #[schema(required = false)]
    pub system: String,
}

/// Which events to list.
#[derive(Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// The place in the log after which to begin; 0 if absent.
    pub after: Option<i64>,
    /// The most entries to give: 1 to 1000, 100 if absent.
    pub limit: Option<u16>,
    /// Of this kind, e.g. `credential.revoked`.
    pub kind: Option<String>,
    /// About this identifier or scope.
    pub subject: Option<String>,
}

pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Read the event log
///
/// A token that reaches no further than `keyward:self` must ask with `subject`: its own user, a device session of that
/// user, or one of the clients and credentials that user owns.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = Events), (status = "default", body = ProblemDetails)))]
async fn list(call: Call, Query(query): Query<EventQuery>) -> Result<axum::Json<Events>, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        return Err(Problem::Malformed.because(format!("limit must be 1 to {MAX_LIMIT}")));
    }
    if !concerns_caller(&call, query.subject.as_deref()).await? {
        call.require(Level::Support)?;
    }
    let filter = EventFilter { kind: query.kind, subject: query.subject };
    let mut items = call.app.store.list_events(&filter, query.after.unwrap_or(0), limit).await?;
    let more = items.len() > usize::from(limit);
    items.truncate(limit.into());
    let next_after = items.last().filter(|_| more).map(|event| event.seq);
    Ok(axum::Json(Events { items, next_after }))
}

async fn concerns_caller(call: &Call, subject: Option<&str>) -> Result<bool, ApiError> {
    let Some(subject) = subject else { return Ok(false) };
    if let Ok(user) = subject.parse::<UserId>() {
        return Ok(user == call.user());
    }
    let store = &call.app.store;
    if let Ok(session) = subject.parse() {
        return Ok(store.find_device_session(session).await?.is_some_and(|session| session.user == call.user()));
    }
    let client = match subject.parse::<ClientId>() {
        Ok(client) => Some(client),
        Err(_) => match subject.parse() {
            Ok(credential) => store.find_credential(credential).await?.map(|credential| credential.client),
            Err(_) => None,
        },
    };
    let Some(client) = client else { return Ok(false) };
    Ok(store.find_client(client).await?.is_some_and(|client| client.owner == call.user()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keyward_model::event::Actor;
    use keyward_model::id::{CredentialId, DeviceSessionId, LoginId};
    use utoipa::PartialSchema;
    use utoipa::openapi::{RefOr, Schema};

    use super::*;

    fn described<T: PartialSchema>() -> BTreeSet<String> {
        let RefOr::T(Schema::Object(object)) = T::schema() else { panic!("not an object") };
        object.properties.keys().cloned().collect()
    }

    fn members(value: impl Serialize) -> BTreeSet<String> {
        let serde_json::Value::Object(object) = serde_json::to_value(value).unwrap() else { panic!("not an object") };
        object.keys().cloned().collect()
    }

    #[test]
    fn the_description_of_an_event_has_the_members_of_an_event() {
        let uuid = CredentialId::from_uuid;
        let credential: CredentialId = uuid(Default::default());
        let client = ClientId::from_uuid(Default::default());
        let user = UserId::from_uuid(Default::default());
        let token = Actor::Token { user, client, credential };
        let session = DeviceSessionId::from_uuid(Default::default());
        let in_session = Actor::DeviceSession { user, client, session };
        let in_login = Actor::Login { user, login: LoginId::from_uuid(Default::default()) };
        let about_itself = Actor::Client { client, credential };
        let actors = [token.clone(), in_session, about_itself, in_login, Actor::system("start")];
        let of_actors: BTreeSet<String> = actors.into_iter().flat_map(members).collect();
        assert_eq!(described::<ActorSchema>(), of_actors);
        let event = Event {
            seq: 1,
            at: 1,
            kind: "user.created".to_owned(),
            subject: String::new(),
            actor: token,
            source: None,
            data: serde_json::json!({}),
            prev: String::new(),
            hash: String::new(),
        };
        assert_eq!(described::<EventSchema>(), members(event));
    }
}
