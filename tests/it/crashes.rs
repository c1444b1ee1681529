//! Nothing that was acknowledged is lost when the server, or PostgreSQL, is killed in the middle of writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use keyward_model::event::{Event, Verifier};
use keyward_tests::keyward::Process;
use keyward_tests::person::{Person, text};
use keyward_tests::postgres::{self, PrivateCluster};
use keyward_tests::receiver::{Answer, Received, Receiver};
use serde_json::{Value, json};

const WRITERS: usize = 8;

/// The REST API of a server that may die at any moment.
#[derive(Clone)]
struct Admin {
    http: reqwest::Client,
    url: String,
    token: String,
    client: String,
}

impl Admin {
    /// An administrator whose key is not the bootstrap key, for that one ends by its use.
    async fn first(server: &Process) -> (Self, (String, String)) {
        let http = keyward_tests::http();
        let url = server.url();
        let bootstrap = server.bootstrap();
        let token = token(&http, &url, &bootstrap.client_id, &bootstrap.client_secret).await;
        let path = format!("{url}/api/v1/clients/{}/credentials", bootstrap.client_id);
        let issued: Value =
            http.post(path).bearer_auth(token).json(&json!({})).send().await.unwrap().json().await.unwrap();
        let secrets = (bootstrap.client_id, issued["client_secret"].as_str().unwrap().to_owned());
        (Self::with(&http, &url, &secrets).await, secrets)
    }

    async fn with(http: &reqwest::Client, url: &str, secrets: &(String, String)) -> Self {
        let token = token(http, url, &secrets.0, &secrets.1).await;
        Self { http: http.clone(), url: url.to_owned(), token, client: secrets.0.clone() }
    }

    /// Issues a key; `None` unless it was acknowledged.
    async fn issue(&self) -> Option<String> {
        let path = format!("{}/api/v1/clients/{}/credentials", self.url, self.client);
        let answer = self.http.post(path).bearer_auth(&self.token).json(&json!({})).send().await.ok()?;
        let issued: Value = answer.error_for_status().ok()?.json().await.ok()?;
        Some(issued["client_secret"].as_str()?.to_owned())
    }

    /// Revokes a key; true if it was acknowledged.
    async fn revoke(&self, key: &str) -> bool {
        let id = keyward_model::key::Key::parse(key).unwrap().credential;
        let path = format!("{}/api/v1/credentials/{id}/revoke", self.url);
        let answer = self.http.post(path).bearer_auth(&self.token).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    async fn log(&self) -> Vec<Event> {
        let mut log: Vec<Event> = Vec::new();
        loop {
            let after = log.last().map_or(0, |event| event.seq);
            let path = format!("{}/api/v1/events?limit=200&after={after}", self.url);
            let page: Value = self.http.get(path).bearer_auth(&self.token).send().await.unwrap().json().await.unwrap();
            let page: Vec<Event> = serde_json::from_value(page["items"].clone()).unwrap();
            if page.is_empty() {
                return log;
            }
            log.extend(page);
        }
    }
}

async fn token(http: &reqwest::Client, url: &str, client_id: &str, secret: &str) -> String {
    let request = http.post(format!("{url}/token")).basic_auth(client_id, Some(secret));
    let answer = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
    let answer: Value = answer.error_for_status().unwrap().json().await.unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// Issues and revokes until told to stop; gives what was acknowledged as issued, and as revoked.
async fn write(admin: Admin, stop: Arc<AtomicBool>) -> (Vec<String>, Vec<String>) {
    let (mut issued, mut revoked) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::SeqCst) {
        let Some(key) = admin.issue().await else { continue };
        // Every other key is revoked; of a revocation that was not acknowledged nothing is known.
        if issued.len() % 2 == 0 || revoked.len() > issued.len() {
            issued.push(key);
        } else if admin.revoke(&key).await {
            revoked.push(key);
        }
    }
    (issued, revoked)
}

/// Kills something while writers write, brings it up again, and looks for what was acknowledged.
async fn story(mut server: Process, kill_and_revive: impl AsyncFnOnce(&mut Process)) {
    let (admin, secrets) = Admin::first(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write(admin.clone(), Arc::clone(&stop)))).collect();
    tokio::time::sleep(Duration::from_millis(400)).await;
    kill_and_revive(&mut server).await;
    stop.store(true, Ordering::SeqCst);
    let acknowledged: Vec<_> = join_all(writers).await.into_iter().map(Result::unwrap).collect();

    let again = Admin::with(&admin.http, &server.url(), &secrets).await;
    let (mut issued, mut revoked) = (0, 0);
    for (kept, ended) in &acknowledged {
        for key in kept {
            token(&again.http, &again.url, &secrets.0, key).await;
            issued += 1;
        }
        for key in ended {
            let request = again.http.post(format!("{}/token", again.url)).basic_auth(&secrets.0, Some(key));
            let status = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap().status();
            assert!(status.is_client_error(), "a key whose revocation was acknowledged is let in: {status}");
            revoked += 1;
        }
    }
    assert!(issued > 3 && revoked > 1, "the writers did not get far: {issued} issued, {revoked} revoked");

