//! Signing a device in with a browser (RFC 8628 §3.3): what is asked, what is shown, and what nobody gets past (RFC 10027).

use std::time::Duration;

use keyward_tests::authenticator::Device as Authenticator;
use keyward_tests::devices::Device;
use keyward_tests::keyward::Process;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, Db, TestServer};
use keyward_tests::visitor::{LOGIN_COOKIE, PASSWORD, PageSeen, Visitor};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::login::user_id;
use crate::passkeys;

/// What a browser keeps from the first page to the last.
pub(crate) const GRANT_COOKIE: &str = "__Host-keyward-grant";
const ANOTHER: &str = "/login?continue=/device&again=other";

/// Somebody with rights, signed in.
pub(crate) async fn person<'a>(server: &'a TestServer, admin: &Api<'_>, name: &str) -> Visitor<'a> {
    let visitor = Visitor::invited(server, admin, name).await;
    let user = user_id(admin, name).await;
    let rights = json!({ "scope": "Supervisor", "res": ["plant/7"] });
    admin.patch(&format!("/api/v1/users/{user}"), &rights).await.ok();
    visitor
}

/// A public client through which devices are signed in so; its owner is an administrator.
pub(crate) async fn display(admin: &Api<'_>, device_grant: Value) -> String {
    admin.new_tv(json!({ "name": "Hall display", "scope": "Admin", "device_grant": device_grant })).await
}

/// A client through which devices manage Keyward, and somebody who may let them.
pub(crate) async fn administration(admin: &Api<'_>, name: &str) -> String {
    let rights = json!({ "scope": "keyward:self", "res": ["*"] });
    admin.patch(&format!("/api/v1/users/{}", user_id(admin, name).await), &rights).await.ok();
    let apis = [crate::authority::own_api(admin).await];
    let cli = json!({
        "name": "cli", "kind": "public", "scope": "keyward:self", "res": ["*"], "apis": apis, "device_grant": {},
    });
    admin.new_client(cli).await
}

/// Types a code and gets to the question.
pub(crate) async fn types(visitor: &Visitor<'_>, code: &str) -> PageSeen {
    visitor.submit("/device", &[("code", code)]).await.leads_to("/device/confirm");
    visitor.get("/device/confirm").await
}

/// What the form of the question carries.
pub(crate) fn hidden(question: &PageSeen, name: &str) -> String {
    let named = format!("name=\"{name}\" value=\"");
    let found = question.html.split(&*named).nth(1).and_then(|rest| rest.split('"').next());
    found.unwrap_or_else(|| panic!("no question: {question:?}")).to_owned()
}

/// What the question is about.
fn grant(question: &PageSeen) -> String {
    hidden(question, "grant")
}

pub(crate) async fn answers(visitor: &Visitor<'_>, question: &PageSeen, answer: &str, here: bool) -> PageSeen {
    let (grant, offer) = (grant(question), hidden(question, "offer"));
    let mut form = vec![("grant", &*grant), ("offer", &*offer), ("answer", answer)];
    form.extend(here.then_some(("here", "1")));
    visitor.submit("/device/decision", &form).await
}

pub(crate) async fn says_yes(visitor: &Visitor<'_>, question: &PageSeen) {
    answers(visitor, question, "yes", true).await.leads_to("/device/done");
}

pub(crate) async fn refusal(server: &TestServer, device: &Device) -> Value {
    server.poll(device, &[]).await.body["error"].clone()
}

