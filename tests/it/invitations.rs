//! Invitations: the link by which somebody sets their first password.

use std::time::Duration;

use futures_util::future::join_all;
use keyward_tests::keyward::Process;
use keyward_tests::on_both_databases;
use keyward_tests::person::{Person, text};
use keyward_tests::server::TestServer;
use keyward_tests::visitor::{LOGIN_COOKIE, PASSWORD, Visitor, invitation, new_user};
use reqwest::StatusCode;

use crate::login::told;

/// The path of a link, as a browser asks for it.
fn path(link: &str) -> &str {
    link.find("/invitation/").map_or("", |at| &link[at..])
}

const ENDED: &str = "This invitation does not work any more";

on_both_databases! {
    async fn an_invitation_is_used_up_by_setting_a_password_and_not_by_looking_at_it(server: TestServer) {
        let admin = server.admin().await;
        let user = new_user(&admin, "olga").await;
        let link = invitation(&admin, &user).await;
        assert!(link.starts_with(&format!("{}/invitation/", server.url())), "{link}");
        let olga = Visitor::new(&server);
        for _ in 0..3 {
            let page = olga.get(path(&link)).await;
            assert!(page.status.is_success() && page.html.contains("Welcome, olga"), "{}", page.html);
        }
        olga.accept(&link, "too short").await.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "at least 12 characters");
        olga.accept(&link, "olga olga olga").await.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "repeats itself");
        olga.accept(&link, PASSWORD).await.leads_to("/account?done=invited");
        assert!(olga.get("/account?done=invited").await.html.contains("You can sign in from now on."));

        olga.get(path(&link)).await.is_refused(StatusCode::GONE, ENDED);
        olga.accept(&link, "eight purple lamps").await.is_refused(StatusCode::GONE, ENDED);
        Visitor::new(&server).sign_in("olga", PASSWORD).await.leads_to("/account");
        let told = told(&admin, &user).await;
        let token = link.rsplit('/').next().unwrap();
        for (kind, data) in &told {
            assert!(!data.to_string().contains(token) && !data.to_string().contains(PASSWORD), "{kind}: {data}");
        }
    }

    async fn of_several_who_use_one_invitation_at_once_one_is_let_in(server: TestServer) {
        let admin = server.admin().await;
        let user = new_user(&admin, "olga").await;
        let link = invitation(&admin, &user).await;
        let visitors: Vec<_> = (0..6).map(|_| Visitor::new(&server)).collect();
        let passwords: Vec<_> = (0..6).map(|n| format!("{n} green lamps at night")).collect();
        let answers = join_all(visitors.iter().zip(&passwords).map(|(v, password)| v.accept(&link, password))).await;
        let won: Vec<_> = answers.iter().map(|answer| answer.status == StatusCode::SEE_OTHER).collect();
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{answers:?}");
        for ((answer, won), password) in answers.iter().zip(won).zip(&passwords) {
            let expected = if won { StatusCode::SEE_OTHER } else { StatusCode::GONE };
            assert_eq!(answer.status, expected);
            let signed_in = Visitor::new(&server).sign_in("olga", password).await.status;
            assert_eq!(signed_in == StatusCode::SEE_OTHER, won, "the password is that of whoever was let in");
        }
        let set = told(&admin, &user).await.iter().filter(|(kind, _)| kind == "user.password_set").count();
        assert_eq!(set, 1);
    }

    async fn an_invitation_ends_with_its_time_and_with_a_newer_one(server: TestServer) {
        let admin = server.admin().await;
        let user = new_user(&admin, "olga").await;
        let older = invitation(&admin, &user).await;
        let newer = invitation(&admin, &user).await;
        let olga = Visitor::new(&server);
        olga.get(path(&older)).await.is_refused(StatusCode::GONE, ENDED);
        assert_eq!(olga.get(path(&newer)).await.status, StatusCode::OK);
        server.clock.advance(Duration::from_secs(72 * 3600));
        olga.get(path(&newer)).await.is_refused(StatusCode::GONE, ENDED);
        olga.accept(&newer, PASSWORD).await.is_refused(StatusCode::GONE, ENDED);
        for nonsense in ["/invitation/x", "/invitation/AAAA", &format!("/invitation/{}", "A".repeat(43))] {
            olga.get(nonsense).await.is_refused(StatusCode::GONE, ENDED);
        }
        assert_eq!(olga.cookie(LOGIN_COOKIE), None);
    }

    async fn an_invitation_of_somebody_disabled_lets_nobody_in(server: TestServer) {
        let admin = server.admin().await;
        let user = new_user(&admin, "olga").await;
        let link = invitation(&admin, &user).await;
        admin.act(&format!("/api/v1/users/{user}/disable")).await.ok();
        let olga = Visitor::new(&server);
        olga.get(path(&link)).await.is_refused(StatusCode::GONE, ENDED);
        olga.accept(&link, PASSWORD).await.is_refused(StatusCode::GONE, ENDED);
    }

    async fn whoever_is_invited_anew_is_signed_out_where_they_were(server: TestServer) {
        let admin = server.admin().await;
        let lost = Visitor::invited(&server, &admin, "olga").await;
        let link = invitation(&admin, &crate::login::user_id(&admin, "olga").await).await;
        let olga = Visitor::new(&server);
        olga.accept(&link, "eight purple lamps").await.leads_to("/account?done=invited");
        assert!(olga.is_signed_in().await && !lost.is_signed_in().await);
        lost.sign_in("olga", PASSWORD).await.is_refused(StatusCode::FORBIDDEN, "Name or password is wrong.");
    }
}

#[tokio::test]
async fn the_command_line_shows_a_link_that_works_once() {
    let process = Process::serve(&[]).await;
    let admin = Person::administrator(&process);
    admin.does(&["user", "create", "olga"]);
    let said = admin.tries(&["user", "invite", "olga"]);
    assert!(said.out.contains("/invitation/") && said.err.contains("works once"), "{}{}", said.out, said.err);
    let invited = admin.json(&["user", "invite", "olga"]);
    let http = keyward_tests::http();
    let page = http.get(text(&invited["link"])).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.text().await.unwrap().contains("Welcome, olga"));
    let unknown = admin.tries(&["user", "invite", "nobody"]);
    assert_eq!(unknown.code, 1, "{}", unknown.err);
}
