//! The revocation feed: what changes in the status list reaches verifiers within a second, by a stream or by polling.

use std::collections::BTreeSet;
use std::time::Duration;

use keyward_tests::feed::{Stream, Told, Verifier, poll, poll_answer};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Db, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::rotation;
use crate::status_list::{List, claims, place};
use crate::transfers::key_of;

/// How long a change may take until a verifier knows of it.
const BOUND: Duration = Duration::from_secs(1);

/// The place that the tokens of this key name now.
async fn place_of(server: &TestServer, key: &Secrets) -> u64 {
    place(&claims(&server.token(key, &[]).await)) as u64
}

/// Polls that each tell what came since the one before.
struct Polls<'a> {
    server: &'a TestServer,
    last: i64,
}

impl<'a> Polls<'a> {
    async fn from_now(server: &'a TestServer) -> Self {
        Self { server, last: poll(server, "").await.0 }
    }

    /// What was told since; nobody waits, for an acknowledged change is in the feed.
    async fn news(&mut self) -> Vec<Told> {
        let (last, told) = poll(self.server, &format!("?after={}&wait=0", self.last)).await;
        assert!(last >= self.last && told.iter().all(|told| told.id <= last));
        self.last = last;
        told
    }

    /// What the feed says of places.
    async fn places(&mut self) -> Value {
        let told = self.news().await;
        let [told] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(told.event, "places");
        told.data.clone()
    }
}

async fn act(admin: &Api<'_>, path: &str) {
    admin.act(path).await.ok();
}

