//! Device sessions and their tokens, made as a login would.

use std::time::Duration;

use keyward_model::device_session::{DeviceSession, SessionState};
use keyward_model::event::Actor;
use keyward_model::id::DeviceSessionId;
use keyward_model::rights::Rights;
use keyward_server::api::device_sessions;
use keyward_server::oauth::identity_token;
use keyward_server::oauth::session_tokens::{self, NewSession};
use keyward_server::respond::OAuthError;
use keyward_store::Origin;
use serde_json::Value;

use crate::server::TestServer;

impl TestServer {
    /// A device session of this user through this client, with these rights, for an hour from now on.
    pub async fn begin_session(&self, user: &str, client: &str, rights: (&str, &str)) -> String {
        let now = self.clock.now();
        let (user, client) = (user.parse().expect("a user's id"), client.parse().expect("a client's id"));
        let mut tx = self.app.store.begin().await.expect("a transaction");
        let session = DeviceSession {
            id: DeviceSessionId::new(now, &self.app.entropy).expect("random bytes"),
            user,
            client,
            label: "hall 3".to_owned(),
            rights: Rights { scope: rights.0.parse().expect("scopes"), res: rights.1.parse().expect("resources") },
            state: SessionState::Active,
            status_index: tx.next_status_index().await.expect("a place"),
            authenticated_at: now,
            amr: String::new(),
            expires_at: now.plus(Duration::from_secs(3600)),
            created_from: Some("192.0.2.7".to_owned()),
            created_at: now,
            updated_at: now,
            version: 1,
        };
        tx.insert_device_session(&session).await.expect("user and client exist");
        tx.record(device_sessions::draft("device_session.created", &session));
        let seq = tx.commit(&Origin { actor: Actor::system("test"), source: None, now }).await.expect("a commit");
        self.app.wait_until_applied(seq).await.expect("the log is followed");
        session.id.to_string()
    }

    /// The same with a refresh token, as a grant begins it: what its client is answered.
    pub async fn begin_tokens(&self, user: &str, client: &str, rights: (&str, &str)) -> Result<Value, OAuthError> {
        let now = self.clock.now();
        let new = NewSession {
            user: user.parse().expect("a user's id"),
            client: client.parse().expect("a client's id"),
            rights: Rights { scope: rights.0.parse().expect("scopes"), res: rights.1.parse().expect("resources") },
            label: "hall 3".to_owned(),
            authenticated_at: now,
            amr: "pwd".to_owned(),
            created_from: Some("192.0.2.7".to_owned()),
            credential: None,
        };
        let mut tx = self.app.store.begin().await.expect("a transaction");
        let begun = session_tokens::begin(&self.app, &mut tx, now, new).await;
        // Refusals commit too.
        let seq = tx.commit(&Origin { actor: Actor::system("test"), source: None, now }).await.expect("a commit");
        self.app.wait_until_applied(seq).await.expect("the log is followed");
        Ok(serde_json::to_value(begun?.response).expect("it is JSON"))
    }

    /// An identity token of a device session; a confidential client gets it with one of its credentials.
    pub async fn identity_token(&self, session: &str, credential: Option<&str>) -> Result<String, OAuthError> {
        let session = session.parse().expect("the id of a device session");
        let credential = credential.map(|id| id.parse().expect("the id of a credential"));
        let issued = identity_token::issue(&self.app, session, credential, self.clock.now()).await?;
        Ok(issued.access_token)
    }

    /// Signs a user in through a client, with these rights; gives the device session and an identity token of it.
    pub async fn sign_in(&self, user: &str, client: &str, rights: (&str, &str)) -> (String, String) {
        let session = self.begin_session(user, client, rights).await;
        let token = self.identity_token(&session, None).await.expect("a token");
        (session, token)
    }
}
