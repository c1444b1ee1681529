//! Lowered rights end the tokens that are out, for verifiers offline too; what only widens ends nothing.

use keyward_tests::on_both_databases;
use keyward_tests::server::{Api, Secrets, TestServer};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::status_list::{List, claims, place};
use crate::transfers::key_of;

/// Olga with the scopes Admin and Supervisor on plant, and her client with a key: Supervisor on plant/7.
struct Plant<'a> {
    server: &'a TestServer,
    admin: Api<'a>,
    olga: Value,
    key: Secrets,
}

impl<'a> Plant<'a> {
    async fn new(server: &'a TestServer) -> Self {
        let admin = server.admin().await;
        let olga = json!({ "name": "olga", "scope": "Admin", "res": ["plant", "office"] });
        let olga = admin.post("/api/v1/users", &olga).await.created();
        let key = key_of(&admin, &olga, "Supervisor", &["plant/7", "office/1"]).await;
        Self { server, admin, olga, key }
    }

    fn user(&self) -> String {
        format!("/api/v1/users/{}", self.olga["id"].as_str().unwrap())
    }

    fn client(&self) -> String {
        format!("/api/v1/clients/{}", self.key.client_id)
    }

    fn credential(&self) -> String {
        format!("/api/v1/credentials/{}", self.key.credential())
    }

    async fn api(&self) -> String {
        let client = self.admin.get(&self.client()).await.ok();
        format!("/api/v1/apis/{}", client["apis"][0].as_str().unwrap())
    }

    /// Whether a change ends the tokens that are out: all that judge them agree, and the next token counts.
    async fn ends(&self, path: &str, change: Value) -> bool {
        let before = self.server.token(&self.key, &[]).await;
        assert!(!List::of(self.server).await.refuses(place(&claims(&before))));
        let version = self.admin.get(path).await.ok();
        self.admin.patch(path, &change).await.ok();
        let ended = List::of(self.server).await.refuses(place(&claims(&before)));
        let active = self.server.introspect(&self.key, &before).await["active"] == true;
        assert_eq!(ended, !active, "{change} of {version}: the list and introspection differ");
        if let Ok(after) = self.next().await {
            assert!(!List::of(self.server).await.refuses(place(&claims(&after))), "{change}");
            assert_eq!(self.server.introspect(&self.key, &after).await["active"], true, "{change}");
        }
        ended
    }

    /// The next token, if there is one for these rights.
    async fn next(&self) -> Result<String, Value> {
        let answer = self.server.token_answer(&self.key, &[]).await;
        answer.body["access_token"].as_str().map(str::to_owned).ok_or(answer.body)
    }

    /// What the log says of how many moved by the last change of this kind.
    async fn moved(&self, kind: &str) -> Value {
        let events = self.admin.get(&format!("/api/v1/events?kind={kind}")).await.ok();
        events["items"].as_array().unwrap().last().unwrap()["data"]["moved"].clone()
    }
}

