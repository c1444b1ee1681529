//! Every step of the schema with a row of the time: what was there before a migration is there after all of them.

use keyward_store::engine::{Engine, Migration, Value};
use keyward_store::{DatabaseUrl, MIGRATIONS, Options, Store};
use keyward_tests::postgres;
use keyward_tests::run;

/// Per step: rows as a server of that version wrote them, and a question with the answer that must outlive all steps.
struct Fixture {
    version: u32,
    rows: &'static [&'static str],
    question: &'static str,
    answer: &'static str,
}

const FIXTURES: &[Fixture] = &[
    Fixture {
        version: 1,
        rows: &[
            "INSERT INTO users VALUES ('user_01h455vb4pex5vsknk084sn02q', 'olga', 'olga@plant.example', 'Worker', 'plant/7', \
         NULL, 1, 1, 1)",
            "INSERT INTO scopes VALUES ('Worker', 'Work', '', 1, 1, 1)",
            "INSERT INTO clients (id, name, kind, owner, scope, res, subject, created_at, updated_at, version) VALUES \
         ('client_01h455vb4pex5vsknk084sn02q', 'orders', 'confidential', 'user_01h455vb4pex5vsknk084sn02q', 'Worker', \
         'plant/7', 'owner', 1, 1, 1)",
            "INSERT INTO apis VALUES ('api_01h455vb4pex5vsknk084sn02q', 'Orders', 'https://orders.example', 'Worker', 600, \
         'ES256', NULL, 1, 1, 1)",
            "INSERT INTO client_apis VALUES ('client_01h455vb4pex5vsknk084sn02q', 'api_01h455vb4pex5vsknk084sn02q')",
            "INSERT INTO credentials (id, client, label, purpose, state, ended_at, end_reason, status_index, created_by, \
         created_at, updated_at, version) VALUES ('cred_01h455vb4pex5vsknk084sn02q', \
         'client_01h455vb4pex5vsknk084sn02q', 'old', 'general', 'purged', 5, NULL, 1, \
         'user_01h455vb4pex5vsknk084sn02q', 1, 5, 2)",
            "INSERT INTO revoked_tokens VALUES ('tok_01h455vb4pex5vsknk084sn02q', 'cred_01h455vb4pex5vsknk084sn02q', 9, 5)",
            "INSERT INTO idempotency_keys VALUES ('client_01h455vb4pex5vsknk084sn02q', 'k', 'r', 'm', 1)",
        ],
        question: "SELECT u.name || ' ' || c.name || ' ' || a.audience || ' ' || k.label FROM users u \
               JOIN clients c ON c.owner = u.id JOIN client_apis ca ON ca.client = c.id \
               JOIN apis a ON a.id = ca.api JOIN credentials k ON k.client = c.id",
        answer: "olga orders https://orders.example old",
    },
    Fixture {
        version: 2,
        rows: &[
            "INSERT INTO callers VALUES ('cred_01h455vb4pex5vsknk084sn02q', 'f', '', '192.0.2.1', 'curl/8', 'hall 3', 1, 2, 3, 4)",
        ],
        question: "SELECT c.network || ' ' || c.instance || ' ' || k.label FROM callers c \
                   JOIN credentials k ON k.id = c.credential",
        answer: "192.0.2.1 hall 3 old",
    },
    Fixture {
        version: 3,
        rows: &[
            "INSERT INTO webhooks (id, name, url, kinds, sealed, created_at, updated_at, version) VALUES \
         ('webhook_01h455vb4pex5vsknk084sn02q', 'chat', 'https://hooks.example', '', 'x', 1, 1, 1)",
            "INSERT INTO notices VALUES ('notice_01h455vb4pex5vsknk084sn02q', 'credential.ending', \
         'cred_01h455vb4pex5vsknk084sn02q', 9, '7', '{}', 2)",
            "INSERT INTO deliveries VALUES ('delivery_01h455vb4pex5vsknk084sn02q', 'notice_01h455vb4pex5vsknk084sn02q', \
         'webhook', 'webhook_01h455vb4pex5vsknk084sn02q', 'waiting', 1, 3, 'it answered 500', NULL)",
        ],
        question: "SELECT w.name || ' ' || n.rung || ' ' || d.problem FROM deliveries d JOIN notices n ON n.id = d.notice \
                   JOIN webhooks w ON w.id = d.target",
        answer: "chat 7 it answered 500",
    },
    Fixture {
        version: 4,
        rows: &[
            "INSERT INTO users VALUES ('user_01h455vb4pex5vsknk084sn02r', 'sam', NULL, '', '', NULL, 1, 1, 1)",
            "INSERT INTO transfers VALUES ('client_01h455vb4pex5vsknk084sn02q', 'user_01h455vb4pex5vsknk084sn02q', \
             'user_01h455vb4pex5vsknk084sn02q', 'user_01h455vb4pex5vsknk084sn02r', 1, 5, 9)",
            "INSERT INTO credentials (id, client, label, purpose, state, secret_hash, retire_at, status_index, \
             created_by, created_at, updated_at, version) VALUES ('cred_01h455vb4pex5vsknk084sn02r', \
             'client_01h455vb4pex5vsknk084sn02q', 'found', 'general', 'retiring', '\\x01', 9, 2, \
             'user_01h455vb4pex5vsknk084sn02q', 1, 7, 2)",
        ],
        question: "SELECT o.name || ' ' || n.name || ' ' || c.name FROM transfers t JOIN clients c ON c.id = t.client \
                   JOIN users o ON o.id = t.owner JOIN users n ON n.id = t.offered_to",
        answer: "olga sam orders",
    },
    Fixture {
        version: 5,
        rows: &[
            "INSERT INTO callers VALUES ('cred_01h455vb4pex5vsknk084sn02q', 'otherclient_01h455vb4pex5vsknk084sn02q', \
             'client_01h455vb4pex5vsknk084sn02q', '', 'other', '', 1, 2, 5, 0)",
        ],
        question: "SELECT c.user_agent || ' ' || o.name FROM callers c JOIN clients o ON o.id = c.reporter \
                   WHERE c.network = ''",
        answer: "other orders",
    },
    Fixture {
        version: 6,
        rows: &["UPDATE credentials SET leaked_at = 6 WHERE id = 'cred_01h455vb4pex5vsknk084sn02q'"],
        // Without a successor only a leak had retired a credential before.
        question: "SELECT o.label || ' ' || f.label FROM credentials o, credentials f \
                   WHERE o.leaked_at = 6 AND f.leaked_at = 7",
        answer: "old found",
    },
    Fixture {
        version: 7,
        rows: &[
            "INSERT INTO device_sessions VALUES ('session_01h455vb4pex5vsknk084sn02q', 'user_01h455vb4pex5vsknk084sn02q', \
             'client_01h455vb4pex5vsknk084sn02q', 'hall 3', 'Worker', 'plant/7', 4, 1, 9, 5, 'revoked', '192.0.2.7', 1, 5, 2)",
            "INSERT INTO ended_status_indices VALUES (3, 9, 7)",
        ],
        question: "SELECT u.name || ' ' || s.label || ' ' || s.end_reason || ' ' || e.seq FROM device_sessions s \
                   JOIN users u ON u.id = s.user_id JOIN clients c ON c.id = s.client JOIN ended_status_indices e ON e.seq = 7",
        answer: "olga hall 3 revoked 7",
    },
    Fixture {
        version: 8,
        rows: &[
            "INSERT INTO apis VALUES ('api_01h455vb4pex5vsknk084sn02r', 'Stock', 'https://stock.example', 'Worker', 600, \
             'ES256', NULL, 1, 1, 1, 'client_01h455vb4pex5vsknk084sn02q', '[{\"issuer\":\"i\",\"audience\":\"a\"}]')",
        ],
        question: "SELECT o.identity_clients || o.identity_issuers || ' ' || s.identity_clients || s.identity_issuers \
                   FROM apis o, apis s WHERE o.name = 'Orders' AND s.name = 'Stock'",
        answer: "[] client_01h455vb4pex5vsknk084sn02q[{\"issuer\":\"i\",\"audience\":\"a\"}]",
    },
    Fixture {
        version: 9,
        rows: &[
            "INSERT INTO notices VALUES ('notice_01h455vb4pex5vsknk084sn02r', 'webhook.test', '', 0, '', '{}', 2)",
            "INSERT INTO deliveries VALUES ('delivery_01h455vb4pex5vsknk084sn02r', 'notice_01h455vb4pex5vsknk084sn02r', \
             'webhook', 'webhook_01h455vb4pex5vsknk084sn02q', 'dead', 10, 3, 'it answered 410', 4)",
        ],
        question: "SELECT d.problem || ' ' || n.kind FROM deliveries d JOIN notices n ON n.id = d.notice \
                   WHERE d.target = 'webhook_01h455vb4pex5vsknk084sn02q' AND d.state = 'dead'",
        answer: "it answered 410 webhook.test",
    },
    Fixture {
        version: 10,
        rows: &[
            "INSERT INTO passwords VALUES ('user_01h455vb4pex5vsknk084sn02q', '$argon2id$', 1)",
            "INSERT INTO passkeys VALUES ('passkey_01h455vb4pex5vsknk084sn02q', 'user_01h455vb4pex5vsknk084sn02q', 'phone', \
             'c', '{}', 1, NULL)",
            "INSERT INTO spent_challenges VALUES ('x', 9)",
            "INSERT INTO recovery_codes VALUES ('user_01h455vb4pex5vsknk084sn02q', 'x')",
            "INSERT INTO invitations VALUES ('user_01h455vb4pex5vsknk084sn02r', 'x', 1, 9, NULL)",
            "INSERT INTO login_sessions VALUES ('login_01h455vb4pex5vsknk084sn02q', 'x', 'user_01h455vb4pex5vsknk084sn02q', \
             'password', '192.0.2.1', 'Firefox', 1, 2, 9)",
        ],
        question: "SELECT u.name || ' ' || w.hash || ' ' || k.name || ' ' || l.user_agent || ' ' || g.name FROM users u \
                   JOIN passwords w ON w.user_id = u.id JOIN passkeys k ON k.user_id = u.id \
                   JOIN recovery_codes r ON r.user_id = u.id JOIN login_sessions l ON l.user_id = u.id \
                   CROSS JOIN invitations i JOIN users g ON g.id = i.user_id",
        answer: "olga $argon2id$ phone Firefox sam",
    },
    Fixture {
        version: 11,
        rows: &["UPDATE users SET disabled_at = 7 WHERE name = 'sam'"],
        question: "SELECT name FROM users WHERE disabled_at IS NOT NULL",
        answer: "sam",
    },
    Fixture {
        version: 12,
        rows: &["UPDATE clients SET device_scope = 'Worker' WHERE name = 'orders'"],
        question: "SELECT name || ' ' || device_scope FROM clients WHERE device_scope IS NOT NULL",
        answer: "orders Worker",
    },
    Fixture {
        version: 13,
        rows: &[
            "UPDATE device_sessions SET amr = 'pwd'",
            "UPDATE clients SET redirect_uris = 'https://app.example/cb' WHERE name = 'orders'",
            "INSERT INTO refresh_tokens VALUES ('session_01h455vb4pex5vsknk084sn02q', 'x', 'y', 1, 9, NULL, NULL)",
            "INSERT INTO authorization_codes VALUES ('x', 'client_01h455vb4pex5vsknk084sn02q', \
             'user_01h455vb4pex5vsknk084sn02q', 'https://app.example/cb', 'c', 'Worker', 'plant/7', 1, 'pwd', NULL, 1, 9, 2, \
             'session_01h455vb4pex5vsknk084sn02q')",
        ],
        question: "SELECT s.amr || ' ' || s.label || ' ' || k.redirect_uris || ' ' || a.scope FROM refresh_tokens r \
                   JOIN device_sessions s ON s.id = r.session JOIN authorization_codes a ON a.session = s.id \
                   JOIN clients k ON k.redirect_uris = a.redirect_uri",
        answer: "pwd hall 3 https://app.example/cb Worker",
    },
];

