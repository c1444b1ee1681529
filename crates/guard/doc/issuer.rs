// An issuer for examples: publishes a key and a status list, and signs whatever it is asked to, at an instant that
// stands still. Included where it is needed, so that neither the crate nor an API carries it.

use std::io::Write as _;

use base64::Engine as _;
use keyward_model::id::{ClientId, CredentialId, KeyId, TokenId, UserId};
use keyward_model::jws::{Jwks, PrivateKey, SigningAlgorithm, SigningKey};
use keyward_model::time::Timestamp;
use keyward_model::token::{AccessTokenClaims, Actor, Audience, Status, StatusReference, Subject};

/// When it is.
pub const NOW: Timestamp = Timestamp::from_seconds(1_795_435_200);

/// A running issuer.
pub struct Issuer {
    /// Its URL.
    pub url: String,
    key: std::sync::Arc<SigningKey>,
}

impl Issuer {
    /// One that listens on this machine.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let private = PrivateKey::generate(SigningAlgorithm::Es256).expect("a key");
        let key = SigningKey::new(KeyId::from_uuid(uuid::Uuid::from_u128(1)), private).expect("a key");
        let public = key.private().public().expect("its public half").to_jwk(&key.kid().to_string());
        let jwks = serde_json::to_string(&Jwks { keys: vec![public] }).expect("JSON");
        let metadata = serde_json::json!({ "issuer": url, "jwks_uri": format!("{url}/jwks") }).to_string();
        let list = list(&url, &key);
        let answer = |text: String| axum::routing::get(async || text);
        let router = axum::Router::new()
            .route("/.well-known/oauth-authorization-server", answer(metadata))
            .route("/jwks", answer(jwks))
            .route("/status-lists/1", answer(list));
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, key: std::sync::Arc::new(key) }
    }

    /// The token of a client for this audience: a Supervisor of plant 7, as the user with number 1, if not changed.
    pub fn token(&self, audience: &str, change: impl FnOnce(&mut AccessTokenClaims)) -> String {
        let id = |number| uuid::Uuid::from_u128(number);
        let client = ClientId::from_uuid(id(1));
        let mut claims = AccessTokenClaims {
            iat: NOW,
            exp: Timestamp::from_seconds(NOW.as_seconds() + 600),
            jti: TokenId::from_uuid(id(1)),
            iss: self.url.clone(),
            aud: Audience::one(audience),
            sub: Subject::User(UserId::from_uuid(id(1))),
            client_id: client,
            nbf: None,
            scope: "Supervisor Worker".parse().expect("scopes"),
            res: "plant/7".parse().expect("resources"),
            cred: Some(CredentialId::from_uuid(id(1))),
            act: Some(Actor { sub: client }),
            sid: None,
            auth_time: None,
            status: Some(Status {
                status_list: StatusReference { idx: 1, uri: format!("{}/status-lists/1", self.url) },
            }),
        };
        change(&mut claims);
        claims.sign(&self.key).expect("a token")
    }
}

/// A status list in which nothing has ended.
fn list(issuer: &str, key: &SigningKey) -> String {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&[0; 64]).expect("memory");
    let lst = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(encoder.finish().expect("memory"));
    let claims = serde_json::json!({
        "iss": issuer, "sub": format!("{issuer}/status-lists/1"), "iat": NOW.as_seconds(), "exp": NOW.as_seconds() + 600,
        "ttl": 60, "status_list": { "bits": 1, "lst": lst },
    });
    key.sign("statuslist+jwt", claims.to_string().as_bytes()).expect("a list")
}
