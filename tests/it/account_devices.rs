//! The devices of an account, in a browser: what acts for its user, named and ended.

use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, TestServer};
use keyward_tests::visitor::{PASSWORD, Visitor};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::login::user_id;

/// Olga, signed in, and a device session of hers on a television.
struct Scene<'a> {
    olga: Visitor<'a>,
    user: String,
    tv: String,
    session: String,
}

impl<'a> Scene<'a> {
    async fn new(server: &'a TestServer, admin: &Api<'_>) -> Self {
        let olga = Visitor::invited(server, admin, "olga").await;
        let user = user_id(admin, "olga").await;
        let rights = json!({ "scope": "Supervisor", "res": ["plant/7", "office"] });
        admin.patch(&format!("/api/v1/users/{user}"), &rights).await.ok();
        let api = admin.new_api("https://plant.example", &["Admin", "Supervisor", "Worker"]).await;
        let tv = json!({ "name": "Hall display", "kind": "public", "scope": "Admin", "res": ["*"], "apis": [api] });
        let tv = admin.new_client(tv).await;
        let session = server.begin_session(&user, &tv, ("Admin", "plant")).await;
        Self { olga, user, tv, session }
    }

    fn action(&self, action: &str) -> String {
        format!("/account/devices/{}/{action}", self.session)
    }
}

