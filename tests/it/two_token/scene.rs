//! Who there is in the table of cases, what became of them after they had got their tokens, and how the tokens that the
//! table names are made.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward_guard::{Guard, TrustedIssuer};
use keyward_model::rights::Rights;
use keyward_tests::provider::Provider;
use keyward_tests::server::{Api, Secrets, TestServer};
use keyward_tests::tokens;
use serde_json::{Value, json};

use crate::authority::person;
use crate::guard::{ORDERS, bearing, guard, until};
use crate::rotation::{path, rotate};

const STORE: &str = "https://store.example";

/// Clients that are as `press` is, but for what happens to them.
const PRESSES: [&str; 14] = [
    "press",
    "press-key-revoked",
    "press-key-finished",
    "press-key-narrowed",
    "press-token-revoked",
    "press-disabled",
    "press-enabled-again",
    "press-deleted",
    "press-narrowed",
    "press-widened",
    "press-api-taken",
    "press-transferred",
    "press-owner-disabled",
    "press-owner-narrowed",
];

pub(super) struct Scene<'a> {
    server: &'a TestServer,
    provider: &'a Provider,
    admin: Api<'a>,
    /// Identifiers of users and clients by their names in the table.
    ids: HashMap<String, String>,
    keys: HashMap<String, Secrets>,
    /// Tokens by whose they are in the table.
    tokens: HashMap<String, String>,
}

impl<'a> Scene<'a> {
    pub(super) async fn set(server: &'a TestServer, provider: &'a Provider) -> Self {
        let admin = server.admin().await;
        let (ids, keys, tokens) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut scene = Self { server, provider, admin, ids, keys, tokens };
        scene.enter_users().await;
        let apis = scene.register_clients().await;
        scene.allow(&apis).await;
        scene.get_tokens().await;
        scene
    }

    /// A guard of the API of the table.
    pub(super) async fn guard(&self) -> Guard {
        let rights = Rights { scope: "Worker".parse().unwrap(), res: "plant/7".parse().unwrap() };
        let issuer = self.provider.issuer().to_owned();
        let trusted = TrustedIssuer { issuer, audience: "plant-web".to_owned(), rights: Some(rights) };
        let accepted = ["web", "web-disabled"].map(|name| self.ids[name].parse().unwrap());
        let guard = accepted.into_iter().fold(guard(self.server), |guard, client| guard.accept_identities_of(client));
        guard.trust(trusted).realm(ORDERS).await.unwrap()
    }

