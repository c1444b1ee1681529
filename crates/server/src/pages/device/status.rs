//! Tells an open page when the device it waits for is in another state: Server-Sent Events with the state's name, until
//! nothing changes any more.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use futures_util::stream::unfold;
use http::{HeaderValue, header};
use keyward_model::device_grant::GrantState;
use keyward_model::id::{DeviceGrantId, UserId};
use tokio::time::Instant;

use crate::app::App;
use crate::device_grants;
use crate::listen::Endless;
use crate::pages::device::held::Held;
use crate::pages::signed_in::{SignedIn, Turn};
use crate::respond::PageProblem;

/// How often a stream says that it is alive, so that no proxy takes it for dead.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Pages of one user that may look on at once.
const MOST_OF_USER: u32 = 4;
/// Those of everybody.
const MOST: u32 = 1000;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/device/status", get(status))
}

/// Pages that look on.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<HashMap<UserId, u32>>);

/// A page's place among them, until dropped.
struct Place {
    app: Arc<App>,
    user: UserId,
}

impl Watchers {
    fn enter(&self, user: UserId) -> bool {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = watchers.get(&user).copied().unwrap_or_default();
        let has_room = own < MOST_OF_USER && watchers.values().sum::<u32>() < MOST;
        if has_room {
            watchers.insert(user, own + 1);
        }
        has_room
    }

    fn leave(&self, user: UserId) {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = watchers.get_mut(&user) {
            *own -= 1;
            if *own == 0 {
                watchers.remove(&user);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app.watchers.leave(self.user);
    }
}

async fn status(State(app): State<Arc<App>>, by: SignedIn, held: Held) -> Result<Response, Turn> {
    let grant = held.grant.ok_or(PageProblem::NotFound)?;
    let found = app.store.find_device_grant(grant).await?.ok_or(PageProblem::NotFound)?;
    if found.state.user() != Some(by.user.id) {
        return Err(PageProblem::NotFound.into());
    }
    if !app.watchers.enter(by.user.id) {
        return Err(PageProblem::Busy.into());
    }
    let place = Place { app, user: by.user.id };
    let watch = Watch { place, grant, known: None, is_over: false };
    let frames = unfold(watch, async |mut watch| Some((Ok::<_, Infallible>(watch.next().await?), watch)));
    let mut response = Response::new(Body::from_stream(frames));
    response.extensions_mut().insert(Endless);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx would otherwise collect what must be there at once.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Watch {
    place: Place,
    grant: DeviceGrantId,
    known: Option<GrantState>,
    is_over: bool,
}

impl Watch {
    /// What is sent next; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let Place { app, user } = &self.place;
        let Some(known) = &self.known else {
            let state = app.store.find_device_grant(self.grant).await.ok()??.state_at(app.clock.now());
            return Some(self.say(state));
        };
        let ends_at = Instant::now() + ALIVE_EVERY;
        let state = device_grants::watch(app, *user, self.grant, known, ALIVE_EVERY).await.ok()?;
        if state.name() != known.name() {
            return Some(self.say(state));
        }
        // Before its time and without a change: the server stops.
        (Instant::now() >= ends_at).then(|| Bytes::from_static(b": alive\n\n"))
    }

    fn say(&mut self, state: GrantState) -> Bytes {
        let frame = format!("event: state\ndata: {}\n\n", state.name());
        self.is_over = state.is_final();
        self.known = Some(state);
        frame.into()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn nobody_takes_all_places_and_none_is_left_taken() {
        let (watchers, user) = (Watchers::default(), |n| UserId::from_uuid(Uuid::from_u128(n)));
        assert_eq!((0..10).filter(|_| watchers.enter(user(1))).count(), MOST_OF_USER as usize);
        assert!(watchers.enter(user(2)));
        (0..MOST_OF_USER).for_each(|_| watchers.leave(user(1)));
        watchers.leave(user(2));
        assert!(watchers.0.lock().unwrap().is_empty());
        let all = (0..u128::from(2 * MOST)).filter(|n| watchers.enter(user(*n))).count();
        assert_eq!(all, MOST as usize);
    }
}