async fn step_by_step(url: &str) {
    let engine = Engine::open(&Options::new(url.parse().unwrap())).await.unwrap();
    for (count, migration) in (1..).zip(MIGRATIONS) {
        assert_eq!(engine.migrate(&MIGRATIONS[..count]).await.unwrap(), 1);
        let fixture = FIXTURES.iter().find(|fixture| fixture.version == migration.version);
        let fixture = fixture.unwrap_or_else(|| panic!("step {} has no fixture row", migration.version));
        let mut tx = engine.begin().await.unwrap();
        for row in fixture.rows {
            tx.execute(row, &[]).await.unwrap();
        }
        tx.commit(false).await.unwrap();
    }
    assert_eq!(engine.migrate(MIGRATIONS).await.unwrap(), 0, "a second time nothing is left to do");
    for fixture in FIXTURES {
        let rows = engine.query(fixture.question, &[]).await.unwrap();
        assert_eq!(rows[0].text(0).unwrap(), fixture.answer, "step {}", fixture.version);
    }
    engine.close().await;
}

fn new_file() -> String {
    format!("sqlite:{}", run::subdirectory("migrations").join("keyward.db").display())
}

#[tokio::test]
async fn what_a_step_found_outlives_all_later_steps_on_sqlite() {
    step_by_step(&new_file()).await;
}