    pub(super) fn identifier(&self, name: &str) -> String {
        // A user of another issuer is known by the name there.
        self.ids.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    async fn enter_users(&mut self) {
        for (name, scope, res) in [
            ("olga", "Admin", "*"),
            ("pat", "Admin", "*"),
            ("quinn", "Admin", "*"),
            ("anna", "Supervisor", "plant"),
            ("ben", "Worker", "plant/7/line/3"),
            ("carl", "Supervisor", "plant"),
            ("dora", "Supervisor", "plant"),
        ] {
            let user = json!({ "name": name, "scope": scope, "res": [res] });
            let user = self.admin.post("/api/v1/users", &user).await.created();
            self.ids.insert(name.to_owned(), user["id"].as_str().unwrap().to_owned());
        }
    }

    /// Gives the two APIs.
    async fn register_clients(&mut self) -> [String; 2] {
        let scopes = ["Admin", "Supervisor", "Worker"];
        let apis = [self.admin.new_api(ORDERS, &scopes).await, self.admin.new_api(STORE, &scopes).await];
        let press = |name: &'static str| (name, "Supervisor", "plant/7");
        let clients = PRESSES.map(press).into_iter().chain([
            ("robot", "Supervisor", "plant/7"),
            ("other", "Supervisor", "plant/7"),
            ("web", "Admin", "*"),
            ("web-disabled", "Admin", "*"),
            ("tv", "Supervisor", "plant"),
            ("tv-disabled", "Supervisor", "plant"),
        ]);
        for (name, scope, res) in clients {
            let owner = match name {
                "press-owner-disabled" => "pat",
                "press-owner-narrowed" => "quinn",
                _ => "olga",
            };
            let mut client =
                json!({ "name": name, "owner": self.ids[owner], "scope": scope, "res": [res], "apis": apis });
            if name == "robot" {
                client["subject"] = json!("client");
            }
            if name.starts_with("tv") {
                client["kind"] = json!("public");
            }
            let id = self.admin.new_client(client).await;
            if !name.starts_with("tv") {
                self.keys.insert(name.to_owned(), self.admin.issue(&id, &json!({})).await);
            }
            self.ids.insert(name.to_owned(), id);
        }
        apis
    }

    /// What the API allows, as the guard is told in its code.
    async fn allow(&self, apis: &[String]) {
        let trusted = json!({
            "issuer": self.provider.issuer(), "audience": "plant-web", "scope": "Worker", "res": ["plant/7"],
        });
        let accepted = [&self.ids["web"], &self.ids["web-disabled"]];
        let change = json!({ "identity_clients": accepted, "identity_issuers": [trusted] });
        self.admin.patch(&format!("/api/v1/apis/{}", apis[0]), &change).await.ok();
    }

    async fn get_tokens(&mut self) {
        for (name, key) in &self.keys {
            let token = self.server.token(key, &[("resource", ORDERS)]).await;
            self.tokens.insert(name.clone(), token);
        }
        let people = ["anna", "ben", "carl", "dora"];
        let clients = ["press", "press-key-revoked", "robot", "other", "web", "web-disabled", "tv", "tv-disabled"];
        let pairs = people.iter().flat_map(|user| clients.iter().map(move |client| format!("{user}@{client}")));
        let further = ["anna@press:session-revoked", "anna@press:token-revoked", "anna@tv:session-revoked"];
        for whose in pairs.chain(further.map(str::to_owned)).collect::<Vec<_>>() {
            let (user, client) = whose.split_once('@').unwrap();
            let client = client.split_once(':').map_or(client, |(client, _)| client);
            let session = self.server.begin_session(&self.ids[user], &self.ids[client], ("Supervisor", "plant")).await;
            let credential = self.keys.get(client).map(Secrets::credential);
            let token = self.server.identity_token(&session, credential.as_deref()).await.unwrap();
            let mut claims = tokens::claims(&token);
            claims["aud"] = json!(ORDERS);
            self.tokens.insert(whose, tokens::sign(self.server, &claims).await);
        }
    }

    /// What happens after all have got their tokens, until this guard has heard of it.
    pub(super) async fn end(&self, guard: &Guard) {
        let at = |kind: &str, id: &str| format!("/api/v1/{kind}/{id}");
        let client = |name: &str| at("clients", &self.ids[name]);
        let user = |name: &str| at("users", &self.ids[name]);
        let credential = |name: &str| at("credentials", &self.keys[name].credential());
        let admin = &self.admin;

        admin.act(&format!("{}/revoke", credential("press-key-revoked"))).await.ok();
        rotate(admin, &self.keys["press-key-finished"], json!({})).await;
        admin.post(&path(&self.keys["press-key-finished"], "finish"), &json!({ "force": true })).await.ok();
        admin.patch(&credential("press-key-narrowed"), &json!({ "scope": "Worker" })).await.ok();
        self.revoke_token("press-token-revoked", "press-token-revoked").await;
        for name in ["press-disabled", "press-enabled-again", "web-disabled", "tv-disabled"] {
            admin.act(&format!("{}/disable", client(name))).await.ok();
        }
        admin.act(&format!("{}/enable", client("press-enabled-again"))).await.ok();
        admin.delete(&client("press-deleted")).await;
        admin.patch(&client("press-narrowed"), &json!({ "res": ["plant/7/line/3"] })).await.ok();
        admin.patch(&client("press-widened"), &json!({ "res": ["plant"] })).await.ok();
        admin.patch(&client("press-api-taken"), &json!({ "apis": [] })).await.ok();
        let (rita, as_rita) = person(admin, self.server, "rita", "keyward:self").await;
        let transfer = format!("{}/transfer", client("press-transferred"));
        admin.post(&transfer, &json!({ "to": rita["id"] })).await.created();
        as_rita.act(&format!("{transfer}/accept")).await.ok();
        for name in ["pat", "carl"] {
            admin.act(&format!("{}/disable", user(name))).await.ok();
        }
        admin.patch(&user("quinn"), &json!({ "scope": "Worker" })).await.ok();
        admin.patch(&user("dora"), &json!({ "res": ["plant/7"] })).await.ok();
        for whose in ["anna@press:session-revoked", "anna@tv:session-revoked"] {
            let session = tokens::claims(&self.tokens[whose])["sid"].clone();
            admin.act(&format!("/api/v1/device-sessions/{}/revoke", session.as_str().unwrap())).await.ok();
        }
        self.revoke_token("press", "anna@press:token-revoked").await;
        let mut last = bearing(&self.tokens["press"]);
        last.insert("identity-token", self.tokens["anna@press:token-revoked"].parse().unwrap());
        until("the guard hears of it", || guard.check(&last).is_err()).await;
    }

    /// RFC 7009, by the client that got the token.
    async fn revoke_token(&self, client: &str, whose: &str) {
        let form = self.server.form("/revoke", &self.keys[client], &[("token", &self.tokens[whose])]);
        assert!(form.send().await.unwrap().status().is_success());
    }

    /// The header lines that stand for a cell of the table.
    pub(super) async fn header(
        &self,
        name: &'static str,
        scheme: &str,
        cell: &'static str,
    ) -> Vec<(&'static str, String)> {
        if cell == "-" {
            return Vec::new();
        }
        if let Some(raw) = cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')) {
            return vec![(name, raw.to_owned())];
        }
        let (whose, change) = cell.split_once('~').unwrap_or((cell, ""));
        let value = format!("{scheme}{}", self.token(whose, change).await);
        if change == "twice" { vec![(name, value.clone()), (name, value)] } else { vec![(name, value)] }
    }