on_both_databases! {
    async fn of_a_credential(server: TestServer) {
        let plant = Plant::new(&server).await;
        let path = plant.credential();
        assert!(!plant.ends(&path, json!({ "label": "hall 3" })).await);
        assert!(plant.ends(&path, json!({ "scope": "Worker" })).await, "of its own instead of all");
        assert_eq!(plant.moved("credential.changed").await, 1);
        assert!(!plant.ends(&path, json!({ "scope": "Supervisor" })).await, "wider");
        assert_eq!(plant.moved("credential.changed").await, Value::Null);
        assert!(plant.ends(&path, json!({ "res": ["plant/7"] })).await);
        assert!(!plant.ends(&path, json!({ "res": ["plant/7", "office/1"] })).await, "wider");
        assert!(plant.ends(&path, json!({ "res": ["plant/7/line/3", "office/1"] })).await);
        assert!(!plant.ends(&path, json!({ "scope": null, "res": null })).await, "all that its client has");
    }

    async fn of_a_client_with_all_its_credentials(server: TestServer) {
        let plant = Plant::new(&server).await;
        let path = plant.client();
        let another = plant.admin.issue(&plant.key.client_id, &json!({})).await;
        let other = server.token(&another, &[]).await;
        assert!(!plant.ends(&path, json!({ "name": "renamed" })).await);
        assert!(!plant.ends(&path, json!({ "scope": "Admin" })).await, "wider");
        assert!(plant.ends(&path, json!({ "scope": "Supervisor" })).await);
        assert_eq!(plant.moved("client.changed").await, 2);
        assert!(List::of(&server).await.refuses(place(&claims(&other))));
        assert!(!plant.ends(&path, json!({ "scope": "Supervisor Worker" })).await, "the same in other words");
        assert!(plant.ends(&path, json!({ "res": ["plant/7/line/3"] })).await);
        assert!(!plant.ends(&path, json!({ "res": ["plant"] })).await, "wider");
    }

    async fn of_a_client_that_may_use_an_api_no_more(server: TestServer) {
        let plant = Plant::new(&server).await;
        let path = plant.client();
        let stock = plant.admin.new_api("https://stock.example", &["Supervisor"]).await;
        let own = plant.admin.get(&path).await.ok()["apis"][0].clone();
        let resource = [("resource", "https://olga.example")];
        let before = server.token(&plant.key, &resource).await;
        plant.admin.patch(&path, &json!({ "apis": [own, stock] })).await.ok();
        assert!(!List::of(&server).await.refuses(place(&claims(&before))), "one more");
        plant.admin.patch(&path, &json!({ "apis": [stock] })).await.ok();
        assert!(List::of(&server).await.refuses(place(&claims(&before))));
        assert_eq!(server.introspect(&plant.key, &before).await["active"], false);
    }

    async fn of_a_user_with_all_clients_and_sessions(server: TestServer) {
        let plant = Plant::new(&server).await;
        let path = plant.user();
        let tv = json!({ "kind": "public", "scope": "Admin", "res": ["*"], "apis": [plant.api().await.split('/').next_back()] });
        let tv = plant.admin.new_client(tv).await;
        let (_, hers) = server.sign_in(plant.olga["id"].as_str().unwrap(), &tv, ("Admin", "plant")).await;
        let sam = json!({ "name": "sam", "scope": "Admin", "res": ["plant"] });
        let sam = plant.admin.post("/api/v1/users", &sam).await.created();
        let (_, his) = server.sign_in(sam["id"].as_str().unwrap(), &tv, ("Admin", "plant")).await;
        assert!(!plant.ends(&path, json!({ "email": "olga@example.org" })).await);
        assert!(!plant.ends(&path, json!({ "res": ["*"] })).await, "wider");
        assert!(plant.ends(&path, json!({ "scope": "Supervisor" })).await);
        assert_eq!(plant.moved("user.changed").await, 2);
        let list = List::of(&server).await;
        assert!(list.refuses(place(&claims(&hers))) && !list.refuses(place(&claims(&his))), "another user's session");
        assert!(!plant.ends(&path, json!({ "scope": "Admin" })).await, "wider");
        assert!(plant.ends(&path, json!({ "res": ["plant"] })).await);
        let another = json!({ "name": "another", "scope": "Worker", "res": ["plant"] });
        let another = plant.admin.post("/api/v1/users", &another).await.created();
        let path = format!("/api/v1/users/{}", another["id"].as_str().unwrap());
        assert!(!plant.ends(&path, json!({ "scope": "" })).await, "somebody else's rights");
    }

    async fn by_a_scope_that_implies_less_for_whoever_holds_it(server: TestServer) {
        let plant = Plant::new(&server).await;
        let add = async |name: &str, implies: &[&str]| {
            plant.admin.post("/api/v1/scopes", &json!({ "name": name, "implies": implies })).await.created();
        };
        add("press", &[]).await;
        add("weld", &[]).await;
        add("hall", &["press", "weld"]).await;
        add("site", &["hall"]).await;
        plant.admin.patch(&plant.api().await, &json!({ "scopes": ["site", "hall", "press", "weld", "Supervisor"] })).await.ok();
        let holds = json!({ "scope": "site Supervisor" });
        plant.admin.patch(&plant.client(), &holds).await.ok();
        plant.admin.patch(&plant.user(), &json!({ "scope": "Admin hall press" })).await.ok();
        assert!(!plant.ends("/api/v1/scopes/Worker", json!({ "description": "works" })).await);
        assert!(plant.ends("/api/v1/scopes/hall", json!({ "implies": ["press"] })).await, "the owner holds it");
        assert_eq!(plant.moved("scope.changed").await, 1);
        assert!(!plant.ends("/api/v1/scopes/hall", json!({ "implies": ["press", "weld"] })).await, "more");
        assert!(plant.ends("/api/v1/scopes/site", json!({ "implies": [] })).await, "only the client holds it");
        add("yard", &["weld"]).await;
        assert!(!plant.ends("/api/v1/scopes/yard", json!({ "implies": [] })).await, "nobody holds it");
        let narrow = json!({ "scope": "press" });
        plant.admin.patch(&plant.client(), &json!({ "scope": "hall Supervisor" })).await.ok();
        plant.admin.patch(&plant.credential(), &narrow).await.ok();
        assert!(plant.ends("/api/v1/scopes/hall", json!({ "implies": ["press"] })).await, "press was had by hall");
    }

    async fn by_an_api_that_knows_a_scope_no_more_or_has_another_audience(server: TestServer) {
        let plant = Plant::new(&server).await;
        let path = plant.api().await;
        assert!(!plant.ends(&path, json!({ "name": "Stock", "token_lifetime_seconds": 300 })).await);
        assert!(plant.ends(&path, json!({ "scopes": ["Admin", "Worker"] })).await);
        assert_eq!(plant.moved("api.changed").await, 1);
        assert!(!plant.ends(&path, json!({ "scopes": ["Admin", "Supervisor", "Worker"] })).await, "more");
        assert!(!plant.ends(&path, json!({ "client": plant.key.client_id })).await, "who may ask is no right of a token");
        assert!(plant.ends(&path, json!({ "audience": "https://elsewhere.example" })).await);
    }

    async fn tokens_that_were_ended_stay_so_when_the_rights_come_back(server: TestServer) {
        let plant = Plant::new(&server).await;
        let before = server.token(&plant.key, &[]).await;
        for scope in ["Worker", "Admin"] {
            plant.admin.patch(&plant.user(), &json!({ "scope": scope })).await.ok();
        }
        assert!(List::of(&server).await.refuses(place(&claims(&before))));
        assert_eq!(server.introspect(&plant.key, &before).await, json!({ "active": false }));
        plant.admin.revoke(&plant.key).await;
        plant.admin.delete(&plant.client()).await;
        let server = server.restart().await;
        assert!(List::of(&server).await.refuses(place(&claims(&before))), "through restart and deletion");
    }
}