#[tokio::test]
async fn what_a_step_found_outlives_all_later_steps_on_postgresql() {
    let database = postgres::database().await;
    step_by_step(database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_migrate_once() {
    let database = postgres::database().await;
    let url: DatabaseUrl = database.url().parse().unwrap();
    let starting = (0..6).map(|_| {
        let options = Options::new(url.clone());
        tokio::spawn(async move { Store::open(&options).await.map(|store| store.database_name()) })
    });
    for started in futures_util::future::join_all(starting.collect::<Vec<_>>()).await {
        assert_eq!(started.unwrap().unwrap(), "postgresql");
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_by_name() {
    let url: DatabaseUrl = new_file().parse().unwrap();
    let engine = Engine::open(&Options::new(url.clone())).await.unwrap();
    engine.migrate(MIGRATIONS).await.unwrap();
    let version = MIGRATIONS.last().unwrap().version + 1;
    let future = Migration { version, name: "from the future", sql: "CREATE TABLE future (id BIGINT)" };
    let newer = [MIGRATIONS, &[future]].concat();
    engine.migrate(&newer).await.unwrap();
    engine.close().await;
    let refused = Store::open(&Options::new(url)).await.err().unwrap().to_string();
    assert!(refused.contains("newer"), "{refused}");
}

#[tokio::test]
async fn the_database_itself_refuses_a_credential_without_an_end_to_its_overlap() {
    let url: DatabaseUrl = new_file().parse().unwrap();
    let engine = Engine::open(&Options::new(url)).await.unwrap();
    engine.migrate(MIGRATIONS).await.unwrap();
    let mut tx = engine.begin().await.unwrap();
    for row in &FIXTURES[0].rows[..3] {
        tx.execute(row, &[]).await.unwrap();
    }
    tx.commit(false).await.unwrap();
    for (state, hash, retire_at, ended_at) in [
        ("retiring", Some(vec![1_u8]), None::<i64>, None::<i64>),
        ("revoked", Some(vec![1]), None, None),
        ("active", Some(vec![1]), None, Some(1)),
        ("purged", Some(vec![1]), None, Some(1)),
        ("active", None, None, None),
        ("unknown", Some(vec![1]), None, None),
    ] {
        let mut tx = engine.begin().await.unwrap();
        let args: [Value; 4] = [state.into(), hash.into(), retire_at.into(), ended_at.into()];
        let row = "INSERT INTO credentials (id, client, label, purpose, state, secret_hash, retire_at, ended_at, \
                   status_index, created_by, created_at, updated_at, version) VALUES ('c', \
                   'client_01h455vb4pex5vsknk084sn02q', '', 'general', $1, $2, $3, $4, 9, 'u', 1, 1, 1)";
        assert!(tx.execute(row, &args).await.is_err(), "{state}");
    }
}

#[tokio::test]
async fn what_was_sent_is_not_gone_through_to_count_what_waits_or_to_list_what_is_dead() {
    let engine = Engine::open(&Options::new(new_file().parse().unwrap())).await.unwrap();
    engine.migrate(MIGRATIONS).await.unwrap();
    for (question, searched) in [
        ("SELECT count(*) FROM deliveries WHERE target = $1 AND state = $2", "(target=? AND state=?)"),
        ("SELECT id FROM deliveries WHERE state = $1 ORDER BY id DESC LIMIT 50", "(state=?)"),
        ("SELECT id FROM notices WHERE kind = $1 ORDER BY id DESC LIMIT 50", "(kind=?)"),
    ] {
        let args: [Value; 2] = ["x".into(), "waiting".into()];
        let args = &args[..question.matches('$').count()];
        let plan = engine.query(&format!("EXPLAIN QUERY PLAN {question}"), args).await.unwrap();
        let plan: Vec<_> = plan.iter().map(|row| row.text(3).unwrap()).collect();
        assert!(plan.len() == 1 && plan[0].contains("SEARCH") && plan[0].contains(searched), "{question}: {plan:?}");
    }
}
