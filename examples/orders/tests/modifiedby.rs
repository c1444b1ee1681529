//! Who stands in `modifiedby`, in all four cases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[allow(unreachable_pub, missing_docs, reason = "it is included elsewhere too")]
#[path = "../../../crates/guard/doc/issuer.rs"]
mod issuer;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use issuer::{Issuer, NOW};
use keyward_guard::Guard;
use keyward_model::id::{DeviceSessionId, UserId};
use keyward_model::token::{AccessTokenClaims, Subject};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

const AUDIENCE: &str = "https://orders.example";

async fn open() -> (Issuer, Router) {
    let issuer = Issuer::start().await;
    let guard = Guard::discover(&issuer.url).audience(AUDIENCE).realm("orders").clock(|| NOW).await.unwrap();
    (issuer, orders::router(guard))
}

fn user(number: u128) -> UserId {
    UserId::from_uuid(Uuid::from_u128(number))
}

/// A user who signed in through the same client, with as much as it has.
fn signed_in(number: u128) -> impl FnOnce(&mut AccessTokenClaims) {
    move |claims| {
        (claims.sub, claims.act) = (Subject::User(user(number)), None);
        claims.sid = Some(DeviceSessionId::from_uuid(Uuid::from_u128(9)));
        claims.auth_time = Some(NOW);
    }
}

async fn put(api: &Router, token: &str, identity: Option<&str>) -> (StatusCode, Value) {
    let mut request = Request::put("/plant/7/orders/1").header("authorization", format!("Bearer {token}"));
    if let Some(identity) = identity {
        request = request.header("identity-token", identity);
    }
    let body = Body::from(json!({ "item": "bolts" }).to_string());
    let request = request.header("content-type", "application/json").body(body).unwrap();
    let answer = api.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn modified_by(api: &Router, token: &str, identity: Option<&str>) -> Value {
    let (status, body) = put(api, token, identity).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["modifiedby"].clone()
}

#[tokio::test]
async fn a_client_alone_modifies_as_its_owner() {
    let (issuer, api) = open().await;
    assert_eq!(modified_by(&api, &issuer.token(AUDIENCE, |_| {}), None).await, user(1).to_string());
}

#[tokio::test]
async fn with_a_user_present_it_is_the_user() {
    let (issuer, api) = open().await;
    let identity = issuer.token(AUDIENCE, signed_in(2));
    let client = issuer.token(AUDIENCE, |_| {});
    assert_eq!(modified_by(&api, &client, Some(&identity)).await, user(2).to_string());
    // And only as far as both may: this client is no supervisor.
    let worker = issuer.token(AUDIENCE, |claims| claims.scope = "Worker".parse().unwrap());
    assert_eq!(put(&api, &worker, Some(&identity)).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_device_session_alone_is_the_user_who_signed_in() {
    let (issuer, api) = open().await;
    let device = issuer.token(AUDIENCE, |claims| {
        signed_in(3)(claims);
        claims.cred = None;
    });
    assert_eq!(modified_by(&api, &device, None).await, user(3).to_string());
}

#[tokio::test]
async fn a_client_that_was_given_away_modifies_as_its_new_owner() {
    let (issuer, api) = open().await;
    let before = issuer.token(AUDIENCE, |_| {});
    let after = issuer.token(AUDIENCE, |claims| claims.sub = Subject::User(user(4)));
    assert_eq!(modified_by(&api, &before, None).await, user(1).to_string());
    assert_eq!(modified_by(&api, &after, None).await, user(4).to_string());
}

#[tokio::test]
async fn another_plant_and_a_request_without_a_token_are_refused_in_the_apis_realm() {
    let (issuer, api) = open().await;
    let elsewhere = issuer.token(AUDIENCE, |claims| claims.res = "plant/8".parse().unwrap());
    let (status, body) = put(&api, &elsewhere, None).await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &json!("insufficient_scope")));
    let request = Request::get("/plant/7/orders").body(Body::empty()).unwrap();
    let answer = api.oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"orders\"");
}