on_both_databases! {
    async fn a_key_read_anew_is_never_judged_by_an_older_client_or_user(server: TestServer) {
        let plant = Plant::new(&server).await;
        // The node remembers client and user; then they are lowered, and no event has told it yet.
        assert_eq!(claims(&server.token(&plant.key, &[]).await)["res"], json!(["office/1", "plant/7"]));
        for (table, lowered, member, now) in [
            ("clients", "scope = 'Worker'", "scope", json!("Worker")),
            ("users", "res = 'plant'", "res", json!(["plant/7"])),
        ] {
            let ids = [&plant.key.client_id, plant.olga["id"].as_str().unwrap()];
            let change = format!("UPDATE {table} SET {lowered}, version = version + 1 WHERE id IN ('{}', '{}')", ids[0], ids[1]);
            server.execute(&change).await;
            let new = plant.admin.issue(&plant.key.client_id, &json!({})).await;
            assert_eq!(claims(&server.token(&new, &[]).await)[member], now, "{table}");
        }
    }

    async fn a_key_read_anew_is_never_judged_by_an_older_catalogue(server: TestServer) {
        let plant = Plant::new(&server).await;
        let tv = json!({ "kind": "public", "scope": "Admin", "res": ["*"], "apis": [plant.api().await.split('/').next_back()] });
        let tv = plant.admin.new_client(tv).await;
        let session = server.begin_session(plant.olga["id"].as_str().unwrap(), &tv, ("Admin", "plant")).await;
        let last = server.app.store.last_event().await.unwrap();
        let lowered = async |at: i64| {
            server.execute(&format!("UPDATE counters SET value = {at} WHERE name = 'catalogue_lowered'")).await;
        };
        lowered(last + 1).await;
        let (refused, identity) =
            tokio::join!(server.token_answer(&plant.key, &[]), server.identity_token(&session, None));
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
        assert!(identity.is_err());
        lowered(last).await;
        assert_eq!(server.token_answer(&plant.key, &[]).await.status, StatusCode::OK);
        assert!(server.identity_token(&session, None).await.is_ok());
    }
}
