//! The authorization code grant: RFC 6749 §4.1, with PKCE (RFC 7636), `iss` (RFC 9207) and loopback ports (RFC 8252).

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_model::pkce::CodeChallenge;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Secrets, TestServer};
use keyward_tests::visitor::{PASSWORD, PageSeen, Visitor};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use crate::login::{told, user_id};
use crate::status_list::claims;

pub(crate) const VERIFIER: &str = "a-verifier-that-is-long-enough-for-rfc-7636";
pub(crate) const CALLBACK: &str = "https://shop.example/callback";

/// A public client of an API, and somebody who may work there.
pub(crate) struct Shop<'a> {
    pub(crate) client: String,
    gateway: Secrets,
    olga: Visitor<'a>,
}

impl<'a> Shop<'a> {
    pub(crate) async fn of(server: &'a TestServer, admin: &Api<'_>) -> Self {
        let gateway = admin.new_client(json!({ "name": "gateway" })).await;
        let gateway = admin.issue(&gateway, &json!({})).await;
        let api = json!({ "name": "plant", "audience": "https://plant.example", "scopes": ["Admin", "Supervisor", "Worker"],
            "client": gateway.client_id });
        let api = admin.post("/api/v1/apis", &api).await.created();
        let shop = json!({ "name": "shop <1>", "kind": "public", "scope": "Supervisor", "res": ["*"], "apis": [api["id"]],
            "redirect_uris": [CALLBACK, "http://127.0.0.1/cb", "com.example.shop:/cb"] });
        let client = admin.new_client(shop).await;
        let olga = Visitor::invited(server, admin, "olga").await;
        let user = user_id(admin, "olga").await;
        admin.patch(&format!("/api/v1/users/{user}"), &json!({ "scope": "Worker", "res": ["plant"] })).await.ok();
        Self { client, gateway, olga }
    }

    /// The same with a client that has a key, and may sign devices in too.
    pub(crate) async fn with_key(server: &'a TestServer, admin: &Api<'_>) -> (Self, Secrets) {
        let mut shop = Self::of(server, admin).await;
        let apis = admin.get(&format!("/api/v1/clients/{}", shop.client)).await.ok()["apis"].clone();
        let site = json!({ "name": "site", "scope": "Worker", "res": ["*"], "apis": apis, "redirect_uris": [CALLBACK],
            "device_grant": {} });
        shop.client = admin.new_client(site).await;
        let key = admin.issue(&shop.client, &json!({})).await;
        (shop, key)
    }

    /// The path of a request with these parameters in the place of the usual ones; without those that are empty.
    fn path(&self, other: &[(&str, &str)]) -> String {
        let challenge = CodeChallenge::of_verifier(VERIFIER).unwrap();
        let usual = [
            ("response_type", "code"),
            ("client_id", self.client.as_str()),
            ("redirect_uri", CALLBACK),
            ("state", "s t&1"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        let mut all: BTreeMap<&str, &str> = usual.into_iter().collect();
        all.extend(other.iter().copied());
        let mut url = Url::parse("http://x/authorize").unwrap();
        url.query_pairs_mut().extend_pairs(all.into_iter().filter(|(_, value)| !value.is_empty()));
        format!("/authorize?{}", url.query().unwrap())
    }

    /// Decides on the page that this path shows.
    pub(crate) async fn decides(&self, path: &str, decision: &str) -> PageSeen {
        let shown = self.olga.get(path).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.html);
        let (token, offered) = (shown.form_token(), hidden(&shown, "offered"));
        let query = path.split_once('?').unwrap().1;
        let form = [("form_token", token.as_str()), ("request", query), ("offered", &offered), ("decision", decision)];
        self.olga.post("/authorize", &form).await
    }

    /// The code that is got when olga allows it.
    pub(crate) async fn code(&self, other: &[(&str, &str)]) -> String {
        let led = answer(&self.decides(&self.path(other), "allow").await);
        led.get("code").unwrap_or_else(|| panic!("no code: {led:?}")).clone()
    }

    /// Redeems a code, with these parameters in the place of the usual ones.
    async fn redeem(&self, server: &TestServer, code: &str, other: &[(&str, &str)]) -> Answer {
        let usual = [
            ("grant_type", "authorization_code"),
            ("client_id", self.client.as_str()),
            ("redirect_uri", CALLBACK),
            ("code", code),
            ("code_verifier", VERIFIER),
        ];
        let mut form: BTreeMap<&str, &str> = usual.into_iter().collect();
        form.extend(other.iter().copied());
        Answer::of(server.http.post(format!("{}/token", server.url())).form(&form)).await
    }
}

fn hidden(page: &PageSeen, name: &str) -> String {
    let value = page.html.split(&format!("name=\"{name}\" value=\"")).nth(1).and_then(|rest| rest.split('"').next());
    value.unwrap_or_else(|| panic!("{name} is not on {}", page.html)).to_owned()
}

/// What a client reads at its redirect URI.
pub(crate) fn answer(page: &PageSeen) -> BTreeMap<String, String> {
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.html);
    Url::parse(page.header("location")).unwrap().query_pairs().into_owned().collect()
}

