//! What the tests of this crate have in common: an issuer with its keys, and a token of it.

use std::sync::LazyLock;
use std::time::Duration;

use keyward_model::id::{ClientId, CredentialId, KeyId, TokenId, UserId};
use keyward_model::jws::{Jwks, PrivateKey, SigningAlgorithm, SigningKey};
use keyward_model::time::Timestamp;
use keyward_model::token::{AccessTokenClaims, Actor, Audience, Status, StatusReference, Subject};
use uuid::Uuid;

use crate::{Expect, KeySet};

pub(crate) const ISSUER: &str = "https://keyward.example";
pub(crate) const PLANT: &str = "https://plant.example/api";
pub(crate) const STORE: &str = "https://store.example/api";
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// An ES256 and an EdDSA key; RSA keys take long to make, and only a few tests need one.
pub(crate) static KEYS: LazyLock<[SigningKey; 2]> =
    LazyLock::new(|| [signing_key(1, SigningAlgorithm::Es256), signing_key(2, SigningAlgorithm::EdDsa)]);

pub(crate) fn signing_key(id: u128, algorithm: SigningAlgorithm) -> SigningKey {
    SigningKey::new(KeyId::from_uuid(Uuid::from_u128(id)), PrivateKey::generate(algorithm).unwrap()).unwrap()
}

pub(crate) fn published<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> Jwks {
    Jwks { keys: keys.into_iter().map(|key| key.private().public().unwrap().to_jwk(&key.kid().to_string())).collect() }
}

pub(crate) fn key_set() -> KeySet {
    KeySet::from_jwks(&published(KEYS.iter()))
}

pub(crate) fn claims() -> AccessTokenClaims {
    let client = ClientId::from_uuid(Uuid::from_u128(7));
    AccessTokenClaims {
        iss: ISSUER.to_owned(),
        aud: Audience::one(PLANT),
        sub: Subject::User(UserId::from_uuid(Uuid::from_u128(8))),
        client_id: client,
        iat: NOW,
        nbf: None,
        exp: NOW.plus(Duration::from_secs(600)),
        jti: TokenId::from_uuid(Uuid::from_u128(9)),
        scope: "Supervisor Worker".parse().unwrap(),
        res: "plant/7".parse().unwrap(),
        cred: Some(CredentialId::from_uuid(Uuid::from_u128(10))),
        act: Some(Actor { sub: client }),
        sid: None,
        auth_time: None,
        status: Some(Status { status_list: StatusReference { idx: 412, uri: format!("{ISSUER}/status-lists/1") } }),
    }
}

pub(crate) fn expect() -> Expect {
    Expect::new(ISSUER, PLANT)
}
