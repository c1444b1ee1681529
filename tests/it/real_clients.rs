//! Clients and libraries that other people wrote, unmodified: discovery, a token
//! by client credentials (RFC 6749 §4.4), its offline verification (RFC 9068 §4),
//! introspection (RFC 7662) and revocation (RFC 7009); and programs that people
//! sign in to (RFC 6749 §4.1, RFC 7636).

use std::process::Command;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use keyward_tests::clients::{self, Key, Seen, SignsIn};
use keyward_tests::keyward::Process;
use keyward_tests::person::{Person, text};
use keyward_tests::server::{Db, TestServer};
use oauth2::basic::{BasicClient, BasicErrorResponseType};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse,
    PkceCodeChallenge, RedirectUrl, RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use serde_json::{Value, json};

use crate::authorization::{CALLBACK, Shop, answer};

const PLANT: &str = "https://plant.example/api";

#[tokio::test]
async fn openid_client_gets_tokens_that_jose_verifies() {
    let (_server, key) = issue("ES256").await;
    check_road(&clients::node(&key).await, &key, "ES256");
}

#[tokio::test]
async fn authlib_gets_tokens_that_pyjwt_verifies() {
    let (_server, key) = issue("ES256").await;
    check_road(&clients::python(&key).await, &key, "ES256");
}

#[tokio::test]
async fn stock_libraries_verify_eddsa_tokens() {
    let (_server, key) = issue("EdDSA").await;
    check_road(&clients::node(&key).await, &key, "EdDSA");
    check_road(&clients::python(&key).await, &key, "EdDSA");
}

#[tokio::test]
async fn stock_libraries_verify_rs256_tokens() {
    let (_server, key) = issue("RS256").await;
    check_road(&clients::node(&key).await, &key, "RS256");
    check_road(&clients::python(&key).await, &key, "RS256");
}

#[tokio::test]
async fn stock_libraries_report_a_wrong_secret_as_invalid_client() {
    let (_server, key) = issue("ES256").await;
    let wrong = with_wrong_secret(key);
    for seen in [clients::node(&wrong).await, clients::python(&wrong).await] {
        assert!(!seen.success);
        assert_eq!(seen.json["error"], "invalid_client", "{seen:?}");
    }
}

#[tokio::test]
async fn stock_clients_take_the_warning_of_a_key_that_ends_and_the_refusal_of_an_ended_one() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("robot");
    let issue = |further: &[&str]| {
        let issued = person.json(&[&["credential", "issue", "robot"], further].concat());
        let key = Key {
            issuer: server.url(),
            client_id: text(&issued["client_id"]),
            client_secret: text(&issued["client_secret"]),
            resource: PLANT.to_owned(),
            scope: "Supervisor".to_owned(),
        };
        (text(&issued["id"]), key)
    };
    let (_, near) = issue(&["--expires", "20d"]);
    check_warned(&near, "expiring").await;
    let (old, key) = issue(&[]);
    person.does(&["credential", "rotate", &old]);
    check_warned(&key, "retiring").await;

    person.does(&["credential", "finish", &old, "--force"]);
    for seen in [clients::node(&key).await, clients::python(&key).await] {
        assert_eq!((seen.success, &seen.json["error"]), (false, &json!("invalid_client")), "{seen:?}");
    }
    let told = "this key was replaced and expired on ";
    match oauth2_token(&key, AuthType::BasicAuth).await.unwrap_err() {
        RequestTokenError::ServerResponse(response) => {
            assert_eq!(*response.error(), BasicErrorResponseType::InvalidClient);
            assert!(response.error_description().unwrap().starts_with(told));
        }
        other => panic!("{other:?}"),
    }
    let refused = curl_token(&key, &curl_metadata(&key).await, &[]).await;
    assert_eq!((&refused["error"], &refused["key_state"]), (&json!("invalid_client"), &json!("expired")));
    assert!(text(&refused["key_notice"]).starts_with(told), "{refused}");
}

/// Every client gets its tokens with a key that ends soon, and whoever looks beside them finds the warning.
async fn check_warned(key: &Key, state: &str) {
    for seen in [clients::node(key).await, clients::python(key).await] {
        check_road(&seen, key, "ES256");
        for way in ["client_secret_basic", "client_secret_post"] {
            assert_eq!(seen.json[way]["key_state"], state, "{seen:?}");
        }
    }
    for authentication in [AuthType::BasicAuth, AuthType::RequestBody] {
        assert_eq!(oauth2_token(key, authentication).await.unwrap().expires_in().unwrap().as_secs(), 600);
    }
    let token = curl_token(key, &curl_metadata(key).await, &["--fail-with-body"]).await;
    assert!(token["access_token"].is_string() && token["key_expires_at"].is_i64(), "{token}");
    assert_eq!(token["key_state"], state);
}

