//! Devices are signed in: what they ask, what they are answered, and who lets them in.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use keyward_model::device_grant::GrantState;
use keyward_server::device_grants::{Asked, Grade, Reason, Refusal, Undone, Visitor, approve, claim, deny, look, undo};
use keyward_tests::devices::DEVICE_CODE;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::authority::person;
use crate::status_list::claims;

/// A client through which devices are signed in, and somebody who may let them in.
pub(crate) async fn scene(server: &TestServer, admin: &Api<'_>, further: Value) -> (String, String) {
    let (olga, _) = person(admin, server, "olga", "keyward:self").await;
    (admin.new_tv(further).await, olga["id"].as_str().unwrap().to_owned())
}

/// The kinds of the events about a grant and the reason of the last.
async fn told(admin: &Api<'_>, grant: impl ToString) -> (Vec<String>, Value) {
    let list = admin.get(&format!("/api/v1/events?subject={}", grant.to_string())).await.ok();
    let events = list["items"].as_array().unwrap();
    let kinds = events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect();
    (kinds, events.last().map(|event| event["data"]["reason"].clone()).unwrap_or_default())
}

async fn refresh(server: &TestServer, client: &str, token: &str) -> Answer {
    let form = [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token)];
    Answer::of(server.http.post(format!("{}/token", server.url())).form(&form)).await
}

