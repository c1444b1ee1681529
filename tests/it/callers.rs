//! Callers: who uses which key, as Keyward sees it and as gateways report it.

use std::time::Duration;

use keyward_model::entropy::Entropy;
use keyward_model::key::Key;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::authority::{own_api, person};
use crate::rotation::{path, rotate};

const MINUTE: Duration = Duration::from_secs(60);

/// A token request of a caller that names itself.
pub(crate) async fn ask(server: &TestServer, key: &Secrets, instance: &str) -> Answer {
    let form = server.form("/token", key, &[("grant_type", "client_credentials")]);
    Answer::of(form.header("keyward-instance", instance).header("user-agent", "press/2")).await
}

/// One use of a key.
pub(crate) async fn uses(server: &TestServer, key: &Secrets, instance: &str) {
    ask(server, key, instance).await.ok();
}

/// The callers of a credential.
pub(crate) async fn callers(admin: &Api<'_>, key: &Secrets) -> Vec<Value> {
    listed(admin, &format!("credentials/{}/callers", key.credential())).await
}

/// The entries of a list, one page.
async fn listed(api: &Api<'_>, path: &str) -> Vec<Value> {
    api.get(&format!("/api/v1/{path}")).await.ok()["items"].as_array().unwrap().clone()
}

/// What each caller is called and how often it was let in and refused.
pub(crate) fn counts(callers: &[Value]) -> Vec<(&str, i64, i64)> {
    let count = |caller: &Value, outcome: &str| caller[outcome].as_i64().unwrap();
    let all = callers.iter();
    all.map(|c| (c["instance"].as_str().unwrap(), count(c, "accepted"), count(c, "refused"))).collect()
}

/// The client of an API, as which it reports what it sees.
pub(crate) async fn gateway<'a>(admin: &Api<'a>, server: &'a TestServer, api: &str) -> Api<'a> {
    let (_, key) = reporter(admin, api).await;
    server.api(&key).await
}

async fn reporter(admin: &Api<'_>, api: &str) -> (String, Secrets) {
    let members = json!({ "name": "gateway", "scope": "keyward:self", "apis": [own_api(admin).await] });
    let client = admin.new_client(members).await;
    admin.patch(&format!("/api/v1/apis/{api}"), &json!({ "client": client })).await.ok();
    let key = admin.issue(&client, &json!({})).await;
    (client, key)
}

pub(crate) async fn api_of(admin: &Api<'_>, key: &Secrets) -> String {
    let client = admin.get(&format!("/api/v1/clients/{}", key.client_id)).await.ok();
    client["apis"][0].as_str().unwrap().to_owned()
}

/// A key of another client that may use the same API.
async fn another_client(admin: &Api<'_>, key: &Secrets) -> Secrets {
    let members = json!({ "scope": "Worker", "res": ["plant/7"], "apis": [api_of(admin, key).await] });
    admin.issue(&admin.new_client(members).await, &json!({})).await
}

