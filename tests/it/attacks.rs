//! Attacks on the device flow (RFC 8628 §5, RFC 10027): each is tried, and each comes to nothing.
//!
//! What a story elsewhere shows already is not told twice: docs/bcp-247.md names them all.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use keyward_model::id::UserId;
use keyward_model::user_code::CODES;
use keyward_server::device_grants::{Refusal, Visitor as Browser, claim};
use keyward_tests::devices::DEVICE_CODE;
use keyward_tests::keyward::Process;
use keyward_tests::on_both_databases;
use keyward_tests::person::{Person, text};
use keyward_tests::server::{Answer, TestServer};
use keyward_tests::visitor::{PASSWORD, Visitor};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::device_pages::{GRANT_COOKIE, answers, display, hidden, person, refusal, says_yes, shows, types};
use crate::status_list::claims;

/// How many devices are in this state.
async fn in_state(server: &TestServer, state: &str) -> i64 {
    server.count(&format!("SELECT count(*) FROM device_grants WHERE state = '{state}'")).await
}

/// Has as many further devices ask as the one that does, all at once and behind the server's back.
async fn open_codes(server: &TestServer, many: u32) {
    let (series, id, hash) = if server.database_url().is_some() {
        let series = format!("SELECT n FROM generate_series(1, {many}) AS n");
        (series, "lpad(n::text, 26, '0')", "convert_to('device ' || n, 'UTF8')")
    } else {
        let series =
            format!("WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {many}) SELECT n FROM s");
        (series, "printf('%026d', n)", "CAST('device ' || n AS BLOB)")
    };
    let sql = format!(
        "INSERT INTO device_grants (id, device_code_hash, user_code_mac, client, scope, res, label, network, user_agent, \
         confirmation, interval_s, state, wrong, created_at, expires_at, version) \
         SELECT 'grant_' || {id}, {hash}, {hash}, client, scope, res, label, network, user_agent, \
         confirmation, interval_s, state, wrong, created_at, expires_at, version FROM device_grants, ({series}) AS series"
    );
    server.execute(&sql).await;
}

/// One of many who guess: five from one account, twenty from one network.
fn guesser(server: &TestServer, users: &[UserId], nth: usize) -> Browser {
    let network = u32::from_be_bytes([198, 18, 0, 0]) + u32::try_from(nth / 20).unwrap();
    Browser { network: IpAddr::V4(Ipv4Addr::from(network)).into(), ..server.browser_of(&users[nth / 5].to_string()) }
}

