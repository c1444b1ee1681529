//! Tokens that no endpoint issues: signed with the server's own key, which the kit takes out of its database.

use keyward_model::jws::{ACCESS_TOKEN, PrivateKey, SigningAlgorithm, SigningKey};
use serde_json::Value;

use crate::server::TestServer;

/// A token with these claims, signed by the server's ES256 key whose turn it is.
pub async fn sign(server: &TestServer, claims: &Value) -> String {
    sign_as(server, ACCESS_TOKEN, claims).await
}

/// Another kind of JWT with these claims, signed by the same key.
pub async fn sign_as(server: &TestServer, typ: &str, claims: &Value) -> String {
    let master = server.app.master().await.expect("the master key");
    let rows = server.app.store.list_signing_keys().await.expect("the database answers");
    let current = rows.iter().find(|row| row.key.algorithm == SigningAlgorithm::Es256 && row.activate_at.is_some());
    let row = current.expect("an ES256 key");
    let pkcs8 = master.open(&format!("signing key {}", row.key.id), &row.key.sealed).expect("the key opens");
    let private = PrivateKey::from_pkcs8(row.key.algorithm, &pkcs8).expect("a private key");
    let key = SigningKey::new(row.key.id, private).expect("a signing key");
    key.sign(typ, claims.to_string().as_bytes()).expect("it signs")
}

/// What a token says, without any check.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a payload");
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload);
    serde_json::from_slice(&bytes.expect("base64url")).expect("JSON")
}

/// An identity token of the owner of the client that got this token, after a login of theirs with the same client and key,
/// with these changes.
pub async fn identity(server: &TestServer, client_token: &str, changes: &Value) -> String {
    let of = claims(client_token);
    let text = |name: &str| of[name].as_str().expect("a text").to_owned();
    let res: Vec<&str> = of["res"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let session = server.begin_session(&text("sub"), &text("client_id"), (&text("scope"), &res.join(" "))).await;
    let token = server.identity_token(&session, Some(&text("cred"))).await.expect("a token");
    let mut claims = claims(&token);
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    sign(server, &claims).await
}
