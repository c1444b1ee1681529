//! Passwords: what is said of wrong ones, what they cost, and how often they may be tried.

use std::time::Duration;

use futures_util::future::join_all;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Db, TestServer};
use keyward_tests::visitor::{DEVICE_COOKIE, LOGIN_COOKIE, PASSWORD, Visitor, invitation, new_user};
use reqwest::StatusCode;
use serde_json::json;

use crate::login::{told, user_id};

const WRONG: &str = "Name or password is wrong.";

/// A server that believes this machine where somebody comes from, and bears few guesses.
async fn guarded(db: Db) -> TestServer {
    TestServer::start_with(db, |config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.login.attempts_burst = 5;
        config.login.attempts_per_minute = 1;
        config.limits.failures_burst = 30;
    })
    .await
}

on_both_databases! {
    async fn whoever_there_is_or_is_not_a_password_costs_one_hash_and_gets_one_answer(server: TestServer) {
        let admin = server.admin().await;
        drop(Visitor::invited(&server, &admin, "olga").await);
        new_user(&admin, "without").await;
        let before = server.app.sign_in.passwords.computed();
        let mut pages = Vec::new();
        for name in ["olga", "without", "nobody", ""] {
            let page = Visitor::new(&server).sign_in(name, "wrong").await;
            page.is_refused(StatusCode::FORBIDDEN, WRONG);
            pages.push(page.html.replace(&format!("value=\"{name}\""), "value=\"\""));
        }
        assert_eq!(server.app.sign_in.passwords.computed() - before, 4);
        assert!(pages.iter().all(|page| *page == pages[0]), "{pages:?}");
    }

    async fn a_changed_password_ends_all_other_logins_and_the_old_one(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        let other = Visitor::new(&server);
        other.sign_in("olga", PASSWORD).await.leads_to("/account");
        let weak = olga.submit("/account/password", &[("password", "short")]).await;
        weak.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "at least 12 characters");
        olga.submit("/account/password", &[("password", "eight purple lamps")]).await.leads_to("/account?done=password");
        assert!(olga.is_signed_in().await && !other.is_signed_in().await);
        other.sign_in("olga", PASSWORD).await.is_refused(StatusCode::FORBIDDEN, WRONG);
        other.sign_in("olga", "eight purple lamps").await.leads_to("/account");
        let told = told(&admin, &user_id(&admin, "olga").await).await;
        let set: Vec<_> = told.iter().filter(|(k, _)| k == "user.password_set").map(|(_, d)| d["by"].as_str().unwrap()).collect();
        assert_eq!(set, ["invitation", "account"]);
        assert!(told.iter().any(|(k, d)| k == "login.ended" && d["because"] == "password_set"));
    }

    async fn the_same_letters_let_in_whichever_keyboard_wrote_them(server: TestServer) {
        let admin = server.admin().await;
        let (decomposed, composed) = ("Ju\u{308}rgen", "J\u{fc}rgen");
        let link = invitation(&admin, &new_user(&admin, decomposed).await).await;
        Visitor::new(&server).accept(&link, "zw\u{f6}lf L\u{e4}mmer").await.leads_to("/account?done=invited");
        for name in [composed, decomposed] {
            for password in ["zw\u{f6}lf L\u{e4}mmer", "zwo\u{308}lf\u{a0}La\u{308}mmer"] {
                Visitor::new(&server).sign_in(name, password).await.leads_to("/account");
            }
        }
        let twin = admin.post("/api/v1/users", &json!({ "name": composed })).await;
        assert_eq!(twin.status, StatusCode::CONFLICT, "nobody passes for somebody else: {}", twin.body);
        assert_eq!(user_id(&admin, decomposed).await, user_id(&admin, composed).await);
    }

    async fn a_database_that_does_not_answer_is_never_called_a_wrong_password(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        let link = invitation(&admin, &new_user(&admin, "sam").await).await;
        server.app.store.close().await;
        let visitor = Visitor::new(&server);
        let pages = [
            visitor.sign_in("olga", PASSWORD).await,
            visitor.sign_in("olga", "wrong").await,
            visitor.post("/login/recovery", &[("name", "olga"), ("code", "0000-0000-0000-0000")]).await,
            visitor.get(&link[link.find("/invitation/").unwrap()..]).await,
            visitor.accept(&link, PASSWORD).await,
            olga.get("/account").await,
            olga.get("/login").await,
        ];
        for page in pages {
            page.is_refused(StatusCode::SERVICE_UNAVAILABLE, "cannot answer");
            assert_eq!(page.header("retry-after"), "1");
        }
        assert!(olga.cookie(LOGIN_COOKIE).is_some(), "nobody is signed out by it");
        assert_eq!(visitor.get("/login").await.status, StatusCode::OK, "whoever has no login yet sees the page");
    }

    async fn when_too_many_passwords_come_at_once_nobody_is_called_wrong_and_nobody_is_charged(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        let link = invitation(&admin, &new_user(&admin, "sam").await).await;
        let (strange, form) = (Visitor::new(&server), [("password", "eight purple lamps")]);
        let before = server.app.sign_in.passwords.computed();
        let all = server.app.sign_in.passwords.occupy().unwrap();
        let mut pages = vec![
            olga.submit("/account/password", &form).await,
            strange.accept(&link, PASSWORD).await,
            olga.sign_in("olga", PASSWORD).await,
        ];
        // More often than any budget bears.
        for _ in 0..40 {
            pages.push(strange.sign_in("olga", PASSWORD).await);
        }
        for page in pages {
            page.is_refused(StatusCode::SERVICE_UNAVAILABLE, "Too many people are signing in");
            assert_eq!(page.header("retry-after"), "1");
        }
        assert_eq!(server.app.sign_in.passwords.computed(), before);
        drop(all);
        strange.sign_in("olga", PASSWORD).await.leads_to("/account");
        olga.submit("/account/password", &form).await.leads_to("/account?done=password");
        Visitor::new(&server).accept(&link, PASSWORD).await.leads_to("/account?done=invited");
    }

    async fn names_and_passwords_that_are_no_text_of_ours_are_refused_like_others(server: TestServer) {
        let long = "x".repeat(12_000);
        for (name, password) in [("olga' OR '1'='1", "x"), ("<script>", "\u{0}x"), (&long, "x"), ("x", &long)] {
            let page = Visitor::new(&server).sign_in(name, password).await;
            assert!(page.status.is_client_error(), "{}", page.html);
            assert!(!page.html.contains("<script>"), "{}", page.html);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_from_many_networks_are_stopped_and_the_owner_gets_in_where_they_were_before() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = guarded(db).await;
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        let hashed = server.app.sign_in.passwords.computed();
        let guessers: Vec<_> = (0..40).map(|n| Visitor::at(&server, &format!("198.51.100.{n}"))).collect();
        let answers = join_all(guessers.iter().map(|guesser| guesser.sign_in("olga", "lamps of seven greens"))).await;
        let looked_at = answers.iter().filter(|answer| answer.status == StatusCode::FORBIDDEN).count();
        assert_eq!(looked_at, 5, "however many guess at once");
        assert_eq!(server.app.sign_in.passwords.computed() - hashed, 5, "beyond that none is even hashed");
        let refused = answers.iter().find(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).unwrap();
        refused.is_refused(StatusCode::TOO_MANY_REQUESTS, "There were too many attempts.");
        assert_eq!(refused.header("retry-after"), "60");

        // The right password does not help a stranger then, or it would tell the guesser.
        let elsewhere = Visitor::at(&server, "203.0.113.9");
        let stranger = elsewhere.sign_in("olga", PASSWORD).await;
        stranger.is_refused(StatusCode::TOO_MANY_REQUESTS, "There were too many attempts.");
        // Her own browser knows her.
        olga.forget(LOGIN_COOKIE);
        olga.sign_in("olga", PASSWORD).await.leads_to("/account");
        // What it brings counts for her alone, and only as it was given.
        let device = olga.cookie(DEVICE_COOKIE).unwrap();
        let mallory = Visitor::invited(&server, &admin, "mallory").await;
        mallory.sign_in("olga", "x").await.is_refused(StatusCode::TOO_MANY_REQUESTS, "There were too many attempts.");
        let changed = if device.as_bytes()[20] == b'A' { "B" } else { "A" };
        elsewhere.set_cookie(DEVICE_COOKIE, &format!("{}{changed}{}", &device[..20], &device[21..]));
        elsewhere
            .sign_in("olga", PASSWORD)
            .await
            .is_refused(StatusCode::TOO_MANY_REQUESTS, "There were too many attempts.");
        // Nobody else's name is touched.
        mallory.sign_in("mallory", PASSWORD).await.leads_to("/account");

        server.clock.advance(Duration::from_secs(60));
        elsewhere.forget(DEVICE_COOKIE);
        elsewhere.sign_in("olga", PASSWORD).await.leads_to("/account");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_browser_has_a_budget_too() {
    let server = guarded(Db::Sqlite).await;
    let admin = server.admin().await;
    let stolen = Visitor::invited(&server, &admin, "olga").await;
    stolen.forget(LOGIN_COOKIE);
    for _ in 0..5 {
        stolen.sign_in("olga", "wrong").await.is_refused(StatusCode::FORBIDDEN, WRONG);
    }
    stolen.sign_in("olga", PASSWORD).await.is_refused(StatusCode::TOO_MANY_REQUESTS, "There were too many attempts.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_failed_too_often_tries_no_further_password() {
    let server = guarded(Db::Sqlite).await;
    let admin = server.admin().await;
    drop(Visitor::invited(&server, &admin, "olga").await);
    let guesser = Visitor::at(&server, "198.51.100.1");
    for n in 0..30 {
        guesser.sign_in(&format!("somebody {n}"), "wrong").await.is_refused(StatusCode::FORBIDDEN, WRONG);
    }
    let hashed = server.app.sign_in.passwords.computed();
    let refused = guesser.sign_in("olga", PASSWORD).await;
    refused.is_refused(StatusCode::TOO_MANY_REQUESTS, "There were too many attempts.");
    assert_eq!(server.app.sign_in.passwords.computed(), hashed);
    Visitor::at(&server, "198.51.100.2").sign_in("olga", PASSWORD).await.leads_to("/account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guesses_at_the_same_time_are_not_more_than_one_after_the_other() {
    let server = guarded(Db::Sqlite).await;
    let guesser = Visitor::at(&server, "198.51.100.1");
    let names: Vec<_> = (0..90).map(|n| format!("somebody {n}")).collect();
    let guesses = join_all(names.iter().map(|name| guesser.sign_in(name, "wrong"))).await;
    let looked_at = guesses.iter().filter(|page| page.status == StatusCode::FORBIDDEN).count();
    assert_eq!((looked_at, server.app.sign_in.passwords.computed()), (30, 30));
    let refused = guesses.iter().filter(|page| page.status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!(refused, 60, "and nobody else finds the queue full of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_signed_in_or_invited_keeps_no_others_waiting_by_choosing_passwords() {
    let server = guarded(Db::Sqlite).await;
    let admin = server.admin().await;
    let olga = Visitor::invited(&server, &admin, "olga").await;
    let before = server.app.sign_in.passwords.computed();
    let token = olga.get("/account").await.form_token();
    let form = [("form_token", token.as_str()), ("password", "eight purple lamps")];
    let chosen = join_all((0..12).map(|_| olga.post("/account/password", &form))).await;
    let refused = chosen.iter().filter(|page| page.status == StatusCode::TOO_MANY_REQUESTS).count();
    // One is that of her invitation.
    assert_eq!((refused, server.app.sign_in.passwords.computed() - before), (8, 4));
    server.clock.advance(Duration::from_secs(60));
    olga.submit("/account/password", &form[1..]).await.leads_to("/account?done=password");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_right_uses_up_no_budget() {
    let server = guarded(Db::Sqlite).await;
    let admin = server.admin().await;
    let known = Visitor::invited(&server, &admin, "olga").await;
    for _ in 0..6 {
        Visitor::at(&server, "198.51.100.1").sign_in("olga", PASSWORD).await.leads_to("/account");
        known.sign_in("olga", PASSWORD).await.leads_to("/account");
    }
    // And resets nothing by it.
    let guesser = Visitor::at(&server, "198.51.100.1");
    for n in 0..5 {
        guesser.sign_in("olga", "wrong").await.is_refused(StatusCode::FORBIDDEN, WRONG);
        if n < 4 {
            Visitor::at(&server, "198.51.100.1").sign_in("olga", PASSWORD).await.leads_to("/account");
        }
    }
    guesser.sign_in("olga", "wrong").await.is_refused(StatusCode::TOO_MANY_REQUESTS, "There were too many attempts.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_do_not_fill_the_log() {
    let server = TestServer::start_with(Db::Sqlite, |config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.login.attempts_burst = 1000;
    })
    .await;
    let admin = server.admin().await;
    let user = {
        drop(Visitor::invited(&server, &admin, "olga").await);
        user_id(&admin, "olga").await
    };
    let last = admin.get("/api/v1/events?limit=200").await.ok()["items"].as_array().unwrap().len();
    let guessers: Vec<_> = (0..30).map(|n| Visitor::at(&server, &format!("198.51.100.{n}"))).collect();
    join_all(guessers.iter().map(|guesser| guesser.sign_in("olga", "wrong"))).await;
    join_all(guessers.iter().map(|guesser| guesser.sign_in("nobody", "wrong"))).await;
    // They are noted apart from the requests: a login and its event come after all of them.
    let noted = async || told(&admin, &user).await.iter().filter(|(kind, _)| kind == "login.failed").count();
    for _ in 0..100 {
        if noted().await == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Visitor::new(&server).sign_in("olga", PASSWORD).await.leads_to("/account");
    assert_eq!(noted().await, 5);
    let events = admin.get("/api/v1/events?limit=200").await.ok()["items"].as_array().unwrap().len();
    assert_eq!(events - last, 6, "nothing of names that nobody has");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_network_does_not_fill_the_log_however_many_users_it_guesses_at() {
    let server = TestServer::start_with(Db::Sqlite, |config| config.limits.failures_burst = 3).await;
    let admin = server.admin().await;
    let guesser = Visitor::new(&server);
    for n in 0..8 {
        new_user(&admin, &format!("user {n}")).await;
        guesser.post("/login/recovery", &[("name", &format!("user {n}")), ("code", "0000-0000-0000-0000")]).await;
    }
    let noted = async || {
        let events = admin.get("/api/v1/events?kind=login.failed&limit=200").await.ok();
        events["items"].as_array().unwrap().len()
    };
    let all = async {
        while noted().await < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("what is within the budget is noted");
    // Somebody's change comes behind whatever else was on its way.
    new_user(&admin, "olga").await;
    assert_eq!(noted().await, 3);
}