on_both_databases! {
    async fn everybody_sees_their_devices_with_what_they_may_do_now(server: TestServer) {
        let admin = server.admin().await;
        let scene = Scene::new(&server, &admin).await;
        let page = scene.olga.get("/account/devices").await;
        assert_eq!(page.status, StatusCode::OK);
        for shown in ["hall 3", "Hall display", "192.0.2.7", "2026-11-23 12:00 UTC", "<strong>Supervisor</strong> – Supervise", "<code>plant/7</code>"] {
            assert!(page.html.contains(shown), "{shown:?} is not in {}", page.html);
        }
        assert!(!page.html.contains("<strong>Worker") && !page.html.contains("office"), "what is implied or not hers: {}", page.html);
        admin.patch(&format!("/api/v1/users/{}", scene.user), &json!({ "scope": "" })).await.ok();
        let page = scene.olga.get("/account/devices").await;
        assert!(page.html.contains("may do nothing at the moment"), "{}", page.html);
        admin.act(&format!("/api/v1/clients/{}/disable", scene.tv)).await.ok();
        assert!(scene.olga.get("/account/devices").await.html.contains("its application is disabled"));

        let sam = Visitor::invited(&server, &admin, "sam").await;
        let his = sam.get("/account/devices").await;
        assert!(his.html.contains("Nothing acts for you") && !his.html.contains("hall 3"), "{}", his.html);
        Visitor::new(&server).get("/account/devices").await.leads_to("/login?continue=/account/devices");
    }

    async fn a_device_is_named_and_ended_by_its_user_alone(server: TestServer) {
        let admin = server.admin().await;
        let scene = Scene::new(&server, &admin).await;
        let sam = Visitor::invited(&server, &admin, "sam").await;
        for action in ["rename", "end", "disown"] {
            let foreign = sam.submit(&scene.action(action), &[("label", "mine")]).await;
            assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{action}");
            let forged = scene.olga.post(&scene.action(action), &[("label", "mine")]).await;
            assert_eq!(forged.status, StatusCode::FORBIDDEN, "{action} without the token of the login");
        }
        scene.olga.submit(&scene.action("rename"), &[("label", " TV & co ")]).await.leads_to("/account/devices?done=renamed");
        let page = scene.olga.get("/account/devices?done=renamed").await;
        assert!(page.html.contains("TV &#38; co") && page.html.contains("has its new name"), "{}", page.html);
        let long = "x".repeat(101);
        for label in [long.as_str(), "a\u{200b}b"] {
            let refused = scene.olga.submit(&scene.action("rename"), &[("label", label)]).await;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        }

        let token = server.identity_token(&scene.session, None).await.unwrap();
        let tv = format!("/api/v1/device-sessions/{}", scene.session);
        scene.olga.submit(&scene.action("end"), &[]).await.leads_to("/account/devices?done=ended");
        assert_eq!(admin.get(&tv).await.ok()["end_reason"], "revoked");
        assert!(crate::status_list::List::of(&server).await.refuses(crate::status_list::place(&crate::status_list::claims(&token))));
        scene.olga.submit(&scene.action("end"), &[]).await.leads_to("/account/devices?done=ended");
        let renamed = scene.olga.submit(&scene.action("rename"), &[("label", "late")]).await;
        assert_eq!(renamed.status, StatusCode::CONFLICT);
        let expected = ["device_session.created", "device_session.renamed", "device_session.revoked"];
        assert_eq!(admin.kinds_of(&scene.session).await, expected);
    }

    async fn what_is_not_theirs_is_ended_and_administrators_can_see_it(server: TestServer) {
        let admin = server.admin().await;
        let scene = Scene::new(&server, &admin).await;
        scene.olga.submit(&scene.action("disown"), &[]).await.leads_to("/account/devices?done=disowned");
        assert!(server.identity_token(&scene.session, None).await.is_err());
        let told = admin.get("/api/v1/events?kind=device_session.disowned").await.ok();
        let told = &told["items"][0];
        assert_eq!(told["subject"], scene.session.as_str());
        assert_eq!(told["actor"]["user"], scene.user.as_str());
        assert_eq!((&told["data"]["client"], &told["data"]["created_from"]), (&json!(scene.tv), &json!("192.0.2.7")));
        // Twice is told once.
        scene.olga.submit(&scene.action("disown"), &[]).await.leads_to("/account/devices?done=disowned");
        let notices = admin.get("/api/v1/notices?kind=device_session.disowned").await.ok();
        assert_eq!(notices["items"].as_array().unwrap().len(), 1, "{notices}");
        assert_eq!(admin.kinds_of(&scene.session).await[1..], ["device_session.revoked", "device_session.disowned"]);
    }

    async fn signing_out_everywhere_leaves_this_browser_alone(server: TestServer) {
        let admin = server.admin().await;
        let scene = Scene::new(&server, &admin).await;
        let mut sessions = vec![scene.session.clone()];
        for _ in 0..3 {
            sessions.push(server.begin_session(&scene.user, &scene.tv, ("Worker", "plant")).await);
        }
        let sam = Visitor::invited(&server, &admin, "sam").await;
        let his = server.begin_session(&user_id(&admin, "sam").await, &scene.tv, ("Worker", "plant")).await;
        let elsewhere = Visitor::new(&server);
        elsewhere.sign_in("olga", PASSWORD).await.leads_to("/account");
        scene.olga.submit("/account/devices/end", &[]).await.leads_to("/account/devices?done=all-ended");
        assert!(scene.olga.is_signed_in().await && sam.is_signed_in().await && !elsewhere.is_signed_in().await);
        for session in &sessions {
            assert_eq!(admin.get(&format!("/api/v1/device-sessions/{session}")).await.ok()["end_reason"], "revoked");
        }
        assert_eq!(admin.get(&format!("/api/v1/device-sessions/{his}")).await.ok()["end_reason"], Value::Null);
    }

    async fn whoever_signs_out_everywhere_takes_back_what_no_device_has_come_for_yet(server: TestServer) {
        let admin = server.admin().await;
        let scene = Scene::new(&server, &admin).await;
        admin.patch(&format!("/api/v1/clients/{}", scene.tv), &json!({ "device_grant": {} })).await.ok();
        let (hers, his) = (server.device(&scene.tv, &[]).await, server.device(&scene.tv, &[]).await);
        server.let_in(&server.browser_of(&scene.user), &hers).await;
        Visitor::invited(&server, &admin, "sam").await;
        let sam = user_id(&admin, "sam").await;
        admin.patch(&format!("/api/v1/users/{sam}"), &json!({ "scope": "Worker", "res": ["office"] })).await.ok();
        server.let_in(&server.browser_of(&sam), &his).await;
        scene.olga.submit("/account/devices/end", &[]).await.leads_to("/account/devices?done=all-ended");
        assert_eq!(server.poll(&hers, &[]).await.body["error"], "access_denied");
        server.poll(&his, &[]).await.ok();
        let denied = admin.get("/api/v1/events?kind=device_grant.denied").await.ok();
        assert_eq!((&denied["items"][0]["data"]["reason"], &denied["items"][1]), (&json!("undone"), &Value::Null));
    }
}