#[tokio::test]
async fn curl_gets_a_token_with_what_discovery_says() {
    let (_server, key) = issue("ES256").await;
    let metadata = curl_metadata(&key).await;
    let token = curl_token(&key, &metadata, &["--fail-with-body"]).await;
    let token = token["access_token"].as_str().unwrap();

    let keys = curl(&[metadata["jwks_uri"].as_str().unwrap()]).await;
    let keys: JwkSet = serde_json::from_value(keys).unwrap();
    let header = decode_header(token).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[&key.issuer]);
    validation.set_audience(&[&key.resource]);
    let verifying = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let verified = decode::<Value>(token, &verifying, &validation).unwrap();
    check_claims(&verified.claims, &key);
}

#[tokio::test]
async fn curl_with_a_wrong_secret_is_told_invalid_client() {
    let (_server, key) = issue("ES256").await;
    let metadata = curl(&[&format!("{}/.well-known/openid-configuration", key.issuer)]).await;
    let answer = curl_token(&with_wrong_secret(key), &metadata, &[]).await;
    assert_eq!(answer["error"], "invalid_client", "{answer}");
}

#[tokio::test]
async fn the_oauth2_crate_gets_a_token_either_way_a_client_may_show_its_secret() {
    let (_server, key) = issue("ES256").await;
    for authentication in [AuthType::BasicAuth, AuthType::RequestBody] {
        let response = oauth2_token(&key, authentication).await.unwrap();
        assert_eq!(response.expires_in().unwrap().as_secs(), 600);
        let scopes: Vec<&str> = response.scopes().unwrap().iter().map(|scope| scope.as_str()).collect();
        assert_eq!(scopes, ["Supervisor", "Worker"]);
    }
}