async fn kinds(admin: &Api<'_>, grant: &str) -> Vec<String> {
    let told = admin.get(&format!("/api/v1/events?subject={grant}")).await.ok();
    let kinds = told["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned());
    kinds.collect()
}

pub(crate) fn shows(page: &PageSeen, texts: &[&str]) {
    for text in texts {
        assert!(page.html.contains(text), "{text:?} is not in {}", page.html);
    }
}

on_both_databases! {
    async fn whoever_types_the_code_is_asked_and_the_device_is_signed_in(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        drop(person(&server, &admin, "olga").await);
        let olga = Visitor::new(&server);
        let device = server.device(&tv, &[("device_label", "Living-room TV")]).await;
        olga.get("/device").await.leads_to("/login?continue=/device");
        olga.post("/login", &[("name", "olga"), ("password", PASSWORD), ("continue", "/device")]).await.leads_to("/device");
        shows(&olga.get("/device").await, &["Enter the code that the device shows.", "autocapitalize=\"characters\""]);
        let typed = format!(" {} ", device.user_code().to_lowercase().replace('-', " \u{2013} "));
        let question = types(&olga, &typed).await;
        shows(&question, &[
            "Is it in front of you?", "Living-room TV", "Hall display", "from your administrators", "127.0.0.1",
            "Both are in the same network.", "less than a minute ago", "<strong>Supervisor</strong> – Supervise",
            "<code>plant/7</code>", "<strong>olga</strong>",
        ]);
        assert!(!question.html.contains(device.user_code()), "to compare what was typed teaches nothing");
        assert!(!question.html.contains("type=\"checkbox\""), "in one network, one tap");
        let (no, yes) = (question.html.find("value=\"no\"").unwrap(), question.html.find("value=\"yes\"").unwrap());
        assert!(no < yes, "no stands first");

        says_yes(&olga, &question).await;
        let done = olga.get("/device/done").await;
        shows(&done, &["Go back to the device", "data-state=\"approved\"", "See whether it is signed in"]);
        let tokens = server.poll(&device, &[]).await.ok();
        assert_eq!(crate::status_list::claims(tokens["access_token"].as_str().unwrap())["res"], json!(["plant/7"]));
        shows(&olga.get("/device/done").await, &["Living-room TV is signed in", "Undo"]);
        shows(&olga.get("/account/devices").await, &["Living-room TV", "Hall display"]);
        olga.get("/device/confirm").await.leads_to("/device/done");
    }

    async fn no_asks_nothing_and_the_device_is_told(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "")]).await;
        let question = types(&olga, device.user_code()).await;
        answers(&olga, &question, "no", false).await.leads_to("/device/done");
        shows(&olga.get("/device/done").await, &["The device is not let in"]);
        assert_eq!(refusal(&server, &device).await, "access_denied");
        assert_eq!(kinds(&admin, &grant(&question)).await, ["device_grant.claimed", "device_grant.denied"]);
        answers(&olga, &question, "yes", true).await.leads_to("/device/done");
        assert_eq!(refusal(&server, &device).await, "access_denied", "no is final");
    }

    async fn a_link_survives_the_login_and_its_code_is_compared_and_stands_in_no_url(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let phone = Visitor::new(&server);
        let landed = phone.get(&device.link()).await;
        landed.leads_to("/device");
        assert!(landed.html.is_empty(), "nobody who is not signed in learns of it: {}", landed.html);
        assert_eq!(landed.header("referrer-policy"), "no-referrer");
        phone.get("/device").await.leads_to("/login?continue=/device");
        let wrong = phone.post("/login", &[("name", "olga"), ("password", "wrong"), ("continue", "/device")]).await;
        wrong.is_refused(StatusCode::FORBIDDEN, "Name or password is wrong.");
        server.clock.advance(Duration::from_secs(9 * 60));
        phone.post("/login", &[("name", "olga"), ("password", PASSWORD), ("continue", "/device")]).await.leads_to("/device");
        let compare = phone.get("/device").await;
        shows(&compare, &["Does the device show this code?", device.user_code()]);
        phone.submit("/device", &[("code", device.user_code()), ("compared", "yes")]).await.leads_to("/device/confirm");
        let question = phone.get("/device/confirm").await;
        shows(&question, &[device.user_code(), "9 min ago"]);
        says_yes(&phone, &question).await;
        server.poll(&device, &[]).await.ok();

        // And whoever does not see it says so, and it is over.
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        olga.get(&device.link()).await.leads_to("/device");
        olga.submit("/device", &[("code", device.user_code()), ("compared", "no")]).await.leads_to("/device/done");
        shows(&olga.get("/device/done").await, &["The device is not let in"]);
        assert_eq!(refusal(&server, &device).await, "access_denied");
        olga.get("/D/rubbish").await.leads_to("/device");
        shows(&olga.get("/device").await, &["Enter the code"]);
    }

    async fn what_was_compared_counts_whatever_link_was_followed_meanwhile(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let (own, foreign) = (server.device(&tv, &[]).await, server.device(&tv, &[]).await);
        olga.get(&own.link()).await.leads_to("/device");
        let compare = olga.get("/device").await;
        shows(&compare, &[&format!("name=\"code\" value=\"{}\"", own.user_code())]);
        // Another page leads the browser there, behind the one that she reads.
        olga.get(&foreign.link()).await.leads_to("/device");
        olga.submit("/device", &[("code", own.user_code()), ("compared", "yes")]).await.leads_to("/device/confirm");
        let question = olga.get("/device/confirm").await;
        shows(&question, &[own.user_code()]);
        says_yes(&olga, &question).await;
        server.poll(&own, &[]).await.ok();
        assert_eq!(refusal(&server, &foreign).await, "authorization_pending");
    }

    async fn following_a_link_lets_nothing_in_however_long_somebody_is_signed_in(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        for path in [device.link().as_str(), "/device", "/device/confirm", "/device/done", "/device/status"] {
            olga.get(path).await;
        }
        for path in ["/device/decision", "/device/undo", "/device/switch"] {
            assert_eq!(olga.get(path).await.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
        let claimed = "SELECT count(*) FROM device_grants WHERE state <> 'pending'";
        assert_eq!(server.count(claimed).await, 0, "to look is to change nothing");
        drop(device);
    }

    async fn the_question_is_bound_to_the_browser_that_entered_the_code(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let question = types(&olga, device.user_code()).await;
        let elsewhere = Visitor::new(&server);
        elsewhere.sign_in("olga", PASSWORD).await.leads_to("/account");
        elsewhere.get("/device/confirm").await.is_refused(StatusCode::NOT_FOUND, "There is nothing to decide here");
        // Neither what this browser keeps nor what its form says helps another browser, of whomever.
        elsewhere.set_cookie(GRANT_COOKIE, &olga.cookie(GRANT_COOKIE).unwrap());
        let mallory = person(&server, &admin, "mallory").await;
        mallory.set_cookie(GRANT_COOKIE, &olga.cookie(GRANT_COOKIE).unwrap());
        for other in [&elsewhere, &mallory] {
            other.get("/device/confirm").await.is_refused(StatusCode::NOT_FOUND, "There is nothing to decide here");
            let decided = answers(other, &question, "yes", true).await;
            decided.is_refused(StatusCode::NOT_FOUND, "There is nothing to decide here");
        }
        assert_eq!(mallory.get("/device/status").await.status, StatusCode::NOT_FOUND);
        // Nor does a login that somebody planted before: hers is a new one.
        let planted = Visitor::new(&server);
        planted.set_cookie(LOGIN_COOKIE, &mallory.cookie(LOGIN_COOKIE).unwrap());
        planted.set_cookie(GRANT_COOKIE, &mallory.cookie(GRANT_COOKIE).unwrap());
        planted.sign_in("olga", PASSWORD).await.leads_to("/account");
        planted.get("/device/confirm").await.is_refused(StatusCode::NOT_FOUND, "There is nothing to decide here");
        says_yes(&olga, &question).await;
        server.poll(&device, &[]).await.ok();
    }

    async fn a_form_counts_from_a_page_of_this_login_only_and_no_page_can_be_framed(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let forms = [("/device", "code", device.user_code()), ("/device/decision", "answer", "yes"),
            ("/device/undo", "grant", "x"), ("/device/switch", "x", "x")];
        for (path, name, value) in forms {
            let forged = olga.post(path, &[(name, value)]).await;
            forged.is_refused(StatusCode::FORBIDDEN, "This form is too old");
            let token = olga.get("/account").await.form_token();
            let request = server.http.post(olga.url(path)).header("sec-fetch-site", "cross-site");
            let foreign = olga.send(request.form(&[("form_token", &*token), (name, value)])).await;
            foreign.is_refused(StatusCode::FORBIDDEN, "This form is too old");
        }
        let question = types(&olga, device.user_code()).await;
        for page in [olga.get("/device").await, question, olga.get(&device.link()).await] {
            assert_eq!(page.header("x-frame-options"), "DENY");
            let policy = page.header("content-security-policy");
            assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
            assert_eq!((page.header("cache-control"), page.header("referrer-policy")), ("no-store", "no-referrer"));
        }
    }

    async fn a_code_that_two_accounts_enter_lets_nothing_in(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let (olga, sam) = (person(&server, &admin, "olga").await, person(&server, &admin, "sam").await);
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let question = types(&olga, device.user_code()).await;
        let contested = sam.submit("/device", &[("code", device.user_code())]).await;
        contested.is_refused(StatusCode::GONE, "This code is in too many hands");
        answers(&olga, &question, "yes", true).await.leads_to("/device/done");
        shows(&olga.get("/device/done").await, &["This code is in too many hands"]);
        assert_eq!(refusal(&server, &device).await, "access_denied");
    }

    async fn whoever_changes_the_account_gives_the_code_free_for_the_other(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        drop(person(&server, &admin, "sam").await);
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let question = types(&olga, device.user_code()).await;
        olga.submit("/device/switch", &[]).await.leads_to(ANOTHER);
        let login = olga.get(ANOTHER).await;
        shows(&login, &["Use another account"]);
        assert!(!login.html.contains("value=\"olga\""), "another than her: {}", login.html);
        let form = [("name", "sam"), ("password", PASSWORD), ("continue", "/device"), ("again", "other")];
        olga.post("/login", &form).await.leads_to("/device");
        let late = answers(&olga, &question, "yes", true).await;
        late.is_refused(StatusCode::NOT_FOUND, "There is nothing to decide here");
        shows(&olga.get("/device").await, &["Does the device show this code?", device.user_code()]);
        olga.submit("/device", &[("code", device.user_code()), ("compared", "yes")]).await.leads_to("/device/confirm");
        let question = olga.get("/device/confirm").await;
        shows(&question, &["<strong>sam</strong>"]);
        says_yes(&olga, &question).await;
        let token = server.poll(&device, &[]).await.ok()["access_token"].as_str().unwrap().to_owned();
        assert_eq!(crate::status_list::claims(&token)["sub"], user_id(&admin, "sam").await);
    }

    async fn a_device_in_another_network_takes_a_tick(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device_elsewhere(&tv, &[("device_label", "TV")]).await;
        let question = types(&olga, device.user_code()).await;
        shows(&question, &["127.0.0.2", "127.0.0.1", "in another network than you", "type=\"checkbox\""]);
        let unticked = answers(&olga, &question, "yes", false).await;
        unticked.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "Say that the device is in front of you");
        answers(&olga, &question, "yes", true).await.leads_to("/device/done");
        server.poll(&device, &[]).await.ok();
    }

    async fn what_would_manage_keyward_takes_a_fresh_sign_in_the_typed_code_and_time(server: TestServer) {
        let admin = server.admin().await;
        let olga = person(&server, &admin, "olga").await;
        let cli = administration(&admin, "olga").await;
        server.clock.advance(Duration::from_secs(1));
        let device = server.device(&cli, &[("device_label", "terminal")]).await;
        olga.get(&device.link()).await.leads_to("/device");
        olga.submit("/device", &[("code", device.user_code()), ("compared", "yes")]).await.leads_to("/device/confirm");
        let question = olga.get("/device/confirm").await;
        shows(&question, &["This one needs a closer look", "Prove once more that it is you", "a yes counts from 5 seconds", "value=\"no\""]);
        assert!(!question.html.contains(device.user_code()) && !question.html.contains("value=\"yes\""), "{}", question.html);
        let refused = answers(&olga, &question, "yes", true).await;
        refused.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "Prove once more that it is you");

        olga.get("/login?continue=/device&again=1").await;
        let form = [("name", "olga"), ("password", PASSWORD), ("continue", "/device"), ("again", "1")];
        olga.post("/login", &form).await.leads_to("/device");
        shows(&olga.get("/device").await, &["Enter the code that the device shows."]);
        let question = types(&olga, device.user_code()).await;
        let hasty = answers(&olga, &question, "yes", true).await;
        hasty.is_refused(StatusCode::TOO_MANY_REQUESTS, "faster than anybody reads");
        assert_eq!(hasty.header("retry-after"), "5");
        server.clock.advance(Duration::from_secs(5));
        let unticked = answers(&olga, &question, "yes", false).await;
        unticked.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "Say that the device is in front of you");
        says_yes(&olga, &question).await;
        server.poll(&device, &[]).await.ok();
    }

    async fn digits_are_shown_where_the_client_wants_them_and_the_device_must_give_them(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({ "confirmation": true })).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let question = types(&olga, device.user_code()).await;
        says_yes(&olga, &question).await;
        let done = olga.get("/device/done").await;
        shows(&done, &["The device asks for these digits:"]);
        let digits = done.html.split("class=\"digits\" dir=\"ltr\">").nth(1).unwrap()[..3].to_owned();
        server.poll(&device, &[("confirmation", &digits)]).await.ok();
        shows(&olga.get("/device/done").await, &["TV is signed in"]);
    }

    async fn nothing_is_decided_after_its_time_and_the_page_says_so(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let question = types(&olga, device.user_code()).await;
        server.clock.advance(Duration::from_secs(601));
        answers(&olga, &question, "yes", true).await.leads_to("/device/done");
        shows(&olga.get("/device/done").await, &["The time is over"]);
        let late = olga.submit("/device", &[("code", device.user_code())]).await;
        late.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "No device shows this code now.");
    }

    async fn an_approval_is_taken_back_before_and_after_the_device_has_come_for_it(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let mallory = person(&server, &admin, "mallory").await;
        for has_come in [false, true] {
            let device = server.device(&tv, &[("device_label", "TV")]).await;
            let question = types(&olga, device.user_code()).await;
            says_yes(&olga, &question).await;
            if has_come {
                server.poll(&device, &[]).await.ok();
            }
            let undo = [("grant", &*grant(&question))];
            assert_ne!(mallory.submit("/device/undo", &undo).await.status, StatusCode::OK, "it is not hers");
            assert!(!olga.get("/device/done").await.html.contains("It is taken back"));
            olga.submit("/device/undo", &undo).await.leads_to("/device/done");
            shows(&olga.get("/device/done").await, &["It is taken back"]);
            if has_come {
                shows(&olga.get("/account/devices").await, &["Nothing acts for you on a device."]);
            } else {
                assert_eq!(refusal(&server, &device).await, "access_denied");
            }
        }
    }

    async fn whoever_guesses_codes_is_stopped_and_not_even_a_right_one_helps(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        for wrong in ["BBBB-BBBB", "CCCC-CCCC", "nonsense", "", "DDDD-DDDD"] {
            let refused = olga.submit("/device", &[("code", wrong)]).await;
            refused.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "No device shows this code now.");
        }
        let stopped = olga.submit("/device", &[("code", device.user_code())]).await;
        stopped.is_refused(StatusCode::TOO_MANY_REQUESTS, "too many wrong codes");
        assert!(!stopped.header("retry-after").is_empty());
    }

    async fn the_open_page_is_told_of_every_change_until_the_last(server: TestServer) {
        let admin = server.admin().await;
        let tv = display(&admin, json!({})).await;
        let olga = person(&server, &admin, "olga").await;
        let device = server.device(&tv, &[("device_label", "TV")]).await;
        let question = types(&olga, device.user_code()).await;
        // The whole stream is read: it ends by itself.
        let (told, ()) = tokio::join!(olga.get("/device/status"), async {
            says_yes(&olga, &question).await;
            server.poll(&device, &[]).await.ok();
        });
        assert_eq!((told.status, told.header("content-type")), (StatusCode::OK, "text/event-stream"));
        let states: Vec<_> = told.html.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(states.last(), Some(&"redeemed"), "{}", told.html);
        assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "{states:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_a_passkey_signs_in_afresh_by_nothing_less() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = passkeys::named(db).await;
        let admin = server.admin().await;
        let phone = Authenticator::at(passkeys::ISSUER, false);
        let olga = passkeys::invited(&server, &admin, "olga", &phone).await;
        olga.submit("/account/password", &[("password", PASSWORD)]).await.leads_to("/account?done=password");
        let cli = administration(&admin, "olga").await;
        server.clock.advance(Duration::from_secs(1));
        let device = server.device(&cli, &[]).await;
        olga.sign_in("olga", PASSWORD).await.leads_to("/account");
        let question = types(&olga, device.user_code()).await;
        shows(&question, &["Prove once more that it is you"]);
        server.clock.advance(Duration::from_secs(5));
        let refused = answers(&olga, &question, "yes", true).await;
        refused.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "Prove once more that it is you");
        passkeys::sign_in(&olga, &phone).await.leads_to("/account");
        let question = types(&olga, device.user_code()).await;
        server.clock.advance(Duration::from_secs(5));
        says_yes(&olga, &question).await;
        server.poll(&device, &[]).await.ok();
    }
}

