//! Webhooks: notices arrive signed, again until they do, and nowhere they should not.

use std::time::Duration;

use base64::Engine as _;
use keyward_server::api::instant::Instant;
use keyward_server::app::Patience;
use keyward_tests::clients;
use keyward_tests::keyward::Process;
use keyward_tests::on_both_databases;
use keyward_tests::person::Person;
use keyward_tests::receiver::{Answer, Received, Receiver};
use keyward_tests::server::{Api, Db, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::authority::person;
use crate::metrics::measure;

const PATIENCE: Duration = Duration::from_secs(30);
const FORBIDDEN: &str = "its address is not on the public internet";

/// A webhook of this receiver.
pub(crate) async fn new_webhook(admin: &Api<'_>, receiver: &Receiver, kinds: &[&str]) -> Value {
    let new = json!({ "name": "chat", "url": receiver.url(), "kinds": kinds });
    admin.post("/api/v1/webhooks", &new).await.created()
}

/// Waits until so much has arrived, and looks that it is no more.
pub(crate) async fn arrived(server: &TestServer, receiver: &Receiver, count: usize) -> Vec<Received> {
    let waiting = async {
        while receiver.received().len() < count {
            server.app.send_notices().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, waiting).await;
    let received = receiver.received();
    assert!(in_time.is_ok() && received.len() == count, "{} of {count} arrived", received.len());
    received
}

/// Sends a test notice; its delivery.
async fn test(admin: &Api<'_>, webhook: &Value) -> Value {
    admin.act(&format!("/api/v1/webhooks/{}/test", webhook["id"].as_str().unwrap())).await.ok()
}

/// The only delivery there is, once nobody is sending it.
async fn settled(server: &TestServer, admin: &Api<'_>, attempts: u64) -> Value {
    let leased = Instant(server.clock.now().plus(Duration::from_secs(120))).to_string();
    let waiting = async {
        loop {
            server.app.send_notices().await.unwrap();
            let found = admin.get("/api/v1/deliveries").await.ok()["items"][0].clone();
            if found["attempts"] == attempts && found["due_at"] != leased.as_str() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the delivery is not tried")
}

/// How long the delivery waits, in seconds.
fn wait_s(server: &TestServer, delivery: &Value) -> u64 {
    let due: Instant = delivery["due_at"].as_str().unwrap().parse().unwrap();
    due.0.since(server.clock.now()).as_secs()
}

on_both_databases! {
    async fn a_webhook_shows_its_secret_once_and_can_be_changed_and_deleted(server: TestServer) {
        let (admin, receiver) = (server.admin().await, Receiver::start().await);
        let made = new_webhook(&admin, &receiver, &["credential.ending"]).await;
        assert!(made["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")), "{made}");
        let path = format!("/api/v1/webhooks/{}", made["id"].as_str().unwrap());
        let shown = admin.get(&path).await.ok();
        assert_eq!((&shown["secret"], &shown["kinds"]), (&Value::Null, &json!(["credential.ending"])));
        let changed = admin.patch(&path, &json!({ "name": "pager", "kinds": [] })).await.ok();
        assert_eq!((&changed["name"], &changed["kinds"]), (&json!("pager"), &json!([])));
        assert_eq!(admin.get("/api/v1/webhooks").await.ok()["items"].as_array().unwrap().len(), 1);
        test(&admin, &made).await;
        arrived(&server, &receiver, 1).await;

        let log = admin.get("/api/v1/events?limit=200").await.ok().to_string();
        let host = receiver.url();
        assert!(log.contains("webhook.created") && !log.contains(&host), "a URL may hold a secret, the log holds none");
        assert_eq!(admin.delete(&path).await.status, StatusCode::NO_CONTENT);
        assert_eq!(admin.get(&path).await.status, StatusCode::NOT_FOUND);
        assert_eq!(admin.get("/api/v1/deliveries").await.ok()["items"], json!([]));
    }

    async fn the_query_of_a_url_is_never_shown_again_and_is_kept(server: TestServer) {
        let (admin, receiver) = (server.admin().await, Receiver::start().await);
        let new = json!({ "name": "chat", "url": format!("{}?token=hunter2", receiver.url()) });
        let made = admin.post("/api/v1/webhooks", &new).await.created();
        assert_eq!(made["url"], format!("{}?…", receiver.url()));
        let path = format!("/api/v1/webhooks/{}", made["id"].as_str().unwrap());
        let refused = admin.patch(&path, &json!({ "url": made["url"] })).await;
        assert_eq!((refused.status, &refused.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("url")));
        let changed = admin.patch(&path, &json!({ "name": "pager" })).await.ok();
        for shown in [changed, admin.get("/api/v1/webhooks").await.ok(), admin.get("/api/v1/events").await.ok()] {
            assert!(!shown.to_string().contains("hunter2"), "{shown}");
        }
        test(&admin, &made).await;
        assert_eq!(arrived(&server, &receiver, 1).await[0].query, "token=hunter2");
    }

    async fn only_administrators_manage_webhooks(server: TestServer) {
        let admin = server.admin().await;
        let (_, support) = person(&admin, &server, "support", "keyward:support").await;
        let new = json!({ "name": "mine", "url": "https://hooks.example" });
        assert_eq!(support.post("/api/v1/webhooks", &new).await.status, StatusCode::FORBIDDEN);
        assert_eq!(support.get("/api/v1/webhooks").await.status, StatusCode::FORBIDDEN);
        assert_eq!(support.get("/api/v1/deliveries").await.status, StatusCode::OK);
        let (_, own) = person(&admin, &server, "own", "keyward:self").await;
        assert_eq!(own.get("/api/v1/notices").await.status, StatusCode::FORBIDDEN);
        assert_eq!(own.get("/api/v1/deliveries").await.status, StatusCode::FORBIDDEN);
    }

    async fn a_failing_receiver_is_tried_again_later_each_time_then_given_up_and_can_be_sent_to_by_hand(
        server: TestServer
    ) {
        let (admin, receiver) = (server.admin().await, Receiver::start().await);
        let secrets = admin.secrets.clone();
        let webhook = new_webhook(&admin, &receiver, &[]).await;
        receiver.answers(Answer::Status(500));
        test(&admin, &webhook).await;
        for (attempt, least) in (1..).zip([5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]) {
            let admin = server.api(&secrets).await;
            let delivery = settled(&server, &admin, attempt).await;
            assert_eq!((&delivery["state"], &delivery["problem"]), (&json!("waiting"), &json!("it answered 500")));
            let wait = wait_s(&server, &delivery);
            assert!((least..=least + least / 5).contains(&wait), "attempt {attempt}: {wait} s");
            server.clock.advance(Duration::from_secs(wait - 1));
            server.app.send_notices().await.unwrap();
            assert_eq!(receiver.received().len() as u64, attempt, "not before its time");
            server.clock.advance(Duration::from_secs(2));
        }
        let admin = server.api(&secrets).await;
        let dead = settled(&server, &admin, 10).await;
        assert_eq!((&dead["state"], &dead["due_at"]), (&json!("dead"), &Value::Null));
        assert_eq!(admin.get("/api/v1/deliveries?state=dead").await.ok()["items"].as_array().unwrap().len(), 1);
        let log = admin.get("/api/v1/events?kind=delivery.dead").await.ok();
        assert_eq!(log["items"][0]["subject"], dead["id"]);

        receiver.answers(Answer::Status(200));
        let resend = format!("/api/v1/deliveries/{}/resend", dead["id"].as_str().unwrap());
        assert_eq!(admin.act(&resend).await.ok()["state"], "waiting");
        let received = arrived(&server, &receiver, 11).await;
        assert_eq!(settled(&server, &admin, 1).await["state"], "sent");
        let id = &received[0].headers["webhook-id"];
        assert!(received.iter().all(|received| received.headers["webhook-id"] == *id), "a repetition is known by its id");
        assert!(received.iter().all(|again| again.body == received[0].body));
    }

    async fn redirects_and_broken_connections_are_failures_and_410_is_the_end(server: TestServer) {
        let (admin, receiver) = (server.admin().await, Receiver::start().await);
        let webhook = new_webhook(&admin, &receiver, &[]).await;
        receiver.answers(Answer::Status(302));
        test(&admin, &webhook).await;
        let delivery = settled(&server, &admin, 1).await;
        assert_eq!(delivery["problem"], "it answered 302: redirects are not followed");
        assert_eq!(receiver.received().len(), 1, "the redirect was followed");
        for (attempt, (answer, problem, state)) in (2..).zip([
            (Answer::Cut, "the connection broke before it answered", "waiting"),
            (Answer::Status(410), "it answered 410: it wants no more", "dead"),
        ]) {
            receiver.answers(answer);
            server.clock.advance(Duration::from_secs(400));
            let admin = server.api(&admin.secrets).await;
            let delivery = settled(&server, &admin, attempt).await;
            assert_eq!((delivery["problem"].as_str(), delivery["state"].as_str()), (Some(problem), Some(state)));
        }
    }

    async fn a_sender_that_dies_between_sending_and_noting_sends_again_under_the_same_id(server: TestServer) {
        let receiver = Receiver::start().await;
        let secrets = {
            let admin = server.admin().await;
            let webhook = new_webhook(&admin, &receiver, &[]).await;
            receiver.answers(Answer::Hang);
            test(&admin, &webhook).await;
            admin.secrets.clone()
        };
        let waiting = async {
            while receiver.received().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the server sends by itself");
        // It stops with the request under way, and nothing of it noted.
        let server = server.restart().await;
        receiver.answers(Answer::Status(204));
        server.app.send_notices().await.unwrap();
        assert_eq!(receiver.received().len(), 1, "the lease still holds");
        server.clock.advance(Duration::from_secs(121));
        let received = arrived(&server, &receiver, 2).await;
        assert_eq!(received[0].headers["webhook-id"], received[1].headers["webhook-id"]);
        assert_eq!(settled(&server, &server.api(&secrets).await, 2).await["state"], "sent");
    }

    async fn for_a_day_after_a_change_of_the_secret_both_sign(server: TestServer) {
        let (admin, receiver) = (server.admin().await, Receiver::start().await);
        let webhook = new_webhook(&admin, &receiver, &[]).await;
        let path = format!("/api/v1/webhooks/{}/rotate", webhook["id"].as_str().unwrap());
        let rotated = admin.act(&path).await.ok();
        assert_ne!(webhook["secret"], rotated["secret"]);
        let refused = admin.act(&path).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "a second one would cut the first off before its day is over");
        assert!(refused.body["detail"].as_str().unwrap().contains("until 2026-11-24T12:00:00Z"), "{}", refused.body);
        test(&admin, &webhook).await;
        let received = arrived(&server, &receiver, 1).await;
        let expected = [&rotated, &webhook].map(|secret| signature(secret, &received[0])).join(" ");
        assert_eq!(received[0].headers["webhook-signature"], expected);

        server.clock.advance(Duration::from_secs(24 * 3600 + 1));
        test(&server.api(&admin.secrets).await, &webhook).await;
        let received = arrived(&server, &receiver, 2).await;
        assert_eq!(received[1].headers["webhook-signature"], signature(&rotated, &received[1]));
        server.api(&admin.secrets).await.act(&path).await.ok();
    }

    async fn what_is_dead_from_the_start_is_in_the_log_and_all_of_it_can_be_sent_again(server: TestServer) {
        let (admin, receiver) = (server.admin().await, Receiver::start().await);
        let webhook = new_webhook(&admin, &receiver, &[]).await;
        let target = webhook["id"].as_str().unwrap();
        // A receiver that was away for long: 10,000 wait until tomorrow.
        let tomorrow = server.clock.now().plus(Duration::from_secs(24 * 3600)).as_millis();
        let counted = "WITH RECURSIVE n (i) AS (SELECT 10000 UNION ALL SELECT i + 1 FROM n WHERE i < 19999)";
        let id = "'01h455vb4pex5vsknk084' || i";
        let notices = format!("{counted} INSERT INTO notices SELECT 'notice_' || {id}, 'webhook.test', '', 0, '' || i, '{{}}', 1 FROM n");
        let deliveries = format!(
            "{counted} INSERT INTO deliveries SELECT 'delivery_' || {id}, 'notice_' || {id}, 'webhook', '{target}', \
             'waiting', 1, {tomorrow}, '', NULL FROM n"
        );
        server.execute(&format!("{notices}; {deliveries}")).await;
        let dead = "keyward_deliveries_total{channel=\"webhook\",outcome=\"dead\"}";
        let before = measure(&server).await[dead];
        let told: Vec<_> = futures_util::future::join_all((0..3).map(|_| test(&admin, &webhook))).await;
        assert!(told.iter().all(|delivery| delivery["state"] == "dead"), "{told:?}");
        assert!(measure(&server).await[dead] >= before + 3.0, "they are measured");
        let log = admin.get("/api/v1/events?kind=delivery.dead").await.ok();
        let subjects: Vec<_> = log["items"].as_array().unwrap().iter().map(|event| &event["subject"]).collect();
        assert!(told.iter().all(|delivery| subjects.contains(&&delivery["id"])), "{log}");
        let again = async || admin.post("/api/v1/deliveries/resend", &json!({ "target": target })).await;
        assert_eq!(again().await.status, StatusCode::CONFLICT, "the queue stays bounded");
        assert_eq!(receiver.received().len(), 0);

        server.execute("UPDATE deliveries SET state = 'dead', ended_at = 1 WHERE state = 'waiting'").await;
        assert_eq!(again().await.ok(), json!({ "resent": 1000, "left": 9003 }));
        assert_eq!(admin.get("/api/v1/events?kind=deliveries.resent").await.ok()["items"][0]["subject"], target);
        // Those that were dead from the start are the newest, and are left.
        server.execute("DELETE FROM deliveries WHERE state = 'waiting' OR attempts > 0").await;
        assert_eq!(again().await.ok(), json!({ "resent": 3, "left": 0 }));
        assert_eq!(again().await.ok(), json!({ "resent": 0, "left": 0 }));
        let has_arrived = |told: &Value| receiver.received().iter().any(|got| told["notice"] == got.headers["webhook-id"]);
        let waiting = async {
            while !told.iter().all(has_arrived) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("they arrive");
    }

    async fn a_webhook_is_told_only_what_it_wants(server: TestServer) {
        let (admin, wanting, other) = (server.admin().await, Receiver::start().await, Receiver::start().await);
        new_webhook(&admin, &wanting, &["credential.revoked_in_use"]).await;
        new_webhook(&admin, &other, &["credential.new_network"]).await;
        let key = admin.orders_key().await;
        admin.revoke(&key).await;
        crate::callers::ask(&server, &key, "press 7").await;
        server.app.callers.flush().await.unwrap();
        server.app.find_notices().await.unwrap();
        arrived(&server, &wanting, 1).await;
        arrived(&server, &other, 0).await;
    }
}

/// The signature as the specification says, computed here.
fn signature(issued: &Value, received: &Received) -> String {
    let base64 = base64::engine::general_purpose::STANDARD;
    let secret = base64.decode(issued["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap()).unwrap();
    let signed =
        format!("{}.{}.{}", received.headers["webhook-id"], received.headers["webhook-timestamp"], received.body);
    let key = jsonwebtoken::EncodingKey::from_secret(&secret);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
    format!("v1,{}", base64.encode(bytes))
}

on_both_databases! {
    async fn a_receiver_that_hangs_holds_its_share_and_slows_no_other(server: TestServer) {
        let (admin, slow, quick) = (server.admin().await, Receiver::start().await, Receiver::start().await);
        slow.answers(Answer::Hang);
        let webhooks = [new_webhook(&admin, &slow, &[]).await, new_webhook(&admin, &quick, &[]).await];
        for (webhook, times) in webhooks.iter().zip([9, 12]) {
            for _ in 0..times {
                test(&admin, webhook).await;
            }
        }
        let waiting = async {
            while quick.received().len() < 12 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the quick one gets all of it");
        assert_eq!(slow.received().len(), 4, "none of these was let go before the quick one had everything");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_is_let_go() {
    let patience = Patience { answer: Duration::from_secs(1), ..Patience::default() };
    let server = TestServer::start_impatient(Db::Sqlite, patience, |_| {}).await;
    let (admin, receiver) = (server.admin().await, Receiver::start().await);
    let webhook = new_webhook(&admin, &receiver, &[]).await;
    receiver.answers(Answer::Hang);
    test(&admin, &webhook).await;
    let delivery = settled(&server, &admin, 1).await;
    assert_eq!(delivery["problem"], "it did not answer in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_on_the_public_internet_is_not_reached() {
    let server = TestServer::start_with(Db::Sqlite, |config| config.notices.allow_networks.clear()).await;
    let (admin, receiver) = (server.admin().await, Receiver::start().await);
    let refused = admin.post("/api/v1/webhooks", &json!({ "name": "chat", "url": receiver.url() })).await;
    assert_eq!((refused.status, &refused.body["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("url")));

    let port = receiver.url().rsplit(':').next().unwrap().to_owned();
    let new = async |scheme: &str, host: &str| {
        let url = format!("{scheme}://{host}:{port}");
        admin.post("/api/v1/webhooks", &json!({ "name": "chat", "url": url })).await
    };
    for host in ["127.0.0.1", "[::1]", "2130706433", "169.254.169.254", "10.0.0.1"] {
        let refused = new("https", host).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{host}");
        assert!(refused.body["detail"].as_str().unwrap().contains(FORBIDDEN), "{}", refused.body);
    }
    // A name is judged by where it leads when it is asked.
    let webhook = new("https", "localhost").await.created();
    test(&admin, &webhook).await;
    let delivery = settled(&server, &admin, 1).await;
    assert!(delivery["problem"].as_str().unwrap().contains(FORBIDDEN), "{delivery}");
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_closed_again_is_not_reached_any_more() {
    let server = TestServer::start(Db::Sqlite).await;
    let (secrets, receiver) = (server.admin().await.secrets.clone(), Receiver::start().await);
    let webhook = new_webhook(&server.api(&secrets).await, &receiver, &[]).await;
    let closed = |config: &mut keyward_server::config::Config| {
        config.notices.allow_networks = vec!["10.1.0.0/16".parse().unwrap()];
    };
    let server = server.restart_with(closed).await;
    let admin = server.api(&secrets).await;
    test(&admin, &webhook).await;
    let delivery = settled(&server, &admin, 1).await;
    assert!(delivery["problem"].as_str().unwrap().contains(FORBIDDEN), "{delivery}");
    assert_eq!((&delivery["state"], receiver.received().len()), (&json!("dead"), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_goes_only_into_networks_that_were_opened() {
    let settings = |config: &mut keyward_server::config::Config| {
        config.notices.allow_networks = vec!["10.1.0.0/16".parse().unwrap()];
    };
    let server = TestServer::start_with(Db::Sqlite, settings).await;
    let (admin, receiver) = (server.admin().await, Receiver::start().await);
    let new = async |host: &str| {
        let url = receiver.url().replace("127.0.0.1", host);
        admin.post("/api/v1/webhooks", &json!({ "name": host, "url": url })).await
    };
    for host in ["127.0.0.1", "1.1.1.1"] {
        assert_eq!(new(host).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{host}");
    }
    test(&admin, &new("localhost").await.created()).await;
    let delivery = settled(&server, &admin, 1).await;
    assert!(delivery["problem"].as_str().unwrap().contains(FORBIDDEN), "{delivery}");
    assert_eq!(receiver.received().len(), 0);
}

/// What the reference library says of what arrived; whether it is good.
async fn judged(secret: &Value, received: &Received) -> (bool, Value) {
    let told = json!({ "secret": secret, "headers": received.headers, "body": received.body }).to_string();
    let file = keyward_tests::run::subdirectory("webhook").join("told");
    std::fs::write(&file, told).unwrap();
    let mut command = clients::python_script("verify_webhook.py");
    command.stdin(std::fs::File::open(&file).unwrap());
    let output = clients::run_command(command).await;
    let said = serde_json::from_slice(&output.stdout);
    (output.status.success(), said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_library_verifies_what_arrives_also_under_another_master_key() {
    let server = Process::serve(&[("KEYWARD_NOTICES_ALLOW_NETWORKS", "127.0.0.0/8")]).await;
    let (boss, receiver) = (Person::administrator(&server), Receiver::start().await);
    let made = boss.json(&["webhook", "create", "chat", &receiver.url(), "--kind", "credential.ending"]);
    let id = made["id"].as_str().unwrap();
    for attempt in 1..=2 {
        boss.does(&["webhook", "test", id]);
        let waiting = async {
            while receiver.received().len() < attempt {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it arrives");
        let received = receiver.received().pop().unwrap();
        let (good, said) = judged(&made["secret"], &received).await;
        assert!(good && said["type"] == "webhook.test", "{said}");
        let forged = Received { body: received.body.replace("webhook.test", "webhook.tess"), ..received };
        assert!(!judged(&made["secret"], &forged).await.0, "a changed body is good");
        boss.does(&["master-key", "rotate", "--data", server.data().to_str().unwrap()]);
    }
    assert_eq!(boss.json(&["webhook", "rotate", id])["id"], id);
    let pager = format!("{}/pager", receiver.url());
    let changed = boss.json(&["webhook", "change", id, "--to", &pager, "--kind", "credential.new_network"]);
    assert_eq!((&changed["url"], &changed["kinds"]), (&json!(pager), &json!(["credential.new_network"])));
    let changed = boss.does(&["webhook", "change", id, "--name", "chat 2", "--all-kinds"]);
    assert!(changed.contains("chat 2") && changed.contains(&pager) && changed.contains("(all)"), "{changed}");
    let refused = boss.tries(&["webhook", "change", id, "--to", "ftp://hooks.example"]);
    assert!(refused.code == 1 && refused.err.starts_with("error: URL: must be https"), "{}", refused.err);
    assert_eq!(boss.tries(&["webhook", "change", id, "--all-kinds", "--kind", "credential.ending"]).code, 2);
    assert!(boss.does(&["webhook", "list"]).contains("chat"));
    assert!(boss.does(&["notices"]).contains("webhook.test"));
    let sent = boss.json(&["webhook", "deliveries", "--state", "sent", "--target", id]);
    let delivery = sent["items"][0]["id"].as_str().unwrap();
    assert!(boss.does(&["webhook", "resend", delivery]).contains("waiting"));
    assert_eq!(boss.json(&["webhook", "resend", "--dead-to", id]), json!({ "resent": 0, "left": 0 }));
    boss.does(&["webhook", "delete", id, "--yes"]);
    assert_eq!(boss.does(&["webhook", "deliveries"]), "none\n");
}