on_both_databases! {
    async fn nothing_is_let_in_by_a_request_that_only_reads_whatever_it_says(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let question = types(&olga, device.user_code()).await;
        let said = format!(
            "answer=yes&here=1&compared=yes&code={}&grant={}&form_token={}",
            device.user_code(), hidden(&question, "grant"), olga.get("/account").await.form_token(),
        );
        for path in [&*device.link(), "/device", "/device/confirm", "/device/decision", "/device/done", "/device/undo"] {
            for method in [Method::GET, Method::HEAD] {
                let request = server.http.request(method, olga.url(&format!("{path}?{said}")));
                olga.send(request.header("sec-purpose", "prefetch").header("sec-fetch-site", "same-origin")).await;
            }
        }
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            let request = server.http.request(method, olga.url(&format!("/device/decision?{said}")));
            let refused = olga.send(request.header("sec-fetch-site", "same-origin")).await;
            assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
        }
        assert_eq!(in_state(&server, "claimed").await, 1, "it is as it was before");
        assert_eq!(refusal(&server, &device).await, "authorization_pending");
    }

    async fn a_forged_form_decides_nothing_whoever_it_comes_from(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let (olga, mallory) = (person(&server, &admin, "olga").await, person(&server, &admin, "mallory").await);
        let elsewhere = Visitor::new(&server);
        elsewhere.sign_in("olga", PASSWORD).await.leads_to("/account");
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let question = types(&olga, device.user_code()).await;
        let (grant, offer) = (hidden(&question, "grant"), hidden(&question, "offer"));
        let own = olga.get("/account").await.form_token();
        let others = [mallory.get("/account").await.form_token(), elsewhere.get("/account").await.form_token()];
        let form = |token: &str| {
            let said = [("answer", "yes"), ("here", "1"), ("grant", &*grant), ("offer", &*offer)];
            let said = said.into_iter().chain([("code", device.user_code()), ("form_token", token)]);
            said.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
        };
        let post = |path: &str, token: &str| server.http.post(olga.url(path)).form(&form(token));
        let own_page = |request: RequestBuilder| request.header("sec-fetch-site", "same-origin");
        for path in ["/device", "/device/decision", "/device/undo", "/device/switch", "/account/devices/end"] {
            let mut forged = vec![
                post(path, &own),
                post(path, &own).header("origin", "https://evil.example"),
                post(path, &own).header("origin", "null"),
                post(path, &own).header("origin", format!("{}.evil.example", server.url())),
            ];
            forged.extend(["cross-site", "same-site", "none"].map(|site| post(path, &own).header("sec-fetch-site", site)));
            forged.extend(others.iter().map(String::as_str).chain(["", &own[1..]]).map(|token| own_page(post(path, token))));
            for request in forged {
                olga.send(request).await.is_refused(StatusCode::FORBIDDEN, "This form is too old");
            }
            // A form that another origin can send without being asked, in the only other ways there are.
            for kind in ["text/plain", "multipart/form-data; boundary=x", "application/json"] {
                let body = form(&own).iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
                let request = server.http.post(olga.url(path)).header("content-type", kind).body(body);
                assert!(olga.send(own_page(request)).await.status.is_client_error(), "{path} {kind}");
            }
        }
        assert_eq!((in_state(&server, "claimed").await, olga.is_signed_in().await), (1, true));
        olga.send(post("/device/decision", &own).header("origin", server.url())).await.leads_to("/device/done");
        server.poll(&device, &[]).await.ok();
    }

    async fn what_is_let_in_is_what_was_shown_although_the_client_s_owner_changes_it(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let gives = async |scope: &str| {
            admin.patch(&format!("/api/v1/clients/{tv}"), &json!({ "device_grant": { "scope": scope } })).await.ok();
        };
        gives("Worker").await;
        let question = types(&olga, device.user_code()).await;
        shows(&question, &["<strong>Worker</strong>"]);
        gives("Supervisor").await;
        let more = answers(&olga, &question, "yes", true).await;
        more.is_refused(StatusCode::CONFLICT, "has changed since you opened this page");
        shows(&more, &["<strong>Supervisor</strong>", "name=\"answer\" value=\"no\""]);
        assert_eq!(in_state(&server, "claimed").await, 1);
        gives("Worker").await;
        // Nor by a form that leaves it out.
        let silent = olga.submit("/device/decision", &[("grant", &hidden(&question, "grant")), ("answer", "yes")]).await;
        silent.is_refused(StatusCode::CONFLICT, "has changed since you opened this page");
        says_yes(&olga, &silent).await;
        gives("Supervisor").await;
        let token = server.poll(&device, &[]).await.ok()["access_token"].as_str().unwrap().to_owned();
        assert_eq!(claims(&token)["scope"], "Worker", "what was approved does not grow");
    }

    async fn what_was_let_in_and_has_not_come_yet_ends_with_everything_else(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let (olga, sam) = (person(&server, &admin, "olga").await, person(&server, &admin, "sam").await);
        let (device, his) = (server.device(&tv, &[("device_label", "TV")]).await, server.device(&tv, &[]).await);
        // Somebody at her open browser lets a device of theirs in, which waits until she has looked.
        let open = olga.copy();
        let question = types(&open, device.user_code()).await;
        says_yes(&open, &question).await;
        says_yes(&sam, &types(&sam, his.user_code()).await).await;
        shows(&olga.get("/account/devices").await, &["Nothing acts for you on a device."]);
        olga.submit("/account/devices/end", &[]).await.leads_to("/account/devices?done=all-ended");
        assert_eq!(refusal(&server, &device).await, "access_denied");
        let events = admin.get(&format!("/api/v1/events?subject={}", hidden(&question, "grant"))).await.ok();
        let last = events["items"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["kind"], &last["data"]["reason"]), (&json!("device_grant.denied"), &json!("undone")));
        server.poll(&his, &[]).await.ok();
    }

    async fn twenty_guesses_are_all_of_one_network_whoever_makes_them_and_whatever_address_they_claim(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        for (nth, name) in ["ada", "bea", "cleo", "dora"].into_iter().enumerate() {
            drop(person(&server, &admin, name).await);
            let by = Visitor::at(&server, &format!("198.51.100.{nth}"));
            by.sign_in(name, PASSWORD).await.leads_to("/account");
            let own = server.device(&tv, &[]).await;
            for wrong in ["BBBB-BBBB", "CCCC-CCCC", own.user_code(), "DDDD-DDDD", "FFFF-FFFF", "rubbish"] {
                let answer = by.submit("/device", &[("code", wrong)]).await;
                let right = wrong == own.user_code();
                assert_eq!(answer.status == StatusCode::SEE_OTHER, right, "a right one is not charged: {}", answer.html);
                assert!(right || answer.status == StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.html);
            }
            let sixth = by.submit("/device", &[("code", own.user_code())]).await;
            sixth.is_refused(StatusCode::TOO_MANY_REQUESTS, "too many wrong codes");
        }
        let olga = person(&server, &admin, "olga").await;
        for _ in 0..2 {
            let stopped = olga.submit("/device", &[("code", device.user_code())]).await;
            stopped.is_refused(StatusCode::TOO_MANY_REQUESTS, "too many wrong codes");
            assert_eq!(stopped.header("retry-after"), "30");
        }
        server.clock.advance(Duration::from_secs(30));
        says_yes(&olga, &types(&olga, device.user_code()).await).await;
    }

    async fn ten_thousand_open_codes_are_guessed_with_a_chance_of_one_in_a_thousand_and_then_nobody_guesses(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        open_codes(&server, 10_000).await;
        let open = u64::try_from(in_state(&server, "pending").await).unwrap();
        assert_eq!(open, 10_001);
        // All of them at once, each within the budgets of account and network.
        let now = server.clock.now();
        let users: Vec<_> = (0..600).map(|_| UserId::new(now, &server.app.entropy).unwrap()).collect();
        let guesses = (0..3_000).map(|nth| {
            let (app, by) = (&server.app, guesser(&server, &users, nth));
            async move { claim(app, &by, "BBBB-BBBB", true).await }
        });
        let answers = join_all(guesses).await;
        let told = |is: fn(&Refusal) -> bool| answers.iter().filter(|a| a.as_ref().is_err_and(is)).count();
        let (wrong, stopped) = (told(|r| matches!(r, Refusal::Unknown)), told(|r| matches!(r, Refusal::TooMany(_))));
        assert_eq!(wrong + stopped, answers.len());
        assert_eq!(u64::try_from(wrong).unwrap(), CODES / 1000 / open, "their chance to hit one of so many: one in 1000");
        // From now on not even a right code counts, from anywhere, until the ten minutes are over.
        let held = olga.submit("/device", &[("code", device.user_code())]).await;
        held.is_refused(StatusCode::TOO_MANY_REQUESTS, "too many wrong codes");
        assert_eq!(held.header("retry-after"), "600");
        assert_eq!(refusal(&server, &device).await, "authorization_pending");
        server.clock.advance(Duration::from_secs(600));
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        says_yes(&olga, &types(&olga, device.user_code()).await).await;
        server.poll(&device, &[]).await.ok();
    }

    async fn whoever_collects_codes_gets_sixty_at_once_and_hinders_no_other_network(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let asked = join_all((0..70).map(|_| server.ask(&tv, &[]))).await;
        let (got, refused): (Vec<_>, Vec<_>) = asked.iter().partition(|answer| answer.status == StatusCode::OK);
        assert_eq!((got.len(), refused.len()), (60, 10));
        for answer in refused {
            assert_eq!((answer.error(), answer.header("retry-after")), ((429, "temporarily_unavailable"), "2"));
        }
        server.device_elsewhere(&tv, &[]).await;
        server.clock.advance(Duration::from_secs(2));
        server.device(&tv, &[]).await;
        assert_eq!(server.ask(&tv, &[]).await.status, StatusCode::TOO_MANY_REQUESTS);
    }

    async fn what_a_device_and_its_client_are_called_is_text_and_makes_nobody_trusted(server: TestServer) {
        let admin = server.admin().await;
        let (olga, mallory) = (person(&server, &admin, "olga").await, person(&server, &admin, "mallory").await);
        drop(mallory);
        let owner = crate::login::user_id(&admin, "mallory").await;
        let name = "Keyward</dd> <span class=\"badge good\">from your administrators</span>";
        let tv = admin.new_tv(json!({ "name": name, "owner": owner })).await;
        let label = "TV\"><script src=//evil.example></script>\u{202e}\r\n<form action=/account/devices/end method=post>";
        let device = server.device(&tv, &[("device_label", label)]).await;
        let question = types(&olga, device.user_code()).await;
        shows(&question, &["unverified app", "TV&#34;&#62;&#60;script", "Keyward&#60;/dd&#62;"]);
        for part in ["<script src=//", "<form action=/account", "class=\"badge good\"", "\u{202e}"] {
            assert!(!question.html.contains(part), "{part:?} is in {}", question.html);
        }
        says_yes(&olga, &question).await;
        server.poll(&device, &[]).await.ok();
        for page in [olga.get("/device/done").await, olga.get("/account/devices").await] {
            assert!(page.html.contains("TV&#34;") && !page.html.contains("<script src=//"), "{}", page.html);
        }
    }

    async fn no_answer_on_the_way_stands_in_a_frame_or_a_cache_or_tells_where_it_was(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let (olga, sam) = (person(&server, &admin, "olga").await, person(&server, &admin, "sam").await);
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let mut answered = vec![Visitor::new(&server).get(&device.link()).await, Visitor::new(&server).get("/device").await];
        answered.push(olga.get(&device.link()).await);
        answered.push(olga.get("/device").await);
        answered.push(olga.submit("/device", &[("code", "BBBB-BBBB")]).await);
        answered.push(olga.submit("/device", &[("code", device.user_code())]).await);
        let question = olga.get("/device/confirm").await;
        answered.push(olga.submit("/device/decision", &[("answer", "yes")]).await);
        answered.push(olga.post("/device/decision", &[("answer", "yes")]).await);
        answered.push(answers(&olga, &question, "yes", true).await);
        answered.push(sam.submit("/device", &[("code", device.user_code())]).await);
        answered.extend([question, olga.get("/device/done").await, sam.get("/device/confirm").await]);
        answered.extend([olga.get("/account/devices").await, sam.get("/device/status").await]);
        for page in answered {
            let policy = page.header("content-security-policy");
            assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self';"), "{page:?}");
            assert_eq!((page.header("x-frame-options"), page.header("cache-control")), ("DENY", "no-store"), "{page:?}");
            assert_eq!(page.header("referrer-policy"), "no-referrer", "{page:?}");
            assert_eq!(page.header("cross-origin-opener-policy"), "same-origin", "{page:?}");
        }
    }
}