#[tokio::test]
async fn no_log_has_a_code_that_stood_in_a_url() {
    let process = Process::serve(&[("KEYWARD_LOG_LEVEL", "trace"), ("KEYWARD_LOG_FORMAT", "json")]).await;
    let http = keyward_tests::http();
    for path in ["/D/WDJB-MJHT", "/D/wdjbmjht", "/D/WDJB-MJHT/x", "/D/WDJB-MJHT?x=1"] {
        http.get(format!("{}{path}", process.url())).send().await.unwrap();
    }
    let log = process.log();
    assert!(log.contains("/D/{code}"), "its route is named: {log}");
    assert!(!log.to_uppercase().contains("MJHT"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_looks_on_hinders_no_orderly_stop() {
    let mut server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let tv = display(&admin, json!({})).await;
    let olga = person(&server, &admin, "olga").await;
    let device = server.device(&tv, &[("device_label", "TV")]).await;
    types(&olga, device.user_code()).await;
    let request = server.http.get(olga.url("/device/status"));
    let cookies = [LOGIN_COOKIE, GRANT_COOKIE].map(|name| format!("{name}={}", olga.cookie(name).unwrap()));
    let mut stream = request.header("cookie", cookies.join("; ")).send().await.unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    assert_eq!(&*first, b"event: state\ndata: claimed\n\n");
    drop((olga, device, admin));
    let stopped = tokio::time::timeout(Duration::from_secs(30), server.stop_serving()).await;
    assert!(stopped.unwrap(), "it could be finished");
    while let Ok(Some(_)) = stream.chunk().await {}
}
