//! Token endpoint: RFC 6749 §3.2 and §4.4, RFC 8707, RFC 9068.

use std::time::Duration;

use keyward_guard::{Expect, KeySet, verify};
use keyward_model::token::AccessTokenClaims;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Secrets, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ORDERS: &str = "https://orders.example";

/// What a verifier that never calls home reads in a token.
async fn verified(server: &TestServer, token: &str, audience: &str) -> AccessTokenClaims {
    let jwks = server.http.get(format!("{}/jwks", server.url())).send().await.unwrap().json().await.unwrap();
    let expect = Expect::new(server.url(), audience);
    verify(token, &KeySet::from_jwks(&jwks), &expect, server.clock.now()).unwrap()
}

on_both_databases! {
    async fn a_key_gets_a_token_that_says_everything(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let answer = server.token_answer(&key, &[]).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.body["token_type"], "Bearer");
        assert_eq!(answer.body["expires_in"], 600);
        assert_eq!(answer.body["scope"], "Worker");

        let token = answer.body["access_token"].as_str().unwrap();
        let claims = verified(&server, token, ORDERS).await;
        let claims = serde_json::to_value(&claims).unwrap();
        let me = admin.get("/api/v1/users/me").await.ok();
        assert_eq!(claims["iss"], server.url());
        assert_eq!(claims["aud"], ORDERS);
        assert_eq!(claims["client_id"], key.client_id);
        assert_eq!(claims["sub"], me["id"]);
        assert_eq!(claims["act"], json!({ "sub": key.client_id }));
        assert_eq!(claims["scope"], "Worker");
        assert_eq!(claims["res"], json!(["plant/7"]));
        assert_eq!(claims["cred"], key.credential());
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
        assert!(claims["jti"].as_str().unwrap().starts_with("tok_"));
        assert_eq!(claims["status"]["status_list"]["uri"], format!("{}/status-lists/1", server.url()));
        assert!(claims["status"]["status_list"]["idx"].as_i64().unwrap() > 0);
    }

    async fn every_token_has_an_id_of_its_own(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let (one, two) = (server.token(&key, &[]).await, server.token(&key, &[]).await);
        assert_ne!(verified(&server, &one, ORDERS).await.jti, verified(&server, &two, ORDERS).await.jti);
    }

    async fn a_client_may_be_its_own_subject(server: TestServer) {
        let admin = server.admin().await;
        let api = admin.new_api(ORDERS, &["Worker"]).await;
        let client = admin.new_client(json!({ "scope": "Worker", "subject": "client", "apis": [api] })).await;
        let key = admin.issue(&client, &json!({})).await;
        let claims = verified(&server, &server.token(&key, &[]).await, ORDERS).await;
        assert_eq!(claims.sub.to_string(), key.client_id);
        assert_eq!(claims.act, None);
    }

    async fn a_public_client_names_itself_and_gets_no_token_of_its_own(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let tv = admin.new_client(json!({ "name": "tv", "kind": "public" })).await;
        let ask = async |form: &[(&str, &str)]| {
            let form = [&[("grant_type", "client_credentials")], form].concat();
            Answer::of(server.http.post(format!("{}/token", server.url())).form(&form)).await
        };
        assert_eq!(ask(&[("client_id", &tv)]).await.error(), (400, "unauthorized_client"));
        assert_eq!(ask(&[("client_id", &tv), ("client_secret", "")]).await.error(), (400, "unauthorized_client"));
        let empty = server.http.post(format!("{}/token", server.url())).basic_auth(&tv, Some(""));
        let empty = Answer::of(empty.form(&[("grant_type", "client_credentials")])).await;
        assert_eq!(empty.error(), (400, "unauthorized_client"), "RFC 6749 \u{a7}2.3.1: an empty secret may be left out");

        // Whoever has secrets and sends none learns as little as whoever does not exist.
        let unknown = ask(&[("client_id", "client_00000000000000000000000000")]).await;
        assert_eq!(unknown.error(), (401, "invalid_client"));
        assert_eq!(ask(&[("client_id", &key.client_id)]).await.body, unknown.body);
        assert_eq!(ask(&[("client_id", "no identifier")]).await.body, unknown.body);

        admin.act(&format!("/api/v1/clients/{tv}/disable")).await.ok();
        assert_eq!(ask(&[("client_id", &tv)]).await.error(), (401, "invalid_client"));
    }

    async fn a_request_narrows_what_it_gets(server: TestServer) {
        let admin = server.admin().await;
        let api = admin.new_api(ORDERS, &["Admin", "Supervisor", "Worker"]).await;
        let members = json!({ "scope": "Admin", "res": ["plant/7", "plant/8"], "apis": [api] });
        let key = admin.issue(&admin.new_client(members).await, &json!({})).await;

        let all = verified(&server, &server.token(&key, &[]).await, ORDERS).await;
        assert_eq!(all.scope.to_string(), "Admin Supervisor Worker");
        let token = server.token(&key, &[("scope", "Supervisor"), ("res", "plant/7/line/3")]).await;
        let narrowed = verified(&server, &token, ORDERS).await;
        assert_eq!(narrowed.scope.to_string(), "Supervisor Worker");
        assert_eq!(narrowed.res.to_text(), "plant/7/line/3");
    }

    async fn asking_for_more_than_may_be_granted_is_invalid_scope(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        for further in [("scope", "Supervisor"), ("scope", "Stranger"), ("res", "plant/8"), ("res", "*"), ("res", "a//b")] {
            let answer = server.token_answer(&key, &[further]).await;
            assert_eq!(answer.error(), (400, "invalid_scope"), "{further:?} {}", answer.body);
        }
    }

    async fn words_of_openid_connect_are_ignored_beside_a_scope_and_refused_alone(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let answer = server.token_answer(&key, &[("scope", "openid offline_access Worker")]).await.ok();
        assert_eq!(answer["scope"], "Worker");
        for refused in ["openid", "openid profile", "openid Supervisor"] {
            assert_eq!(server.token_answer(&key, &[("scope", refused)]).await.error(), (400, "invalid_scope"), "{refused}");
        }
    }

    async fn a_credential_may_be_narrower_than_its_client_and_never_wider(server: TestServer) {
        let admin = server.admin().await;
        let api = admin.new_api(ORDERS, &["Admin", "Supervisor", "Worker"]).await;
        let client = admin.new_client(json!({ "scope": "Supervisor", "res": ["plant/7"], "apis": [api] })).await;
        let narrow = admin.issue(&client, &json!({ "scope": "Worker", "res": ["plant/7/line/3"] })).await;
        let claims = verified(&server, &server.token(&narrow, &[]).await, ORDERS).await;
        assert_eq!((claims.scope.to_string(), claims.res.to_text()), ("Worker".into(), "plant/7/line/3".into()));

        let path = format!("/api/v1/clients/{client}/credentials");
        for wider in [json!({ "scope": "Admin" }), json!({ "res": ["plant"] })] {
            assert_eq!(admin.post(&path, &wider).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{wider}");
        }
    }

    async fn lowering_or_disabling_the_owner_counts_at_the_next_request(server: TestServer) {
        let admin = server.admin().await;
        let api = admin.new_api(ORDERS, &["Admin", "Supervisor", "Worker"]).await;
        let owner = json!({ "name": "olga", "scope": "Supervisor", "res": ["plant"] });
        let owner = admin.post("/api/v1/users", &owner).await.created();
        let path = format!("/api/v1/users/{}", owner["id"].as_str().unwrap());
        let client = json!({ "owner": owner["id"], "scope": "Admin", "res": ["plant/7"], "apis": [api] });
        let key = admin.issue(&admin.new_client(client).await, &json!({})).await;
        let token = server.token(&key, &[]).await;
        let claims = verified(&server, &token, ORDERS).await;
        assert_eq!(claims.scope.to_string(), "Supervisor Worker", "never more than the owner holds");

        admin.patch(&path, &json!({ "scope": "Worker" })).await.ok();
        assert_eq!(server.token_answer(&key, &[("scope", "Supervisor")]).await.error(), (400, "invalid_scope"));
        let lowered = verified(&server, &server.token(&key, &[]).await, ORDERS).await;
        assert_eq!(lowered.scope.to_string(), "Worker");
        assert_eq!(server.introspect(&key, &token).await["active"], false, "the token says more than may be granted now");

        admin.act(&format!("{path}/disable")).await.ok();
        let answer = server.token_answer(&key, &[]).await;
        assert_eq!(answer.error(), (401, "invalid_client"));
        assert!(answer.body["error_description"].as_str().unwrap().contains("owner"), "{}", answer.body);

        admin.act(&format!("{path}/enable")).await.ok();
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::OK);
    }

    async fn a_revoked_key_is_refused_at_once_and_its_tokens_are_inactive(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let second = admin.issue(&key.client_id, &json!({})).await;
        let token = server.token(&key, &[]).await;
        assert_eq!(server.introspect(&second, &token).await["active"], true);
        admin.revoke(&key).await;
        assert_eq!(server.token_answer(&key, &[]).await.error(), (401, "invalid_client"));
        assert_eq!(server.introspect(&second, &token).await, json!({ "active": false }));
        assert_eq!(server.token_answer(&second, &[]).await.status, StatusCode::OK, "the other key of the client still works");
    }

    async fn a_key_ends_when_its_time_has_come(server: TestServer) {
        let admin = server.admin().await;
        let client = admin.orders_key().await.client_id;
        let key = admin.issue(&client, &json!({ "expires_at": "2026-11-23T12:05:00Z" })).await;
        let token = server.token(&key, &[]).await;
        let claims = verified(&server, &token, ORDERS).await;
        assert_eq!(claims.exp.as_seconds() - claims.iat.as_seconds(), 300, "no token outlives its credential");
        server.clock.advance(Duration::from_secs(301));
        let answer = server.token_answer(&key, &[]).await;
        assert_eq!(answer.error(), (401, "invalid_client"));
        assert!(answer.body["error_description"].as_str().unwrap().contains("expired"));
    }

    async fn a_disabled_client_is_refused_until_it_is_enabled(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let token = server.token(&key, &[]).await;
        let path = format!("/api/v1/clients/{}", key.client_id);
        admin.act(&format!("{path}/disable")).await.ok();
        assert_eq!(server.token_answer(&key, &[]).await.error(), (401, "invalid_client"));
        admin.act(&format!("{path}/enable")).await.ok();
        assert_eq!(server.introspect(&key, &token).await["active"], true);
        admin.delete(&path).await;
        assert_eq!(server.token_answer(&key, &[]).await.error(), (401, "invalid_client"));
    }

    async fn resources_choose_the_audience(server: TestServer) {
        let admin = server.admin().await;
        let orders = admin.new_api(ORDERS, &["Worker"]).await;
        let stock = admin.new_api("https://stock.example", &["Worker", "Supervisor"]).await;
        admin.new_api("https://other.example", &["Worker"]).await;
        let client = admin.new_client(json!({ "scope": "Supervisor", "apis": [orders, stock] })).await;
        let key = admin.issue(&client, &json!({})).await;

        assert_eq!(server.token_answer(&key, &[]).await.error(), (400, "invalid_target"), "several, none named");
        for stranger in ["https://other.example", "https://nowhere.example"] {
            assert_eq!(server.token_answer(&key, &[("resource", stranger)]).await.error(), (400, "invalid_target"));
        }
        let one = verified(&server, &server.token(&key, &[("resource", ORDERS)]).await, ORDERS).await;
        assert_eq!(one.scope.to_string(), "Worker", "only what the API knows");
        let both = [("resource", ORDERS), ("resource", "https://stock.example")];
        let both = verified(&server, &server.token(&key, &both).await, "https://stock.example").await;
        assert_eq!(both.aud.iter().count(), 2);
        assert_eq!(both.scope.to_string(), "Supervisor Worker");
    }

    async fn unknown_clients_and_wrong_secrets_get_the_same_answer(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let other = keyward_model::key::Key::generate(
            keyward_model::id::CredentialId::new(server.clock.now(), &server.app.entropy).unwrap(), &server.app.entropy).unwrap();
        let stranger = "client_01h455vb4pex5vsknk084sn02q".to_owned();
        let mut answers = Vec::new();
        for (client_id, client_secret) in [
            (key.client_id.clone(), "guess".to_owned()),
            (key.client_id.clone(), other.reveal().to_string()),
            (stranger.clone(), key.client_secret.clone()),
            (stranger, other.reveal().to_string()),
            ("not an id".to_owned(), key.client_secret.clone()),
        ] {
            let answer = server.token_answer(&Secrets { client_id, client_secret }, &[]).await;
            assert!(answer.header("www-authenticate").starts_with("Basic "));
            answers.push((answer.status, answer.body));
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
        assert_eq!(answers[0].0, StatusCode::UNAUTHORIZED);
        assert_eq!(answers[0].1["error"], "invalid_client");
    }

    async fn a_failure_budget_stops_guessing_and_locks_nobody_out(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let wrong = Secrets { client_secret: "guess".into(), ..key.clone() };
        let mut refused = None;
        for _ in 0..60 {
            let answer = server.token_answer(&wrong, &[]).await;
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                refused = Some(answer);
                break;
            }
        }
        let refused = refused.expect("a budget that is never used up");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::OK, "the right secret is let in all the same");
        server.clock.advance(Duration::from_secs(wait));
        assert_eq!(server.token_answer(&wrong, &[]).await.status, StatusCode::UNAUTHORIZED, "after the wait");
    }
}

