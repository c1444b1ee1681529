//! Rotation: a key is replaced without a pause, and the old one ended when nobody uses it any more.

use std::time::Duration;

use keyward_model::time::Timestamp;
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Secrets, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::authority::person;
use crate::callers::{callers, counts, uses};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn path(key: &Secrets, action: &str) -> String {
    format!("/api/v1/credentials/{}/{action}", key.credential())
}

/// Rotates a key; gives the successor.
pub(crate) async fn rotate(api: &Api<'_>, key: &Secrets, members: Value) -> Secrets {
    secrets(&api.post(&path(key, "rotate"), &members).await.created())
}

fn secrets(issued: &Value) -> Secrets {
    let text = |name: &str| issued[name].as_str().unwrap().to_owned();
    Secrets { client_id: text("client_id"), client_secret: text("client_secret") }
}

async fn view(api: &Api<'_>, key: &Secrets) -> Value {
    api.get(&format!("/api/v1/credentials/{}", key.credential())).await.ok()
}

async fn works(server: &TestServer, key: &Secrets) -> bool {
    server.token_answer(key, &[]).await.status == StatusCode::OK
}

pub(crate) fn rfc3339(at: Timestamp) -> String {
    keyward_server::api::instant::Instant(at).to_string()
}

/// A refusal: its kind, and its detail.
fn problem(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.body["detail"].as_str().unwrap_or_default().to_owned())
}

/// What happened to a credential, oldest first.
async fn events(api: &Api<'_>, key: &Secrets) -> Vec<Value> {
    let answer = api.get(&format!("/api/v1/events?subject={}", key.credential())).await.ok();
    answer["items"].as_array().unwrap().clone()
}

