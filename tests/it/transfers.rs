//! Transfers: a client is offered to another owner, who accepts it or not.

use std::time::Duration;

use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Db, Secrets, TestServer};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::authority::{own_api, person};
use crate::status_list::{List, claims, place};

/// A client of this user with a key for a new API.
pub(crate) async fn key_of(admin: &Api<'_>, user: &Value, scope: &str, res: &[&str]) -> Secrets {
    let name = user["name"].as_str().unwrap();
    let api = admin.new_api(&format!("https://{name}.example"), &["Admin", "Supervisor", "Worker"]).await;
    let client = json!({ "name": "stock", "owner": user["id"], "scope": scope, "res": res, "apis": [api] });
    admin.issue(&admin.new_client(client).await, &json!({})).await
}

fn path(key: &Secrets) -> String {
    format!("/api/v1/clients/{}/transfer", key.client_id)
}

async fn offer(by: &Api<'_>, key: &Secrets, to: &Value) -> Answer {
    by.post(&path(key), &json!({ "to": to["id"] })).await
}

async fn accept(by: &Api<'_>, key: &Secrets) -> Answer {
    by.act(&format!("{}/accept", path(key))).await
}

async fn decline(by: &Api<'_>, key: &Secrets) -> Answer {
    by.act(&format!("{}/decline", path(key))).await
}

async fn owner(admin: &Api<'_>, key: &Secrets) -> Value {
    admin.get(&format!("/api/v1/clients/{}", key.client_id)).await.ok()["owner"].clone()
}

/// What verifiers offline see of a token.
async fn is_listed_as_ended(server: &TestServer, token: &str) -> bool {
    List::of(server).await.refuses(place(&claims(token)))
}

async fn act(admin: &Api<'_>, user: &Value, what: &str) -> Answer {
    admin.act(&format!("/api/v1/users/{}/{what}", user["id"].as_str().unwrap())).await
}

async fn offers(api: &Api<'_>, query: &str) -> usize {
    api.get(&format!("/api/v1/transfers{query}")).await.ok()["items"].as_array().unwrap().len()
}

/// Where a client changed hands and one of the two was disabled, the log has it in the order in which both are allowed.
async fn assert_in_order(admin: &Api<'_>, key: &Secrets, user: &Value) {
    let place = async |subject: &str, kind: &str| {
        let events = admin.get(&format!("/api/v1/events?subject={subject}&kind={kind}")).await.ok();
        events["items"][0]["seq"].as_i64()
    };
    let accepted = place(&key.client_id, "client.transfer_accepted").await;
    let disabled = place(user["id"].as_str().unwrap(), "user.disabled").await.unwrap();
    assert!(accepted.is_none_or(|accepted| accepted < disabled), "{accepted:?} after {disabled}");
}