#[tokio::test]
async fn the_oauth2_crate_reports_a_wrong_secret_as_invalid_client() {
    let (_server, key) = issue("ES256").await;
    let key = with_wrong_secret(key);
    for authentication in [AuthType::BasicAuth, AuthType::RequestBody] {
        match oauth2_token(&key, authentication).await.unwrap_err() {
            RequestTokenError::ServerResponse(response) => {
                assert_eq!(*response.error(), BasicErrorResponseType::InvalidClient);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What `tests/clients` print at the end of the whole road.
fn check_road(seen: &Seen, key: &Key, algorithm: &str) {
    assert!(seen.success, "{seen:?}");
    for way in ["client_secret_basic", "client_secret_post"] {
        let got = &seen.json[way];
        assert_eq!(got["token_type"].as_str().map(str::to_lowercase).as_deref(), Some("bearer"), "{seen:?}");
        assert_eq!(got["expires_in"], 600);
        assert_eq!(got["scope"], "Supervisor Worker");
        assert_eq!(got["header"]["alg"], algorithm);
        assert_eq!(got["header"]["typ"], "at+jwt");
        check_claims(&got["claims"], key);
    }
    let introspection = &seen.json["introspection"];
    assert_eq!(introspection["before"]["active"], true, "{seen:?}");
    assert_eq!(introspection["before"]["client_id"], key.client_id.as_str());
    assert_eq!(introspection["after"], json!({ "active": false }));
}

fn check_claims(claims: &Value, key: &Key) {
    assert_eq!(claims["iss"], key.issuer.as_str(), "{claims}");
    assert_eq!(claims["aud"], PLANT);
    assert_eq!(claims["client_id"], key.client_id.as_str());
    assert_eq!(claims["act"], json!({ "sub": key.client_id }));
    assert_eq!(claims["scope"], "Supervisor Worker");
    assert_eq!(claims["res"], json!(["plant/7"]));
    for (claim, prefix) in [("sub", "user_"), ("cred", "cred_"), ("jti", "tok_")] {
        assert!(claims[claim].as_str().is_some_and(|id| id.starts_with(prefix)), "{claim}: {claims}");
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
}

/// A server in which an administrator has registered the plant's API and issued a
/// key for it.
async fn issue(algorithm: &str) -> (Process, Key) {
    let server = Process::serve(&[]).await;
    let first = server.bootstrap();
    let form = [("grant_type", "client_credentials"), ("resource", "urn:keyward:api")];
    let http = keyward_tests::http();
    let request = http.post(format!("{}/token", server.url()));
    let request = request.basic_auth(&first.client_id, Some(&first.client_secret)).form(&form);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}"));

    let create = async |path: String, body: Value| {
        let request = http.post(format!("{}/api/v1/{path}", server.url())).bearer_auth(token).json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 201, "{path}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let scopes = ["Admin", "Supervisor", "Worker"];
    let api = json!({ "name": "Plant", "audience": PLANT, "scopes": scopes, "signing_algorithm": algorithm });
    let api = create("apis".to_owned(), api).await;
    let robot = json!({ "name": "robot", "scope": "Supervisor", "res": ["plant/7"], "apis": [api["id"]] });
    let robot = create("clients".to_owned(), robot).await;
    let path = format!("clients/{}/credentials", robot["id"].as_str().unwrap());
    let credential = create(path, json!({ "label": "first" })).await;

    let text = |member: &str| credential[member].as_str().unwrap().to_owned();
    let key = Key {
        issuer: server.url(),
        client_id: text("client_id"),
        client_secret: text("client_secret"),
        resource: PLANT.to_owned(),
        scope: "Supervisor".to_owned(),
    };
    (server, key)
}

fn with_wrong_secret(mut key: Key) -> Key {
    let last = key.client_secret.pop().unwrap();
    key.client_secret.push(if last == 'A' { 'B' } else { 'A' });
    key
}

async fn curl(arguments: &[&str]) -> Value {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments);
    let output = clients::run_command(command).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn curl_metadata(key: &Key) -> Value {
    curl(&[&format!("{}/.well-known/oauth-authorization-server", key.issuer)]).await
}

async fn curl_token(key: &Key, metadata: &Value, options: &[&str]) -> Value {
    let user = format!("{}:{}", key.client_id, key.client_secret);
    let resource = format!("resource={}", key.resource);
    let scope = format!("scope={}", key.scope);
    let mut arguments = options.to_vec();
    arguments.extend(["--user", &user, "--data", "grant_type=client_credentials"]);
    arguments.extend(["--data-urlencode", &resource, "--data-urlencode", &scope]);
    arguments.push(metadata["token_endpoint"].as_str().unwrap());
    curl(&arguments).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openid_client_gets_a_code_redeems_and_refreshes_it() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let shop = Shop::of(&server, &server.admin().await).await;
    let program = SignsIn::start(&server.app.issuer, &shop.client, CALLBACK).await;
    let path = program.url.strip_prefix(&server.app.issuer).expect("discovery says where").to_owned();
    let led = shop.decides(&path, "allow").await;
    let seen = program.comes_back(led.header("location")).await;
    assert!(seen.success, "{seen:?}");
    assert_eq!(seen.json, json!({ "scope": "Worker", "rotated": true, "renewed": true, "error": "invalid_grant" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oauth2_crate_gets_a_code_redeems_and_refreshes_it() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let shop = Shop::of(&server, &server.admin().await).await;
    let at = |path: &str| format!("{}{path}", server.app.issuer);
    let client = BasicClient::new(ClientId::new(shop.client.clone()))
        .set_auth_uri(AuthUrl::new(at("/authorize")).unwrap())
        .set_token_uri(TokenUrl::new(at("/token")).unwrap())
        .set_redirect_uri(RedirectUrl::new(CALLBACK.to_owned()).unwrap());
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let asked = client.authorize_url(CsrfToken::new_random).add_scope(Scope::new("Worker".to_owned()));
    let (url, state) = asked.set_pkce_challenge(challenge).url();
    let path = url.as_str().strip_prefix(&server.app.issuer).unwrap().to_owned();
    let back = answer(&shop.decides(&path, "allow").await);
    assert_eq!(&back["state"], state.secret());
    let code = AuthorizationCode::new(back["code"].clone());
    let first = client.exchange_code(code).set_pkce_verifier(verifier).request_async(&over_http).await.unwrap();
    let refresh = first.refresh_token().unwrap();
    let second = client.exchange_refresh_token(refresh).request_async(&over_http).await.unwrap();
    assert_ne!(second.refresh_token().unwrap().secret(), refresh.secret());
    assert_eq!(second.expires_in().unwrap().as_secs(), 300);
}

type Oauth2Error = RequestTokenError<reqwest::Error, oauth2::basic::BasicErrorResponse>;

async fn oauth2_token(key: &Key, authentication: AuthType) -> Result<oauth2::basic::BasicTokenResponse, Oauth2Error> {
    BasicClient::new(ClientId::new(key.client_id.clone()))
        .set_client_secret(ClientSecret::new(key.client_secret.clone()))
        .set_auth_type(authentication)
        .set_token_uri(TokenUrl::new(format!("{}/token", key.issuer)).unwrap())
        .exchange_client_credentials()
        .add_scope(Scope::new(key.scope.clone()))
        .add_extra_param("resource", &key.resource)
        .request_async(&over_http)
        .await
}

/// As the crate's own HTTP clients do it, by ours.
async fn over_http(request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let response = keyward_tests::http().execute(request.try_into()?).await?;
    let mut converted = oauth2::http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        converted = converted.header(name, value);
    }
    Ok(converted.body(response.bytes().await?.to_vec()).expect("it was a response"))
}
