//! Orders of a plant: an API that was there before Keyward, with a table whose column `modifiedby` says who last changed
//! a row. Four kinds of request fill it, and each fills it rightly by the same call, [`Caller::modified_by`]:
//!
//! 1. a client alone: its owner, as whom it acts
//! 2. a client with a user: the user, who is present
//! 3. a device session alone: the user who signed in on the device
//! 4. a client that was given to another owner: the new one, from the next token on

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::Router;
use axum::extract::{FromRef, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use keyward_guard::{Caller, Guard, Refusal};
use serde::{Deserialize, Serialize};

/// The most rows that this example keeps.
const MAX_ORDERS: usize = 1000;

/// A row.
#[derive(Debug, Clone, Serialize)]
struct Order {
    item: String,
    /// As the table has always had it: a person, and nobody asks which program was in between.
    modifiedby: String,
}

/// What a caller may say of a row.
#[derive(Debug, Deserialize)]
struct Change {
    item: String,
}

/// The table, by plant and number.
type Table = Arc<Mutex<BTreeMap<(String, u32), Order>>>;

#[derive(Clone)]
struct Orders {
    guard: Guard,
    table: Table,
}

/// With this, handlers take a [`Caller`], and no handler that does is reached without a good token.
impl FromRef<Orders> for Guard {
    fn from_ref(orders: &Orders) -> Self {
        orders.guard.clone()
    }
}

/// The whole API.
pub fn router(guard: Guard) -> Router {
    let orders = Orders { guard: guard.clone(), table: Table::default() };
    Router::new()
        .route("/plant/{plant}/orders", get(list))
        .route("/plant/{plant}/orders/{number}", put(change))
        // So that refusals of handlers name this API's realm too; each token is checked once all the same.
        .layer(guard.layer())
        .with_state(orders)
}

/// `GET /plant/7/orders`: whoever works in the plant sees its orders.
async fn list(
    caller: Caller,
    State(orders): State<Orders>,
    Path(plant): Path<String>,
) -> Result<Json<Vec<Order>>, Refusal> {
    caller.require("Worker", &format!("plant/{plant}"))?;
    let table = orders.table.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Json(table.iter().filter(|((of, _), _)| *of == plant).map(|(_, order)| order.clone()).collect()))
}

/// `PUT /plant/7/orders/1`: whoever supervises the plant changes them.
async fn change(
    caller: Caller,
    State(orders): State<Orders>,
    Path((plant, number)): Path<(String, u32)>,
    Json(Change { item }): Json<Change>,
) -> Result<(StatusCode, Json<Option<Order>>), Refusal> {
    caller.require("Supervisor", &format!("plant/{plant}"))?;
    let order = Order { item, modifiedby: caller.modified_by() };
    let mut table = orders.table.lock().unwrap_or_else(PoisonError::into_inner);
    if table.len() >= MAX_ORDERS && !table.contains_key(&(plant.clone(), number)) {
        return Ok((StatusCode::INSUFFICIENT_STORAGE, Json(None)));
    }
    table.insert((plant, number), order.clone());
    Ok((StatusCode::OK, Json(Some(order))))
}