on_both_databases! {
    async fn a_rotated_key_works_beside_its_successor_until_its_hard_end(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        let rotated = admin.post(&path(&old, "rotate"), &json!({})).await;
        let location = rotated.header("location").to_owned();
        let new = secrets(&rotated.created());
        assert_eq!(location, format!("/api/v1/credentials/{}", new.credential()));
        assert_ne!(old.client_secret, new.client_secret);
        assert!(works(&server, &old).await && works(&server, &new).await);
        let seen = view(&admin, &old).await;
        assert_eq!((&seen["state"], &seen["successor"]), (&json!("retiring"), &json!(new.credential())));
        assert_eq!(seen["retire_at"], rfc3339(server.clock.now().plus(7 * DAY)));

        server.clock.advance(7 * DAY - Duration::from_millis(1));
        assert!(works(&server, &old).await);
        server.clock.advance(Duration::from_millis(1));
        assert!(!works(&server, &old).await, "the hard end counts before anybody has written it down");
        server.app.run_schedule().await.unwrap();
        assert!(!works(&server, &old).await && works(&server, &new).await);
        let admin = server.api(&admin.secrets).await;
        let ended = view(&admin, &old).await;
        assert_eq!((&ended["state"], &ended["end_reason"]), (&json!("expired"), &json!("retire_at")));
    }

    async fn a_chain_of_rotations_ends_link_by_link(server: TestServer) {
        let admin = server.admin().await;
        let first = admin.orders_key().await;
        let second = rotate(&admin, &first, json!({ "overlap_seconds": 3600 })).await;
        let third = rotate(&admin, &second, json!({ "overlap_seconds": 7200 })).await;
        for key in [&first, &second, &third] {
            assert!(works(&server, key).await);
        }
        server.clock.advance(HOUR);
        assert!(!works(&server, &first).await && works(&server, &second).await);
        server.clock.advance(HOUR);
        assert!(!works(&server, &second).await && works(&server, &third).await);
    }

    async fn a_repeated_rotation_makes_one_successor_and_shows_its_secret_once(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        let rotate = || Answer::of(
            admin.request(Method::POST, &path(&old, "rotate")).header("idempotency-key", "k-1").json(&json!({})),
        );
        let first = rotate().await.created();
        let again = rotate().await.created();
        assert_eq!((&again["id"], &again["client_secret"]), (&first["id"], &Value::Null));
        let listed = admin.get(&format!("/api/v1/clients/{}/credentials", old.client_id)).await.ok();
        assert_eq!(listed["items"].as_array().unwrap().len(), 2);
        let other = admin.request(Method::POST, &path(&old, "rotate")).header("idempotency-key", "k-1");
        let other = Answer::of(other.json(&json!({ "label": "another" }))).await;
        assert_eq!(other.status, StatusCode::CONFLICT);
    }

    async fn the_overlap_is_bounded_and_never_longer_than_the_old_key_lives(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        let now = server.clock.now();
        for (wrong, field) in [
            (json!({ "overlap_seconds": 0 }), "overlap_seconds"),
            (json!({ "overlap_seconds": 90 * 86_400 + 1 }), "overlap_seconds"),
            (json!({ "overlap_seconds": u64::MAX }), "overlap_seconds"),
            (json!({ "retire_at": rfc3339(now) }), "retire_at"),
            (json!({ "retire_at": rfc3339(now.plus(91 * DAY)) }), "retire_at"),
            (json!({ "retire_at": rfc3339(now.plus(DAY)), "overlap_seconds": 60 }), "retire_at"),
            (json!({ "expires_at": rfc3339(now) }), "expires_at"),
            (json!({ "scope": "Admin" }), "scope"),
            (json!({ "res": ["plant"] }), "res"),
        ] {
            let refused = admin.post(&path(&old, "rotate"), &wrong).await;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}: {}", refused.body);
            assert_eq!(refused.body["field"], field, "{wrong}: {}", refused.body);
        }
        assert_eq!(view(&admin, &old).await["state"], "active", "a refused rotation changes nothing");

        let short = admin.issue(&old.client_id, &json!({ "expires_at": rfc3339(now.plus(2 * DAY)) })).await;
        rotate(&admin, &short, json!({ "retire_at": rfc3339(now.plus(30 * DAY)) })).await;
        assert_eq!(view(&admin, &short).await["retire_at"], rfc3339(now.plus(2 * DAY)));
    }

    async fn a_successor_is_what_the_old_key_is_unless_it_is_said_otherwise(server: TestServer) {
        let admin = server.admin().await;
        let api = admin.new_api("https://orders.example", &["Admin", "Supervisor", "Worker"]).await;
        let client = admin.new_client(json!({ "scope": "Supervisor", "res": ["plant/7"], "apis": [api] })).await;
        let expires_at = rfc3339(server.clock.now().plus(60 * DAY));
        let narrow = json!({ "label": "hall 3", "scope": "Worker", "res": ["plant/7/line/3"], "expires_at": expires_at });
        let old = admin.issue(&client, &narrow).await;
        server.clock.advance(50 * DAY);
        let admin = server.api(&admin.secrets).await;

        let new = rotate(&admin, &old, json!({})).await;
        let same = view(&admin, &new).await;
        assert_eq!((&same["label"], &same["scope"]), (&json!("hall 3"), &json!("Worker")));
        assert_eq!(same["res"], json!(["plant/7/line/3"]));
        assert_eq!(same["expires_at"], rfc3339(server.clock.now().plus(60 * DAY)), "as long again");

        let wider = json!({ "label": "hall 4", "scope": null, "res": null, "expires_at": null });
        let other = view(&admin, &rotate(&admin, &new, wider).await).await;
        assert_eq!(other["label"], "hall 4");
        for cleared in ["scope", "res", "expires_at"] {
            assert_eq!(other[cleared], Value::Null, "{cleared}");
        }
    }

    async fn a_cancelled_rotation_leaves_the_old_key_as_it_was_and_ends_the_new_one(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        let mut before = view(&admin, &old).await;
        assert_eq!(before.as_object_mut().unwrap().remove("callers"), Some(json!({ "seen_in_window": 0, "last_seen_at": null })));
        let new = rotate(&admin, &old, json!({})).await;
        let token = server.token(&new, &[]).await;
        assert_eq!(admin.post(&path(&old, "cancel"), &json!({ "force": true })).await.ok(), before);
        assert!(works(&server, &old).await && !works(&server, &new).await);
        assert_eq!(server.introspect(&old, &token).await, json!({ "active": false }));
        server.clock.advance(8 * DAY);
        server.app.run_schedule().await.unwrap();
        assert!(works(&server, &old).await, "no hard end is left behind");

        // A successor that leaked is revoked first; then there is the way back.
        let admin = server.api(&admin.secrets).await;
        let leaked = rotate(&admin, &old, json!({})).await;
        admin.revoke(&leaked).await;
        assert_eq!(admin.post(&path(&old, "cancel"), &json!({})).await.ok()["state"], "active");
        let kinds = events(&admin, &leaked).await;
        assert_eq!(kinds.iter().filter(|event| event["kind"] == "credential.revoked").count(), 1, "revoked once");
    }

    async fn a_rotation_is_cancelled_only_from_the_end_of_the_chain(server: TestServer) {
        let admin = server.admin().await;
        let first = admin.orders_key().await;
        let second = rotate(&admin, &first, json!({})).await;
        let third = rotate(&admin, &second, json!({})).await;
        let refused = problem(&admin.post(&path(&first, "cancel"), &json!({})).await);
        assert_eq!(refused.0, 409);
        assert!(refused.1.contains(&format!("its successor {} was rotated too", second.credential())), "{refused:?}");
        admin.post(&path(&second, "cancel"), &json!({})).await.ok();
        admin.post(&path(&first, "cancel"), &json!({})).await.ok();
        assert!(works(&server, &first).await && !works(&server, &second).await && !works(&server, &third).await);
    }

    async fn the_hard_end_moves_later_and_earlier_and_never_goes_away(server: TestServer) {
        let admin = server.admin().await;
        let now = server.clock.now();
        let old = admin.orders_key().await;
        rotate(&admin, &old, json!({})).await;
        for days in [20, 1, 90] {
            let to = rfc3339(now.plus(days * DAY));
            assert_eq!(admin.post(&path(&old, "extend"), &json!({ "retire_at": to })).await.ok()["retire_at"], to);
        }
        for wrong in [rfc3339(now), rfc3339(now.plus(90 * DAY + Duration::from_millis(1)))] {
            let refused = admin.post(&path(&old, "extend"), &json!({ "retire_at": wrong })).await;
            assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!("retire_at")), "{}", refused.body);
        }
        let nothing = admin.post(&path(&old, "extend"), &json!({ "retire_at": null })).await;
        assert_eq!(nothing.status, StatusCode::UNPROCESSABLE_ENTITY);

        // The expiry still comes first, whenever it was set.
        let sooner = json!({ "expires_at": rfc3339(now.plus(2 * DAY)) });
        admin.patch(&format!("/api/v1/credentials/{}", old.credential()), &sooner).await.ok();
        let capped = admin.post(&path(&old, "extend"), &json!({ "retire_at": rfc3339(now.plus(9 * DAY)) })).await.ok();
        assert_eq!(capped["retire_at"], rfc3339(now.plus(2 * DAY)));
        server.clock.advance(2 * DAY);
        assert!(!works(&server, &old).await);
    }

    async fn a_key_is_not_finished_while_callers_remain_and_they_are_named(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        uses(&server, &old, "long gone").await;
        server.clock.advance(20 * HOUR);
        uses(&server, &old, "press-2").await;
        server.clock.advance(HOUR);
        uses(&server, &old, "press-1").await;
        server.clock.advance(3 * HOUR + Duration::from_millis(1));
        let admin = server.api(&admin.secrets).await;
        rotate(&admin, &old, json!({})).await;
        let refused = admin.post(&path(&old, "finish"), &json!({})).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(refused.body["type"], "urn:keyward:problem:callers-remain");
        assert_eq!(refused.body["detail"], "2 callers used this credential in the last 24 h: move them to its successor, \
                                            or end it under them with force");
        let named = refused.body["callers"].as_array().unwrap();
        assert_eq!(counts(named), [("press-1", 1, 0), ("press-2", 1, 0)]);
        assert_eq!(*named, callers(&admin, &old).await[..2], "as the list of callers tells of them");
        assert_eq!(view(&admin, &old).await["state"], "retiring", "a refused finish changes nothing");

        // Another window, another verdict; none so short that it would be force by another name.
        let window = |seconds: u64| json!({ "quiet_for_seconds": seconds });
        for wrong in [0, 59, 90 * 86_400 + 1, u64::MAX] {
            let refused = admin.post(&path(&old, "finish"), &window(wrong)).await;
            assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!("quiet_for_seconds")));
        }
        let longer = admin.post(&path(&old, "finish"), &window(86_401)).await;
        assert_eq!(longer.body["callers"].as_array().unwrap().len(), 3);
        let finished = admin.post(&path(&old, "finish"), &window(1800)).await.ok();
        assert_eq!((&finished["state"], &finished["end_reason"]), (&json!("expired"), &json!("finished")));
        assert!(!works(&server, &old).await);
        let again = admin.post(&path(&old, "finish"), &json!({})).await.ok();
        assert_eq!(again, finished, "whoever missed the answer may ask again");
    }

    async fn a_rotation_is_not_cancelled_under_those_who_have_moved_to_the_successor(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        let new = rotate(&admin, &old, json!({})).await;
        uses(&server, &old, "press-1").await;
        uses(&server, &new, "press-2").await;
        let cancel = path(&old, "cancel");
        let refused = admin.post(&cancel, &json!({})).await;
        assert_eq!((refused.status, &refused.body["type"]), (StatusCode::CONFLICT, &json!("urn:keyward:problem:callers-remain")));
        assert_eq!(refused.body["detail"], "1 caller used its successor in the last 24 h: move them back to this credential, \
                                            or end the successor under them with force");
        assert_eq!(*refused.body["callers"].as_array().unwrap(), callers(&admin, &new).await, "whoever uses the old one stays");
        assert_eq!(view(&admin, &old).await["state"], "retiring");
        assert!(works(&server, &new).await, "a refused cancel changes nothing");

        server.clock.advance(2 * HOUR);
        let admin = server.api(&admin.secrets).await;
        for (body, field) in [
            (json!({ "quiet_for_seconds": 59 }), "quiet_for_seconds"),
            (json!({ "quiet_for_seconds": 90 * 86_400 + 1 }), "quiet_for_seconds"),
        ] {
            let wrong = admin.post(&cancel, &body).await;
            assert_eq!((wrong.status.as_u16(), &wrong.body["field"]), (422, &json!(field)), "{}", wrong.body);
        }
        assert_eq!(admin.post(&cancel, &json!({ "quiet_for_seconds": 7201 })).await.status, StatusCode::CONFLICT);
        assert_eq!(admin.post(&cancel, &json!({ "quiet_for_seconds": 3600 })).await.ok()["state"], "active");
        assert!(works(&server, &old).await && !works(&server, &new).await);

        // Force is told; and a successor that has ended is in nobody's use, whoever was seen with it.
        let second = rotate(&admin, &old, json!({})).await;
        uses(&server, &second, "press-2").await;
        admin.post(&cancel, &json!({ "force": true })).await.ok();
        let told = events(&admin, &old).await.pop().unwrap();
        assert_eq!((&told["data"]["forced"], &told["data"]["callers"]), (&json!(true), &json!(1)), "{told}");
        let third = rotate(&admin, &old, json!({})).await;
        uses(&server, &third, "press-2").await;
        admin.revoke(&third).await;
        assert_eq!(admin.post(&cancel, &json!({})).await.ok()["state"], "active");
        let told = events(&admin, &old).await.pop().unwrap();
        assert_eq!((&told["data"]["forced"], &told["data"]["callers"]), (&json!(false), &json!(0)), "{told}");
    }

    async fn force_ends_a_key_under_its_callers_and_says_so(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        rotate(&admin, &old, json!({})).await;
        for n in 0..25 {
            uses(&server, &old, &format!("press-{n}")).await;
        }
        let refused = admin.post(&path(&old, "finish"), &json!({ "force": false })).await;
        assert!(problem(&refused).1.starts_with("25 callers "), "{}", refused.body);
        assert_eq!(refused.body["callers"].as_array().unwrap().len(), 20, "the list is bounded");
        admin.post(&path(&old, "finish"), &json!({ "force": true })).await.ok();
        assert!(!works(&server, &old).await);
        let last = events(&admin, &old).await.pop().unwrap();
        assert_eq!((&last["data"]["forced"], &last["data"]["callers"]), (&json!(true), &json!(25)));
    }

    async fn what_was_refused_after_the_end_is_no_use_of_the_key(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        rotate(&admin, &old, json!({})).await;
        uses(&server, &old, "press-1").await;
        assert_eq!(callers(&admin, &old).await.len(), 1);
        server.execute("UPDATE callers SET accepted = 0, refused = 1").await;
        admin.post(&path(&old, "finish"), &json!({})).await.ok();
    }

    async fn whoever_comes_too_late_is_told_what_has_happened(server: TestServer) {
        let admin = server.admin().await;
        let active = admin.orders_key().await;
        let old = admin.issue(&active.client_id, &json!({})).await;
        let new = rotate(&admin, &old, json!({})).await;
        let revoked = admin.issue(&active.client_id, &json!({})).await;
        admin.revoke(&revoked).await;
        let later = json!({ "retire_at": rfc3339(server.clock.now().plus(DAY)) });
        let nothing = json!({});
        for (key, action, body, says) in [
            (&old, "rotate", &nothing, format!("rotated already to {}", new.credential())),
            (&active, "cancel", &nothing, "it is not retiring".to_owned()),
            (&active, "extend", &later, "it is not retiring".to_owned()),
            (&active, "finish", &nothing, "it is not retiring".to_owned()),
            (&new, "cancel", &nothing, "it is not retiring".to_owned()),
            (&revoked, "rotate", &nothing, "has ended (revoked)".to_owned()),
            (&revoked, "cancel", &nothing, "has ended (revoked)".to_owned()),
            (&revoked, "extend", &later, "has ended (revoked)".to_owned()),
            (&revoked, "finish", &nothing, "has ended (revoked)".to_owned()),
        ] {
            let refused = problem(&admin.post(&path(key, action), body).await);
            assert_eq!(refused.0, 409, "{action}: {refused:?}");
            assert!(refused.1.contains(&says), "{action}: {refused:?}");
        }
        server.clock.advance(7 * DAY);
        let admin = server.api(&admin.secrets).await;
        let later = json!({ "retire_at": rfc3339(server.clock.now().plus(DAY)) });
        for (action, body) in [("rotate", &nothing), ("cancel", &nothing), ("extend", &later), ("finish", &nothing)] {
            let refused = problem(&admin.post(&path(&old, action), body).await);
            assert_eq!(refused.0, 409, "{action}: {refused:?}");
            assert!(refused.1.contains("has ended (expired)"), "{action}: {refused:?}");
        }
        assert_eq!(admin.act(&path(&old, "revoke")).await.ok()["state"], "expired", "what has ended stays as it ended");
    }

    async fn revoking_one_side_of_a_rotation_leaves_the_other(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        let new = rotate(&admin, &old, json!({})).await;
        admin.revoke(&new).await;
        assert!(works(&server, &old).await);
        assert_eq!(view(&admin, &old).await["state"], "retiring", "its hard end stays");

        let other = admin.issue(&old.client_id, &json!({})).await;
        let its_successor = rotate(&admin, &other, json!({})).await;
        admin.revoke(&other).await;
        assert!(!works(&server, &other).await && works(&server, &its_successor).await);
    }

    async fn the_bootstrap_key_does_not_rotate_and_is_used_up_by_rotating_another(server: TestServer) {
        let bootstrap = server.bootstrap();
        let api = server.api(&bootstrap).await;
        let refused = problem(&api.post(&path(&bootstrap, "rotate"), &json!({})).await);
        assert_eq!(refused.0, 409);
        assert!(refused.1.contains("bootstrap"), "{refused:?}");
        assert!(works(&server, &bootstrap).await);

        let admin = server.admin().await;
        let old = admin.orders_key().await;
        server.execute(&format!(
            "UPDATE credentials SET state = 'active', ended_at = NULL, end_reason = NULL WHERE id = '{}'",
            bootstrap.credential()
        )).await;
        let server = server.restart().await;
        let api = server.api(&bootstrap).await;
        rotate(&api, &old, json!({})).await;
        assert!(!works(&server, &bootstrap).await, "it hands out one key, in whatever way");
    }

    async fn each_arrow_is_an_event_with_what_it_did(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        let client = old.client_id.as_str();
        let cancelled = rotate(&admin, &old, json!({})).await;
        admin.post(&path(&old, "cancel"), &json!({})).await.ok();
        let new = rotate(&admin, &old, json!({ "overlap_seconds": 60 })).await;
        let at = server.clock.now().plus(DAY);
        admin.post(&path(&old, "extend"), &json!({ "retire_at": rfc3339(at) })).await.ok();
        admin.post(&path(&old, "finish"), &json!({})).await.ok();
        let told: Vec<_> = events(&admin, &old).await.into_iter().skip(1).map(|e| json!([e["kind"], e["data"]])).collect();
        let week = server.clock.now().plus(7 * DAY).as_millis();
        let minute = server.clock.now().plus(Duration::from_secs(60)).as_millis();
        let (first, second) = (cancelled.credential(), new.credential());
        assert_eq!(json!(told), json!([
            ["credential.rotated", { "client": client, "successor": first, "retire_at": week }],
            ["credential.rotation_cancelled",
                { "client": client, "successor": first, "forced": false, "callers": 0, "quiet_for_seconds": 86_400 }],
            ["credential.rotated", { "client": client, "successor": second, "retire_at": minute }],
            ["credential.rotation_extended", { "client": client, "successor": second, "retire_at": at.as_millis() }],
            ["credential.finished",
                { "client": client, "successor": second, "forced": false, "callers": 0, "quiet_for_seconds": 86_400 }],
        ]));
        let told = events(&admin, &cancelled).await;
        assert_eq!(told[0]["data"]["replaces"], old.credential());
        let revoked = json!({ "client": client, "was": "active", "replaces": old.credential() });
        assert_eq!((&told[1]["kind"], &told[1]["data"]), (&json!("credential.revoked"), &revoked));

        // Time is told too.
        let other = rotate(&admin, &new, json!({ "overlap_seconds": 60 })).await;
        server.clock.advance(Duration::from_secs(60));
        server.app.run_schedule().await.unwrap();
        let last = events(&admin, &new).await.pop().unwrap();
        assert_eq!((&last["kind"], &last["data"]["reason"]), (&json!("credential.expired"), &json!("retire_at")));
        assert_eq!(events(&admin, &other).await.len(), 1);
    }

    async fn whoever_may_issue_may_rotate_and_whoever_may_stop_may_finish(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let (user, olga) = person(&admin, &server, "olga", "keyward:self").await;
        let (_, sam) = person(&admin, &server, "sam", "keyward:support").await;
        let later = json!({ "retire_at": rfc3339(server.clock.now().plus(DAY)) });
        for (action, body) in [("rotate", &json!({})), ("cancel", &json!({})), ("extend", &later), ("finish", &json!({}))] {
            assert_eq!(olga.post(&path(&key, action), body).await.status, StatusCode::NOT_FOUND, "{action}");
        }
        for (action, body) in [("rotate", &json!({})), ("cancel", &json!({})), ("extend", &later)] {
            assert_eq!(sam.post(&path(&key, action), body).await.status, StatusCode::FORBIDDEN, "{action}");
        }
        rotate(&admin, &key, json!({})).await;
        assert_eq!(sam.post(&path(&key, "finish"), &json!({})).await.ok()["state"], "expired");

        // An application with keyward:self replaces its own key, and goes on with the new one.
        let own = crate::authority::own_api(&admin).await;
        let robot = json!({ "name": "robot", "scope": "keyward:self", "res": ["plant"], "apis": [own], "owner": user["id"] });
        let robot = server.api(&admin.issue(&admin.new_client(robot).await, &json!({})).await).await;
        let new = rotate(&robot, &robot.secrets, json!({})).await;
        let finish = path(&robot.secrets, "finish");
        let refused = server.api(&new).await.post(&finish, &json!({})).await;
        assert_eq!(refused.body["callers"].as_array().unwrap().len(), 1, "that was itself, a moment ago");
        server.clock.advance(DAY + HOUR);
        server.api(&new).await.post(&finish, &json!({})).await.ok();
        assert!(!works(&server, &robot.secrets).await);
    }

    async fn nobody_keeps_alive_what_holds_more_than_their_token(server: TestServer) {
        let admin = server.admin().await;
        let old = admin.orders_key().await;
        rotate(&admin, &old, json!({})).await;
        let own = crate::authority::own_api(&admin).await;
        let narrow = admin.new_client(json!({ "scope": "keyward:admin", "res": ["plant/8"], "apis": [own] })).await;
        let narrow = server.api(&admin.issue(&narrow, &json!({})).await).await;
        let later = json!({ "retire_at": rfc3339(server.clock.now().plus(30 * DAY)) });
        let active = admin.issue(&old.client_id, &json!({})).await;
        for (key, action, body) in
            [(&active, "rotate", &json!({})), (&old, "extend", &later), (&old, "cancel", &json!({}))]
        {
            let refused = narrow.post(&path(key, action), body).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{action}: {}", refused.body);
        }
    }
}