on_both_databases! {
    async fn every_end_reaches_the_feed_before_it_is_acknowledged(server: TestServer) {
        let admin = server.admin().await;
        let olga = json!({ "name": "olga", "scope": "Supervisor", "res": ["plant"] });
        let olga = admin.post("/api/v1/users", &olga).await.created();
        let key = key_of(&admin, &olga, "Supervisor", &["plant"]).await;
        let (client, user) = (&key.client_id, olga["id"].as_str().unwrap());
        let mut polls = Polls::from_now(&server).await;

        let one = admin.issue(client, &json!({})).await;
        let two = admin.issue(client, &json!({})).await;
        admin.patch(&format!("/api/v1/clients/{client}"), &json!({ "name": "renamed", "scope": "Admin" })).await.ok();
        assert_eq!(polls.news().await, [], "nothing has ended");

        let (first, second, main) = (place_of(&server, &one).await, place_of(&server, &two).await, place_of(&server, &key).await);
        admin.revoke(&one).await;
        assert_eq!(polls.places().await, json!({ "ended": [first] }));
        let new = rotation::rotate(&admin, &two, json!({})).await;
        assert_eq!(polls.news().await, [], "a retiring key works");
        admin.post(&rotation::path(&two, "finish"), &json!({ "force": true })).await.ok();
        assert_eq!(polls.places().await, json!({ "ended": [second] }));

        let successor = place_of(&server, &new).await;
        for what in [format!("/api/v1/clients/{client}"), format!("/api/v1/users/{user}")] {
            act(&admin, &format!("{what}/disable")).await;
            assert_eq!(polls.places().await, json!({ "ended": [main, successor] }), "{what}");
            act(&admin, &format!("{what}/enable")).await;
            assert_eq!(polls.places().await, json!({ "restored": [main, successor] }), "{what}");
        }
        act(&admin, &format!("/api/v1/clients/{client}/disable")).await;
        act(&admin, &format!("/api/v1/users/{user}/disable")).await;
        polls.news().await;
        act(&admin, &format!("/api/v1/clients/{client}/enable")).await;
        assert_eq!(polls.places().await, json!({ "ended": [main, successor] }), "the owner is still disabled");
        act(&admin, &format!("/api/v1/users/{user}/enable")).await;
        polls.news().await;

        admin.patch(&format!("/api/v1/users/{user}"), &json!({ "scope": "Worker" })).await.ok();
        assert_eq!(polls.places().await, json!({ "ended": [main, successor] }), "lowered rights");
        admin.patch(&format!("/api/v1/users/{user}"), &json!({ "scope": "Supervisor" })).await.ok();
        assert_eq!(polls.news().await, [], "wider rights");

        let token = server.token(&key, &[]).await;
        Answer::of(server.form("/revoke", &key, &[("token", &token)])).await.ok();
        let told = polls.news().await;
        let until = claims(&token)["exp"].as_i64().unwrap() + 300;
        assert_eq!(told[0].event, "tokens");
        assert_eq!(told[0].data, json!({ "revoked": [{ "jti": claims(&token)["jti"], "exp": until }] }));

        let tv = admin.new_client(json!({ "kind": "public", "scope": "Worker", "apis": [admin.new_api("https://tv.example", &["Worker"]).await] })).await;
        let (session, hers) = server.sign_in(user, &tv, ("Worker", "plant")).await;
        assert_eq!(polls.news().await, []);
        act(&admin, &format!("/api/v1/device-sessions/{session}/revoke")).await;
        assert_eq!(polls.places().await, json!({ "ended": [place(&claims(&hers))] }));

        let places = [place_of(&server, &key).await, place_of(&server, &new).await];
        assert_eq!(admin.delete(&format!("/api/v1/clients/{client}")).await.status, StatusCode::NO_CONTENT);
        let ended = polls.places().await["ended"].as_array().unwrap().clone();
        assert!(places.iter().all(|place| ended.contains(&json!(place))), "{ended:?}");

        admin.post("/api/v1/signing-keys/rotate", &json!({ "immediately": true })).await.ok();
        let told = polls.news().await;
        assert_eq!((told[0].event.as_str(), &told[0].data), ("keys", &json!({})));
    }

    async fn an_end_that_time_brought_is_told_when_it_is_written_down(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let brief = admin.issue(&key.client_id, &json!({ "expires_at": "2026-11-23T12:10:00Z" })).await;
        let index = place_of(&server, &brief).await;
        let mut polls = Polls::from_now(&server).await;
        server.clock.advance(Duration::from_secs(600));
        server.app.run_schedule().await.unwrap();
        server.app.wait_until_applied(server.app.store.last_event().await.unwrap()).await.unwrap();
        assert_eq!(polls.places().await, json!({ "ended": [index] }));
    }

    async fn a_stream_begins_anew_says_what_happens_and_that_it_is_alive(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let index = place_of(&server, &key).await;
        let mut stream = Stream::open(&server, None).await;
        let reset = stream.next().await.unwrap();
        let last = server.app.store.last_event().await.unwrap();
        let list = format!("{}/status-lists/1", server.url());
        assert_eq!((reset.id, reset.event.as_str(), &reset.data), (last, "reset", &json!({ "list": list })));

        let start = Instant::now();
        let alive = stream.next().await.unwrap();
        assert_eq!((alive.event.as_str(), alive.id, &alive.data), ("alive", last, &json!({})));
        assert!(start.elapsed() > Duration::from_millis(700), "once a second");
        admin.revoke(&key).await;
        let told = timeout(BOUND, stream.news()).await.expect("it is told at once");
        assert_eq!((told.event.as_str(), &told.data), ("places", &json!({ "ended": [index] })));
        assert_eq!(told.id, server.app.store.last_event().await.unwrap());
    }

    async fn every_event_says_of_which_log_it_is_and_what_time_the_server_has(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let mut stream = Stream::open(&server, None).await;
        let reset = stream.next().await.unwrap();
        server.clock.advance(Duration::from_secs(30));
        server.api(&admin.secrets).await.revoke(&key).await;
        let told = stream.news().await;
        let now = server.clock.now().as_millis();
        assert_eq!((reset.now, told.now), (now - 30_000, now));
        let answer = poll_answer(&server, &format!("?after={}&log={}&wait=0", reset.id, reset.log)).await.ok();
        assert_eq!((&answer["now"], &answer["log"]), (&json!(now), &json!(told.log)));
        let events = server.app.store.list_events(&Default::default(), told.id - 1, 1).await.unwrap();
        assert_eq!(told.log, events[0].hash[..16]);
        let (_, told) = poll(&server, &format!("?after={}&log={}&wait=0", reset.id, told.log)).await;
        assert_eq!(told[0].event, "reset", "no event of this log has that number and that hash");
        assert_eq!(poll_answer(&server, "?after=1&log=yes").await.status, StatusCode::BAD_REQUEST);
    }

    async fn who_comes_back_is_told_what_they_missed_also_after_a_restart(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let other = admin.issue(&key.client_id, &json!({})).await;
        let (first, second) = (place_of(&server, &key).await, place_of(&server, &other).await);
        let known = server.app.store.last_event().await.unwrap();
        admin.revoke(&key).await;
        let mut stream = Stream::open(&server, Some(known)).await;
        assert_eq!(stream.next().await.unwrap().data, json!({ "ended": [first] }), "the first thing it says");
        drop(stream);
        admin.revoke(&other).await;
        let server = server.restart().await;
        let mut stream = Stream::open(&server, Some(known)).await;
        assert_eq!(stream.next().await.unwrap().data, json!({ "ended": [first] }));
        let told = stream.next().await.unwrap();
        assert_eq!((told.event.as_str(), &told.data), ("places", &json!({ "ended": [second] })));
        let mut stream = Stream::open(&server, Some(told.id)).await;
        assert_eq!(stream.next().await.unwrap().event, "alive", "nothing was missed");
    }

    async fn who_knows_what_cannot_be_continued_begins_anew(server: TestServer) {
        let last = server.app.store.last_event().await.unwrap();
        for (known, event) in [(last, "alive"), (last + 1, "reset"), (i64::MAX, "reset"), (-1, "reset")] {
            let mut stream = Stream::open(&server, Some(known)).await;
            let told = stream.next().await.unwrap();
            assert_eq!((told.event.as_str(), told.id), (event, last), "{known}");
            let (polled, told) = poll(&server, &format!("?after={known}&wait=0")).await;
            assert_eq!((polled, told.len()), (last, usize::from(event == "reset")), "{known}");
        }
        let request = Stream::request(&server, None).header("last-event-id", "yesterday");
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "it begins anew");
    }

    async fn a_poll_waits_for_something_and_no_longer_than_it_says(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let index = place_of(&server, &key).await;
        let (last, told) = poll(&server, "").await;
        assert_eq!((told[0].event.as_str(), told[0].id), ("reset", last));
        let start = Instant::now();
        assert_eq!(poll(&server, &format!("?after={last}&wait=1")).await, (last, vec![]));
        assert!(start.elapsed() >= Duration::from_secs(1));
        let after = format!("?after={last}");
        let waiting = async { (poll(&server, &after).await, Instant::now()) };
        let revoking = async {
            // A change that is none for verifiers ends no poll.
            admin.new_client(json!({ "name": "another" })).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let begun = Instant::now();
            admin.revoke(&key).await;
            begun
        };
        let (((_, told), answered), begun) = tokio::join!(waiting, revoking);
        assert_eq!(told[0].data, json!({ "ended": [index] }));
        assert!(answered > begun && answered - begun < BOUND);
        for wrong in ["?after=x", "?wait=31", "?wait=-1", "?since=3"] {
            assert_eq!(poll_answer(&server, wrong).await.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        let stream = server.http.get(format!("{}/revocations?after=1", server.url()));
        assert_eq!(Answer::of(stream).await.status, StatusCode::BAD_REQUEST, "a stream has Last-Event-ID");
    }

    async fn more_than_is_told_one_by_one_is_a_reset_and_the_list_has_it(server: TestServer) {
        let admin = server.admin().await;
        let olga = json!({ "name": "olga", "scope": "Supervisor", "res": ["plant"] });
        let olga = admin.post("/api/v1/users", &olga).await.created();
        let key = key_of(&admin, &olga, "Supervisor", &["plant"]).await;
        add_credentials(&server, &key, 1_500).await;
        let mut stream = Stream::open(&server, None).await;
        stream.next().await.unwrap();
        let before = List::of(&server).await.known().ended.len();
        let user = format!("/api/v1/users/{}", olga["id"].as_str().unwrap());
        admin.patch(&user, &json!({ "scope": "Worker" })).await.ok();
        let told = timeout(BOUND, stream.news()).await.expect("it is told at once");
        assert_eq!((told.event.as_str(), told.id), ("reset", server.app.store.last_event().await.unwrap()));
        assert_eq!(List::of(&server).await.known().ended.len() - before, 1_501);
        let event = admin.get("/api/v1/events?kind=user.changed").await.ok()["items"][0].clone();
        assert_eq!(event["data"]["moved"], 1_501);
        assert_eq!(server.app.store.last_status_index().await.unwrap(), 1_501 * 2 + 2, "each has one of its own");
    }

    async fn when_as_many_tokens_are_listed_as_may_be_the_next_ends_all_of_its_credential(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        let (one, two) = (server.token(&key, &[]).await, server.token(&key, &[]).await);
        server.execute(
            "INSERT INTO revoked_tokens (jti, credential, expires_at, revoked_at) WITH RECURSIVE n(i) AS \
             (SELECT 10001 UNION ALL SELECT i + 1 FROM n WHERE i < 19999) \
             SELECT 'tok_000000000000000000000' || CAST(i AS TEXT), 'cred_00000000000000000000000001', 1895435200000, 1 FROM n",
        ).await;
        let mut polls = Polls::from_now(&server).await;
        Answer::of(server.form("/revoke", &key, &[("token", &one)])).await.ok();
        assert_eq!(polls.news().await[0].event, "tokens", "the last that is listed");
        assert_eq!(server.introspect(&key, &two).await["active"], true);
        let three = server.token(&key, &[]).await;
        Answer::of(server.form("/revoke", &key, &[("token", &three)])).await.ok();
        assert_eq!(polls.places().await, json!({ "ended": [place(&claims(&three))] }));
        assert_eq!(List::of(&server).await.tokens().len(), 10_000);
        for token in [&two, &three] {
            assert_eq!(server.introspect(&key, token).await, json!({ "active": false }));
        }
        assert_eq!(server.introspect(&key, &server.token(&key, &[]).await).await["active"], true, "the key works");
        Answer::of(server.form("/revoke", &key, &[("token", &three)])).await.ok();
        let told = admin.get(&format!("/api/v1/events?subject={}", key.credential())).await.ok();
        let told = told["items"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&told["kind"], &told["data"]["moved"]), (&json!("credential.tokens_ended"), &json!(1)));
    }

    async fn a_node_that_cannot_read_the_log_falls_silent_and_then_ends_its_streams(server: TestServer) {
        let mut stream = Stream::open(&server, None).await;
        stream.next().await.unwrap();
        stream.next().await.unwrap();
        server.execute("ALTER TABLE events RENAME TO hidden").await;
        let start = Instant::now();
        let mut said = Vec::new();
        while let Some(told) = stream.next().await {
            said.push((told.event, start.elapsed()));
        }
        let took = start.elapsed();
        assert!((Duration::from_millis(1_500)..Duration::from_millis(4_500)).contains(&took), "{took:?}");
        assert!(said.iter().all(|(_, at)| *at < Duration::from_millis(2_200)), "it went on talking: {said:?}");
        for request in [Stream::request(&server, None), server.http.get(format!("{}/revocations", server.url())).header("accept", "application/json")] {
            let answer = Answer::of(request).await;
            assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
        }
        server.execute("ALTER TABLE hidden RENAME TO events").await;
        let again = async {
            while Answer::of(server.http.get(format!("{}/revocations?wait=0", server.url())).header("accept", "application/json")).await.status != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(5), again).await.expect("it can read again");
    }
}

