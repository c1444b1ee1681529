//! Rotation as a whole: two callers take random arrows while time passes, and after each step the server is where a
//! model of it is. The model knows the diagram in `keyward_model::credential` and nothing of how the server keeps it.

mod key;

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_model::event::{Event, Verifier};
use keyward_model::time::Timestamp;
use keyward_server::api::instant::Instant;
use keyward_server::config::OnReport;
use keyward_tests::server::{Answer, Api, Db, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::dice::{Dice, fresh_seed, seed};
use key::{Key, Stage};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// The settings' defaults.
const OVERLAP: i64 = 7 * DAY;
const MOST: i64 = 90 * DAY;
const QUIET: i64 = DAY;
const KEPT: i64 = 30 * DAY;
/// How long a leaked key goes on.
const LEAKED: i64 = HOUR;

/// The walk that everybody takes.
const SEED: u64 = 20_261_123;
const STEPS: usize = 500;
/// So that arrows meet: more keys would mean fewer arrows for each.
const KEYS: usize = 5;

/// The server, what it should be, and who acts on it.
struct Walk<'a> {
    server: &'a TestServer,
    callers: [Api<'a>; 2],
    client: String,
    secrets: Vec<Secrets>,
    keys: Vec<Key>,
    dice: Dice,
    turn: usize,
}

impl<'a> Walk<'a> {
    async fn begin(server: &'a TestServer, seed: u64) -> Self {
        let admin = server.admin().await;
        let client = admin.orders_key().await.client_id;
        let other = admin.issue(&admin.secrets.client_id, &json!({})).await;
        let callers = [server.api(&admin.secrets).await, server.api(&other).await];
        Self { server, callers, client, secrets: Vec::new(), keys: Vec::new(), dice: Dice(seed), turn: 0 }
    }

    fn now(&self) -> i64 {
        self.server.clock.now().as_millis()
    }

    async fn post(&self, key: usize, action: &str, body: &Value) -> Answer {
        let path = format!("/api/v1/credentials/{}/{action}", self.secrets[key].credential());
        self.callers[self.turn % 2].post(&path, body).await
    }

    /// A key to do something to: mostly one for which that is the right thing.
    fn choose(&mut self, right: fn(&Key) -> bool) -> usize {
        let right: Vec<_> = (0..self.keys.len()).filter(|at| right(&self.keys[*at])).collect();
        if right.is_empty() || self.dice.roll(4) == 0 {
            return self.dice.roll(self.keys.len());
        }
        self.dice.one_of(&right)
    }

    /// Takes a step and tells what it was.
    async fn step(&mut self) -> String {
        self.turn += 1;
        if self.keys.is_empty() {
            return self.issue().await;
        }
        let (active, retiring) = (self.choose(Key::is_active), self.choose(Key::is_retiring));
        let working = self.choose(Key::works);
        match self.dice.roll(28) {
            0 | 1 => self.issue().await,
            2..=6 => self.rotate(active).await,
            7 => self.cancel(retiring, false).await,
            8 => self.cancel(retiring, true).await,
            9..=11 => self.extend(retiring).await,
            12 | 13 => self.finish(retiring, false).await,
            14 => self.finish(retiring, true).await,
            15 => self.revoke(working).await,
            16 => self.change_expiry(working).await,
            17..=19 => self.use_it(retiring).await,
            20 | 21 => self.schedule().await,
            22 => self.report(working).await,
            _ => self.pass_time().await,
        }
    }

    async fn issue(&mut self) -> String {
        let after = self.dice.one_of(&[None, None, Some(10 * DAY), Some(200 * DAY)]);
        let expires_at = after.map(|after| self.now() + after);
        if self.keys.iter().filter(|key| key.works()).count() >= KEYS {
            return "enough keys".to_owned();
        }
        let members = json!({ "expires_at": expires_at.map(rfc3339) });
        self.secrets.push(self.callers[0].issue(&self.client, &members).await);
        self.keys.push(Key::new(self.now(), expires_at));
        format!("issue until {after:?}")
    }

    async fn rotate(&mut self, at: usize) -> String {
        let overlap = self.dice.one_of(&[
            None,
            Some(0),
            Some(HOUR),
            Some(5 * DAY),
            Some(20 * DAY),
            Some(MOST),
            Some(MOST + 1000),
        ]);
        let body = json!({ "overlap_seconds": overlap.map(|millis| millis / 1000) });
        let answer = self.post(at, "rotate", &body).await;
        let (now, next) = (self.now(), self.keys.len());
        let key = &mut self.keys[at];
        let expected = match key.stage {
            _ if overlap.is_some_and(|overlap| overlap == 0 || overlap > MOST) => 422,
            Stage::Active => 201,
            _ => 409,
        };
        assert_eq!(answer.status.as_u16(), expected, "rotate: {}", answer.body);
        if expected == 201 {
            key.stage = Stage::Retiring(key.capped(now + overlap.unwrap_or(OVERLAP)));
            key.successor = Some(next);
            key.events.push("credential.rotated");
            let again = key.expires_at.map(|expires_at| now + expires_at - key.issued_at);
            self.keys.push(Key::new(now, again));
            let text = |name: &str| answer.body[name].as_str().unwrap().to_owned();
            self.secrets.push(Secrets { client_id: text("client_id"), client_secret: text("client_secret") });
        }
        format!("rotate {at} with {overlap:?}")
    }

    async fn cancel(&mut self, at: usize, force: bool) -> String {
        let answer = self.post(at, "cancel", &json!({ "force": force })).await;
        let now = self.now();
        let successor = self.keys[at].successor.map(|successor| &self.keys[successor]);
        let rotated = successor.is_some_and(|successor| successor.successor.is_some());
        let in_use = successor.is_some_and(|successor| successor.works() && successor.is_in_use(now));
        let open = self.keys[at].is_retiring() && !rotated && !self.keys[at].leaked;
        let cancelled = open && (force || !in_use);
        assert_eq!(answer.status.as_u16(), if cancelled { 200 } else { 409 }, "cancel: {}", answer.body);
        let remain = answer.body["type"] == "urn:keyward:problem:callers-remain";
        assert_eq!(remain, open && !cancelled, "cancel: {}", answer.body);
        if cancelled {
            let key = &mut self.keys[at];
            key.stage = Stage::Active;
            key.events.push("credential.rotation_cancelled");
            let successor = key.successor.take().unwrap();
            if self.keys[successor].works() {
                self.keys[successor].end("revoked", None, now, "credential.revoked");
            }
        }
        format!("cancel {at}, force {force}, in use {in_use}")
    }

    async fn extend(&mut self, at: usize) -> String {
        let by = self.dice.one_of(&[0, HOUR, 10 * DAY, MOST, MOST + 1]);
        let to = self.now() + by;
        let answer = self.post(at, "extend", &json!({ "retire_at": rfc3339(to) })).await;
        let key = &mut self.keys[at];
        let expected = match key.stage {
            _ if by == 0 || by > MOST => 422,
            Stage::Retiring(before) if key.leaked && to > before => 409,
            Stage::Retiring(_) => 200,
            _ => 409,
        };
        assert_eq!(answer.status.as_u16(), expected, "extend: {}", answer.body);
        if expected == 200 {
            key.stage = Stage::Retiring(key.capped(to));
            key.events.push("credential.rotation_extended");
        }
        format!("extend {at} by {by}")
    }

    async fn finish(&mut self, at: usize, force: bool) -> String {
        let answer = self.post(at, "finish", &json!({ "force": force })).await;
        let now = self.now();
        let key = &mut self.keys[at];
        let in_use = key.is_in_use(now);
        let expected = match key.stage {
            Stage::Ended { reason: Some("finished"), .. }
                if key.is_due(now) && answer.status == StatusCode::CONFLICT =>
            {
                409
            }
            Stage::Ended { reason: Some("finished"), .. } if !key.purged => 200,
            Stage::Retiring(_) if force || !in_use => {
                key.end("expired", Some("finished"), now, "credential.finished");
                200
            }
            _ => 409,
        };
        assert_eq!(answer.status.as_u16(), expected, "finish: {}", answer.body);
        if matches!(key.stage, Stage::Retiring(_)) {
            assert_eq!(answer.body["type"], "urn:keyward:problem:callers-remain");
        }
        format!("finish {at}, force {force}, in use {in_use}")
    }

    async fn revoke(&mut self, at: usize) -> String {
        let answer = self.post(at, "revoke", &json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "revoke: {}", answer.body);
        let now = self.now();
        let key = &mut self.keys[at];
        if key.works() {
            key.end("revoked", None, now, "credential.revoked");
        }
        format!("revoke {at}")
    }

    async fn change_expiry(&mut self, at: usize) -> String {
        let after = self.dice.one_of(&[None, Some(2 * HOUR), Some(3 * DAY), Some(100 * DAY)]);
        let expires_at = after.map(|after| self.now() + after);
        let path = format!("/api/v1/credentials/{}", self.secrets[at].credential());
        let answer = self.callers[1].patch(&path, &json!({ "expires_at": expires_at.map(rfc3339) })).await;
        let key = &mut self.keys[at];
        assert_eq!(answer.status.as_u16(), if key.works() { 200 } else { 409 }, "change: {}", answer.body);
        if key.works() {
            key.expires_at = expires_at;
            key.events.push("credential.changed");
        }
        format!("let {at} expire after {after:?}")
    }

    async fn use_it(&mut self, at: usize) -> String {
        let now = self.now();
        let answer = self.server.token_answer(&self.secrets[at], &[]).await;
        let key = &mut self.keys[at];
        let refused = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS);
        assert_eq!((answer.status == StatusCode::OK, refused), (key.works(), !key.works()), "use: {}", answer.body);
        if key.works() {
            key.last_seen = Some(now);
        }
        format!("use {at}")
    }

    /// Somebody finds it and says so.
    async fn report(&mut self, at: usize) -> String {
        let report = json!({ "key": self.secrets[at].client_secret });
        let request = self.server.http.post(format!("{}/leaks", self.server.url())).json(&report);
        let answer = Answer::of(request).await;
        // Whoever reports what has ended, again and again, is told to wait.
        let heard = matches!(answer.status, StatusCode::ACCEPTED | StatusCode::TOO_MANY_REQUESTS);
        assert!(heard, "report: {}", answer.body);
        let end = self.now() + LEAKED;
        let key = &mut self.keys[at];
        if key.works() && !key.leaked {
            let before = if let Stage::Retiring(before) = key.stage { before } else { i64::MAX };
            key.stage = Stage::Retiring(key.capped(end.min(before)));
            key.leaked = true;
            key.events.push("credential.leak_reported");
        }
        format!("report {at}")
    }

    async fn schedule(&mut self) -> String {
        self.server.app.run_schedule().await.unwrap();
        let now = self.now();
        self.keys.iter_mut().for_each(|key| key.write_down(now));
        "schedule".to_owned()
    }

    async fn pass_time(&mut self) -> String {
        let by = self.dice.one_of(&[1, HOUR, HOUR, 5 * HOUR, HOUR, DAY, 3 * DAY, 11 * DAY]);
        self.server.clock.advance(Duration::from_millis(by.unsigned_abs()));
        let now = self.now();
        self.keys.iter_mut().for_each(|key| key.pass(now));
        // The callers' tokens have ended with their ten minutes.
        let [one, two] = &self.callers;
        self.callers = [self.server.api(&one.secrets).await, self.server.api(&two.secrets).await];
        format!("{by} ms later")
    }

    /// The server is where the model is.
    async fn check(&mut self, what: &str) {
        let now = self.now();
        let path = format!("/api/v1/clients/{}/credentials?limit=200", self.client);
        let listed = self.callers[0].get(&path).await.ok();
        let found: BTreeMap<&str, &Value> =
            listed["items"].as_array().unwrap().iter().map(|item| (item["id"].as_str().unwrap(), item)).collect();
        for at in 0..self.keys.len() {
            let (key, secrets) = (&mut self.keys[at], &self.secrets[at]);
            let seen = found[secrets.credential().as_str()];
            if key.is_due(now) && seen["state"] == "purged" {
                key.write_down(now);
            }
            let (name, retire_at, ended_at, reason) = match key.stage {
                Stage::Active => ("active", None, None, None),
                Stage::Retiring(hard_end) => ("retiring", Some(hard_end), None, None),
                Stage::Ended { at, .. } if key.purged => ("purged", None, Some(at), None),
                Stage::Ended { name, reason, at } => (name, None, Some(at), reason),
            };
            let expected = json!({
                "state": name, "retire_at": retire_at.map(rfc3339), "ended_at": ended_at.map(rfc3339),
                "end_reason": reason, "expires_at": key.expires_at.map(rfc3339),
                "leaked": key.leaked,
                "successor": key.successor.map(|successor| self.secrets[successor].credential()),
            });
            let mut seen = seen.clone();
            seen["leaked"] = seen["leaked_at"].is_string().into();
            for (member, value) in expected.as_object().unwrap() {
                assert_eq!(&seen[member], value, "{member} of key {at} after: {what}; {seen}; {key:?}");
            }
            if name == "retiring" {
                assert!(seen["retire_at"].is_string(), "key {at} retires for ever after: {what}");
            }
        }
    }

    /// Whoever asks for the keys in a state is given exactly those: what a list is filtered by is no other truth.
    async fn check_list(&self, state: &str, what: &str) {
        let path = format!("/api/v1/clients/{}/credentials?limit=200&state={state}", self.client);
        let listed = self.callers[1].get(&path).await.ok();
        let found: Vec<&str> =
            listed["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
        for (at, (key, secrets)) in self.keys.iter().zip(&self.secrets).enumerate() {
            let name = match key.stage {
                Stage::Active => "active",
                Stage::Retiring(_) => "retiring",
                Stage::Ended { .. } if key.purged => "purged",
                Stage::Ended { name, .. } => name,
            };
            let is_there = found.contains(&secrets.credential().as_str()) == (name == state);
            assert!(is_there || key.is_due(self.now()), "{state}: key {at} after: {what}; {key:?}");
        }
    }

    /// Exactly the keys that should do authenticate. Keys in retirement are left in peace: they are to become quiet.
    async fn check_access(&mut self) {
        for at in 0..self.keys.len() {
            if !self.keys[at].is_retiring() {
                self.use_it(at).await;
            }
        }
    }

    /// The log holds one event for each arrow taken, none for one refused, and proves it.
    async fn check_log(&self) {
        let (mut verifier, mut after, mut told) = (Verifier::default(), 0, BTreeMap::<String, Vec<String>>::new());
        loop {
            let part = self.callers[0].get(&format!("/api/v1/events?limit=1000&after={after}")).await.ok();
            let events: Vec<Event> = serde_json::from_value(part["items"].clone()).unwrap();
            for event in events {
                verifier.check(&event).unwrap();
                // That people are told is no arrow.
                if event.kind != "notice.due" {
                    told.entry(event.subject).or_default().push(event.kind);
                }
            }
            let Some(next) = part["next_after"].as_i64() else { break };
            after = next;
        }
        for (at, (key, secrets)) in self.keys.iter().zip(&self.secrets).enumerate() {
            assert_eq!(told[&secrets.credential()], key.events, "key {at}: {key:?}");
        }
    }
}

fn rfc3339(millis: i64) -> String {
    Instant(Timestamp::from_millis(millis)).to_string()
}

/// Gives how often each event was told of.
async fn take_the_walk(db: Db, seed: u64) -> BTreeMap<&'static str, usize> {
    let server = TestServer::start_with(db, |config| config.leaks.on_report = OnReport::Retire).await;
    let mut walk = Walk::begin(&server, seed).await;
    for step in 0..STEPS {
        let what = walk.step().await;
        let what = format!("seed {seed}, step {step}: {what}");
        walk.check(&what).await;
        walk.check_list("active", &what).await;
        if step % 10 == 9 {
            walk.check_access().await;
            for state in ["retiring", "expired", "revoked", "purged"] {
                walk.check_list(state, &what).await;
            }
        }
    }
    walk.schedule().await;
    walk.check_log().await;
    let mut told = BTreeMap::new();
    for event in walk.keys.iter().flat_map(|key| &key.events) {
        *told.entry(*event).or_default() += 1;
    }
    told
}

/// The walk that everybody takes takes every arrow.
async fn take_every_arrow(db: Db) {
    let told = take_the_walk(db, seed(SEED)).await;
    for arrow in [
        "rotated",
        "rotation_cancelled",
        "rotation_extended",
        "finished",
        "revoked",
        "expired",
        "purged",
        "leak_reported",
    ] {
        let times = told.get(format!("credential.{arrow}").as_str());
        assert!(times.is_some_and(|times| *times > 2), "{arrow} {times:?} times");
    }
}

mod whatever_two_callers_do_and_whenever_the_server_is_where_the_model_is {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        take_every_arrow(Db::Sqlite).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_postgresql() {
        take_every_arrow(Db::Postgres).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_a_walk_that_nobody_took_before_on_sqlite() {
        take_the_walk(Db::Sqlite, fresh_seed()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_a_walk_that_nobody_took_before_on_postgresql() {
        take_the_walk(Db::Postgres, fresh_seed()).await;
    }
}