/// What is sent (authorization, content type, body) under a name, and what comes back (status, error code).
type Case = (&'static str, Option<String>, &'static str, Vec<u8>, u16, &'static str);

#[tokio::test]
async fn malformed_requests_get_a_precise_error_each() {
    let server = TestServer::start(keyward_tests::server::Db::Sqlite).await;
    let key = server.admin().await.orders_key().await;
    let form = "application/x-www-form-urlencoded";
    let basic =
        |text: &str| format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text));
    let right = basic(&format!("{}:{}", key.client_id, key.client_secret));
    let post_auth = format!("client_id={}&client_secret={}", key.client_id, key.client_secret);
    let grant = "grant_type=client_credentials";
    let cases: Vec<Case> = vec![
        ("post", None, form, format!("{grant}&{post_auth}").into(), 200, ""),
        (
            "form-decoding of both halves",
            Some(basic(&format!("{}:{}", key.client_id.replace('_', "%5F"), key.client_secret.replace('_', "%5f")))),
            form,
            grant.into(),
            200,
            "",
        ),
        (
            "the same client_id twice is no second method",
            Some(right.clone()),
            form,
            format!("{grant}&client_id={}", key.client_id).into(),
            200,
            "",
        ),
        (
            "a content type with a parameter",
            Some(right.clone()),
            "application/x-www-form-urlencoded; charset=UTF-8",
            grant.into(),
            200,
            "",
        ),
        (
            "empty parameters count as absent",
            Some(right.clone()),
            form,
            format!("{grant}&scope=&resource=").into(),
            200,
            "",
        ),
        ("no grant type", Some(right.clone()), form, "scope=Worker".into(), 400, "invalid_request"),
        ("unknown grant", Some(right.clone()), form, "grant_type=password".into(), 400, "unsupported_grant_type"),
        ("duplicate parameter", Some(right.clone()), form, format!("{grant}&{grant}").into(), 400, "invalid_request"),
        (
            "duplicate scope",
            Some(right.clone()),
            form,
            format!("{grant}&scope=Worker&scope=Worker").into(),
            400,
            "invalid_request",
        ),
        ("two methods", Some(right.clone()), form, format!("{grant}&{post_auth}").into(), 400, "invalid_request"),
        (
            "another client_id in the body",
            Some(right.clone()),
            form,
            format!("{grant}&client_id=x").into(),
            400,
            "invalid_request",
        ),
        ("no authentication", None, form, grant.into(), 401, "invalid_client"),
        ("no secret", None, form, format!("{grant}&client_id={}", key.client_id).into(), 401, "invalid_client"),
        ("no id", None, form, format!("{grant}&client_secret={}", key.client_secret).into(), 400, "invalid_request"),
        ("another scheme", Some("Bearer x".into()), form, grant.into(), 401, "invalid_client"),
        ("a scheme alone", Some("Basic".into()), form, grant.into(), 401, "invalid_client"),
        ("not base64", Some("Basic ???".into()), form, grant.into(), 400, "invalid_request"),
        ("no colon", Some(basic("client")), form, grant.into(), 400, "invalid_request"),
        ("broken percent-encoding in Basic", Some(basic("%zz:x")), form, grant.into(), 400, "invalid_request"),
        ("wrong content type", Some(right.clone()), "application/json", b"{}".to_vec(), 400, "invalid_request"),
        ("no content type", Some(right.clone()), "", grant.into(), 400, "invalid_request"),
        (
            "invalid UTF-8",
            Some(right.clone()),
            form,
            [grant.as_bytes(), b"&scope=\xff"].concat(),
            400,
            "invalid_request",
        ),
        (
            "encoded invalid UTF-8",
            Some(right.clone()),
            form,
            format!("{grant}&scope=%ff").into(),
            400,
            "invalid_request",
        ),
        ("NUL", Some(right.clone()), form, format!("{grant}&scope=%00").into(), 400, "invalid_request"),
        (
            "broken percent-encoding",
            Some(right.clone()),
            form,
            format!("{grant}&scope=%f").into(),
            400,
            "invalid_request",
        ),
        (
            "over 16 KiB",
            Some(right.clone()),
            form,
            format!("{grant}&x={}", "x".repeat(17_000)).into(),
            400,
            "invalid_request",
        ),
        (
            "too many parameters",
            Some(right.clone()),
            form,
            format!("{grant}{}", "&x=1".repeat(70)).into(),
            400,
            "invalid_request",
        ),
        (
            "too many resources",
            Some(right.clone()),
            form,
            format!("{grant}{}", "&resource=x".repeat(9)).into(),
            400,
            "invalid_target",
        ),
    ];
    for (case, authorization, content_type, body, status, code) in cases {
        let mut request = server.http.post(format!("{}/token", server.url())).body(body);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let answer = Answer::of(request).await;
        assert_eq!(answer.error(), (status, code), "{case}: {}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store", "{case}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = Answer::of(server.http.request(method, format!("{}/token", server.url()))).await;
        assert_eq!(answer.error(), (400, "invalid_request"));
    }
    let in_url = server
        .http
        .post(format!("{}/token?{grant}&{post_auth}", server.url()))
        .form(&[("grant_type", "client_credentials")]);
    let answer = Answer::of(in_url).await;
    assert_eq!(answer.error(), (400, "invalid_request"), "secrets in the URL");
    assert!(!answer.body.to_string().contains(&key.client_secret));
}

#[tokio::test]
async fn endpoints_for_clients_take_post_only_and_say_so() {
    let server = TestServer::start(keyward_tests::server::Db::Sqlite).await;
    for path in ["/token", "/introspect", "/revoke", "/auth/device"] {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
            let answer = Answer::of(server.http.request(method.clone(), format!("{}{path}", server.url()))).await;
            assert_eq!((answer.status, answer.header("allow")), (StatusCode::BAD_REQUEST, "POST"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn error_descriptions_hold_only_what_rfc_6749_allows() {
    let server = TestServer::start(keyward_tests::server::Db::Sqlite).await;
    let key = server.admin().await.orders_key().await;
    let answer = server.token_answer(&key, &[("x\"\\\u{e4}\n", "1"), ("x\"\\\u{e4}\n", "1"), ("scope", "a\"b")]).await;
    let description = answer.body["error_description"].as_str().unwrap();
    assert!(description.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{description}");
    let _: Value = answer.body.clone();
}