    async fn token(&self, whose: &str, change: &str) -> String {
        let now = self.server.clock.now();
        let token = match whose {
            "login" => self.provider.token(now, &json!({ "sub": "zoe" })),
            whose => self.tokens.get(whose).unwrap_or_else(|| panic!("nobody is called {whose}")).clone(),
        };
        let (what, value) = change.split_once('=').unwrap_or((change, ""));
        let mut claims = tokens::claims(&token);
        match what {
            "" | "twice" => return token,
            "damaged" => return damaged(&token),
            "long" => return format!("{token}{}", "A".repeat(8 * 1024)),
            "kid" | "alg" => return with_header(&token, what, value),
            "typ" => return self.sign(whose, value, &claims).await,
            "exp" | "nbf" | "iat" => claims[what] = json!(now.as_seconds() + value.parse::<i64>().unwrap()),
            "aud" => claims[what] = value.split(',').map(audience).collect(),
            "res" => claims[what] = value.split_terminator(',').collect(),
            "act" if !value.is_empty() => claims[what] = json!({ "sub": self.ids[value] }),
            "act" | "sid" => drop(claims.as_object_mut().unwrap().remove(what)),
            "sub" | "scope" | "iss" => claims[what] = json!(self.identifier(value)),
            other => panic!("nothing is changed by {other}"),
        }
        self.sign(whose, if whose == "login" { "JWT" } else { "at+jwt" }, &claims).await
    }

    async fn sign(&self, whose: &str, typ: &str, claims: &Value) -> String {
        if whose == "login" { self.provider.sign(typ, claims) } else { tokens::sign_as(self.server, typ, claims).await }
    }
}

fn audience(name: &str) -> &str {
    match name {
        "plant" => ORDERS,
        "store" => STORE,
        other => other,
    }
}

/// With another first character of the signature.
fn damaged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{first}{}", &signature[1..])
}

/// With something else in its header: it is not signed anew, for it must be refused before.
fn with_header(token: &str, name: &str, value: &str) -> String {
    let (header, rest) = token.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    match value {
        "" => drop(header.as_object_mut().unwrap().remove(name)),
        value => header[name] = json!(value),
    }
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}