on_both_databases! {
    async fn a_device_is_signed_in_as_whoever_lets_it_in(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let device = server.device(&tv, &[("scope", "Worker"), ("device_label", "  Hall 3\u{202e} kiosk ")]).await;
        let answer = &device.answer;
        assert_eq!((&answer["expires_in"], &answer["interval"]), (&json!(600), &json!(5)));
        assert_eq!(answer["verification_uri"], format!("{}/device", server.url()));
        assert_eq!(answer["verification_uri_complete"], format!("{}/D/{}", server.url(), device.user_code()));
        assert!(answer.get("confirmation_required").is_none());

        let pending = server.poll(&device, &[]).await;
        assert_eq!(pending.error(), (400, "authorization_pending"), "{}", pending.body);
        assert_eq!((pending.header("cache-control"), &pending.body["interval"]), ("no-store", &json!(5)));
        let olgas = server.browser_of(&olga);
        let asked = server.enter(&olgas, &device).await.unwrap();
        assert_eq!((asked.client_name.as_str(), asked.label.as_str()), ("tv", "Hall 3 kiosk"));
        assert_eq!((asked.scopes[0].name.as_str(), asked.scopes.len(), asked.res.to_text().as_str()), ("Worker", 1, "plant"));
        assert_eq!((asked.friction.grade, asked.network, asked.own_network), (Grade::Low, olgas.network, olgas.network));
        server.clock.advance(Duration::from_secs(5));
        assert_eq!(server.poll(&device, &[]).await.error(), (400, "authorization_pending"), "entered is not decided");

        assert!(approve(&server.app, &olgas, asked.id, asked.consent(false)).await.unwrap().is_none());
        // At once: what is decided is not made to wait.
        let tokens = server.poll(&device, &[]).await;
        assert_eq!(tokens.header("cache-control"), "no-store");
        let tokens = tokens.ok();
        let said = claims(tokens["access_token"].as_str().unwrap());
        assert_eq!((&said["sub"], &said["client_id"], &said["scope"]), (&json!(olga), &json!(tv), &json!("Worker")));
        assert_eq!((&tokens["token_type"], &tokens["scope"]), (&json!("Bearer"), &json!("Worker")));
        let sessions = admin.get("/api/v1/device-sessions").await.ok();
        assert_eq!((&sessions["items"][0]["id"], &sessions["items"][0]["label"]), (&said["sid"], &json!("Hall 3 kiosk")));
        refresh(&server, &tv, tokens["refresh_token"].as_str().unwrap()).await.ok();
        let arrows = ["device_grant.claimed", "device_grant.approved", "device_grant.redeemed"];
        assert_eq!(told(&admin, asked.id).await.0, arrows);
    }

    async fn words_of_openid_connect_beside_a_scope_give_no_right_and_are_no_mistake(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let scope = "Worker offline_access openid profile";
        let device = server.device(&tv, &[("scope", scope)]).await;
        server.let_in(&server.browser_of(&olga), &device).await;
        let tokens = server.poll(&device, &[]).await.ok();
        assert_eq!((&tokens["scope"], tokens.get("id_token")), (&json!("Worker"), None));
        let form = [("grant_type", "refresh_token"), ("client_id", &tv), ("scope", scope),
            ("refresh_token", tokens["refresh_token"].as_str().unwrap())];
        let next = Answer::of(server.http.post(format!("{}/token", server.url())).form(&form)).await.ok();
        assert_eq!(next["scope"], "Worker");
        let alone = server.ask(&tv, &[("scope", "openid")]).await;
        assert_eq!(alone.error(), (400, "invalid_scope"), "who wants to know somebody is not given all rights");
    }

    async fn what_a_device_may_ask_is_up_to_its_client(server: TestServer) {
        let admin = server.admin().await;
        let (tv, _) = scene(&server, &admin, json!({ "device_grant": { "scope": "Worker" } })).await;
        for further in [("scope", "Supervisor"), ("scope", "keyward:admin"), ("res", "a//b")] {
            assert_eq!(server.ask(&tv, &[further]).await.error(), (400, "invalid_scope"), "{further:?}");
        }
        assert_eq!(server.ask(&tv, &[("scope", "Worker"), ("scope", "Worker")]).await.error(), (400, "invalid_request"));
        assert_eq!(server.ask("client_00000000000000000000000000", &[]).await.error(), (401, "invalid_client"));

        let path = format!("/api/v1/clients/{tv}");
        let shown = admin.get(&path).await.ok();
        assert_eq!(shown["device_grant"], json!({ "scope": "Worker", "confirmation": false }));
        admin.patch(&path, &json!({ "device_grant": null })).await.ok();
        assert_eq!(server.ask(&tv, &[]).await.error(), (400, "unauthorized_client"), "off, as it is without a word");
        let other = admin.new_client(json!({ "kind": "public", "scope": "Worker", "apis": shown["apis"] })).await;
        assert_eq!(server.ask(&other, &[]).await.error(), (400, "unauthorized_client"));
    }

    async fn a_confidential_client_proves_who_it_is_when_it_asks_and_when_it_polls(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let apis = admin.get(&format!("/api/v1/clients/{tv}")).await.ok()["apis"].clone();
        let kiosk = json!({ "scope": "Worker", "apis": apis, "device_grant": {} });
        let key = admin.issue(&admin.new_client(kiosk).await, &json!({})).await;
        assert_eq!(server.ask(&key.client_id, &[]).await.error(), (401, "invalid_client"));
        let answer = Answer::of(server.form("/auth/device", &key, &[])).await.ok();
        let device = keyward_tests::devices::Device { client: key.client_id.clone(), answer };
        server.let_in(&server.browser_of(&olga), &device).await;
        assert_eq!(server.poll(&device, &[]).await.error(), (401, "invalid_client"));
        let form = [("grant_type", DEVICE_CODE), ("device_code", device.device_code())];
        let tokens = Answer::of(server.form("/token", &key, &form)).await.ok();
        assert_eq!(claims(tokens["access_token"].as_str().unwrap())["cred"], key.credential());
    }

    async fn a_denied_device_is_told_access_denied(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let (device, olgas) = (server.device(&tv, &[]).await, server.browser_of(&olga));
        let asked = server.enter(&olgas, &device).await.unwrap();
        deny(&server.app, &olgas, asked.id).await.unwrap();
        for _ in 0..2 {
            assert_eq!(server.poll(&device, &[]).await.error(), (400, "access_denied"));
        }
        assert!(matches!(approve(&server.app, &olgas, asked.id, asked.consent(false)).await, Err(Refusal::Ended)));
        assert!(matches!(server.enter(&olgas, &device).await, Err(Refusal::Unknown)), "its code is free again");
        assert_eq!(told(&admin, asked.id).await.1, "refused");
    }

    async fn a_device_that_comes_too_late_is_told_expired_token(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let (pending, claimed, approved) =
            (server.device(&tv, &[]).await, server.device(&tv, &[]).await, server.device(&tv, &[]).await);
        let asked = server.enter(&server.browser_of(&olga), &claimed).await.unwrap();
        server.let_in(&server.browser_of(&olga), &approved).await;
        server.clock.advance(Duration::from_secs(600));
        for written in [false, true] {
            for device in [&pending, &claimed, &approved] {
                assert_eq!(server.poll(device, &[]).await.error(), (400, "expired_token"), "written down: {written}");
            }
            assert!(matches!(server.enter(&server.browser_of(&olga), &pending).await, Err(Refusal::Unknown)));
            server.app.run_schedule().await.unwrap();
        }
        assert_eq!(told(&admin, asked.id).await.0, ["device_grant.claimed", "device_grant.expired"]);
        assert_eq!(server.count("SELECT count(*) FROM events WHERE kind = 'device_grant.expired'").await, 2);
        server.clock.advance(Duration::from_secs(24 * 3600 + 1));
        server.app.run_schedule().await.unwrap();
        assert_eq!(server.count("SELECT count(*) FROM device_grants").await, 0);
        assert_eq!(server.poll(&pending, &[]).await.error(), (400, "invalid_grant"));
    }

    async fn whoever_polls_too_fast_is_told_so_and_never_locked_out(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let device = server.device(&tv, &[]).await;
        // Milliseconds after the poll before, and what is said: the first is free, a quarter is forgiven, and a poll that
        // was too early is not the one the next is measured from.
        let table = [(0, "authorization_pending"), (3_750, "authorization_pending"), (3_749, "slow_down"),
            (1, "authorization_pending"), (1_000, "slow_down"), (1_000, "slow_down"), (2_000, "authorization_pending")];
        for (after, said) in table {
            server.clock.advance(Duration::from_millis(after));
            let answer = server.poll(&device, &[]).await;
            assert_eq!((answer.error(), &answer.body["interval"]), ((400, said), &json!(5)), "{after}");
        }
        let mut abuse = server.poll(&device, &[]).await;
        for _ in 0..20 {
            abuse = server.poll(&device, &[]).await;
        }
        assert_eq!(abuse.error(), (429, "temporarily_unavailable"));
        assert!(abuse.header("retry-after").parse::<u64>().unwrap() >= 1);
        server.let_in(&server.browser_of(&olga), &device).await;
        server.poll(&device, &[]).await.ok();
    }

    async fn a_network_full_of_polls_costs_nobody_behind_it_their_login(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let device = server.device(&tv, &[]).await;
        for _ in 0..31 {
            let greedy = server.device(&tv, &[]).await;
            for _ in 0..20 {
                server.poll(&greedy, &[]).await;
            }
        }
        let answer = server.poll(&device, &[]).await;
        assert_eq!((answer.error(), &answer.body["interval"]), ((400, "slow_down"), &json!(5)), "advice and no refusal");
        server.let_in(&server.browser_of(&olga), &device).await;
        server.poll(&device, &[]).await.ok();
    }

    async fn a_device_code_is_worth_nothing_to_another_client(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let other = admin.new_client(json!({ "kind": "public" })).await;
        let device = server.device(&tv, &[]).await;
        server.let_in(&server.browser_of(&olga), &device).await;
        let stolen = keyward_tests::devices::Device { client: other, ..device.clone() };
        assert_eq!(server.poll(&stolen, &[]).await.error(), (400, "invalid_grant"));
        let mut made_up = device.clone();
        for code in ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "short"] {
            made_up.answer["device_code"] = json!(code);
            assert_eq!(server.poll(&made_up, &[]).await.error(), (400, "invalid_grant"));
        }
        made_up.answer["device_code"] = json!("");
        assert_eq!(server.poll(&made_up, &[]).await.error(), (400, "invalid_request"));
        let mut last = server.poll(&stolen, &[]).await;
        for _ in 0..40 {
            last = server.poll(&stolen, &[]).await;
        }
        assert_eq!(last.error(), (429, "temporarily_unavailable"), "whoever guesses is slowed down");
        server.poll(&device, &[]).await.ok();
    }

    async fn a_lost_answer_is_given_again_until_it_is_used_or_a_minute_is_over(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let sign_in = async || {
            let device = server.device(&tv, &[]).await;
            server.let_in(&server.browser_of(&olga), &device).await;
            let tokens = server.poll(&device, &[]).await.ok();
            (device, tokens)
        };
        let (device, tokens) = sign_in().await;
        server.clock.advance(Duration::from_secs(59));
        assert_eq!(server.poll(&device, &[]).await.ok(), tokens, "the same, byte by byte");
        let used = refresh(&server, &tv, tokens["refresh_token"].as_str().unwrap()).await.ok();
        assert_eq!(server.poll(&device, &[]).await.error(), (400, "invalid_grant"));
        let over = refresh(&server, &tv, used["refresh_token"].as_str().unwrap()).await;
        assert_eq!(over.error(), (400, "invalid_grant"), "two have the code: nobody goes on with its session");

        let (device, tokens) = sign_in().await;
        server.clock.advance(Duration::from_secs(60));
        assert_eq!(server.poll(&device, &[]).await.error(), (400, "invalid_grant"));
        let over = refresh(&server, &tv, tokens["refresh_token"].as_str().unwrap()).await;
        assert_eq!(over.error(), (400, "invalid_grant"));
        let session = &claims(tokens["access_token"].as_str().unwrap())["sid"];
        assert_eq!(told(&admin, session.as_str().unwrap()).await.0, ["device_session.created", "device_session.revoked"]);
        assert_eq!(server.poll(&device, &[]).await.error(), (400, "invalid_grant"));
    }

    async fn a_second_account_on_one_code_ends_it_for_both(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let (sam, _) = person(&admin, &server, "sam", "keyward:self").await;
        let sams = server.browser_of(sam["id"].as_str().unwrap());
        for approved in [false, true] {
            let (device, olgas) = (server.device(&tv, &[]).await, server.browser_of(&olga));
            let asked = server.enter(&olgas, &device).await.unwrap();
            if approved {
                approve(&server.app, &olgas, asked.id, asked.consent(false)).await.unwrap();
            }
            assert!(matches!(server.enter(&sams, &device).await, Err(Refusal::Contested)));
            assert!(matches!(server.enter(&sams, &device).await, Err(Refusal::Unknown)));
            assert!(matches!(look(&server.app, &olgas, asked.id).await, Err(Refusal::Ended)));
            assert_eq!(server.poll(&device, &[]).await.error(), (400, "access_denied"));
            assert_eq!(told(&admin, asked.id).await.1, "contested");
        }
    }

    async fn only_the_browser_that_entered_the_code_decides(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let (device, laptop) = (server.device(&tv, &[]).await, server.browser_of(&olga));
        let asked = server.enter(&laptop, &device).await.unwrap();
        let telephone = server.browser_of(&olga);
        assert!(matches!(look(&server.app, &telephone, asked.id).await, Err(Refusal::Foreign)));
        assert!(matches!(approve(&server.app, &telephone, asked.id, asked.consent(false)).await, Err(Refusal::Foreign)));
        assert!(matches!(deny(&server.app, &telephone, asked.id).await, Err(Refusal::Foreign)));
        // Whoever types it once more takes it along: so a fresh sign-in, which is another login, goes on.
        server.enter(&telephone, &device).await.unwrap();
        assert!(matches!(approve(&server.app, &laptop, asked.id, asked.consent(false)).await, Err(Refusal::Foreign)));
        approve(&server.app, &telephone, asked.id, asked.consent(false)).await.unwrap();
        assert!(matches!(server.enter(&telephone, &device).await, Err(Refusal::Approved)));
    }

    async fn the_further_a_device_seems_the_more_stands_in_the_way(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let device = server.device(&tv, &[]).await;
        let abroad = || Visitor { network: "198.51.100.7".parse().unwrap(), ..server.browser_of(&olga) };
        let say = async |by: &Visitor, asked: &Asked, here| approve(&server.app, by, asked.id, asked.consent(here)).await;
        let early = abroad();
        let asked = claim(&server.app, &early, device.user_code(), false).await.unwrap();
        assert_eq!((asked.friction.grade, &asked.friction.reasons[..]), (Grade::Raised, &[Reason::OtherNetwork][..]));
        assert!(matches!(say(&early, &asked, false).await, Err(Refusal::Acknowledge)));

        for _ in 0..4 {
            server.device(&tv, &[]).await;
        }
        server.clock.advance(Duration::from_secs(1));
        let mut late = Visitor { authenticated_at: early.authenticated_at.minus(Duration::from_secs(1)), ..abroad() };
        let asked = claim(&server.app, &late, device.user_code(), false).await.unwrap();
        assert_eq!(asked.friction.reasons, [Reason::OtherNetwork, Reason::ManyAsked]);
        assert!(matches!(say(&late, &asked, true).await, Err(Refusal::TypeCode)));
        server.enter(&late, &device).await.unwrap();
        assert!(matches!(say(&late, &asked, true).await, Err(Refusal::SignInAfresh)));
        late.authenticated_at = late.now;
        assert!(matches!(say(&late, &asked, true).await, Err(Refusal::TooSoon(wait)) if wait == Duration::from_secs(5)));
        server.clock.advance(Duration::from_secs(5));
        late.now = server.clock.now();
        say(&late, &asked, true).await.unwrap();
        server.poll(&device, &[]).await.ok();
    }

    async fn five_wrong_codes_are_enough_and_malformed_ones_count(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let (device, olgas) = (server.device(&tv, &[]).await, server.browser_of(&olga));
        let right = device.user_code().to_lowercase().replace('-', " ");
        for wrong in ["BCDF-GHJK", "rubbish", "", "BCDF-GHJL"] {
            assert!(matches!(claim(&server.app, &olgas, wrong, true).await, Err(Refusal::Unknown)), "{wrong}");
        }
        claim(&server.app, &olgas, &right, true).await.unwrap();
        assert!(matches!(claim(&server.app, &olgas, "BCDF-GHJM", true).await, Err(Refusal::Unknown)));
        assert!(matches!(claim(&server.app, &olgas, &right, true).await, Err(Refusal::TooMany(_))));
        server.clock.advance(Duration::from_secs(120));
        let later = Visitor { now: server.clock.now(), ..olgas };
        claim(&server.app, &later, &right, true).await.unwrap();
    }

    async fn digits_shown_at_the_approval_are_asked_of_the_device(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({ "device_grant": { "confirmation": true } })).await;
        let device = server.device(&tv, &[]).await;
        assert_eq!(device.answer["confirmation_required"], true);
        let digits = server.let_in(&server.browser_of(&olga), &device).await.unwrap().reveal();
        let wrong = if digits == "000" { "001" } else { "000" };
        let waiting = server.poll(&device, &[]).await;
        assert_eq!((waiting.error(), &waiting.body["confirmation_tries_left"]), ((400, "authorization_pending"), &json!(3)));
        let refused = server.poll(&device, &[("confirmation", wrong)]).await;
        assert_eq!((refused.error(), &refused.body["confirmation_tries_left"]), ((400, "authorization_pending"), &json!(2)));
        server.poll(&device, &[("confirmation", &digits)]).await.ok();

        let device = server.device(&tv, &[]).await;
        let digits = server.let_in(&server.browser_of(&olga), &device).await.unwrap().reveal();
        for said in ["authorization_pending", "authorization_pending", "access_denied"] {
            assert_eq!(server.poll(&device, &[("confirmation", "none")]).await.error().1, said);
        }
        assert_eq!(server.poll(&device, &[("confirmation", &digits)]).await.error(), (400, "access_denied"));
        let events = admin.get("/api/v1/events?kind=device_grant.denied").await.ok();
        assert_eq!(events["items"][0]["data"]["reason"], "unconfirmed");
        assert!(!admin.get("/api/v1/events").await.ok().to_string().contains(&format!("\"{digits}\"")));
    }

    async fn what_has_changed_between_yes_and_the_next_poll_counts(server: TestServer) {
        let admin = server.admin().await;
        let (tv, _) = scene(&server, &admin, json!({})).await;
        let approved = async |name: &str| {
            let (user, _) = person(&admin, &server, name, "keyward:self").await;
            let device = server.device(&tv, &[]).await;
            server.let_in(&server.browser_of(user["id"].as_str().unwrap()), &device).await;
            (device, format!("/api/v1/users/{}", user["id"].as_str().unwrap()))
        };
        let (device, user) = approved("disabled").await;
        admin.act(&format!("{user}/disable")).await.ok();
        assert_eq!(server.poll(&device, &[]).await.error(), (400, "invalid_grant"));
        let (device, user) = approved("lowered").await;
        admin.patch(&user, &json!({ "scope": "" })).await.ok();
        assert_eq!(server.poll(&device, &[]).await.error(), (400, "invalid_grant"));
        let ((device, _), path) = (approved("switched").await, format!("/api/v1/clients/{tv}"));
        admin.patch(&path, &json!({ "device_grant": null })).await.ok();
        assert_eq!(server.poll(&device, &[]).await.error(), (400, "invalid_grant"));
        admin.patch(&path, &json!({ "device_grant": {} })).await.ok();
        admin.act(&format!("{path}/disable")).await.ok();
        assert_eq!(server.poll(&device, &[]).await.error(), (401, "invalid_client"));
        admin.act(&format!("{path}/enable")).await.ok();
        server.poll(&device, &[]).await.ok();
        assert_eq!(server.count("SELECT count(*) FROM device_sessions").await, 1);
    }

    async fn a_device_that_gives_up_ends_its_grant(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let (pending, approved, olgas) = (server.device(&tv, &[]).await, server.device(&tv, &[]).await, server.browser_of(&olga));
        server.let_in(&olgas, &approved).await;
        let other = admin.new_client(json!({ "kind": "public" })).await;
        for device in [&pending, &approved] {
            for (client, said) in [(&other, "authorization_pending"), (&tv, "access_denied")] {
                let form = [("client_id", client.as_str()), ("token", device.device_code())];
                Answer::of(server.http.post(format!("{}/revoke", server.url())).form(&form)).await.ok();
                if said == "access_denied" {
                    assert_eq!(server.poll(device, &[]).await.error(), (400, said));
                }
            }
        }
        assert!(matches!(server.enter(&olgas, &pending).await, Err(Refusal::Unknown)));
        let events = admin.get("/api/v1/events?kind=device_grant.denied").await.ok();
        assert_eq!(events["items"].as_array().unwrap().len(), 1, "nobody had entered the other code");
        assert_eq!((&events["items"][0]["data"]["reason"], &events["items"][0]["actor"]["client"]), (&json!("cancelled"), &json!(tv)));
    }

    async fn a_device_that_gives_up_without_having_heard_of_its_yes_leaves_no_session(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let device = server.device(&tv, &[]).await;
        server.let_in(&server.browser_of(&olga), &device).await;
        let lost = server.poll(&device, &[]).await.ok();
        let other = admin.new_client(json!({ "kind": "public" })).await;
        let gives_up = async |client: &str| {
            let form = [("client_id", client), ("token", device.device_code())];
            Answer::of(server.http.post(format!("{}/revoke", server.url())).form(&form)).await.ok();
        };
        gives_up(&other).await;
        let again = server.poll(&device, &[]).await.ok();
        assert_eq!(again["refresh_token"], lost["refresh_token"], "no other client gives it up");
        gives_up(&tv).await;
        gives_up(&tv).await;
        assert_eq!(server.poll(&device, &[]).await.error(), (400, "invalid_grant"));
        let over = refresh(&server, &tv, lost["refresh_token"].as_str().unwrap()).await;
        assert_eq!(over.error(), (400, "invalid_grant"));
        let revoked = admin.get("/api/v1/events?kind=device_session.revoked").await.ok();
        assert_eq!(revoked["items"].as_array().unwrap().len(), 1, "{revoked}");
    }

    async fn an_approval_is_taken_back_before_and_after_the_device_has_come(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let olgas = server.browser_of(&olga);
        let before = server.device(&tv, &[]).await;
        let asked = server.enter(&olgas, &before).await.unwrap();
        assert!(matches!(undo(&server.app, &olgas, asked.id).await, Err(Refusal::Foreign)), "nothing is approved");
        approve(&server.app, &olgas, asked.id, asked.consent(false)).await.unwrap();
        let elsewhere = server.browser_of(&olga);
        assert_eq!(undo(&server.app, &elsewhere, asked.id).await.unwrap(), Undone::Denied);
        assert_eq!(server.poll(&before, &[]).await.error(), (400, "access_denied"));

        let after = server.device(&tv, &[]).await;
        let asked = server.enter(&olgas, &after).await.unwrap();
        approve(&server.app, &olgas, asked.id, asked.consent(false)).await.unwrap();
        let tokens = server.poll(&after, &[]).await.ok();
        assert_eq!(undo(&server.app, &elsewhere, asked.id).await.unwrap(), Undone::SessionEnded);
        assert_eq!(server.poll(&after, &[]).await.error(), (400, "invalid_grant"), "also within the minute");
        let over = refresh(&server, &tv, tokens["refresh_token"].as_str().unwrap()).await;
        assert_eq!(over.error(), (400, "invalid_grant"));
    }

    async fn an_approval_taken_back_at_the_moment_the_device_comes_leaves_nothing(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let olgas = server.browser_of(&olga);
        for _ in 0..8 {
            let device = server.device(&tv, &[]).await;
            let asked = server.enter(&olgas, &device).await.unwrap();
            approve(&server.app, &olgas, asked.id, asked.consent(false)).await.unwrap();
            let (undone, polled) = tokio::join!(undo(&server.app, &olgas, asked.id), server.poll(&device, &[]));
            match undone.unwrap() {
                Undone::Denied => assert_eq!(polled.error(), (400, "access_denied")),
                Undone::SessionEnded => assert_eq!(server.poll(&device, &[]).await.error(), (400, "invalid_grant")),
            }
        }
        assert_eq!(server.count("SELECT count(*) FROM device_sessions WHERE ended_at IS NULL").await, 0);
    }

    async fn fifty_polls_at_once_begin_one_session(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let device = server.device(&tv, &[]).await;
        server.let_in(&server.browser_of(&olga), &device).await;
        let answers = join_all((0..50).map(|_| server.poll(&device, &[]))).await;
        let given: HashSet<String> = answers
            .iter()
            .filter(|answer| answer.status == StatusCode::OK)
            .map(|answer| answer.body.to_string())
            .collect();
        assert_eq!(given.len(), 1, "whoever is answered is answered the same");
        assert!(answers.iter().all(|answer| answer.status != StatusCode::UNAUTHORIZED));
        assert_eq!(server.count("SELECT count(*) FROM device_sessions WHERE ended_at IS NULL").await, 1);
        assert_eq!(server.count("SELECT count(*) FROM refresh_tokens").await, 1);
    }

    async fn the_database_holds_no_code_that_works(server: TestServer) {
        let admin = server.admin().await;
        let (tv, olga) = scene(&server, &admin, json!({})).await;
        let device = server.device(&tv, &[]).await;
        server.let_in(&server.browser_of(&olga), &device).await;
        let tokens = server.poll(&device, &[]).await.ok();
        let found = server.app.store.find_device_grant(
            admin.get("/api/v1/events?kind=device_grant.redeemed").await.ok()["items"][0]["subject"].as_str().unwrap().parse().unwrap()
        ).await.unwrap().unwrap();
        assert!(matches!(found.state, GrantState::Redeemed { .. }));
        let events = admin.get("/api/v1/events?limit=200").await.ok().to_string();
        for secret in [device.device_code(), device.user_code(), tokens["refresh_token"].as_str().unwrap()] {
            assert!(!events.contains(secret) && !format!("{found:?}").contains(secret));
        }
        assert_eq!(server.count("SELECT count(*) FROM device_grants WHERE user_code_mac IS NOT NULL").await, 0);
        server.clock.advance(Duration::from_secs(61));
        server.app.run_schedule().await.unwrap();
        assert_eq!(server.count("SELECT count(*) FROM device_grants WHERE sealed IS NOT NULL").await, 0);
    }
}
