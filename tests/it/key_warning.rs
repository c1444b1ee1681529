//! What a client is told of its key's end, where it looks anyway: at the token endpoint.

use std::time::Duration;

use keyward_tests::devices::{DEVICE_CODE, Device};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Db, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::authorization::{CALLBACK, Shop, VERIFIER};
use crate::callers::{callers, counts};
use crate::login::user_id;
use crate::rotation::{path, rotate};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MEMBERS: [&str; 4] = ["key_state", "key_expires_at", "key_ended_at", "key_notice"];

fn is_silent(answer: &Answer) -> bool {
    MEMBERS.iter().all(|member| answer.body.get(member).is_none()) && answer.header("keyward-key-expires").is_empty()
}

async fn issue_until(server: &TestServer, after: Duration) -> Secrets {
    let admin = server.admin().await;
    let client = admin.orders_key().await.client_id;
    let expires_at = keyward_server::api::instant::Instant(server.clock.now().plus(after));
    admin.issue(&client, &json!({ "expires_at": expires_at })).await
}

on_both_databases! {
    async fn a_healthy_key_is_told_nothing(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        assert!(is_silent(&server.token_answer(&key, &[]).await));
    }

    async fn a_retiring_key_is_told_its_end_in_every_token_response(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        let new = rotate(&admin, &old, json!({})).await;
        let warned = server.token_answer(&old, &[]).await;
        assert_eq!(warned.status, StatusCode::OK);
        // The clock began at 2026-11-23 12:00 UTC.
        assert_eq!(warned.body["key_state"], "retiring");
        assert_eq!(warned.body["key_expires_at"], server.clock.now().plus(7 * DAY).as_seconds());
        assert_eq!(
            warned.body["key_notice"],
            "this key was replaced and ends on 2026-11-30 12:00 UTC: change to its successor before then; ask admin"
        );
        assert_eq!(warned.header("keyward-key-expires"), "Mon, 30 Nov 2026 12:00:00 GMT");
        assert_eq!(warned.header("cache-control"), "no-store");
        assert!(warned.body["access_token"].is_string() && warned.body["expires_in"] == 600);
        assert!(is_silent(&server.token_answer(&new, &[]).await), "its successor is healthy");
        admin.post(&path(&old, "cancel"), &json!({ "force": true })).await.ok();
        assert!(is_silent(&server.token_answer(&old, &[]).await), "and so is it after the rotation was cancelled");
    }

    async fn whichever_way_a_client_gets_tokens_a_retiring_key_is_told_its_end(server: TestServer) {
        let admin = server.admin().await;
        let (shop, key) = Shop::with_key(&server, &admin).await;
        rotate(&admin, &key, json!({})).await;
        let ask = async |form: &[(&str, &str)]| Answer::of(server.form("/token", &key, form)).await;
        let code = shop.code(&[]).await;
        let redeemed = ask(&[
            ("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER),
        ]).await;
        let refresh = [("grant_type", "refresh_token"), ("refresh_token", redeemed.body["refresh_token"].as_str().unwrap())];
        let (refreshed, again) = (ask(&refresh).await, ask(&refresh).await);
        let device = Device { client: key.client_id.clone(), answer: Answer::of(server.form("/auth/device", &key, &[])).await.ok() };
        server.let_in(&server.browser_of(&user_id(&admin, "olga").await), &device).await;
        let let_in = ask(&[("grant_type", DEVICE_CODE), ("device_code", device.device_code())]).await;
        let ends_at = server.clock.now().plus(7 * DAY).as_seconds();
        for warned in [redeemed, refreshed, again, let_in] {
            assert!(warned.status == StatusCode::OK && warned.body["refresh_token"].is_string(), "{}", warned.body);
            assert_eq!((&warned.body["key_state"], &warned.body["key_expires_at"]), (&json!("retiring"), &json!(ends_at)));
            assert!(warned.body["key_notice"].as_str().unwrap().starts_with("this key was replaced and ends on 2026-11-30"));
            assert_eq!(warned.header("keyward-key-expires"), "Mon, 30 Nov 2026 12:00:00 GMT");
        }
    }

    async fn a_key_whose_expiry_is_near_is_told_so(server: TestServer) {
        let key = issue_until(&server, 31 * DAY).await;
        assert!(is_silent(&server.token_answer(&key, &[]).await));
        server.clock.advance(DAY);
        let warned = server.token_answer(&key, &[]).await;
        assert_eq!(warned.body["key_state"], "expiring");
        assert_eq!(
            warned.body["key_notice"],
            "this key ends on 2026-12-24 12:00 UTC: have it rotated before then; ask admin"
        );
        assert_eq!(warned.header("keyward-key-expires"), "Thu, 24 Dec 2026 12:00:00 GMT");
    }

    async fn no_key_gets_a_token_that_is_over_when_it_arrives(server: TestServer) {
        let admin = server.admin().await;
        let client = admin.orders_key().await.client_id;
        let key = admin.issue(&client, &json!({ "expires_at": "2026-11-23T12:00:10.5Z" })).await;
        let whole = admin.issue(&client, &json!({ "expires_at": "2026-11-23T12:00:10Z" })).await;
        server.clock.advance(Duration::from_millis(9_999));
        for last in [&key, &whole] {
            let answer = server.token_answer(last, &[]).await;
            assert_eq!((answer.status, &answer.body["expires_in"]), (StatusCode::OK, &json!(1)), "{}", answer.body);
        }
        server.clock.advance(Duration::from_millis(1));
        let refused = server.token_answer(&key, &[]).await;
        assert_eq!((refused.status, &refused.body["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_client")));
        assert_eq!((&refused.body["key_state"], &refused.body["key_ended_at"]), (&json!("expired"), &json!(1_795_435_210)));
    }

    async fn thirty_days_after_its_end_a_key_is_told_nothing_more_and_its_callers_are_no_longer_counted(server: TestServer) {
        let admin = server.admin().await;
        let revoked = admin.orders_key().await;
        let expired = admin.issue(&revoked.client_id, &json!({ "expires_at": "2026-11-24T12:00:00Z" })).await;
        server.clock.advance(DAY);
        let admin = server.api(&admin.secrets).await;
        admin.revoke(&revoked).await;
        server.clock.advance(30 * DAY - Duration::from_millis(1));
        server.app.run_schedule().await.unwrap();
        for (key, state) in [(&revoked, "revoked"), (&expired, "expired")] {
            let told = server.token_answer(key, &[]).await;
            assert_eq!((told.status, &told.body["key_state"]), (StatusCode::UNAUTHORIZED, &json!(state)));
            assert_eq!(told.body["key_ended_at"], 1_795_521_600);
        }
        server.clock.advance(Duration::from_millis(2));
        server.app.run_schedule().await.unwrap();
        let purged = server.app.store.last_event().await.unwrap();
        server.app.wait_until_applied(purged).await.unwrap();
        let admin = server.api(&admin.secrets).await;
        for key in [&revoked, &expired] {
            let silent = server.token_answer(key, &[]).await;
            assert_eq!(silent.status, StatusCode::UNAUTHORIZED);
            assert_eq!(silent.body, json!({
                "error": "invalid_client", "error_description": "client_id or client_secret is wrong",
            }));
            assert_eq!(silent.header("keyward-key-expires"), "");
            assert_eq!(counts(&callers(&admin, key).await), [("", 0, 1)], "only whom it was told is counted");
        }
    }

    async fn an_ended_key_is_told_why_when_and_whom_to_ask(server: TestServer) {
        let admin = server.admin().await;
        let (by_time, now) = (admin.orders_key().await, server.clock.now());
        let issue = async || admin.issue(&by_time.client_id, &json!({})).await;
        let (finished, revoked, expired) = (issue().await, issue().await, issue().await);
        rotate(&admin, &by_time, json!({ "overlap_seconds": 86_400 })).await;
        rotate(&admin, &finished, json!({})).await;
        admin.post(&path(&finished, "finish"), &json!({})).await.ok();
        admin.revoke(&revoked).await;
        let expiry = json!({ "expires_at": keyward_server::api::instant::Instant(now.plus(DAY)) });
        admin.patch(&format!("/api/v1/credentials/{}", expired.credential()), &expiry).await.ok();
        server.clock.advance(2 * DAY);
        for (key, state, at, notice) in [
            (by_time, "expired", now.plus(DAY), "this key was replaced and expired on 2026-11-24 12:00 UTC: change to its successor; ask admin"),
            (finished, "expired", now, "this key was replaced and expired on 2026-11-23 12:00 UTC: change to its successor; ask admin"),
            (revoked, "revoked", now, "this key was revoked on 2026-11-23 12:00 UTC; ask admin for a new one"),
            (expired, "expired", now.plus(DAY), "this key expired on 2026-11-24 12:00 UTC; ask admin for a new one"),
        ] {
            let refused = server.token_answer(&key, &[]).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
            assert_eq!(refused.body, json!({
                "error": "invalid_client", "error_description": notice,
                "key_state": state, "key_ended_at": at.as_seconds(), "key_notice": notice,
            }));
            let mut wrong = key.clone();
            let last = wrong.client_secret.pop().unwrap();
            wrong.client_secret.push(if last == 'A' { 'B' } else { 'A' });
            let of_another = Secrets { client_id: "client_01h455vb4pex5vsknk084sn02q".to_owned(), ..key };
            for stranger in [wrong, of_another] {
                let told = server.token_answer(&stranger, &[]).await;
                assert!(is_silent(&told), "without the right secret nobody learns anything: {}", told.body);
                assert_eq!(told.body["error_description"], "client_id or client_secret is wrong");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_notice_says_where_help_is_and_names_nobody_who_is_gone() {
    let contact = |config: &mut keyward_server::config::Config| {
        config.rotation.contact_url = "https://wiki.example/keys".to_owned();
        config.rotation.warn_days = 0;
    };
    let server = TestServer::start_with(Db::Sqlite, contact).await;
    let admin = server.admin().await;
    let owner = json!({ "name": "J\u{fc}rgen", "scope": "Worker", "res": ["*"] });
    let owner = admin.post("/api/v1/users", &owner).await.created()["id"].as_str().unwrap().to_owned();
    let api = admin.new_api("https://stock.example", &["Worker"]).await;
    let client = admin.new_client(json!({ "owner": owner, "scope": "Worker", "apis": [api] })).await;
    let expires_at = keyward_server::api::instant::Instant(server.clock.now().plus(DAY));
    let key = admin.issue(&client, &json!({ "expires_at": expires_at })).await;
    assert!(is_silent(&server.token_answer(&key, &[]).await), "this server warns of no expiry");
    rotate(&admin, &key, json!({})).await;
    let warned = server.token_answer(&key, &[]).await;
    let notice = |answer: &Answer| answer.body["key_notice"].as_str().unwrap().to_owned();
    assert!(notice(&warned).ends_with("ask J\u{fc}rgen (https://wiki.example/keys)"), "{}", warned.body);
    admin.revoke(&key).await;
    let refused = server.token_answer(&key, &[]).await;
    let described = refused.body["error_description"].as_str().unwrap();
    assert!(described.contains("ask J?rgen (https://wiki.example/keys)"), "RFC 6749 allows ASCII only: {described}");
    admin.act(&format!("/api/v1/users/{owner}/disable")).await.ok();
    let refused = server.token_answer(&key, &[]).await;
    assert!(notice(&refused).contains("ask an administrator (https"), "{}", refused.body);
    assert_eq!(refused.body.get("key_expires_at"), None::<&Value>);
}
