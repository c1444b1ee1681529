//! Behind proxies: `X-Forwarded-For` says who a client is if, and only if, the peer is trusted.

use keyward_model::entropy::Entropy;
use keyward_model::id::ClientId;
use keyward_tests::server::{Answer, Api, Db, Secrets, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::json;

async fn behind(proxies: &[&str]) -> TestServer {
    let proxies = proxies.iter().map(|net| net.parse().unwrap()).collect();
    TestServer::start_with(Db::Sqlite, |config| {
        config.server.trusted_proxies = proxies;
        config.limits.failures_burst = 2;
        config.limits.failures_per_minute = 1;
    })
    .await
}

/// Makes a client with this `X-Forwarded-For`; the source in the event of it.
async fn source_of_change(admin: &Api<'_>, forwarded_for: &str) -> String {
    let new = json!({ "name": format!("by {forwarded_for}") });
    let request = admin.request(Method::POST, "/api/v1/clients").header("x-forwarded-for", forwarded_for);
    let client = Answer::of(request.json(&new)).await.created();
    let events = admin.get(&format!("/api/v1/events?subject={}", client["id"].as_str().unwrap())).await.ok();
    events["items"][0]["source"].as_str().unwrap_or_default().to_owned()
}

/// Fails to authenticate once with this `X-Forwarded-For`, always as another client, since each has a budget too.
async fn fail(server: &TestServer, forwarded_for: &str) -> StatusCode {
    let client = ClientId::new(server.clock.now(), &Entropy::system()).unwrap();
    let wrong = Secrets { client_id: client.to_string(), client_secret: "wrong".to_owned() };
    let form = server.form("/token", &wrong, &[("grant_type", "client_credentials")]);
    Answer::of(form.header("x-forwarded-for", forwarded_for)).await.status
}

#[tokio::test]
async fn a_trusted_proxy_names_the_source_of_a_change() {
    let server = behind(&["127.0.0.0/8", "10.0.0.0/8"]).await;
    let admin = server.admin().await;
    assert_eq!(source_of_change(&admin, "198.51.100.7").await, "198.51.100.7");
    assert_eq!(source_of_change(&admin, "2001:db8::7").await, "2001:db8::7");
    assert_eq!(source_of_change(&admin, "203.0.113.1, 198.51.100.7, 10.1.2.3").await, "198.51.100.7");
    assert_eq!(source_of_change(&admin, "203.0.113.1, rubbish").await, "127.0.0.1");
}

#[tokio::test]
async fn nobody_else_does() {
    for proxies in [&[][..], &["10.0.0.0/8"]] {
        let server = behind(proxies).await;
        let admin = server.admin().await;
        assert_eq!(source_of_change(&admin, "198.51.100.7").await, "127.0.0.1");
    }
}

#[tokio::test]
async fn failures_are_charged_to_the_client_that_a_trusted_proxy_names() {
    let server = behind(&["127.0.0.0/8"]).await;
    for _ in 0..2 {
        assert_eq!(fail(&server, "198.51.100.7").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(fail(&server, "198.51.100.7").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(fail(&server, "198.51.100.8").await, StatusCode::UNAUTHORIZED, "another client has a budget of its own");
    let evasive = fail(&server, "203.0.113.1, 198.51.100.7").await;
    assert_eq!(evasive, StatusCode::TOO_MANY_REQUESTS, "what the client wrote itself does not count");
}

#[tokio::test]
async fn failures_are_charged_to_the_peer_whatever_it_claims() {
    let server = behind(&[]).await;
    for n in 0..2 {
        assert_eq!(fail(&server, &format!("198.51.100.{n}")).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(fail(&server, "198.51.100.9").await, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_cannot_open_the_metrics() {
    for (proxies, forwarded_for, status) in [
        (&[][..], None, StatusCode::OK),
        (&[], Some("198.51.100.7"), StatusCode::FORBIDDEN),
        (&["127.0.0.0/8"], Some("198.51.100.7"), StatusCode::FORBIDDEN),
        (&["127.0.0.0/8"], Some("127.0.0.1, 198.51.100.7"), StatusCode::FORBIDDEN),
    ] {
        let server = behind(proxies).await;
        let mut request = server.http.get(format!("{}/metrics", server.url()));
        if let Some(client) = forwarded_for {
            request = request.header("x-forwarded-for", client);
        }
        assert_eq!(Answer::of(request).await.status, status, "{proxies:?} {forwarded_for:?}");
    }
}

#[tokio::test]
async fn many_networks_that_try_one_client_are_slowed_as_one_and_its_key_still_works() {
    let server = behind(&["127.0.0.0/8"]).await;
    let key = server.admin().await.orders_key().await;
    let wrong = Secrets { client_secret: "wrong".to_owned(), ..key.clone() };
    let from = async |secrets: &Secrets, address: String| {
        let form = server.form("/token", secrets, &[("grant_type", "client_credentials")]);
        Answer::of(form.header("x-forwarded-for", address)).await.status
    };
    for n in 1..=2 {
        assert_eq!(from(&wrong, format!("198.51.100.{n}")).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(from(&wrong, "198.51.100.3".to_owned()).await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(from(&key, "198.51.100.3".to_owned()).await, StatusCode::OK);
}

#[tokio::test]
async fn a_fleet_with_an_ended_key_behind_one_address_hears_what_became_of_it() {
    let server = behind(&["127.0.0.0/8"]).await;
    let admin = server.admin().await;
    let key = admin.orders_key().await;
    admin.revoke(&key).await;
    for _ in 0..10 {
        let form = server.form("/token", &key, &[("grant_type", "client_credentials")]);
        let answer = Answer::of(form.header("x-forwarded-for", "198.51.100.7")).await;
        assert_eq!((answer.status, &answer.body["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
    }
}