    let log = again.log().await;
    let mut verifier = Verifier::default();
    log.iter().for_each(|event| verifier.check(event).unwrap());
    let told = |kind: &str, key: &String| {
        let id = keyward_model::key::Key::parse(key).unwrap().credential.to_string();
        log.iter().any(|event| event.kind == kind && event.subject == id)
    };
    for (kept, ended) in &acknowledged {
        assert!(kept.iter().all(|key| told("credential.issued", key)), "an event is lost");
        assert!(ended.iter().all(|key| told("credential.revoked", key)), "an event is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_on_sqlite_loses_nothing_it_acknowledged() {
    let server = Process::serve(&[]).await;
    story(server, async |server| {
        server.kill_9();
        server.start_again().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_on_postgresql_loses_nothing_it_acknowledged() {
    let database = postgres::database().await;
    let server = Process::serve(&[("KEYWARD_DATABASE_URL", database.url())]).await;
    story(server, async |server| {
        server.kill_9();
        server.start_again().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgresql_loses_nothing_and_the_server_goes_on_by_itself() {
    let cluster = PrivateCluster::start();
    let database = cluster.database().await;
    let server = Process::serve(&[("KEYWARD_DATABASE_URL", database.url())]).await;
    story(server, async |server| {
        cluster.kill_9();
        let ready = format!("{}/readyz", server.url());
        let http = keyward_tests::http();
        assert_eq!(http.get(&ready).send().await.unwrap().status(), 503, "ready without a database");
        cluster.start_again();
        let waiting = async {
            while !http.get(&ready).send().await.unwrap().status().is_success() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // The writers get some more done before they are told to stop.
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the server does not recover");
    })
    .await;
}

/// A receiver got so many notices; gives them.
async fn received(receiver: &Receiver, count: usize) -> Vec<Received> {
    let waiting = async {
        while receiver.received().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it arrives");
    receiver.received()
}

/// The only delivery there is, once this holds of it.
async fn delivery(person: &Person, holds: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let found = person.json(&["webhook", "deliveries"])["items"][0].clone();
            if holds(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the delivery gets there")
}

/// Kills the server twice on the way of a notice: when it is claimed and not sent, and when it is sent and not noted.
async fn notice_story(mut server: Process, end_leases: impl AsyncFn(&Process)) {
    let person = Person::administrator(&server);
    // Takes connections and says nothing: whoever sends to it waits for a handshake, and has sent nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("https://{}", silent.local_addr().unwrap());
    let webhook = text(&person.json(&["webhook", "create", "chat", &nowhere])["id"]);
    person.does(&["webhook", "test", &webhook]);
    let claimed = delivery(&person, |delivery| delivery["attempts"] == 1).await;
    server.kill_9();
    server.start_again().await;
    let receiver = Receiver::start().await;
    receiver.answers(Answer::Hang);
    person.does(&["webhook", "change", &webhook, "--to", &receiver.url()]);
    let leased = delivery(&person, |delivery| delivery["due_at"].is_string()).await;
    assert_eq!((&leased["attempts"], &leased["due_at"]), (&json!(1), &claimed["due_at"]), "the dead one's lease holds");
    assert_eq!(receiver.received().len(), 0);

    end_leases(&server).await;
    received(&receiver, 1).await;
    server.kill_9();
    server.start_again().await;
    receiver.answers(Answer::Status(204));
    end_leases(&server).await;
    let received = received(&receiver, 2).await;
    let sent = delivery(&person, |delivery| delivery["state"] == "sent").await;
    assert_eq!(sent["attempts"], 3);
    assert!(received.iter().all(|one| one.headers["webhook-id"] == sent["notice"].as_str().unwrap()), "one id");
    assert_eq!((received.len(), &received[0].body), (2, &received[1].body));
}

const NOTICES: (&str, &str) = ("KEYWARD_NOTICES_ALLOW_NETWORKS", "127.0.0.0/8");
/// As if the two minutes had passed after which others may take over what somebody claimed.
const END_LEASES: &str = "UPDATE deliveries SET due_at = 1 WHERE state = 'waiting'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_sqlite_that_is_killed_while_it_sends_a_notice_sends_it_again_under_its_id() {
    let server = Process::serve(&[NOTICES]).await;
    notice_story(server, async |server| {
        let file = rusqlite::Connection::open(server.data().join("keyward.db")).unwrap();
        file.busy_timeout(Duration::from_secs(10)).unwrap();
        file.execute(END_LEASES, []).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_postgresql_that_is_killed_while_it_sends_a_notice_sends_it_again_under_its_id() {
    let database = postgres::database().await;
    let server = Process::serve(&[("KEYWARD_DATABASE_URL", database.url()), NOTICES]).await;
    notice_story(server, async |_| {
        let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute(END_LEASES).await.unwrap();
        drop(client);
        drop(connection.await);
    })
    .await;
}
