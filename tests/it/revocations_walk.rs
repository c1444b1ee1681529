//! The feed as a whole: random changes, and after each a verifier that applied the feed to the list of before knows what
//! the list of after says.

use std::collections::BTreeSet;

use keyward_tests::feed::{Verifier, poll};
use keyward_tests::on_both_databases;
use keyward_tests::server::{Answer, Api, Secrets, TestServer};
use serde_json::json;

use crate::dice::{Dice, seed};
use crate::rotation::path;
use crate::status_list::{List, claims, place};
use crate::transfers::key_of;

/// The random walk that everybody takes.
const SEED: u64 = 20_261_125;
const STEPS: usize = 120;
const SCOPES: [&str; 4] = ["Admin", "Supervisor", "Worker", ""];
const PATHS: [&str; 4] = ["*", "plant", "plant/7", "plant/7/line/3"];

/// Two users, each with a client and its keys, and their logins at one TV.
struct World<'a> {
    server: &'a TestServer,
    admin: Api<'a>,
    dice: Dice,
    users: Vec<String>,
    clients: Vec<String>,
    keys: Vec<Secrets>,
    sessions: Vec<String>,
    tokens: Vec<(Secrets, String)>,
    tv: String,
    /// The places that tokens name, wherever they are.
    named: BTreeSet<u64>,
}

impl<'a> World<'a> {
    async fn new(server: &'a TestServer, seed: u64) -> Self {
        let admin = server.admin().await;
        let (mut users, mut clients, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for name in ["olga", "sam"] {
            let user = json!({ "name": name, "scope": "Admin", "res": ["*"] });
            let user = admin.post("/api/v1/users", &user).await.created();
            let key = key_of(&admin, &user, "Admin", &["*"]).await;
            users.push(user["id"].as_str().unwrap().to_owned());
            clients.push(key.client_id.clone());
            keys.push(key);
        }
        let api = admin.new_api("https://tv.example", &["Supervisor", "Worker"]).await;
        let tv = admin.new_client(json!({ "kind": "public", "scope": "Admin", "res": ["*"], "apis": [api] })).await;
        let (dice, sessions, tokens, named) = (Dice(seed), Vec::new(), Vec::new(), BTreeSet::new());
        Self { server, admin, dice, users, clients, keys, sessions, tokens, tv, named }
    }

    /// Whoever can get a token has one.
    async fn get_tokens(&mut self) {
        for key in &self.keys {
            if let Some(token) = self.server.token_answer(key, &[]).await.body["access_token"].as_str() {
                self.named.insert(place(&claims(token)) as u64);
            }
        }
        for session in &self.sessions {
            if let Ok(token) = self.server.identity_token(session, None).await {
                self.named.insert(place(&claims(&token)) as u64);
            }
        }
    }

    /// One change, whether it is allowed as things stand or not; its name.
    async fn change(&mut self) -> String {
        let client = format!("/api/v1/clients/{}", self.clients[self.dice.roll(self.clients.len())]);
        let user = format!("/api/v1/users/{}", self.users[self.dice.roll(self.users.len())]);
        let key = self.keys[self.dice.roll(self.keys.len())].clone();
        let rights = json!({ "scope": self.dice.one_of(&SCOPES), "res": [self.dice.one_of(&PATHS)] });
        let (what, answer) = match self.dice.roll(14) {
            0 | 1 => {
                let owner = client.split('/').next_back().unwrap().to_owned();
                let issued = self.admin.post(&format!("{client}/credentials"), &json!({})).await;
                if let Some(secret) = issued.body["client_secret"].as_str() {
                    self.keys.push(Secrets { client_id: owner, client_secret: secret.to_owned() });
                }
                ("issue", issued)
            }
            2 => ("revoke", self.admin.act(&path(&key, "revoke")).await),
            3 => ("rotate", self.admin.post(&path(&key, "rotate"), &json!({})).await),
            4 => ("finish", self.admin.post(&path(&key, "finish"), &json!({ "force": true })).await),
            5 => ("disable a client", self.admin.act(&format!("{client}/disable")).await),
            6 => ("enable a client", self.admin.act(&format!("{client}/enable")).await),
            7 => ("disable a user", self.admin.act(&format!("{user}/disable")).await),
            8 => ("enable a user", self.admin.act(&format!("{user}/enable")).await),
            9 => ("change a client", self.admin.patch(&client, &rights).await),
            10 => ("change a user", self.admin.patch(&user, &rights).await),
            11 => {
                let credential = format!("/api/v1/credentials/{}", key.credential());
                ("change a credential", self.admin.patch(&credential, &rights).await)
            }
            12 => return self.token(key).await,
            _ => return self.session(&user).await,
        };
        format!("{what}: {}", answer.status)
    }

    /// Gets a token, or ends one.
    async fn token(&mut self, key: Secrets) -> String {
        if let (Some((key, token)), true) = (self.tokens.pop(), self.dice.roll(2) == 0) {
            let answer = Answer::of(self.server.form("/revoke", &key, &[("token", &token)])).await;
            return format!("end {}: {}", claims(&token)["jti"], answer.status);
        }
        let answer = self.server.token_answer(&key, &[]).await;
        if let Some(token) = answer.body["access_token"].as_str() {
            self.tokens.push((key, token.to_owned()));
        }
        format!("token: {}", answer.status)
    }

    /// Begins a device session, or ends one.
    async fn session(&mut self, user: &str) -> String {
        if let (Some(session), true) = (self.sessions.pop(), self.dice.roll(2) == 0) {
            let answer = self.admin.act(&format!("/api/v1/device-sessions/{session}/revoke")).await;
            return format!("end a session: {}", answer.status);
        }
        let user = user.split('/').next_back().unwrap();
        self.sessions.push(self.server.begin_session(user, &self.tv, ("Worker", "plant")).await);
        "begin a session".to_owned()
    }
}

on_both_databases! {
    async fn the_feed_applied_to_the_list_of_before_gives_the_list_of_after(server: TestServer) {
        let seed = seed(SEED);
        let mut world = World::new(&server, seed).await;
        let mut last = poll(&server, "").await.0;
        let mut verifier: Verifier = List::of(&server).await.known();
        let mut taken: Vec<String> = Vec::new();
        let mut changed = 0;
        for step in 0..STEPS {
            world.get_tokens().await;
            taken.push(world.change().await);
            // Sometimes several changes are told at once.
            if world.dice.roll(3) == 0 {
                continue;
            }
            let (upto, told) = poll(&server, &format!("?after={last}&wait=0")).await;
            last = upto;
            changed += told.len();
            for told in &told {
                verifier.apply(told);
            }
            let list = List::of(&server).await.known();
            let of = |verifier: &Verifier| -> BTreeSet<u64> { verifier.ended.intersection(&world.named).copied().collect() };
            let when = format!("seed {seed}, step {step}, told {told:?} after {taken:#?}");
            assert_eq!((of(&verifier), &verifier.tokens), (of(&list), &list.tokens), "{when}");
            // What the list says beyond that no token names: a place that was given out below a disabled client or user.
            assert!(verifier.ended.is_subset(&list.ended), "{when}");
        }
        assert!(changed > STEPS / 4, "the walk changes little: {changed} events");
        assert!(world.named.intersection(&verifier.ended).count() > 10, "{:?}", world.named);
    }
}
