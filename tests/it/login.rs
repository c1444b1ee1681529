//! Signing in with a browser: cookies, forms, where it leads, and how it ends.

use std::time::Duration;

use keyward_tests::keyward::Process;
use keyward_tests::on_both_databases;
use keyward_tests::person::{Person, text};
use keyward_tests::server::{Api, Db, TestServer};
use keyward_tests::visitor::{DEVICE_COOKIE, LOGIN_COOKIE, PASSWORD, Visitor, new_user};
use reqwest::StatusCode;
use reqwest::header::SET_COOKIE;
use serde_json::{Value, json};

/// The kinds of events about somebody, with what each says.
pub(crate) async fn told(admin: &Api<'_>, user: &str) -> Vec<(String, Value)> {
    let events = admin.get(&format!("/api/v1/events?subject={user}&limit=200")).await.ok();
    let events = events["items"].as_array().unwrap().clone();
    events.into_iter().map(|event| (event["kind"].as_str().unwrap().to_owned(), event["data"].clone())).collect()
}

pub(crate) async fn user_id(admin: &Api<'_>, name: &str) -> String {
    admin.get(&format!("/api/v1/users?name={name}")).await.ok()["items"][0]["id"].as_str().unwrap().to_owned()
}

fn reasons(told: &[(String, Value)]) -> Vec<&str> {
    told.iter().filter(|(kind, _)| kind == "login.ended").map(|(_, data)| data["because"].as_str().unwrap()).collect()
}

