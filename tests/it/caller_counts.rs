//! How exact the counts of callers are: many at once, several nodes, beyond the bounds, through stops and faults.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use keyward_tests::keyward::Process;
use keyward_tests::on_both_databases;
use keyward_tests::person::{Person, text};
use keyward_tests::postgres::{self, TestDatabase};
use keyward_tests::server::{Db, Secrets, TestServer};
use reqwest::StatusCode;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::callers::{callers, counts, uses};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// So many uses by each of so many callers, as many at once as the machine bears.
async fn storm(servers: &[&TestServer], key: &Secrets, instances: usize, each: usize) {
    let tasks = (0..8).map(|task| async move {
        for n in (0..instances * each).filter(|n| n % 8 == task) {
            uses(servers[n % servers.len()], key, &format!("press {}", n % instances)).await;
        }
    });
    join_all(tasks).await;
}

/// How often each caller was let in.
fn accepted(found: &[Value]) -> HashMap<String, i64> {
    let counts = counts(found);
    let all = counts.iter().map(|(name, accepted, _)| ((*name).to_owned(), *accepted));
    all.collect()
}

/// Runs a statement in the server's database behind its back.
async fn behind_its_back(server: &TestServer, statement: &str) {
    let Some(url) = server.database_url() else {
        let file = Connection::open(server.directory.join("keyward.db")).unwrap();
        file.busy_timeout(Duration::from_secs(10)).unwrap();
        return file.execute_batch(statement).unwrap();
    };
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

on_both_databases! {
    async fn every_use_is_counted_however_many_come_at_once(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        storm(&[&server], &key, 50, 40).await;
        let found = accepted(&callers(&admin, &key).await);
        assert_eq!(found.len(), 50);
        assert!(found.values().all(|count| *count == 40), "{found:?}");
    }

    async fn beyond_sixty_four_callers_the_sum_is_still_exact(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        storm(&[&server], &key, 40, 1).await;
        server.app.callers.flush().await.unwrap();
        storm(&[&server], &key, 100, 2).await;
        let found = admin.get(&format!("/api/v1/credentials/{}/callers?limit=200", key.credential())).await.ok();
        let found = found["items"].as_array().unwrap();
        assert_eq!(found.len(), 65, "64 that are told apart, and one for all others");
        let sum: i64 = counts(found).iter().map(|(_, accepted, _)| accepted).sum();
        assert_eq!(sum, 240);
        let other = found.iter().find(|caller| caller["network"] == "").unwrap();
        assert_eq!((&other["user_agent"], &other["instance"]), (&json!("other"), &json!("")));
        let named = accepted(found);
        assert!((0..40).all(|n| named[&format!("press {n}")] >= 1), "whoever has a place keeps it: {named:?}");
    }

    async fn with_all_places_taken_those_long_gone_give_theirs_to_new_callers(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        storm(&[&server], &key, 70, 1).await;
        server.app.callers.flush().await.unwrap();
        server.app.run_schedule().await.unwrap();
        assert_eq!(callers(&admin, &key).await.len(), 50, "a page: nobody was forgotten");
        server.clock.advance(DAY + Duration::from_secs(1));
        uses(&server, &key, "newcomer").await;
        let admin = server.api(&admin.secrets).await;
        assert!(!accepted(&callers(&admin, &key).await).contains_key("newcomer"), "there was no place");
        server.app.run_schedule().await.unwrap();
        uses(&server, &key, "newcomer").await;
        let found = callers(&admin, &key).await;
        assert_eq!(accepted(&found), [(String::new(), 71), ("newcomer".to_owned(), 1)].into());
        assert_eq!(found[0]["first_seen_at"].as_str().unwrap().get(..10), Some("2026-11-24"), "the newcomer");
        server.app.run_schedule().await.unwrap();
        assert_eq!(callers(&admin, &key).await, found, "with places free nobody loses theirs");
    }

    async fn whoever_was_not_seen_for_ninety_days_is_forgotten(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        uses(&server, &key, "gone").await;
        uses(&server, &key, "monthly").await;
        server.clock.advance(60 * DAY);
        uses(&server, &key, "monthly").await;
        server.app.callers.flush().await.unwrap();
        server.clock.advance(30 * DAY + Duration::from_secs(1));
        server.app.run_schedule().await.unwrap();
        let admin = server.api(&admin.secrets).await;
        assert_eq!(counts(&callers(&admin, &key).await), [("monthly", 2, 0)]);
    }

    async fn however_many_there_are_all_who_were_not_seen_for_long_are_forgotten_in_time(server: TestServer) {
        let admin = server.admin().await;
        let keys = [admin.orders_key().await, admin.issue(&admin.secrets.client_id, &json!({})).await];
        let now = server.clock.now();
        let (lately, long_ago) = (now.minus(DAY).as_millis(), now.minus(90 * DAY).as_millis() - 1);
        for key in &keys {
            // Every third was seen a day ago. More of them than are looked through at once.
            server.execute(&format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2100) \
                 INSERT INTO callers SELECT '{}', 'f' || i, '', '192.0.2.1', '', 'press ' || i, 1, \
                 CASE WHEN i % 3 = 0 THEN {lately} ELSE {long_ago} END, 1, 0 FROM n",
                key.credential()
            )).await;
        }
        for _ in 0..4 {
            server.app.run_schedule().await.unwrap();
        }
        for key in &keys {
            let of_it = format!("SELECT count(*) FROM callers WHERE credential = '{}' AND instance <> ''", key.credential());
            assert_eq!(server.count(&of_it).await, 700);
        }
    }

    async fn an_orderly_stop_loses_nothing(server: TestServer) {
        let admin = server.admin().await;
        let (key, secrets) = (admin.orders_key().await, admin.secrets);
        storm(&[&server], &key, 5, 10).await;
        let server = server.restart().await;
        let admin = server.api(&secrets).await;
        let found = accepted(&callers(&admin, &key).await);
        assert_eq!((found.len(), found.values().sum::<i64>()), (5, 50));
    }

    async fn a_database_that_fails_for_a_while_costs_no_count(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        storm(&[&server], &key, 10, 2).await;
        behind_its_back(&server, "ALTER TABLE callers RENAME TO away").await;
        let report = format!("/api/v1/credentials/{}/callers", key.credential());
        for _ in 0..3 {
            storm(&[&server], &key, 10, 1).await;
            assert!(server.app.callers.flush().await.is_err());
            assert_eq!(admin.get(&report).await.status, StatusCode::SERVICE_UNAVAILABLE, "half a report misleads");
        }
        // More callers than a credential may have gather meanwhile: memory does not grow with them.
        storm(&[&server], &key, 80, 1).await;
        behind_its_back(&server, "ALTER TABLE away RENAME TO callers").await;
        server.app.callers.flush().await.unwrap();
        let found = admin.get(&format!("{report}?limit=200")).await.ok();
        let counts = counts(found["items"].as_array().unwrap());
        assert_eq!((counts.len(), counts.iter().map(|(_, n, _)| n).sum::<i64>()), (65, 130));
    }

    async fn callers_are_listed_while_the_database_writes_nothing(server: TestServer) {
        let admin = server.admin().await;
        let key = admin.orders_key().await;
        uses(&server, &key, "written down").await;
        server.app.callers.flush().await.unwrap();
        uses(&server, &key, "on its way").await;
        let writing = server.keep_from_writing().await;
        let found = callers(&admin, &key).await;
        assert_eq!(counts(&found), [("written down", 1, 0)]);
        let shown = admin.get(&format!("/api/v1/credentials/{}", key.credential())).await.ok();
        assert_eq!(shown["callers"]["seen_in_window"], 1);
        writing.release().await;
        server.app.callers.flush().await.unwrap();
        assert_eq!(callers(&admin, &key).await.len(), 2, "nothing is lost");
    }

    async fn use_is_not_written_into_the_event_log(server: TestServer) {
        let key = server.admin().await.orders_key().await;
        let before = server.app.store.last_event().await.unwrap();
        storm(&[&server], &key, 5, 2).await;
        server.app.callers.flush().await.unwrap();
        assert_eq!(server.app.store.last_event().await.unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_nodes_see_adds_up() {
    let one = TestServer::start(Db::Postgres).await;
    let (two, three) = (one.another_node().await, one.another_node().await);
    let admin = one.admin().await;
    let key = admin.orders_key().await;
    let last = one.app.store.last_event().await.unwrap();
    for node in [&two, &three] {
        node.app.wait_until_applied(last).await.unwrap();
    }
    storm(&[&one, &two, &three], &key, 20, 15).await;
    // At once, so that they meet at the same rows.
    let (a, b, c) = tokio::join!(one.app.callers.flush(), two.app.callers.flush(), three.app.callers.flush());
    assert_eq!((a, b, c), (Ok(()), Ok(()), Ok(())));
    let found = accepted(&callers(&admin, &key).await);
    assert_eq!(found.len(), 20);
    assert!(found.values().all(|count| *count == 15), "{found:?}");
}

/// A server in a process of its own, and the REST API of its administrator.
struct Life {
    server: Process,
    /// The server's, unless it has a file; dropped after the server.
    database: Option<TestDatabase>,
    person: Person,
    credential: String,
    key: (String, String),
}

impl Life {
    async fn begin(db: Db, flush_s: &str) -> Self {
        let database = if db == Db::Postgres { Some(postgres::database().await) } else { None };
        let url = database.iter().map(|database| ("KEYWARD_DATABASE_URL", database.url()));
        let settings: Vec<_> = [("KEYWARD_CALLERS_FLUSH_S", flush_s)].into_iter().chain(url).collect();
        let server = Process::serve(&settings).await;
        let person = Person::administrator(&server);
        person.registers("press");
        let issued = person.json(&["credential", "issue", "press"]);
        let key = (text(&issued["client_id"]), text(&issued["client_secret"]));
        Self { server, database, person, credential: text(&issued["id"]), key }
    }

    async fn uses(&self, times: usize) {
        let http = keyward_tests::http();
        for _ in 0..times {
            let request = http.post(format!("{}/token", self.server.url())).basic_auth(&self.key.0, Some(&self.key.1));
            let answer = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
    }

    fn counted(&self) -> i64 {
        let found = self.person.json(&["credential", "callers", &self.credential]);
        found["items"].as_array().unwrap().iter().map(|caller| caller["accepted"].as_i64().unwrap()).sum()
    }

    /// Returns when the database has so many uses. The server is not asked: whoever asks has it write them down.
    async fn until_written(&self, uses: i64) {
        let sum = "SELECT CAST(coalesce(sum(accepted), 0) AS BIGINT) FROM callers WHERE credential";
        let sql = format!("{sum} = '{}'", self.credential);
        let waiting = async {
            while self.count(&sql).await != uses {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("callers are not written down");
    }

    async fn count(&self, sql: &str) -> i64 {
        let Some(database) = &self.database else {
            let file = Connection::open(self.server.data().join("keyward.db")).unwrap();
            file.busy_timeout(Duration::from_secs(10)).unwrap();
            return file.query_row(sql, [], |row| row.get(0)).unwrap();
        };
        database.count(sql).await
    }
}

/// That everything is written down within `flush_s` is shown in `crates/server/src/callers.rs`, where no machine is too slow.
async fn a_killed_server_loses_only_what_it_had_not_written_down(db: Db) {
    let mut life = Life::begin(db, "1").await;
    life.uses(7).await;
    life.until_written(7).await;
    life.uses(3).await;
    life.server.kill_9();
    life.server.start_again().await;
    let counted = life.counted();
    assert!((7..=10).contains(&counted), "{counted}");
    // Nobody asks for it: whoever is counted after the crash is written down too.
    life.uses(5).await;
    life.until_written(counted + 5).await;
    life.server.kill_9();
    life.server.start_again().await;
    assert_eq!(life.counted(), counted + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_on_sqlite_loses_only_callers_it_had_not_written_down() {
    a_killed_server_loses_only_what_it_had_not_written_down(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_on_postgresql_loses_only_callers_it_had_not_written_down() {
    a_killed_server_loses_only_what_it_had_not_written_down(Db::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_told_to_stop_writes_down_what_it_counted() {
    let mut life = Life::begin(Db::Sqlite, "86400").await;
    life.uses(7).await;
    assert!(life.server.terminate().await.success());
    life.server.start_again().await;
    assert_eq!(life.counted(), 7);
}