on_both_databases! {
    async fn an_accepted_client_acts_as_its_new_owner_and_the_tokens_of_before_end(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        let before = server.token(&key, &[]).await;
        assert_eq!(claims(&before)["sub"], olga["id"]);

        let offered = offer(&hers, &key, &sam).await;
        assert_eq!(offered.header("location"), path(&key));
        let offered = offered.created();
        assert_eq!(offered, json!({
            "client": key.client_id, "name": "stock", "owner": olga["id"], "offered_by": olga["id"],
            "offered_to": sam["id"], "offered_at": "2026-11-23T12:00:00Z", "expires_at": "2026-12-07T12:00:00Z",
            "stands": true, "beyond": null, "gained": null,
        }));
        assert_eq!(server.introspect(&key, &before).await["active"], true, "an offer changes nothing");
        let incoming = his.get("/api/v1/transfers?direction=incoming").await.ok();
        let mut his_view = offered;
        his_view["beyond"] = json!([]);
        his_view["gained"] = json!({ "scope": "", "res": [] });
        assert_eq!(incoming["items"], json!([his_view]), "what he lacks and the keys gain is told to him");
        assert_eq!((offers(&hers, "?direction=outgoing").await, offers(&hers, "?direction=incoming").await), (1, 0));

        assert_eq!(accept(&his, &key).await.ok(), his_view);
        assert_eq!(owner(&his, &key).await, sam["id"]);
        assert_eq!(server.introspect(&key, &before).await, json!({ "active": false }));
        assert!(is_listed_as_ended(&server, &before).await, "verifiers offline learn of it too");
        let after = server.token(&key, &[]).await;
        assert_eq!(claims(&after)["sub"], sam["id"]);
        assert_eq!(server.introspect(&key, &after).await["active"], true);
        assert!(!is_listed_as_ended(&server, &after).await);
        assert_eq!(hers.get(&format!("/api/v1/clients/{}", key.client_id)).await.status, StatusCode::NOT_FOUND);
        assert_eq!((offers(&his, "").await, offers(&hers, "").await), (0, 0));
        assert_eq!(accept(&his, &key).await.ok(), his_view, "its answer may have been lost; the log has it once");
        assert_eq!(decline(&his, &key).await.status, StatusCode::NOT_FOUND);

        let of_client = his.kinds_of(&key.client_id).await;
        assert_eq!(of_client, ["client.created", "client.transfer_offered", "client.transfer_accepted"]);
        assert_eq!(his.kinds_of(&key.credential()).await, ["credential.issued", "credential.transferred"]);
    }

    async fn a_client_given_away_and_got_back_does_not_revive_its_tokens(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        let in_its_own_name = json!({ "subject": "client" });
        let first = server.token(&key, &[]).await;
        admin.patch(&format!("/api/v1/clients/{}", key.client_id), &in_its_own_name).await.ok();
        let second = server.token(&key, &[]).await;
        offer(&hers, &key, &sam).await.created();
        accept(&his, &key).await.ok();
        offer(&his, &key, &olga).await.created();
        accept(&hers, &key).await.ok();
        for token in [&first, &second] {
            assert_eq!(server.introspect(&key, token).await, json!({ "active": false }));
            assert!(is_listed_as_ended(&server, token).await);
        }
        // A client that has changed hands can be deleted, and its tokens stay ended.
        let third = server.token(&key, &[]).await;
        assert_eq!(hers.delete(&format!("/api/v1/clients/{}", key.client_id)).await.status, StatusCode::NO_CONTENT);
        assert!(is_listed_as_ended(&server, &first).await && is_listed_as_ended(&server, &third).await);
    }

    async fn the_offer_says_what_the_new_owner_lacks_and_what_the_keys_gain(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let boss = json!({ "name": "boss", "scope": "Supervisor", "res": ["plant/7"] });
        let boss = admin.post("/api/v1/users", &boss).await.created();
        let key = key_of(&admin, &olga, "Admin Worker", &["office", "plant/7"]).await;
        let narrow = admin.issue(&key.client_id, &json!({ "scope": "Worker", "res": ["office"] })).await;
        admin.issue(&key.client_id, &json!({ "scope": "Worker" })).await;
        let offered = admin.post(&path(&key), &json!({ "to": boss["id"] })).await.created();
        assert_eq!(offered["beyond"], json!([
            { "credential": null, "scope": "Admin", "res": ["office"] },
            { "credential": narrow.credential(), "scope": "", "res": ["office"] },
        ]));
        assert_eq!(offered["gained"], json!({ "scope": "Supervisor", "res": [] }), "olga is a Worker only");
        let (_, support) = person(&admin, &server, "sue", "keyward:support").await;
        assert_eq!(support.get(&path(&key)).await.ok(), offered);
        let hers = hers.get(&path(&key)).await.ok();
        assert_eq!((&hers["beyond"], &hers["gained"]), (&Value::Null, &Value::Null));
    }

    async fn whoever_offers_a_client_learns_nothing_of_whom_they_offer_it_to(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let key = key_of(&admin, &olga, "Admin Worker", &["office", "plant/7"]).await;
        let mut told = Vec::new();
        for (name, scope, res) in [("boss", "Admin", "*"), ("gone", "Admin", "*"), ("guest", "", "office")] {
            let user = json!({ "name": name, "scope": scope, "res": [res] });
            let user = admin.post("/api/v1/users", &user).await.created();
            if name == "gone" {
                act(&admin, &user, "disable").await.ok();
            }
            let mut offered = offer(&hers, &key, &user).await.created();
            offered.as_object_mut().unwrap().remove("offered_to");
            let listed = hers.get("/api/v1/transfers").await.ok()["items"][0].clone();
            told.push((offered, listed["beyond"].clone(), listed["gained"].clone(), listed["stands"].clone()));
            if name == "gone" {
                assert_eq!(offer(&admin, &key, &user).await.body["field"], "to", "who sees all users is told");
            }
        }
        assert!(told.iter().all(|one| one == &told[0]), "{told:?}");
    }

    async fn every_offer_is_another_one_and_a_step_can_be_bound_to_it(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        let tag = async || offer(&hers, &key, &sam).await.header("etag").to_owned();
        let (first, second) = (tag().await, tag().await);
        assert_ne!(first, second, "also in the same instant");
        assert_eq!(his.get(&path(&key)).await.header("etag"), second);
        let step = async |by: &Api<'_>, method: Method, step: &str, tag: &str| {
            let request = by.request(method, &format!("{}{step}", path(&key))).header("if-match", tag);
            Answer::of(request).await.status
        };
        for (by, method, name) in
            [(&his, Method::POST, "/accept"), (&his, Method::POST, "/decline"), (&hers, Method::DELETE, "")]
        {
            assert_eq!(step(by, method, name, &first).await, StatusCode::PRECONDITION_FAILED, "{name}");
        }
        assert_eq!(step(&hers, Method::DELETE, "", &second).await, StatusCode::NO_CONTENT);
        let third = tag().await;
        assert!(third != second && third != first, "also after it was withdrawn");
        for _ in 0..2 {
            assert_eq!(step(&his, Method::POST, "/accept", &third).await, StatusCode::OK);
        }
        assert_eq!(step(&his, Method::POST, "/accept", &second).await, StatusCode::PRECONDITION_FAILED);
    }

    async fn an_offer_that_ends_with_its_client_or_a_user_is_told_in_the_log(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let sam = admin.post("/api/v1/users", &json!({ "name": "sam" })).await.created();
        let eve = admin.post("/api/v1/users", &json!({ "name": "eve" })).await.created();
        let last = async |key: &Secrets| {
            let query = format!("/api/v1/events?subject={}&kind=client.transfer_withdrawn", key.client_id);
            let events = admin.get(&query).await.ok();
            events["items"].as_array().unwrap().last().map(|event| event["data"].clone())
        };
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        offer(&hers, &key, &sam).await.created();
        admin.delete(&format!("/api/v1/users/{}", sam["id"].as_str().unwrap())).await;
        let told = last(&key).await.unwrap();
        assert_eq!((&told["offered_to"], &told["because"]), (&sam["id"], &json!("user_deleted")));
        assert_eq!(offers(&hers, "").await, 0);

        offer(&hers, &key, &eve).await.created();
        assert_eq!(admin.delete(&format!("/api/v1/clients/{}", key.client_id)).await.status, StatusCode::NO_CONTENT);
        let told = last(&key).await.unwrap();
        assert_eq!((&told["offered_to"], &told["because"]), (&eve["id"], &json!("client_deleted")));
    }

    async fn what_the_keys_gain_is_judged_by_the_owner_of_the_moment_of_acceptance(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, _) = person(&admin, &server, "sam", "keyward:self").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        offer(&hers, &key, &sam).await.created();
        let now = server.clock.now();
        let judged = server.app.store.find_transfer(key.client_id.parse().unwrap(), now).await.unwrap().unwrap();
        let lowered = json!({ "scope": "keyward:self" });
        admin.patch(&format!("/api/v1/users/{}", olga["id"].as_str().unwrap()), &lowered).await.ok();
        let mut tx = server.app.store.begin().await.unwrap();
        assert!(!tx.transfer_client(&judged, now).await.unwrap(), "the keys gain more than was seen");
    }

    async fn nobody_accepts_what_they_could_not_hand_out(server: TestServer) {
        let admin = server.admin().await;
        let olga = json!({ "name": "olga", "scope": "Worker", "res": ["*"] });
        let olga = admin.post("/api/v1/users", &olga).await.created();
        let ada = json!({ "name": "ada", "scope": "keyward:admin", "res": ["*"] });
        let ada = admin.post("/api/v1/users", &ada).await.created();
        let as_ada = async |scope: &str| {
            let client = json!({ "owner": ada["id"], "scope": scope, "apis": [own_api(&admin).await] });
            server.api(&admin.issue(&admin.new_client(client).await, &json!({})).await).await
        };
        let (narrow, wide) = (as_ada("keyward:self").await, as_ada("keyward:admin").await);
        // Worth nothing with olga; with ada it administers, for whoever has its key today.
        let key = key_of(&admin, &olga, "keyward:admin", &["*"]).await;
        let offered = offer(&admin, &key, &ada).await.created();
        assert!(offered["gained"]["scope"].as_str().unwrap().contains("keyward:admin"), "{offered}");
        let refused = accept(&narrow, &key).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
        assert_eq!(owner(&admin, &key).await, olga["id"]);
        accept(&wide, &key).await.ok();
        assert_eq!(owner(&admin, &key).await, ada["id"]);
    }

    async fn an_offer_is_declined_withdrawn_or_replaced(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let (eve, strangers) = person(&admin, &server, "eve", "keyward:self").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;

        offer(&hers, &key, &sam).await.created();
        assert_eq!(decline(&his, &key).await.status, StatusCode::NO_CONTENT);
        assert_eq!(accept(&his, &key).await.status, StatusCode::NOT_FOUND);

        offer(&hers, &key, &sam).await.created();
        assert_eq!(hers.delete(&path(&key)).await.status, StatusCode::NO_CONTENT);
        assert_eq!(accept(&his, &key).await.status, StatusCode::NOT_FOUND);
        assert_eq!(hers.delete(&path(&key)).await.status, StatusCode::NOT_FOUND);

        offer(&hers, &key, &sam).await.created();
        offer(&hers, &key, &eve).await.created();
        assert_eq!(accept(&his, &key).await.status, StatusCode::NOT_FOUND, "it is eve's to accept now");
        accept(&strangers, &key).await.ok();
        assert_eq!(owner(&admin, &key).await, eve["id"]);
        let told = admin.kinds_of(&key.client_id).await.join(" ").replace("client.transfer_", "");
        assert_eq!(told, "client.created offered declined offered withdrawn offered withdrawn offered accepted");
    }

    async fn an_offer_is_the_business_of_few(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let (_, strangers) = person(&admin, &server, "eve", "keyward:self").await;
        let (_, support) = person(&admin, &server, "sue", "keyward:support").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        assert_eq!(offer(&his, &key, &sam).await.status, StatusCode::NOT_FOUND, "nobody helps themselves");
        assert_eq!(offer(&support, &key, &sam).await.status, StatusCode::FORBIDDEN);
        for nobody in [json!({ "id": olga["id"] }), json!({ "id": "user_01h455vb4pex5vsknk084sn02q" })] {
            let refused = offer(&hers, &key, &nobody).await;
            assert_eq!((refused.status, &refused.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("to")));
        }
        offer(&hers, &key, &sam).await.created();
        for answer in [
            strangers.get(&path(&key)).await,
            strangers.delete(&path(&key)).await,
            accept(&strangers, &key).await,
            decline(&strangers, &key).await,
            accept(&hers, &key).await,
            accept(&admin, &key).await,
        ] {
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.body);
        }
        assert_eq!(his.delete(&path(&key)).await.status, StatusCode::NOT_FOUND, "declining is another thing");
        assert_eq!(support.delete(&path(&key)).await.status, StatusCode::FORBIDDEN);
        assert_eq!((offers(&strangers, "").await, offers(&support, "").await, offers(&his, "").await), (0, 1, 1));
    }

    async fn an_offer_that_nobody_accepts_ends_after_fourteen_days(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        offer(&hers, &key, &sam).await.created();
        server.clock.advance(Duration::from_secs(14 * 24 * 3600));
        let (admin, his) = (server.api(&admin.secrets).await, server.api(&his.secrets).await);
        assert_eq!(accept(&his, &key).await.status, StatusCode::NOT_FOUND, "before anything wrote its end down");
        assert_eq!(offers(&admin, "").await, 0);
        server.app.run_schedule().await.unwrap();
        server.app.run_schedule().await.unwrap();
        let told = admin.kinds_of(&key.client_id).await;
        assert_eq!(told, ["client.created", "client.transfer_offered", "client.transfer_expired"]);
    }

    async fn disabled_users_neither_offer_nor_accept_and_administrators_offer_what_is_theirs(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        act(&admin, &sam, "disable").await.ok();
        assert_eq!(offer(&admin, &key, &sam).await.body["field"], "to");
        act(&admin, &sam, "enable").await.ok();
        offer(&hers, &key, &sam).await.created();
        act(&admin, &sam, "disable").await.ok();
        assert_eq!(accept(&his, &key).await.status, StatusCode::UNAUTHORIZED);
        act(&admin, &sam, "enable").await.ok();
        act(&admin, &olga, "disable").await.ok();
        assert_eq!(offer(&hers, &key, &sam).await.status, StatusCode::UNAUTHORIZED);
        let refused = accept(&his, &key).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "who offered it may do nothing any more");
        assert!(refused.body["detail"].as_str().unwrap().contains("administrator"), "{}", refused.body);

        assert_eq!(server.token_answer(&key, &[]).await.status, StatusCode::UNAUTHORIZED);
        let offered = offer(&admin, &key, &sam).await.created();
        assert_eq!(offered["gained"]["scope"], "Worker", "a disabled owner has nothing");
        accept(&his, &key).await.ok();
        assert_eq!(claims(&server.token(&key, &[]).await)["sub"], sam["id"], "it works again");
    }

    async fn an_offer_stands_for_the_client_as_it_was_and_for_who_made_it(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let key = key_of(&admin, &olga, "Worker", &["plant/7"]).await;
        offer(&hers, &key, &sam).await.created();
        admin.patch(&format!("/api/v1/clients/{}", key.client_id), &json!({ "scope": "Admin" })).await.ok();
        assert_eq!(accept(&his, &key).await.status, StatusCode::CONFLICT, "not what was offered");
        assert_eq!(his.get("/api/v1/transfers").await.ok()["items"][0]["stands"], false, "and it can be seen");
        offer(&hers, &key, &sam).await.created();

        let (deputy, as_deputy) = person(&admin, &server, "deputy", "keyward:admin").await;
        let another = key_of(&admin, &deputy, "Worker", &["plant/7"]).await;
        offer(&hers, &key, &sam).await.created();
        as_deputy.delete(&path(&key)).await;
        offer(&as_deputy, &key, &sam).await.created();
        let demoted = json!({ "scope": "Worker" });
        admin.patch(&format!("/api/v1/users/{}", deputy["id"].as_str().unwrap()), &demoted).await.ok();
        assert_eq!(accept(&his, &key).await.status, StatusCode::CONFLICT, "the deputy could not offer it today");
        assert_eq!(his.get(&path(&key)).await.ok()["stands"], false);
        assert_eq!(owner(&admin, &another).await, deputy["id"]);
    }

    async fn of_acceptance_withdrawal_and_disabling_at_once_one_comes_first(server: TestServer) {
        let admin = server.admin().await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        for round in 0..6 {
            let (olga, hers) = person(&admin, &server, &format!("olga {round}"), "keyward:self").await;
            let members = json!({ "owner": olga["id"], "scope": "Worker", "res": ["plant/7"] });
            let client = admin.new_client(members).await;
            let key = Secrets { client_id: client, client_secret: String::new() };
            offer(&hers, &key, &sam).await.created();
            let taken = path(&key);
            let (accepted, again, withdrawn, disabled) = tokio::join!(
                accept(&his, &key),
                accept(&his, &key),
                hers.delete(&taken),
                act(&admin, &olga, "disable")
            );
            assert_eq!(disabled.status, StatusCode::OK);
            // Both may be told that it is done; it is done once.
            let successes = usize::from([&accepted, &again].iter().any(|answer| answer.status == StatusCode::OK));
            let withdrawals = usize::from(withdrawn.status == StatusCode::NO_CONTENT);
            assert!(successes + withdrawals <= 1, "{accepted:?} {again:?} {withdrawn:?}");
            let expected = if successes == 1 { &sam["id"] } else { &olga["id"] };
            assert_eq!(owner(&admin, &key).await, *expected);
            let told = admin.kinds_of(&key.client_id).await;
            let count = |kind: &str| told.iter().filter(|told| *told == kind).count();
            assert_eq!(count("client.transfer_accepted"), successes, "{told:?}");
            assert_eq!(count("client.transfer_withdrawn"), withdrawals, "{told:?}");
            assert_in_order(&admin, &key, &olga).await;
        }
    }

    async fn nobody_accepts_after_they_were_disabled(server: TestServer) {
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        for round in 0..6 {
            let (sam, his) = person(&admin, &server, &format!("sam {round}"), "keyward:self").await;
            let members = json!({ "owner": olga["id"], "scope": "Worker", "res": ["plant/7"] });
            let key = Secrets { client_id: admin.new_client(members).await, client_secret: String::new() };
            offer(&hers, &key, &sam).await.created();
            let (accepted, disabled) = tokio::join!(accept(&his, &key), act(&admin, &sam, "disable"));
            assert_eq!(disabled.status, StatusCode::OK);
            let expected = if accepted.status == StatusCode::OK { &sam["id"] } else { &olga["id"] };
            assert_eq!(owner(&admin, &key).await, *expected, "{accepted:?}");
            assert_in_order(&admin, &key, &sam).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_accepts_more_clients_than_one_may_own() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = TestServer::start_with(db, |config| config.limits.clients_per_owner = 2).await;
        let admin = server.admin().await;
        let (olga, hers) = person(&admin, &server, "olga", "keyward:self").await;
        let (sam, his) = person(&admin, &server, "sam", "keyward:self").await;
        let members = json!({ "owner": olga["id"], "scope": "Worker", "res": ["plant/7"] });
        let mut answers = Vec::new();
        for _ in 0..2 {
            let key = Secrets { client_id: admin.new_client(members.clone()).await, client_secret: String::new() };
            offer(&hers, &key, &sam).await.created();
            answers.push((accept(&his, &key).await, owner(&admin, &key).await));
        }
        assert_eq!((answers[0].0.status, &answers[0].1), (StatusCode::OK, &sam["id"]), "it is his second");
        assert_eq!((answers[1].0.status, &answers[1].1), (StatusCode::CONFLICT, &olga["id"]));
        let detail = answers[1].0.body["detail"].as_str().unwrap();
        assert!(detail.contains("as many clients as one may (2)"), "{detail}");
    }
}