fn refused(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["error"].as_str().unwrap_or_default())
}

on_both_databases! {
    async fn somebody_lets_an_application_in_and_it_gets_their_tokens(server: TestServer) {
        let admin = server.admin().await;
        let shop = Shop::of(&server, &admin).await;
        let path = shop.path(&[]);
        let page = shop.olga.get(&path).await;
        for said in [
            "shop &#60;1&#62;", "from your administrators", "https://shop.example", "olga", "Worker", "plant", ">Deny<",
            ">Allow<", "again=other",
        ] {
            assert!(page.html.contains(said), "{said:?} is not in {}", page.html);
        }
        assert!(!page.html.contains("Supervisor"), "no more than olga has: {}", page.html);
        let policy = page.header("content-security-policy");
        assert!(policy.contains("form-action 'self' https://shop.example;"), "{policy}");
        assert_eq!(page.header("x-frame-options"), "DENY");

        let led = shop.decides(&path, "allow").await;
        assert!(led.header("location").starts_with("https://shop.example/callback?code="), "{led:?}");
        assert_eq!((led.header("cache-control"), led.header("referrer-policy")), ("no-store", "no-referrer"));
        let back = answer(&led);
        assert_eq!((back["state"].as_str(), back["iss"].as_str()), ("s t&1", server.app.issuer.as_str()));
        let given = shop.redeem(&server, &back["code"], &[]).await.ok();
        let said = claims(given["access_token"].as_str().unwrap());
        assert_eq!((&said["scope"], &said["res"], &said["client_id"]), (&json!("Worker"), &json!(["plant"]), &json!(shop.client)));
        assert!(given["refresh_token"].as_str().unwrap().starts_with("kwr_"));
        assert_eq!(server.introspect(&shop.gateway, given["access_token"].as_str().unwrap()).await["active"], true);

        let session = admin.get(&format!("/api/v1/device-sessions/{}", said["sid"].as_str().unwrap())).await.ok();
        assert_eq!((&session["amr"], &session["created_from"]), (&json!("pwd"), &json!("127.0.0.1")));
        let told = told(&admin, &shop.client).await;
        let allowed = told.iter().find(|(kind, _)| kind == "authorization.allowed").unwrap();
        assert_eq!((&allowed.1["user"], &allowed.1["redirect_uri"]), (&said["sub"], &json!(CALLBACK)));
    }

    async fn whoever_is_not_signed_in_does_so_first_and_comes_back(server: TestServer) {
        let shop = Shop::of(&server, &server.admin().await).await;
        let (path, browser) = (shop.path(&[]), Visitor::new(&server));
        let to_login = browser.get(&path).await;
        let login = to_login.header("location").to_owned();
        assert!(login.starts_with("/login?continue=/authorize%3F"), "{login}");
        let page = browser.get(&login).await;
        let back = hidden(&page, "continue").replace("&#38;", "&");
        browser.post("/login", &[("name", "olga"), ("password", PASSWORD), ("continue", &back)]).await.leads_to(&path);
        assert_eq!(browser.get(&path).await.status, StatusCode::OK);
    }

    async fn whoever_says_no_sends_the_application_away(server: TestServer) {
        let shop = Shop::of(&server, &server.admin().await).await;
        let back = answer(&shop.decides(&shop.path(&[]), "deny").await);
        assert_eq!((back["error"].as_str(), back["state"].as_str()), ("access_denied", "s t&1"));
        assert_eq!(back["iss"], server.app.issuer);
        assert!(!back.contains_key("code"));
    }

    async fn nobody_is_led_anywhere_by_a_wrong_client_or_redirect_uri(server: TestServer) {
        let admin = server.admin().await;
        let shop = Shop::of(&server, &admin).await;
        for wrong in [
            ("client_id", "client_01h455vb4pex5vsknk084sn02q"), ("client_id", ""), ("client_id", "shop"),
            ("redirect_uri", ""), ("redirect_uri", "https://shop.example/callback/"), ("redirect_uri", "https://evil.example/"),
            ("redirect_uri", "https://shop.example/callback?x=1"), ("redirect_uri", "https://shop.example:8443/callback"),
            ("redirect_uri", "http://localhost/cb"), ("redirect_uri", "javascript:alert(1)"),
            ("redirect_uri", "https://shop.example/callback#x"),
        ] {
            let page = shop.olga.get(&shop.path(&[wrong])).await;
            page.is_refused(StatusCode::BAD_REQUEST, "This application cannot send you here");
            assert_eq!(page.header("location"), "", "{wrong:?}");
        }
        let twice = format!("{}&redirect_uri=https://evil.example/", shop.path(&[]));
        shop.olga.get(&twice).await.is_refused(StatusCode::BAD_REQUEST, "This application cannot send you here");
        admin.act(&format!("/api/v1/clients/{}/disable", shop.client)).await.ok();
        shop.olga.get(&shop.path(&[])).await.is_refused(StatusCode::BAD_REQUEST, "This application cannot send you here");
    }

    async fn every_other_mistake_is_told_to_the_application(server: TestServer) {
        let shop = Shop::of(&server, &server.admin().await).await;
        let long = "x".repeat(2000);
        for (wrong, error) in [
            (("response_type", ""), "invalid_request"), (("response_type", "token"), "unsupported_response_type"),
            (("response_mode", "fragment"), "invalid_request"), (("code_challenge", ""), "invalid_request"),
            (("code_challenge", "short"), "invalid_request"), (("code_challenge_method", ""), "invalid_request"),
            (("code_challenge_method", "plain"), "invalid_request"), (("scope", "no good scope \"x\""), "invalid_scope"),
            (("scope", "openid"), "invalid_scope"), (("res", "office"), "invalid_scope"), (("max_age", "soon"), "invalid_request"),
            (("prompt", "none login"), "invalid_request"), (("prompt", "none"), "consent_required"),
            (("request", "e30."), "request_not_supported"), (("request_uri", "urn:x"), "request_uri_not_supported"),
            (("nonce", long.as_str()), "invalid_request"),
        ] {
            let back = answer(&shop.olga.get(&shop.path(&[wrong])).await);
            assert_eq!((back["error"].as_str(), back["state"].as_str()), (error, "s t&1"), "{wrong:?}");
            assert_eq!(back["iss"], server.app.issuer);
            let legal = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
            assert!(back["error_description"].chars().all(legal), "{back:?}");
        }
        let stranger = Visitor::new(&server);
        assert_eq!(answer(&stranger.get(&shop.path(&[("prompt", "none")])).await)["error"], "login_required");
        let twice = answer(&shop.olga.get(&format!("{}&state=2", shop.path(&[]))).await);
        assert_eq!((twice["error"].as_str(), twice.get("state")), ("invalid_request", None));
    }

    async fn what_is_asked_for_is_cut_to_what_both_may_have(server: TestServer) {
        let shop = Shop::of(&server, &server.admin().await).await;
        let code = shop.code(&[("scope", "Supervisor openid"), ("res", "plant/7 office")]).await;
        let given = shop.redeem(&server, &code, &[]).await.ok();
        assert_eq!(given["scope"], "Worker");
        assert_eq!(claims(given["access_token"].as_str().unwrap())["res"], json!(["plant/7"]));
    }

    async fn a_code_is_for_its_client_its_redirect_uri_and_its_verifier_and_lasts_a_minute(server: TestServer) {
        let admin = server.admin().await;
        let shop = Shop::of(&server, &admin).await;
        let other = admin.new_client(json!({ "name": "other", "kind": "public" })).await;
        let code = shop.code(&[]).await;
        let verifier = VERIFIER.replace('a', "b");
        for (wrong, error) in [
            (("client_id", other.as_str()), "invalid_grant"), (("redirect_uri", "http://127.0.0.1/cb"), "invalid_grant"),
            (("code_verifier", verifier.as_str()), "invalid_grant"), (("code_verifier", "short"), "invalid_request"),
            (("code_verifier", ""), "invalid_request"), (("redirect_uri", ""), "invalid_request"), (("code", "x"), "invalid_grant"),
        ] {
            assert_eq!(refused(&shop.redeem(&server, &code, &[wrong]).await), (400, error), "{wrong:?}");
        }
        shop.redeem(&server, &code, &[]).await.ok();
        let late = shop.code(&[]).await;
        server.clock.advance(Duration::from_secs(60));
        assert_eq!(refused(&shop.redeem(&server, &late, &[]).await), (400, "invalid_grant"));
        server.clock.advance(Duration::from_secs(600));
        server.app.run_schedule().await.unwrap();
        assert_eq!(server.count("SELECT count(*) FROM authorization_codes").await, 0);
    }

    async fn a_code_that_comes_twice_ends_the_session_it_gave(server: TestServer) {
        let admin = server.admin().await;
        let shop = Shop::of(&server, &admin).await;
        let code = shop.code(&[]).await;
        let given = shop.redeem(&server, &code, &[]).await.ok();
        assert_eq!(refused(&shop.redeem(&server, &code, &[]).await), (400, "invalid_grant"));
        let token = given["access_token"].as_str().unwrap();
        assert_eq!(server.introspect(&shop.gateway, token).await["active"], false);
        let told = told(&admin, claims(token)["sid"].as_str().unwrap()).await;
        assert_eq!(told.last().unwrap().1["because"], "authorization_code_reused");
        assert_eq!(refused(&shop.redeem(&server, &code, &[]).await), (400, "invalid_grant"), "and a third time");
    }

    async fn whoever_makes_codes_up_keeps_no_writer_busy_and_is_slowed_down(server: TestServer) {
        let shop = Shop::of(&server, &server.admin().await).await;
        let made_up = "A".repeat(43);
        // On SQLite nobody else writes meanwhile: whoever had to would wait for it.
        let writes = server.app.store.begin().await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(30), shop.redeem(&server, &made_up, &[])).await;
        assert_eq!(refused(&answer.expect("it waits for a writer")), (400, "invalid_grant"));
        drop(writes);
        for code in [made_up.as_str(), "rubbish"].repeat(15) {
            shop.redeem(&server, code, &[]).await;
        }
        assert_eq!(refused(&shop.redeem(&server, &made_up, &[]).await), (429, "temporarily_unavailable"));
        let code = shop.code(&[]).await;
        shop.redeem(&server, &code, &[]).await.ok();
    }

    async fn twenty_at_once_with_one_code_begin_one_session(server: TestServer) {
        let shop = Shop::of(&server, &server.admin().await).await;
        let code = shop.code(&[]).await;
        let all = futures_util::future::join_all((0..20).map(|_| shop.redeem(&server, &code, &[]))).await;
        assert_eq!(all.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
        assert_eq!(server.count("SELECT count(*) FROM device_sessions").await, 1);
        assert_eq!(server.count("SELECT count(*) FROM device_sessions WHERE ended_at IS NULL").await, 0);
    }

    async fn somebody_disabled_between_code_and_token_gets_none(server: TestServer) {
        let admin = server.admin().await;
        let shop = Shop::of(&server, &admin).await;
        let code = shop.code(&[]).await;
        let user = user_id(&admin, "olga").await;
        admin.act(&format!("/api/v1/users/{user}/disable")).await.ok();
        assert_eq!(refused(&shop.redeem(&server, &code, &[]).await), (400, "invalid_grant"));
        admin.act(&format!("/api/v1/users/{user}/enable")).await.ok();
        assert_eq!(refused(&shop.redeem(&server, &code, &[]).await), (400, "invalid_grant"), "the code was used for it");
        assert_eq!(server.count("SELECT count(*) FROM device_sessions").await, 0);
    }

    async fn whoever_signs_out_everywhere_takes_back_a_code_that_was_not_redeemed(server: TestServer) {
        let admin = server.admin().await;
        let shop = Shop::of(&server, &admin).await;
        let code = shop.code(&[]).await;
        shop.olga.submit("/account/devices/end", &[]).await.leads_to("/account/devices?done=all-ended");
        assert_eq!(refused(&shop.redeem(&server, &code, &[]).await), (400, "invalid_grant"));
        let next = shop.code(&[]).await;
        shop.redeem(&server, &next, &[]).await.ok();
    }

    async fn a_program_listens_on_any_loopback_port_and_another_has_its_own_scheme(server: TestServer) {
        let shop = Shop::of(&server, &server.admin().await).await;
        for (uri, source) in [
            ("http://127.0.0.1:4711/cb", "http://127.0.0.1:4711"), ("com.example.shop:/cb", "com.example.shop:"),
        ] {
            let page = shop.olga.get(&shop.path(&[("redirect_uri", uri)])).await;
            assert!(page.html.contains("a program on this device"), "{}", page.html);
            let policy = page.header("content-security-policy");
            assert!(policy.contains(&format!("form-action 'self' {source};")), "{policy}");
            let led = shop.decides(&shop.path(&[("redirect_uri", uri)]), "allow").await;
            assert!(led.header("location").starts_with(&format!("{uri}?code=")), "{led:?}");
            shop.redeem(&server, &answer(&led)["code"], &[("redirect_uri", uri)]).await.ok();
        }
    }

    async fn a_confidential_client_proves_who_it_is_and_uses_pkce_too(server: TestServer) {
        let admin = server.admin().await;
        let (shop, key) = Shop::with_key(&server, &admin).await;
        let code = shop.code(&[]).await;
        assert_eq!(refused(&shop.redeem(&server, &code, &[]).await), (401, "invalid_client"));
        let form = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)];
        let given = Answer::of(server.form("/token", &key, &form)).await.ok();
        assert_eq!(claims(given["access_token"].as_str().unwrap())["cred"], key.credential());
    }

    async fn an_application_can_ask_that_they_prove_who_they_are_anew(server: TestServer) {
        let shop = Shop::of(&server, &server.admin().await).await;
        server.clock.advance(Duration::from_secs(61));
        for asked in [("prompt", "login"), ("prompt", "select_account"), ("max_age", "0"), ("max_age", "60")] {
            let to_login = shop.olga.get(&shop.path(&[asked])).await;
            assert!(to_login.header("location").starts_with("/login?continue=/authorize"), "{asked:?}: {to_login:?}");
            assert!(to_login.header("location").ends_with("&again=1"), "{asked:?}: {to_login:?}");
        }
        assert_eq!(shop.olga.get(&shop.path(&[("max_age", "61")])).await.status, StatusCode::OK);
        shop.olga.sign_in("olga", PASSWORD).await.leads_to("/account");
        let now = server.clock.now().as_seconds();
        let given = shop.redeem(&server, &shop.code(&[("prompt", "login")]).await, &[]).await.ok();
        assert_eq!(claims(given["access_token"].as_str().unwrap())["auth_time"], now);
    }

    async fn what_reaches_keyward_itself_takes_a_fresh_sign_in(server: TestServer) {
        let admin = server.admin().await;
        let shop = Shop::of(&server, &admin).await;
        let rights = json!({ "scope": "Worker keyward:self", "res": ["*"] });
        admin.patch(&format!("/api/v1/users/{}", user_id(&admin, "olga").await), &rights).await.ok();
        let own = crate::authority::own_api(&admin).await;
        let shell = json!({ "name": "shell", "kind": "public", "scope": "keyward:self", "res": ["*"], "apis": [own],
            "redirect_uris": [CALLBACK] });
        let shell = admin.new_client(shell).await;
        let path = shop.path(&[("client_id", &shell)]);
        let shown = shop.olga.get(&path).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.html);
        server.clock.advance(Duration::from_secs(16 * 60));
        let (token, offered, query) = (shown.form_token(), hidden(&shown, "offered"), path.split_once('?').unwrap().1);
        let form = [("form_token", token.as_str()), ("request", query), ("offered", &offered), ("decision", "allow")];
        for led in [shop.olga.get(&path).await, shop.olga.post("/authorize", &form).await] {
            assert!(led.header("location").starts_with("/login?continue=/authorize"), "{led:?}");
        }
        shop.code(&[]).await;
        shop.olga.sign_in("olga", PASSWORD).await;
        shop.code(&[("client_id", &shell)]).await;
    }

    async fn only_the_form_of_the_own_login_decides_and_only_about_what_it_showed(server: TestServer) {
        let admin = server.admin().await;
        let shop = Shop::of(&server, &admin).await;
        let path = shop.path(&[]);
        let query = path.split_once('?').unwrap().1;
        let shown = shop.olga.get(&path).await;
        let (token, offered) = (shown.form_token(), hidden(&shown, "offered"));
        let form = |token| [("form_token", token), ("request", query), ("offered", &*offered), ("decision", "allow")];
        let sam = Visitor::invited(&server, &admin, "sam").await;
        sam.post("/authorize", &form(&token)).await.is_refused(StatusCode::FORBIDDEN, "This form is too old");
        shop.olga.post("/authorize", &form("")).await.is_refused(StatusCode::FORBIDDEN, "This form is too old");
        let foreign = server.http.post(shop.olga.url("/authorize")).header("sec-fetch-site", "cross-site").form(&form(&token));
        shop.olga.send(foreign).await.is_refused(StatusCode::FORBIDDEN, "This form is too old");

        // Meanwhile olga got more: she is asked again.
        let user = format!("/api/v1/users/{}", user_id(&admin, "olga").await);
        admin.patch(&user, &json!({ "scope": "Supervisor" })).await.ok();
        let again = shop.olga.post("/authorize", &form(&token)).await;
        assert!(again.status == StatusCode::OK && again.html.contains("Supervisor"), "{}", again.html);
        assert_eq!(server.count("SELECT count(*) FROM authorization_codes").await, 0);
    }

    async fn redirect_uris_are_checked_when_they_are_registered(server: TestServer) {
        let admin = server.admin().await;
        let client = admin.new_client(json!({ "name": "app", "redirect_uris": ["https://b.example/", "https://a.example/", "https://b.example/"] })).await;
        let path = format!("/api/v1/clients/{client}");
        let shown = admin.get(&path).await.ok();
        assert_eq!(shown["redirect_uris"], json!(["https://a.example/", "https://b.example/"]));
        for wrong in [json!(["http://a.example/"]), json!(["https://a.example/#x"]), json!(["javascript:alert(1)"]),
            Value::from((0..11).map(|n| format!("https://a.example/{n}")).collect::<Vec<_>>())] {
            let refused = admin.patch(&path, &json!({ "redirect_uris": wrong })).await;
            assert_eq!((refused.status, &refused.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("redirect_uris")));
        }
        let none = admin.patch(&path, &json!({ "redirect_uris": [] })).await.ok();
        assert_eq!(none["redirect_uris"], json!([]));
        let told = told(&admin, &client).await;
        assert_eq!(told.last().unwrap().1["redirect_uris"]["new"], json!([]));
    }

    async fn the_metadata_say_how(server: TestServer) {
        let url = format!("{}/.well-known/oauth-authorization-server", server.url());
        let said = Answer::of(server.http.get(url)).await.ok();
        assert_eq!(said["authorization_endpoint"], format!("{}/authorize", server.app.issuer));
        assert_eq!((&said["response_types_supported"], &said["response_modes_supported"]), (&json!(["code"]), &json!(["query"])));
        assert_eq!(said["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(said["authorization_response_iss_parameter_supported"], true);
        for grant in ["authorization_code", "refresh_token", "client_credentials"] {
            assert!(said["grant_types_supported"].as_array().unwrap().contains(&json!(grant)), "{said}");
        }
        assert!(said["token_endpoint_auth_methods_supported"].as_array().unwrap().contains(&json!("none")));
    }
}