on_both_databases! {
    async fn the_report_names_the_caller_that_still_uses_the_old_key(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        for instance in ["press 7", "press 8"] {
            uses(&server, &old, instance).await;
        }
        let new = admin.issue(&old.client_id, &json!({ "label": "second" })).await;
        server.clock.advance(5 * MINUTE);
        uses(&server, &new, "press 8").await;
        uses(&server, &old, "press 7").await;

        let of_old = callers(&admin, &old).await;
        assert_eq!(counts(&of_old), [("press 7", 2, 0), ("press 8", 1, 0)]);
        assert_eq!(of_old[0], json!({
            "credential": old.credential(), "label": "", "state": "active", "client": old.client_id,
            "network": "127.0.0.1", "user_agent": "press/2", "instance": "press 7",
            "first_seen_at": "2026-11-23T12:00:00Z", "last_seen_at": "2026-11-23T12:05:00Z",
            "accepted": 2, "refused": 0, "reporter": null,
        }));
        let since = "since=2026-11-23T12:01:00Z";
        let left = listed(&admin, &format!("credentials/{}/callers?{since}", old.credential())).await;
        assert_eq!(counts(&left), [("press 7", 2, 0)], "whoever moved is not among those left");
        let of_client = listed(&admin, &format!("clients/{}/callers?{since}", old.client_id)).await;
        assert_eq!(of_client.len(), 2);
        assert!(of_client.iter().any(|c| c["label"] == "second" && c["instance"] == "press 8"), "{of_client:?}");
    }

    async fn a_credential_tells_in_short_who_uses_it(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let path = format!("/api/v1/credentials/{}", key.credential());
        assert_eq!(admin.get(&path).await.ok()["callers"], json!({ "seen_in_window": 0, "last_seen_at": null }));
        uses(&server, &key, "press 7").await;
        server.clock.advance(24 * 60 * MINUTE);
        uses(&server, &key, "press 8").await;
        let admin = server.api(&admin.secrets).await;
        let in_short = |count, at| json!({ "seen_in_window": count, "last_seen_at": at });
        assert_eq!(admin.get(&path).await.ok()["callers"], in_short(2, "2026-11-24T12:00:00Z"));
        server.clock.advance(MINUTE);
        assert_eq!(admin.get(&path).await.ok()["callers"], in_short(1, "2026-11-24T12:00:00Z"), "the window moves");
        admin.revoke(&key).await;
        server.clock.advance(24 * 60 * MINUTE);
        ask(&server, &key, "press 9").await;
        let admin = server.api(&admin.secrets).await;
        assert_eq!(admin.get(&path).await.ok()["callers"], in_short(0, "2026-11-25T12:01:00Z"), "nobody was let in");
        let listed = listed(&admin, &format!("clients/{}/credentials", key.client_id)).await;
        assert!(listed.iter().all(|credential| credential.get("callers").is_none()), "{listed:?}");
    }

    async fn whoever_comes_after_the_end_is_still_to_be_moved(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        uses(&server, &key, "press 7").await;
        admin.revoke(&key).await;
        server.clock.advance(MINUTE);
        assert_eq!(ask(&server, &key, "press 7").await.status, StatusCode::UNAUTHORIZED);
        let expiring = json!({ "expires_at": "2026-11-23T12:02:00Z" });
        let expiring = admin.issue(&key.client_id, &expiring).await;
        server.clock.advance(MINUTE);
        assert_eq!(ask(&server, &expiring, "press 8").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(server.form("/introspect", &expiring, &[("token", "x")]).send().await.unwrap().status(), 401);

        let revoked = callers(&admin, &key).await;
        assert_eq!(counts(&revoked), [("press 7", 1, 1)]);
        assert_eq!((&revoked[0]["state"], &revoked[0]["last_seen_at"]), (&json!("revoked"), &json!("2026-11-23T12:01:00Z")));
        let expired = callers(&admin, &expiring).await;
        assert_eq!((expired.len(), &expired[0]["state"]), (2, &json!("expired")), "before anything wrote the end down");
        let refused = listed(&admin, &format!("clients/{}/callers?outcome=refused", key.client_id)).await;
        assert_eq!(refused.len(), 3);
        let accepted = listed(&admin, &format!("clients/{}/callers?outcome=accepted", key.client_id)).await;
        assert_eq!(counts(&accepted), [("press 7", 1, 1)]);
    }

    async fn a_wrong_secret_is_nobody_s_caller(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let credential = Key::parse(&key.client_secret).unwrap().credential;
        let guess = Key::generate(credential, &Entropy::system()).unwrap().reveal().to_string();
        let ended = admin.issue(&key.client_id, &json!({})).await;
        admin.revoke(&ended).await;
        let other = another_client(&admin, &key).await;
        for wrong in [
            Secrets { client_secret: guess, ..key.clone() },
            Secrets { client_secret: "wrong".to_owned(), ..key.clone() },
            // The right secret under another client's name proves nothing.
            Secrets { client_id: other.client_id.clone(), ..ended.clone() },
        ] {
            assert_eq!(ask(&server, &wrong, "guesser").await.status, StatusCode::UNAUTHORIZED);
        }
        assert!(listed(&admin, &format!("clients/{}/callers", key.client_id)).await.is_empty());
        assert!(callers(&admin, &other).await.is_empty());
    }

    async fn whoever_has_the_right_key_uses_it_even_if_what_they_ask_for_is_not_granted(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        for (asked, error) in [
            (("scope", "Admin"), "invalid_scope"),
            (("scope", "\u{7f}"), "invalid_scope"),
            (("resource", "https://nowhere.example"), "invalid_target"),
        ] {
            let refused = server.token_answer(&key, &[asked, ("instance", error)]).await;
            assert_eq!(refused.body["error"], error, "{}", refused.body);
        }
        let found = callers(&admin, &key).await;
        let mut found = counts(&found);
        found.sort_unstable();
        assert_eq!(found, [("invalid_scope", 2, 0), ("invalid_target", 1, 0)]);
        rotate(&admin, &key, json!({})).await;
        let refused = admin.post(&path(&key, "finish"), &json!({})).await;
        assert_eq!(refused.body["callers"].as_array().unwrap().len(), 2, "its end would cut them off: {}", refused.body);
    }

    async fn an_api_that_only_asks_about_tokens_uses_its_key_too(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let (_, of_api) = reporter(&admin, &api_of(&admin, &key).await).await;
        let token = server.token(&key, &[]).await;
        assert_eq!(server.introspect(&of_api, &token).await["active"], true);
        assert_eq!(counts(&callers(&admin, &of_api).await), [("", 1, 0)]);
        let revoke = server.form("/revoke", &key, &[("token", &token), ("instance", "cleaner")]);
        Answer::of(revoke).await.ok();
        assert_eq!(counts(&callers(&admin, &key).await).len(), 2);
    }

    async fn an_instance_is_named_in_the_header_or_in_the_form_and_in_one_way(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        server.token(&key, &[("instance", "hall 3, \u{dc}bergabe")]).await;
        let form = |instance| server.form("/token", &key, &[("grant_type", "client_credentials"), ("instance", instance)]);
        Answer::of(form("same").header("keyward-instance", "same")).await.ok();
        for contradiction in [
            form("one").header("keyward-instance", "two"),
            form("").header("keyward-instance", "one").header("keyward-instance", "two"),
            form("").header("keyward-instance", &b"\xff"[..]),
        ] {
            let answer = Answer::of(contradiction).await;
            assert_eq!((answer.status, &answer.body["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_request")));
        }
        let found = callers(&admin, &key).await;
        let mut names: Vec<_> = found.iter().map(|caller| caller["instance"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["hall 3, \u{dc}bergabe", "same"]);
    }

    async fn no_secret_gets_into_the_report(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let secret = key.client_secret.as_str();
        let form = server.form("/token", &key, &[("grant_type", "client_credentials"), ("instance", secret)]);
        Answer::of(form.header("user-agent", format!("press/2 (key={secret})"))).await.ok();
        uses(&server, &key, &secret[..60]).await;
        let token = server.token(&key, &[("instance", &format!("{}{secret}", "x ".repeat(45)))]).await;
        server.token(&key, &[("instance", &token)]).await;
        let found = json!(callers(&admin, &key).await).to_string();
        assert!(found.contains(&secret[..12]) && found.contains("press/2 (key="), "{found}");
        assert!(!found.contains(&secret[12..24]) && !found.contains(&token[12..40]), "{found}");
    }

    async fn the_report_is_read_page_by_page(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        for n in 0..7 {
            uses(&server, &key, &format!("press {n}")).await;
            // Some at the same instant.
            server.clock.advance(MINUTE * (n % 2));
        }
        let path = format!("/api/v1/credentials/{}/callers", key.credential());
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("{path}?limit=2{cursor}")).await.ok();
            names.extend(counts(page["items"].as_array().unwrap()).into_iter().map(|(name, ..)| name.to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(names[0], "press 6", "the newest first");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 7, "none left out, none twice: {names:?}");
        for wrong in ["cursor=x", "cursor=1.2.3", "limit=0", "since=yesterday", "outcome=lost", "state=active"] {
            assert_eq!(admin.get(&format!("{path}?{wrong}")).await.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }

    async fn callers_are_seen_by_those_who_see_the_key(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (_, sam) = person(&admin, &server, "sam", "keyward:self").await;
        let (_, support) = person(&admin, &server, "sue", "keyward:support").await;
        let api = admin.new_api("https://stock.example", &["Worker"]).await;
        let client = hers.new_client(json!({ "scope": "Worker", "res": ["plant/7"], "apis": [api] })).await;
        let key = hers.issue(&client, &json!({ "label": "PLC" })).await;
        uses(&server, &key, "press 7").await;
        let paths = [
            format!("credentials/{}/callers", key.credential()),
            format!("clients/{client}/callers"),
            format!("users/{}/callers", olga["id"].as_str().unwrap()),
        ];
        for path in &paths {
            for allowed in [&admin, &hers, &support] {
                let found = listed(allowed, path).await;
                assert!(found.iter().any(|caller| caller["label"] == "PLC" && caller["instance"] == "press 7"), "{path}");
            }
            assert_eq!(sam.get(&format!("/api/v1/{path}")).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(listed(&hers, "users/me/callers").await.len(), 2, "the key of her own API client is hers too");
        for unknown in ["credentials/cred_01h455vb4pex5vsknk084sn02q/callers", "clients/x/callers"] {
            assert_eq!(admin.get(&format!("/api/v1/{unknown}")).await.status, StatusCode::NOT_FOUND);
        }
    }

    async fn callers_go_with_their_client(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        uses(&server, &key, "written down").await;
        callers(&admin, &key).await;
        uses(&server, &key, "not yet").await;
        assert_eq!(admin.delete(&format!("/api/v1/clients/{}", key.client_id)).await.status, StatusCode::NO_CONTENT);
        server.app.callers.flush().await.unwrap();
        let mine = listed(&admin, "users/me/callers").await;
        assert!(mine.iter().all(|caller| caller["client"] != key.client_id.as_str()), "{mine:?}");
    }

    async fn a_gateway_reports_whom_it_sees(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let gateway = gateway(&admin, &server, &api_of(&admin, &key).await).await;
        let entry = |network: &str, count: i64| json!({
            "credential": key.credential(), "network": network, "user_agent": "press/2", "instance": "press 7",
            "first_seen_at": "2026-11-23T11:50:00Z", "last_seen_at": "2026-11-23T12:00:30Z", "count": count,
        });
        let report = json!({ "callers": [entry("192.0.2.7", 40), entry("2001:db8::7", 1), entry("192.0.2.7", 2)] });
        assert_eq!(gateway.post("/api/v1/callers", &report).await.ok(), json!({ "counted": 3, "unknown": 0 }));
        let found = callers(&admin, &key).await;
        assert_eq!(found.len(), 2);
        let busy = found.iter().find(|caller| caller["network"] == "192.0.2.7").unwrap();
        assert_eq!((&busy["accepted"], &busy["reporter"]), (&json!(42), &json!(gateway.secrets.client_id)));
        assert_eq!(busy["first_seen_at"], "2026-11-23T11:50:00Z");
        assert_eq!(busy["last_seen_at"], "2026-11-23T12:00:00Z", "a clock that is a little ahead is set right");
        assert_eq!(found.iter().filter(|caller| caller["network"] == "2001:db8::/64").count(), 1);
    }

    async fn a_report_that_comes_late_takes_nothing_back(server: TestServer) {
        let admin = server.admin().await;
        let first = admin.orders_key().await;
        let gateway = gateway(&admin, &server, &api_of(&admin, &first).await).await;
        let newer = ("2026-11-23T11:50:00Z", "2026-11-23T11:59:59Z", 40);
        let older = ("2026-11-23T11:30:00Z", "2026-11-23T11:40:00Z", 2);
        for (order, is_one_report) in [([newer, older], false), ([older, newer], false), ([newer, older], true), ([older, newer], true)] {
            let key = admin.issue(&first.client_id, &json!({})).await;
            let entries = order.map(|(from, to, count)| json!({
                "credential": key.credential(), "network": "192.0.2.7",
                "first_seen_at": from, "last_seen_at": to, "count": count,
            }));
            for report in entries.chunks(if is_one_report { 2 } else { 1 }) {
                gateway.post("/api/v1/callers", &json!({ "callers": report })).await.ok();
            }
            let found = callers(&admin, &key).await;
            assert_eq!(counts(&found), [("", 42, 0)]);
            let seen = (&found[0]["first_seen_at"], &found[0]["last_seen_at"]);
            assert_eq!(seen, (&json!(older.0), &json!(newer.1)), "{order:?} {is_one_report}");
        }
    }

    async fn what_others_report_hides_nobody_whom_the_server_sees(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let gateway = gateway(&admin, &server, &api_of(&admin, &key).await).await;
        let entry = |n: usize| json!({
            "credential": key.credential(), "network": "192.0.2.7", "instance": format!("made up {n}"),
            "last_seen_at": "2026-11-23T12:00:00Z", "count": 1,
        });
        let report = |many: usize| json!({ "callers": (0..many).map(entry).collect::<Vec<_>>() });
        gateway.post("/api/v1/callers", &report(70)).await.ok();
        admin.post("/api/v1/callers", &report(1)).await.ok();
        server.clock.advance(MINUTE);
        for n in 0..66 {
            uses(&server, &key, &format!("press {n}")).await;
        }
        let all = listed(&admin, &format!("credentials/{}/callers?limit=200", key.credential())).await;
        let by = |reporter: Value| all.iter().filter(move |caller| caller["reporter"] == reporter);
        let together = |reporter: &Value| by(reporter.clone()).find(|c| c["network"] == "").map(|c| c["accepted"].clone());
        let (gateways, admins) = (json!(gateway.secrets.client_id), json!(admin.secrets.client_id));
        for (reporter, entries, beyond) in [(json!(null), 65, Some(json!(2))), (gateways, 65, Some(json!(6))), (admins, 1, None)] {
            assert_eq!((by(reporter.clone()).count(), together(&reporter)), (entries, beyond), "{reporter}");
        }

        // Whoever is to be moved is named first, and beside the others stands whose word it is.
        let (gateways, admins) = (&gateway.secrets.client_id, &admin.secrets.client_id);
        rotate(&admin, &key, json!({})).await;
        let finish = path(&key, "finish");
        let refused = admin.post(&finish, &json!({})).await;
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.starts_with("131 callers used this credential in the last 24 h ("), "{detail}");
        for said in [format!("65 of them as {gateways} reports"), format!("1 of them as {admins} reports")] {
            assert!(detail.contains(&said), "{detail}");
        }
        let named = refused.body["callers"].as_array().unwrap();
        assert!(named.len() == 20 && named.iter().all(|caller| caller["reporter"].is_null()), "{named:?}");
        server.clock.advance(Duration::from_secs(24 * 3600 + 1));
        let admin = server.api(&admin.secrets).await;
        let alone = json!({ "callers": [{ "credential": key.credential(), "network": "192.0.2.7", "count": 1,
                                          "last_seen_at": "2026-11-24T12:00:30Z" }] });
        admin.post("/api/v1/callers", &alone).await.ok();
        let refused = admin.post(&finish, &json!({})).await;
        assert_eq!(refused.body["detail"], format!("1 caller used this credential in the last 24 h (1 of them as {admins} reports): \
                                                    move them to its successor, or end it under them with force"));
        assert_eq!(refused.body["callers"][0]["reporter"], json!(admins));
    }

    async fn a_report_repeated_under_one_key_counts_once_and_is_answered_alike(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let gateway = gateway(&admin, &server, &api_of(&admin, &key).await).await;
        let of = |credential: String, count: i64| json!({
            "credential": credential, "network": "192.0.2.7", "last_seen_at": "2026-11-23T12:00:00Z", "count": count,
        });
        let nobody = "cred_01h455vb4pex5vsknk084sn02q".to_owned();
        let report = json!({ "callers": [of(key.credential(), 40), of(nobody, 1)] });
        let send = async |report: &Value| {
            let request = gateway.request(reqwest::Method::POST, "/api/v1/callers").header("idempotency-key", "minute 12:00");
            Answer::of(request.json(report)).await
        };
        let (one, two) = tokio::join!(send(&report), send(&report));
        for answer in [one, two, send(&report).await] {
            assert_eq!(answer.ok(), json!({ "counted": 1, "unknown": 1 }));
        }
        assert_eq!(counts(&callers(&admin, &key).await), [("", 40, 0)]);
        let other = send(&json!({ "callers": [of(key.credential(), 41)] })).await;
        assert_eq!(other.status, StatusCode::CONFLICT, "{}", other.body);
        gateway.post("/api/v1/callers", &report).await.ok();
        assert_eq!(counts(&callers(&admin, &key).await), [("", 80, 0)], "without a key each report counts");
    }

    async fn a_reporter_is_believed_about_the_keys_of_its_own_api_only(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let strangers = another_client(&admin, &key).await;
        let foreign = admin.new_api("https://foreign.example", &["Worker"]).await;
        let gateway = gateway(&admin, &server, &foreign).await;
        let of = |credential: String| json!({
            "credential": credential, "network": "192.0.2.7", "last_seen_at": "2026-11-23T12:00:00Z", "count": 1,
        });
        let nobody = "cred_01h455vb4pex5vsknk084sn02q".to_owned();
        let report = json!({ "callers": [of(key.credential()), of(nobody), of(strangers.credential())] });
        assert_eq!(gateway.post("/api/v1/callers", &report).await.ok(), json!({ "counted": 0, "unknown": 3 }));
        assert_eq!(admin.post("/api/v1/callers", &report).await.ok(), json!({ "counted": 2, "unknown": 1 }));
        assert_eq!(callers(&admin, &key).await[0]["reporter"], admin.secrets.client_id);

        let (_, olga) = person(&admin, &server, "olga", "keyward:support").await;
        let refused = olga.post("/api/v1/callers", &report).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "whoever merely sees a key does not report on it");
    }

    async fn a_report_of_five_hundred_long_entries_is_read(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let entry = |n: usize| json!({
            "credential": key.credential(), "network": format!("2001:db8:aaaa:{n:04x}::/64"), "instance": "i".repeat(100),
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
            "first_seen_at": "2026-11-23T11:50:00.000Z", "last_seen_at": "2026-11-23T12:00:00.000Z", "count": 1_000_000,
        });
        let report = json!({ "callers": (0..500).map(entry).collect::<Vec<_>>() });
        let counted = admin.post("/api/v1/callers", &report).await.ok();
        assert_eq!(counted, json!({ "counted": 500, "unknown": 0 }));
    }

    async fn a_report_that_cannot_be_true_counts_for_nothing(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let good = json!({
            "credential": key.credential(), "network": "192.0.2.7", "last_seen_at": "2026-11-23T12:00:00Z", "count": 1,
        });
        for (field, value) in [
            ("last_seen_at", json!("2026-11-23T12:01:01Z")),
            ("last_seen_at", json!("2026-08-25T11:59:59Z")),
            ("first_seen_at", json!("2026-08-25T11:59:59Z")),
            ("first_seen_at", json!("2026-11-23T12:00:01Z")),
            ("first_seen_at", json!("1970-01-01T00:00:00Z")),
            ("network", json!("somewhere")),
            ("count", json!(0)),
            ("count", json!(-5)),
            ("count", json!(1_000_000_001)),
        ] {
            let mut wrong = good.clone();
            wrong[field] = value;
            let answer = admin.post("/api/v1/callers", &json!({ "callers": [good, wrong] })).await;
            assert_eq!((answer.status, &answer.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(field)));
            assert!(answer.body["detail"].as_str().unwrap().starts_with("entry 2: "), "{}", answer.body);
        }
        let short = json!({ "credential": key.credential(), "network": "::1", "last_seen_at": "2026-11-23T12:00:00Z", "count": 1 });
        let many = json!({ "callers": vec![short; 501] });
        assert_eq!(admin.post("/api/v1/callers", &many).await.body["field"], "callers");
        assert!(callers(&admin, &key).await.is_empty());
    }
}
