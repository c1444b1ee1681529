//! The REST API as tests use it, and whole answers.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::server::{Secrets, TestServer};

/// The REST API with an access token.
pub struct Api<'a> {
    pub(crate) server: &'a TestServer,
    /// The key behind the token.
    pub secrets: Secrets,
    /// The access token.
    pub token: String,
}

impl Api<'_> {
    /// The same token at another node.
    pub fn at<'b>(&self, server: &'b TestServer) -> Api<'b> {
        Api { server, secrets: self.secrets.clone(), token: self.token.clone() }
    }

    /// The REST API with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Api { server: self.server, secrets: self.secrets.clone(), token: token.to_owned() }
    }

    /// A request to be completed by the test.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.server.http.request(method, format!("{}{path}", self.server.url())).bearer_auth(&self.token)
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// `POST` with a body
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    /// `POST` without a body
    pub async fn act(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::POST, path)).await
    }

    /// `PATCH`
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::PATCH, path).json(body)).await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    /// The kinds of the events about something, the oldest first.
    pub async fn kinds_of(&self, subject: &str) -> Vec<String> {
        let events = self.get(&format!("/api/v1/events?subject={subject}")).await.ok();
        let events = events["items"].as_array().expect("a list");
        events.iter().map(|event| event["kind"].as_str().expect("a text").to_owned()).collect()
    }

    /// A new API with this audience and these scopes; its id.
    pub async fn new_api(&self, audience: &str, scopes: &[&str]) -> String {
        let new = json!({ "name": audience, "audience": audience, "scopes": scopes });
        self.post("/api/v1/apis", &new).await.created()["id"].as_str().expect("an id").to_owned()
    }

    /// A new client; the members given are added to a name.
    pub async fn new_client(&self, members: Value) -> String {
        let mut new = json!({ "name": "client" });
        for (name, value) in members.as_object().expect("an object") {
            new[name] = value.clone();
        }
        self.post("/api/v1/clients", &new).await.created()["id"].as_str().expect("an id").to_owned()
    }

    /// A new key of a client.
    pub async fn issue(&self, client: &str, members: &Value) -> Secrets {
        let issued = self.post(&format!("/api/v1/clients/{client}/credentials"), members).await.created();
        let text = |name: &str| issued[name].as_str().expect("a text").to_owned();
        Secrets { client_id: text("client_id"), client_secret: text("client_secret") }
    }

    /// A key for a new API at `https://orders.example` of a new client with scope Worker on plant/7.
    pub async fn orders_key(&self) -> Secrets {
        let api = self.new_api("https://orders.example", &["Admin", "Supervisor", "Worker"]).await;
        let members = json!({ "name": "orders-sync", "scope": "Worker", "res": ["plant/7"], "apis": [api] });
        let client = self.new_client(members).await;
        self.issue(&client, &json!({})).await
    }

    /// Revokes the credential behind a key.
    pub async fn revoke(&self, secrets: &Secrets) {
        let answer = self.act(&format!("/api/v1/credentials/{}/revoke", secrets.credential())).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: reqwest::header::HeaderMap,
    /// Its body; null if it is not JSON.
    pub body: Value,
    /// The same as it was sent.
    pub text: String,
}

impl Answer {
    /// Sends the request.
    pub async fn of(request: RequestBuilder) -> Self {
        let request = request.timeout(Duration::from_secs(30));
        Self::read(request.send().await.expect("the server answers")).await
    }

    async fn read(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.expect("a whole body");
        let text = String::from_utf8_lossy(&body).into_owned();
        Self { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null), text }
    }

    /// A header's value; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
    }

    /// Status and error code of a refusal (RFC 6749 §5.2).
    pub fn error(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["error"].as_str().unwrap_or_default())
    }

    /// The body of a creation that must have succeeded.
    pub fn created(self) -> Value {
        assert_eq!(self.status, StatusCode::CREATED, "{}", self.body);
        self.body
    }

    /// The body of an answer that must have succeeded.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }
}
