//! Pages for people.

pub(crate) mod account;
pub(crate) mod api_reference;
pub(crate) mod application;
pub(crate) mod authorize;
pub(crate) mod chosen_password;
pub(crate) mod device;
pub(crate) mod frame;
pub(crate) mod invitation;
pub(crate) mod login;
pub(crate) mod own_path;
pub(crate) mod recovery;
pub(crate) mod rights;
pub(crate) mod signed_in;
pub(crate) mod texts;
pub(crate) mod visit;

mod script;
mod served;
mod style;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};

use crate::app::App;
use crate::request::name_route;

/// Pages on which people sign in, let devices and applications in, and manage their account. Whatever is merged here is framed: see `pages/frame.rs`.
pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .merge(login::routes())
        .merge(recovery::routes())
        .merge(invitation::routes())
        .merge(account::routes())
        .merge(authorize::routes())
        .merge(device::routes())
        .route_layer(from_fn_with_state(Arc::clone(app), frame::around))
        .route_layer(from_fn(name_route))
        .merge(script::routes())
}
