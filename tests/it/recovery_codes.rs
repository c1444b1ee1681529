//! Recovery codes: each lets its owner in once.

use futures_util::future::join_all;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Db, TestServer};
use keyward_tests::visitor::{PASSWORD, PageSeen, Visitor};
use reqwest::StatusCode;

use crate::login::{told, user_id};

const WRONG: &str = "Name or recovery code is wrong.";

/// New codes of whoever is signed in.
async fn codes(visitor: &Visitor<'_>) -> Vec<String> {
    let page = visitor.submit("/account/recovery-codes", &[]).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.html);
    page.html.split("<code>").skip(1).filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect()
}

async fn recover(visitor: &Visitor<'_>, name: &str, code: &str) -> PageSeen {
    visitor.post("/login/recovery", &[("name", name), ("code", code)]).await
}

on_both_databases! {
    async fn a_recovery_code_lets_in_once_and_then_a_new_password_can_be_set(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        assert!(olga.get("/account").await.html.contains("You have no recovery codes."));
        let codes = codes(&olga).await;
        assert_eq!(codes.len(), 10);
        let account = olga.get("/account").await.html;
        assert!(account.contains("Codes left: 10") && !codes.iter().any(|code| account.contains(code)), "shown once");

        let lost = Visitor::new(&server);
        recover(&lost, "olga", &codes[3].to_uppercase().replace('-', " ")).await.leads_to("/account?done=recovered");
        assert!(lost.get("/account?done=recovered").await.html.contains("You signed in with a recovery code."));
        lost.submit("/account/password", &[("password", "eight purple lamps")]).await.leads_to("/account?done=password");
        recover(&Visitor::new(&server), "olga", &codes[3]).await.is_refused(StatusCode::FORBIDDEN, WRONG);
        assert!(lost.get("/account").await.html.contains("Codes left: 9"));

        let told = told(&admin, &user_id(&admin, "olga").await).await;
        assert_eq!(told.iter().filter(|(kind, _)| kind == "recovery.used").count(), 1);
        assert!(told.iter().any(|(k, d)| k == "login.succeeded" && d["method"] == "recovery_code"));
        assert!(!told.iter().any(|(_, data)| codes.iter().any(|code| data.to_string().contains(code))));
    }

    async fn of_several_who_use_one_code_at_once_one_is_let_in(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        let codes = codes(&olga).await;
        let visitors: Vec<_> = (0..8).map(|_| Visitor::new(&server)).collect();
        let answers = join_all(visitors.iter().map(|visitor| recover(visitor, "olga", &codes[0]))).await;
        let let_in = answers.iter().filter(|answer| answer.status == StatusCode::SEE_OTHER).count();
        assert_eq!(let_in, 1, "{answers:?}");
        assert!(olga.get("/account").await.html.contains("Codes left: 9"));
    }

    async fn codes_are_of_one_user_and_end_with_newer_ones(server: TestServer) {
        let admin = server.admin().await;
        let olga = Visitor::invited(&server, &admin, "olga").await;
        let sam = Visitor::invited(&server, &admin, "sam").await;
        let (old, his) = (codes(&olga).await, codes(&sam).await);
        let new = codes(&olga).await;
        let visitor = Visitor::new(&server);
        for (name, code) in [("olga", old[0].as_str()), ("olga", &his[0]), ("nobody", &new[0]), ("olga", "x"), ("", "")] {
            recover(&visitor, name, code).await.is_refused(StatusCode::FORBIDDEN, WRONG);
        }
        recover(&visitor, "olga", &new[0]).await.leads_to("/account?done=recovered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_code_is_let_in_however_much_was_guessed_before() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let olga = Visitor::invited(&server, &admin, "olga").await;
    let codes = codes(&olga).await;
    let stranger = Visitor::new(&server);
    let mut refused = 0;
    while refused == 0 {
        let page = recover(&stranger, "olga", "0000-0000-0000-0000").await;
        refused += usize::from(page.status == StatusCode::TOO_MANY_REQUESTS);
    }
    stranger.sign_in("olga", PASSWORD).await.is_refused(StatusCode::TOO_MANY_REQUESTS, "There were too many attempts.");
    recover(&stranger, "olga", &codes[0]).await.leads_to("/account?done=recovered");
}