/// More credentials of the same client than anybody issues one by one.
async fn add_credentials(server: &TestServer, key: &Secrets, count: u32) {
    server
        .execute(&format!(
            "INSERT INTO credentials (id, client, label, purpose, secret_hash, state, status_index, created_by, \
             created_at, updated_at, version) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             SELECT 'cred_' || CAST(i AS TEXT), k.client, '', k.purpose, k.secret_hash, k.state, \
             (SELECT value FROM counters WHERE name = 'status_index') + i, k.created_by, 1, 1, 1 \
             FROM n, credentials k WHERE k.client = '{}' AND k.id LIKE 'cred_0%'; \
             UPDATE counters SET value = value + {count} WHERE name = 'status_index'",
            key.client_id
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_may_read_at_once_and_one_network_half_of_them() {
    let server = TestServer::start_with(Db::Sqlite, |config| {
        config.limits.feed_readers = 3;
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let from = |address: &str| Stream::request(&server, None).header("x-forwarded-for", address);
    let (one, two) = (from("192.0.2.1").send().await.unwrap(), from("192.0.2.1").send().await.unwrap());
    assert_eq!((one.status(), two.status()), (StatusCode::OK, StatusCode::OK));
    let refused = Answer::of(from("192.0.2.1")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "30"));
    assert!(refused.body["error_description"].as_str().unwrap().contains("status list"), "{}", refused.body);
    let three = from("192.0.2.2").send().await.unwrap();
    assert_eq!(three.status(), StatusCode::OK, "another network");
    assert_eq!(Answer::of(from("192.0.2.3")).await.status, StatusCode::SERVICE_UNAVAILABLE, "all places are taken");
    assert_eq!(
        poll_answer(&server, "?wait=0").await.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "who polls is a reader too"
    );
    let metrics = server.http.get(format!("{}/metrics", server.url())).send().await.unwrap().text().await.unwrap();
    assert!(metrics.lines().any(|line| line == "keyward_feed_readers 3"), "{metrics}");
    drop((one, three));
    let free = async {
        while from("192.0.2.1").send().await.unwrap().status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), free).await.expect("a place that was left is given on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_ends_streams_and_polls_at_once() {
    let mut server = TestServer::start(Db::Sqlite).await;
    let mut stream = Stream::open(&server, None).await;
    stream.next().await.unwrap();
    let last = server.app.store.last_event().await.unwrap();
    let url = format!("{}/revocations?after={last}&wait=30", server.url());
    let polling = tokio::spawn(Answer::of(server.http.get(url).header("accept", "application/json")));
    // The poll is under way; nothing tells a client so.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    assert!(server.stop_serving().await, "something was cut off");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    stream.end().await;
    let polled = polling.await.unwrap().ok();
    assert_eq!((&polled["last"], &polled["events"]), (&json!(last), &json!([])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_no_idle_connection_and_who_does_not_read_holds_up_nobody() {
    let impatient = |config: &mut keyward_server::config::Config| config.server.header_timeout_s = 1;
    let server = TestServer::start_with(Db::Sqlite, impatient).await;
    let admin = server.admin().await;
    let key = admin.orders_key().await;
    let index = place_of(&server, &key).await;
    let mut hung = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(b"GET /revocations HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        hung.push(stream);
    }
    let mut stream = Stream::open(&server, None).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        assert!(matches!(stream.next().await.unwrap().event.as_str(), "reset" | "alive"));
    }
    let start = Instant::now();
    admin.revoke(&key).await;
    assert_eq!(stream.news().await.data, json!({ "ended": [index] }));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    // Whoever reads late reads everything from its beginning.
    let mut late = String::new();
    while !late.contains("event: places") {
        let mut chunk = [0; 4096];
        let read = timeout(BOUND * 2, hung[0].read(&mut chunk)).await.expect("it goes on").unwrap();
        late.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    assert!(late.starts_with("HTTP/1.1 200") && late.contains("event: reset"), "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_on_one_node_reaches_the_streams_of_the_other_and_readers_may_change_nodes() {
    let one = TestServer::start(Db::Postgres).await;
    let two = one.another_node().await;
    let admin = one.admin().await;
    let key = admin.orders_key().await;
    let other = admin.issue(&key.client_id, &json!({})).await;
    let (first, second) = (place_of(&one, &key).await, place_of(&one, &other).await);
    let mut there = Stream::open(&two, Some(one.app.store.last_event().await.unwrap())).await;
    let mut here = Stream::open(&one, Some(one.app.store.last_event().await.unwrap())).await;
    assert_eq!(
        (there.next().await.unwrap().event, here.next().await.unwrap().event),
        ("alive".to_owned(), "alive".to_owned())
    );
    let start = Instant::now();
    admin.revoke(&key).await;
    let told = there.news().await;
    assert_eq!(told.data, json!({ "ended": [first] }));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    assert_eq!(here.news().await, told, "both say the same");
    drop(here);
    admin.revoke(&other).await;
    // The second node may not have seen that yet: it is waited for, and nothing begins anew.
    let known = one.app.store.last_event().await.unwrap();
    let mut moved = Stream::open(&two, Some(known)).await;
    assert_eq!(moved.next().await.unwrap().event, "alive");
    let mut moved = Stream::open(&two, Some(told.id)).await;
    assert_eq!(moved.next().await.unwrap().data, json!({ "ended": [second] }));
    let answer = one.http.get(format!("{}/status-lists/1?applied={known}", two.url())).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_twice_does_no_harm_and_ids_never_go_back() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let key = admin.orders_key().await;
    let index = place_of(&server, &key).await;
    let known = server.app.store.last_event().await.unwrap();
    for what in ["disable", "enable", "disable"] {
        act(&admin, &format!("/api/v1/clients/{}/{what}", key.client_id)).await;
    }
    let (_, told) = poll(&server, &format!("?after={known}&wait=0")).await;
    let mut verifier = Verifier::default();
    for told in told.iter().chain(&told) {
        verifier.apply(told);
    }
    assert_eq!(verifier.ended, BTreeSet::from([index]));
    assert!(told.windows(2).all(|pair| pair[0].id <= pair[1].id), "{told:?}");
}