on_both_databases! {
    async fn somebody_signs_in_with_a_password_and_out_again(server: TestServer) {
        let admin = server.admin().await;
        drop(Visitor::invited(&server, &admin, "olga").await);
        let olga = Visitor::new(&server);
        olga.get("/account").await.leads_to("/login?continue=/account");
        let page = olga.get("/login?continue=/account").await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.html.contains("<html lang=\"en\">") && page.html.contains("name=\"password\""), "{}", page.html);

        olga.sign_in("olga", "seven green lambs").await.is_refused(StatusCode::FORBIDDEN, "Name or password is wrong.");
        assert_eq!(olga.cookie(LOGIN_COOKIE), None);
        olga.sign_in("olga", PASSWORD).await.leads_to("/account");
        let account = olga.get("/account").await;
        assert!(account.html.contains("<strong>olga</strong>") && account.html.contains("This browser"), "{}", account.html);
        olga.get("/login?continue=/device").await.leads_to("/device");

        let token = olga.cookie(LOGIN_COOKIE).unwrap();
        olga.submit("/logout", &[]).await.leads_to("/signed-out");
        assert_eq!(olga.cookie(LOGIN_COOKIE), None);
        assert!(olga.get("/signed-out").await.html.contains("You are signed out"));
        olga.set_cookie(LOGIN_COOKIE, &token);
        assert!(!olga.is_signed_in().await, "whoever kept the token has nothing");

        let told = told(&admin, &user_id(&admin, "olga").await).await;
        let kinds: Vec<_> = told.iter().map(|(kind, _)| kind.as_str()).filter(|kind| *kind != "login.failed").collect();
        let expected = [
            "user.created", "user.invited", "user.password_set", "login.succeeded", "login.succeeded", "login.ended",
        ];
        assert_eq!(kinds, expected);
        assert_eq!((&told[3].1["method"], &told[3].1["amr"]), (&json!("password"), &json!(["pwd"])));
        assert_eq!(reasons(&told), ["signed_out"]);
        assert!(!json!(told.iter().map(|t| &t.1).collect::<Vec<_>>()).to_string().contains(&token));
    }

    async fn a_login_gets_a_token_of_its_own_whatever_the_browser_came_with(server: TestServer) {
        let admin = server.admin().await;
        let mallory = Visitor::invited(&server, &admin, "mallory").await;
        drop(Visitor::invited(&server, &admin, "olga").await);
        let planted = mallory.cookie(LOGIN_COOKIE).unwrap();
        for planted in [planted.as_str(), "A".repeat(43).as_str(), "x"] {
            let olga = Visitor::new(&server);
            olga.set_cookie(LOGIN_COOKIE, planted);
            olga.sign_in("olga", PASSWORD).await.leads_to("/account");
            assert_ne!(olga.cookie(LOGIN_COOKIE).unwrap(), planted);
            let held = Visitor::new(&server);
            held.set_cookie(LOGIN_COOKIE, planted);
            assert!(!held.is_signed_in().await, "who planted it is signed in nowhere by it");
        }
        // Also whoever signs in once more gets a new one, and the old one ends.
        let olga = Visitor::new(&server);
        olga.sign_in("olga", PASSWORD).await.leads_to("/account");
        let before = olga.copy();
        olga.sign_in("olga", PASSWORD).await.leads_to("/account");
        assert!(olga.is_signed_in().await && !before.is_signed_in().await);
    }

    async fn a_login_ends_unused_or_when_its_time_is_over(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        let hour = Duration::from_secs(3600);
        for _ in 0..16 {
            server.clock.advance(10 * hour);
            assert!(olga.is_signed_in().await, "it is used");
        }
        server.clock.advance(8 * hour);
        assert!(!olga.is_signed_in().await, "seven days are over");
        olga.sign_in("olga", PASSWORD).await.leads_to("/account");
        server.clock.advance(12 * hour);
        assert!(!olga.is_signed_in().await, "nobody used it for half a day");
        let admin = server.api(&admin.secrets).await;
        let logins = format!("/api/v1/users/{}/logins", user_id(&admin, "olga").await);
        assert_eq!(admin.get(&logins).await.ok()["items"], json!([]));
        server.app.run_schedule().await.unwrap();
        assert_eq!(admin.get(&logins).await.ok()["items"], json!([]));
    }

    async fn a_disabled_user_is_signed_out_and_not_let_in_and_enabled_not_signed_in_again(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        let path = format!("/api/v1/users/{}", user_id(&admin, "olga").await);
        admin.act(&format!("{path}/disable")).await.ok();
        assert!(!olga.is_signed_in().await);
        let elsewhere = Visitor::new(&server);
        elsewhere.sign_in("olga", PASSWORD).await.is_refused(StatusCode::FORBIDDEN, "This account is disabled.");
        elsewhere.sign_in("olga", "wrong").await.is_refused(StatusCode::FORBIDDEN, "Name or password is wrong.");
        let refused = admin.act(&format!("{path}/invitation")).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);

        admin.act(&format!("{path}/enable")).await.ok();
        assert!(!olga.copy().is_signed_in().await);
        olga.sign_in("olga", PASSWORD).await.leads_to("/account");
        assert_eq!(reasons(&told(&admin, path.rsplit('/').next().unwrap()).await), ["user_disabled"]);
    }

    async fn logins_are_listed_and_ended_on_the_account_page_and_over_the_api(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        let user = user_id(&admin, "olga").await;
        let path = format!("/api/v1/users/{user}/logins");
        // Her own login first, then that of each browser: what is listed besides those known is the newest.
        let (mut browsers, mut ids) = (Vec::new(), Vec::new());
        loop {
            let listed = admin.get(&path).await.ok();
            assert_eq!(listed["items"][0]["method"], "password");
            assert!(!listed.to_string().contains("hash"), "{listed}");
            let mut listed: Vec<_> = crate::authority::ids(&listed).into_iter().map(str::to_owned).collect();
            listed.retain(|id| !ids.contains(id));
            assert_eq!(listed.len(), 1);
            ids.append(&mut listed);
            if browsers.len() == 3 {
                break;
            }
            let browser = Visitor::new(&server);
            browser.sign_in("olga", PASSWORD).await.leads_to("/account");
            browsers.push(browser);
        }

        olga.submit(&format!("/account/logins/{}/end", ids[1]), &[]).await.leads_to("/account?done=login-ended");
        assert!(!browsers[0].is_signed_in().await && browsers[1].is_signed_in().await);
        assert_eq!(admin.delete(&format!("{path}/{}", ids[2])).await.status, StatusCode::NO_CONTENT);
        assert_eq!(admin.delete(&format!("{path}/{}", ids[2])).await.status, StatusCode::NOT_FOUND);
        assert!(!browsers[1].is_signed_in().await);
        olga.submit("/account/logins/end", &[]).await.leads_to("/account?done=logins-ended");
        assert!(!browsers[2].is_signed_in().await && olga.is_signed_in().await);

        // Nobody ends what is somebody else's.
        let mallory = Visitor::invited(&server, &admin, "mallory").await;
        mallory.submit(&format!("/account/logins/{}/end", ids[0]), &[]).await.leads_to("/account?done=login-ended");
        assert!(olga.is_signed_in().await);
        assert_eq!(admin.delete(&path).await.status, StatusCode::NO_CONTENT);
        assert!(!olga.is_signed_in().await);
        assert_eq!(reasons(&told(&admin, &user).await), ["revoked"; 4]);
    }

    async fn of_too_many_logins_the_one_unused_for_longest_ends_and_the_log_says_so(server: TestServer) {
        let admin = server.admin().await;
        let first = Visitor::invited(&server, &admin, "olga").await;
        let second = Visitor::new(&server);
        server.clock.advance(Duration::from_secs(1));
        second.sign_in("olga", PASSWORD).await.leads_to("/account");
        for _ in 0..48 {
            server.clock.advance(Duration::from_secs(1));
            Visitor::new(&server).sign_in("olga", PASSWORD).await.leads_to("/account");
        }
        assert!(first.is_signed_in().await);
        Visitor::new(&server).sign_in("olga", PASSWORD).await.leads_to("/account");
        assert!(!first.is_signed_in().await && second.is_signed_in().await);
        let ended = told(&admin, &user_id(&admin, "olga").await).await;
        assert_eq!(reasons(&ended), ["too_many"]);
    }

    async fn what_changes_how_one_signs_in_asks_who_signed_in_long_ago_to_do_so_again(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        server.clock.advance(Duration::from_secs(16 * 60));
        let account = olga.get("/account").await;
        assert!(account.html.contains("/login?continue=/account&amp;again=1"), "{}", account.html);
        assert!(!account.html.contains("action=\"/account/password\""), "what would be refused is not offered");
        let change = [("password", "eight purple lamps")];
        for path in ["/account/password", "/account/recovery-codes", "/account/passkeys", "/account/passkeys/options"] {
            olga.submit(path, &change).await.leads_to("/login?continue=/account&again=1");
        }
        let again = olga.get("/login?continue=/account&again=1").await;
        assert!(again.html.contains("Confirm that it is you") && again.html.contains("value=\"olga\""), "{}", again.html);
        olga.sign_in("olga", PASSWORD).await.leads_to("/account");
        olga.submit("/account/password", &change).await.leads_to("/account?done=password");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookie_of_a_login_is_for_this_host_alone_and_for_no_script() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    drop(Visitor::invited(&server, &admin, "olga").await);
    let answer = Visitor::new(&server).sign_in("olga", PASSWORD).await;
    let cookies: Vec<_> = answer.headers.get_all(SET_COOKIE).iter().map(|c| c.to_str().unwrap()).collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    for (cookie, name) in cookies.iter().zip([LOGIN_COOKIE, DEVICE_COOKIE]) {
        let (named, attributes) = cookie.split_once("; ").unwrap();
        assert!(named.starts_with(&format!("{name}=")), "{cookie}");
        assert!(attributes.starts_with("Path=/; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
        assert!(!attributes.contains("Domain"), "{cookie}");
    }
    assert!(!cookies[0].contains("Max-Age"), "it goes with the browser: {}", cookies[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_counts_only_from_a_page_of_this_server_and_of_this_login() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let olga = Visitor::invited(&server, &admin, "olga").await;
    let token = olga.get("/account").await.form_token();
    let form = [("form_token", token.as_str()), ("name", "olga"), ("password", PASSWORD)];
    for path in ["/login", "/login/passkey", "/login/recovery", "/invitation", "/logout", "/account/password"] {
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[],
        ] {
            let mut request = server.http.post(olga.url(path)).form(&form);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            olga.send(request).await.is_refused(StatusCode::FORBIDDEN, "This form is too old");
        }
    }
    let other = Visitor::new(&server);
    other.sign_in("olga", PASSWORD).await.leads_to("/account");
    let others = other.get("/account").await.form_token();
    assert_ne!(token, others);
    for wrong in [others.as_str(), "", &token[1..]] {
        olga.post("/logout", &[("form_token", wrong)]).await.is_refused(StatusCode::FORBIDDEN, "This form is too old");
    }
    assert!(olga.is_signed_in().await);
    let own = server.http.post(olga.url("/logout")).header("origin", server.url()).form(&form);
    olga.send(own).await.leads_to("/signed-out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_leads_to_paths_of_this_server_only() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let olga = Visitor::invited(&server, &admin, "olga").await;
    for (asked, given) in [
        ("/device?code=WDJB-MJHT", "/device?code=WDJB-MJHT"),
        ("//evil.example", "/account"),
        ("/\\evil.example", "/account"),
        ("https://evil.example", "/account"),
        ("javascript:alert(1)", "/account"),
        ("/\t/evil.example", "/account"),
        ("/a\r\nset-cookie: a=b", "/account"),
    ] {
        let form = [("name", "olga"), ("password", PASSWORD), ("continue", asked)];
        let visitor = olga.copy();
        visitor.post("/login", &form).await.leads_to(given);
        let encoded: String = asked.bytes().map(|b| format!("%{b:02x}")).collect();
        visitor.get(&format!("/login?continue={encoded}")).await.leads_to(given);
    }
    // Whoever is sent to sign in comes back with the whole path.
    let stranger = Visitor::new(&server);
    stranger.get("/account?done=password").await.leads_to("/login?continue=/account%3Fdone%3Dpassword");
    let page = stranger.get("/login?continue=/account%3Fdone%3Dpassword").await;
    assert!(page.html.contains("name=\"continue\" value=\"/account?done=password\""), "{}", page.html);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_left_before_an_empty_page() {
    let server = TestServer::start(Db::Sqlite).await;
    let visitor = Visitor::new(&server);
    let wrong_method = visitor.get("/logout").await;
    wrong_method.is_refused(StatusCode::METHOD_NOT_ALLOWED, "There is no such page");
    assert_eq!(wrong_method.header("allow"), "POST");
    visitor.get("/invitation/%ff").await.is_refused(StatusCode::BAD_REQUEST, "There is no such page");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_stands_in_a_frame_or_a_cache_or_tells_where_it_was() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let olga = Visitor::invited(&server, &admin, "olga").await;
    let browser = |path: &str| server.http.get(olga.url(path)).header("accept", "text/html,*/*;q=0.8");
    for path in ["/login?again=1", "/login/recovery", "/account", "/invitation/x", "/signed-out", "/nowhere"] {
        let page = olga.send(browser(path)).await;
        assert!(page.html.starts_with("<!DOCTYPE html>"), "{path}: {}", page.html);
        let policy = page.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("cache-control"), "no-store", "{path}");
        assert_eq!(page.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(page.header("x-frame-options"), "DENY", "{path}");
        for inline in ["<style", " style=", "javascript:", " onclick", "http://", "https://"] {
            assert!(!page.html.contains(inline), "{path}: {inline}");
        }
    }
    let redirect = Visitor::new(&server).get("/account").await;
    assert_eq!(redirect.header("cache-control"), "no-store");
    assert_eq!(olga.send(browser("/nowhere")).await.status, StatusCode::NOT_FOUND);
    let program = olga.get("/nowhere").await;
    assert_eq!(program.header("content-type"), "application/problem+json", "a program is told in its own way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_speak_the_language_of_the_browser() {
    let server = TestServer::start(Db::Sqlite).await;
    let visitor = Visitor::new(&server);
    for (wanted, lang, text) in [
        ("de-CH,fr;q=0.7", "de", "Melden Sie sich an"),
        ("fr", "fr", "Connectez-vous pour continuer."),
        ("ja", "en", "Sign in to go on."),
    ] {
        let page = visitor.send(server.http.get(visitor.url("/login")).header("accept-language", wanted)).await;
        assert!(page.html.contains(&format!("<html lang=\"{lang}\">")) && page.html.contains(text), "{}", page.html);
        let refused = server.http.post(visitor.url("/login")).header("accept-language", wanted).form(&[("name", "x")]);
        let refused = visitor.send(refused).await;
        assert!(refused.html.contains(&format!("<html lang=\"{lang}\">")), "errors too: {}", refused.html);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_owns_nothing_ends_no_logins_of_others_over_the_api() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let olga = Visitor::invited(&server, &admin, "olga").await;
    let path = format!("/api/v1/users/{}/logins", user_id(&admin, "olga").await);
    let (_, sam) = crate::authority::person(&admin, &server, "sam", "keyward:self").await;
    let (_, support) = crate::authority::person(&admin, &server, "ada", "keyward:support").await;
    assert_eq!(sam.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(sam.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert!(olga.is_signed_in().await);
    let invite = path.replace("/logins", "/invitation");
    assert_eq!(support.act(&invite).await.status, StatusCode::FORBIDDEN, "an invitation is as good as being them");
    assert_eq!(sam.act("/api/v1/users/me/invitation").await.status, StatusCode::FORBIDDEN);
    assert_eq!(support.delete(&path).await.status, StatusCode::NO_CONTENT, "support stops things");
    assert!(!olga.is_signed_in().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_of_a_part_invites_nobody_greater_than_themselves() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let own = crate::authority::own_api(&admin).await;
    let partial = json!({ "scope": "keyward:admin", "res": ["plant"], "apis": [own] });
    let partial = server.api(&admin.issue(&admin.new_client(partial).await, &json!({})).await).await;
    let greater = json!({ "name": "ada", "scope": "keyward:admin", "res": ["*"] });
    let greater = admin.post("/api/v1/users", &greater).await.created();
    let path = format!("/api/v1/users/{}/invitation", greater["id"].as_str().unwrap());
    assert_eq!(partial.act(&path).await.status, StatusCode::FORBIDDEN);
    let within = new_user(&admin, "olga").await;
    partial.act(&format!("/api/v1/users/{within}/invitation")).await.created();
}

#[tokio::test]
async fn no_line_of_the_log_holds_what_people_sign_in_with() {
    let process = Process::serve(&[("KEYWARD_LOG_LEVEL", "trace")]).await;
    let admin = Person::administrator(&process);
    admin.does(&["user", "create", "olga"]);
    let link = text(&admin.json(&["user", "invite", "olga"])["link"]);
    let token = link.rsplit('/').next().unwrap();
    let http = keyward_tests::http();
    let post = async |path: &str, cookies: &str, form: &[(&str, &str)]| {
        let request = http.post(format!("{}{path}", process.url())).header("sec-fetch-site", "same-origin");
        request.header("cookie", cookies).form(form).send().await.unwrap()
    };
    http.get(&link).send().await.unwrap();
    let wrong = "lamps that are not green";
    post("/login", "", &[("name", "olga"), ("password", wrong)]).await;
    let accepted = post("/invitation", "", &[("token", token), ("password", PASSWORD)]).await;
    assert_eq!(accepted.status(), StatusCode::SEE_OTHER);
    let cookies = accepted.headers().get_all(SET_COOKIE).iter().map(|c| c.to_str().unwrap().split(';').next().unwrap());
    let cookies: Vec<_> = cookies.map(str::to_owned).collect();
    let account = http.get(format!("{}/account", process.url())).header("cookie", cookies.join("; "));
    let account = account.send().await.unwrap().text().await.unwrap();
    let form_token = account.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let codes = post("/account/recovery-codes", &cookies.join("; "), &[("form_token", form_token)]).await;
    let codes = codes.text().await.unwrap();
    let code = codes.split("<code>").nth(1).unwrap().split('<').next().unwrap();
    let used = post("/login/recovery", "", &[("name", "olga"), ("code", code)]).await;
    assert_eq!(used.status(), StatusCode::SEE_OTHER);

    let log = process.log();
    assert!(log.contains("/invitation/{token}") && log.contains("a sign-in failed"), "{log}");
    let values = cookies.iter().map(|cookie| cookie.split_once('=').unwrap().1);
    for secret in values.chain([token, PASSWORD, wrong, form_token, code]) {
        assert!(!log.contains(secret), "{secret}");
        assert!(!log.contains(&secret.replace(' ', "+")), "{secret}");
    }
}
