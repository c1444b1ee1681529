//! Somebody signs in from a network they never signed in from: they are told, in case it was not they. Found in the log, in
//! the transaction of the login, and looked for only where the browser is unknown.

use std::time::Duration;

use keyward_model::login::Login;
use keyward_model::notice::MOST_NEW_NETWORKS;
use keyward_model::user::User;
use keyward_store::{StoreError, Tx};

use crate::app::{App, StartError};
use crate::notices::message::Message;
use crate::notices::outbox::Outbox;

/// So many events of a user are looked back: whoever waits for the end of the log does not wait for long, even if somebody
/// has been guessing at that user for years. What lies further back is not known any more.
const LOOKED_BACK: u16 = 1000;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Notes that this login is to be told of, if it is. Its own event is not yet in the log.
pub(crate) async fn note_sign_in(app: &App, tx: &mut Tx, user: &User, login: &Login) -> Result<(), StartError> {
    if !is_news(tx, login).await? {
        return Ok(());
    }
    let message = Message::new_sign_in(user, login, &app.issuer, &app.entropy)?;
    Outbox::open(app, tx).await?.note(&message, None).await?;
    Ok(())
}

/// Whether the network is new to a user who has others, and they were not told of many such today.
async fn is_news(tx: &mut Tx, login: &Login) -> Result<bool, StoreError> {
    let events = tx.list_last_events(&login.user.to_string(), LOOKED_BACK).await?;
    let of = |kind: &'static str| events.iter().filter(move |event| event.kind == kind);
    let is_known = of("login.succeeded").any(|event| event.data.get("network").is_some_and(|n| *n == login.network));
    let is_first = of("login.succeeded").next().is_none() && events.len() < LOOKED_BACK.into();
    if login.network.is_empty() || is_first || is_known {
        return Ok(false);
    }
    let since = login.created_at.minus(DAY).as_millis();
    Ok(of("notice.due").filter(|event| event.at > since).count() < MOST_NEW_NETWORKS.into())
}