/// All that must not be repeated of a device's way in, and every header that browser and device were given.
#[derive(Default)]
struct Heard {
    secrets: Vec<String>,
    headers: String,
}

impl Heard {
    fn keep(&mut self, value: &Value) -> String {
        self.secrets.push(text(value));
        text(value)
    }

    async fn form(&mut self, url: String, form: &[(&str, &str)]) -> Value {
        let answer = Answer::of(keyward_tests::http().post(url).form(form)).await;
        self.headers.push_str(&format!("{:?}", answer.headers));
        answer.body
    }
}

#[tokio::test]
async fn no_log_and_no_header_has_a_secret_of_a_device_that_is_signed_in() {
    let process = Process::serve(&[("KEYWARD_LOG_LEVEL", "trace"), ("KEYWARD_LOG_FORMAT", "json")]).await;
    let admin = Person::administrator(&process);
    admin.does(&["api", "create", "plant", "--audience", "https://plant.example/api", "--scope", "Worker"]);
    let tv = ["client", "create", "tv", "--public", "--scope", "Worker", "--res", "plant", "--api", "plant"];
    let tv = text(&admin.json(&[&tv[..], &["--device-grant", "on"]].concat())["id"]);
    admin.does(&["user", "create", "olga", "--scope", "Worker", "--res", "plant"]);
    let http = keyward_tests::http();
    let (olga, mut heard) = (Visitor::of(&http, process.url()), Heard::default());
    let link = text(&admin.json(&["user", "invite", "olga"])["link"]);
    olga.accept(&link, PASSWORD).await.leads_to("/account?done=invited");
    let (ask, token, revoke) = ["/auth/device", "/token", "/revoke"].map(|path| olga.url(path)).into();

    let asked = heard.form(ask, &[("client_id", &tv), ("device_label", "TV")]).await;
    let (device, user) = (heard.keep(&asked["device_code"]), heard.keep(&asked["user_code"]));
    heard.secrets.extend([user.replace('-', ""), user.to_lowercase(), user.replace('-', "%20")]);
    let mut pages = vec![olga.get(&format!("/D/{user}")).await, olga.get("/device").await];
    pages.push(olga.submit("/device", &[("code", &format!("{user}B"))]).await);
    pages.push(olga.submit("/device", &[("code", &user)]).await);
    let question = olga.get("/device/confirm").await;
    pages.push(answers(&olga, &question, "yes", true).await);
    pages.extend([question, olga.get("/device/done").await]);
    let grant = DEVICE_CODE;
    let poll = [("grant_type", grant), ("client_id", &tv), ("device_code", &device)];
    let tokens = heard.form(token.clone(), &poll).await;
    heard.secrets.push(text(&tokens["access_token"]).rsplit('.').next().unwrap().to_owned());
    let refresh = heard.keep(&tokens["refresh_token"]);
    let form = [("grant_type", "refresh_token"), ("client_id", &tv), ("refresh_token", &refresh)];
    let next = heard.form(token.clone(), &form).await;
    let next = heard.keep(&next["refresh_token"]);
    // Each where another belongs, in a URL too, and twice.
    heard.form(token.clone(), &poll).await;
    heard.form(token.clone(), &[("grant_type", grant), ("client_id", &tv), ("device_code", &next)]).await;
    heard.form(format!("{token}?refresh_token={next}&device_code={device}&user_code={user}"), &form).await;
    heard.form(format!("{}?token={device}", revoke), &[("client_id", &tv), ("token", &next)]).await;
    for page in &pages {
        heard.headers.push_str(&format!("{:?}", page.headers));
    }

    let (log, headers) = (process.log(), heard.headers.replace(&olga.cookie(GRANT_COOKIE).unwrap(), ""));
    assert!(log.contains("/device/decision") && log.contains("a code was entered with which no device asks"), "{log}");
    heard.secrets.extend([olga.cookie(GRANT_COOKIE).unwrap(), olga.get("/account").await.form_token()]);
    for secret in &heard.secrets {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!headers.contains(secret), "{secret} is in a header");
    }
}

/// What stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The text of all Rust files below.
fn sources(below: &Path) -> String {
    let entries = fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn every_test_and_file_that_the_page_on_bcp_247_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/bcp-247.md")).unwrap();
    let sources = ["tests/it", "crates/server/src"].map(|below| sources(&root.join(below))).concat();
    let is_test = |name: &&str| name.matches('_').count() > 3 && !name.contains(['/', '-']);
    let mut named = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let shown_by = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let tests: Vec<_> = quoted(shown_by).filter(is_test).collect();
        assert!(!tests.is_empty() || row.contains("**Not built.**"), "nothing shows it: {row}");
        for test in &tests {
            assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
        }
        named += tests.len();
    }
    assert!(named > 40, "{named}");
    for path in quoted(&page).filter(|path| path.starts_with("crates/")) {
        assert!(root.join(path).is_file(), "there is no {path}");
    }
}
