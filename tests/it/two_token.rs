//! The two-token rule, case by case: `tests/cases/two-token.txt`, answered by an API behind the guard, by `/forward-auth`
//! and by Envoy's `ext_authz`. All three must say the same, to the letter.

mod scene;

use std::collections::HashMap;

use axum::extract::Query;
use axum::routing::get;
use axum::{Extension, Json, Router};
use keyward_guard::{Caller, Refusal};
use keyward_tests::clients::ask_as_envoy;
use keyward_tests::provider::Provider;
use keyward_tests::server::{Db, TestServer};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::guard::ORDERS;
use scene::Scene;

const TABLE: &str = include_str!("../cases/two-token.txt");

/// One row of the table.
struct Case {
    line: usize,
    authorization: &'static str,
    identity: &'static str,
    needs: Option<(&'static str, &'static str)>,
    answer: &'static str,
}

/// What somebody says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    status: u16,
    /// Client, modified by, user, scope, res; or the challenge.
    says: String,
}

fn cases() -> Vec<Case> {
    let rows = TABLE.lines().enumerate().filter(|(_, row)| !row.starts_with('#') && row.contains('|')).skip(1);
    rows.map(|(line, row)| {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let [authorization, identity, needs, answer] = columns[..] else { panic!("line {}: {row}", line + 1) };
        let needs = (needs != "-").then(|| needs.split_once(' ').expect("a scope and a resource"));
        Case { line: line + 1, authorization, identity, needs, answer }
    })
    .collect()
}

/// What a request with these headers brings along, once for all who judge it.
struct Request {
    headers: Vec<(&'static str, String)>,
    needs: Vec<(&'static str, &'static str)>,
}

impl Request {
    async fn of(case: &Case, scene: &Scene<'_>) -> Self {
        let mut headers = scene.header("authorization", "Bearer ", case.authorization).await;
        headers.extend(scene.header("identity-token", "", case.identity).await);
        let needs = case.needs.map(|(scope, res)| vec![("scope", scope), ("res", res)]).unwrap_or_default();
        Self { headers, needs }
    }

    fn over_http(&self, url: &str, http: &reqwest::Client) -> reqwest::RequestBuilder {
        let request = http.get(url).query(&self.needs);
        self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
    }

    fn for_envoy(&self) -> Value {
        let mut context = json!({ "audience": ORDERS });
        for (name, value) in &self.needs {
            context[*name] = json!(value);
        }
        json!({ "context": context, "header_map": self.headers })
    }
}

/// An API whose one route says who called.
async fn said(
    Extension(caller): Extension<Caller>,
    Query(needs): Query<HashMap<String, String>>,
) -> Result<Json<Value>, Refusal> {
    if let (Some(scope), Some(res)) = (needs.get("scope"), needs.get("res")) {
        caller.require(scope, res)?;
    }
    Ok(Json(json!({
        "client": caller.client(), "modified-by": caller.modified_by(),
        "user": caller.user().map(|user| user.to_string()), "scope": caller.scope(), "res": caller.res().to_text(),
    })))
}

fn verdict(status: u16, challenge: &str, who: impl Fn(&str) -> String) -> Verdict {
    let names = ["client", "modified-by", "user", "scope", "res"];
    let says = if status == 200 { names.map(who).join("; ") } else { challenge.to_owned() };
    Verdict { status, says }
}

async fn by_the_guard(url: &str, http: &reqwest::Client, request: &Request) -> Verdict {
    let answer = request.over_http(url, http).send().await.unwrap();
    let (status, challenge) = (answer.status().as_u16(), challenge(answer.headers()));
    let body: Value = answer.json().await.unwrap();
    verdict(status, &challenge, |name| body[name].as_str().unwrap_or_default().to_owned())
}

async fn by_forward_auth(server: &TestServer, request: &Request) -> Verdict {
    let asked = request.over_http(&format!("{}/forward-auth", server.url()), &server.http);
    let answer = asked.query(&[("audience", ORDERS)]).send().await.unwrap();
    let told = |name: &str| {
        let value = answer.headers().get(format!("keyward-{name}"));
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    verdict(answer.status().as_u16(), &challenge(answer.headers()), told)
}

fn challenge(headers: &HeaderMap) -> String {
    headers.get("www-authenticate").map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

fn by_envoy(answer: &Value) -> Verdict {
    let (status, headers) = match answer["denied_response"].as_object() {
        None => (200, &answer["ok_response"]["headers"]),
        Some(denied) => match denied["status"]["code"].as_str().unwrap() {
            "BadRequest" => (400, &denied["headers"]),
            "Unauthorized" => (401, &denied["headers"]),
            "Forbidden" => (403, &denied["headers"]),
            "InternalServerError" => (500, &denied["headers"]),
            "ServiceUnavailable" => (503, &denied["headers"]),
            other => panic!("{other}"),
        },
    };
    let header = |name: &str| {
        let headers = headers.as_array().into_iter().flatten();
        let mut found =
            headers.filter(|header| header["header"]["key"] == name).map(|header| &header["header"]["value"]);
        found.next().and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    verdict(status, &header("www-authenticate"), |name| header(&format!("keyward-{name}")))
}

impl Case {
    /// Whether that is what the table says.
    fn is_met_by(&self, verdict: &Verdict, scene: &Scene<'_>) -> bool {
        let (status, what) = self.answer.split_once(' ').unwrap_or((self.answer, ""));
        if status != verdict.status.to_string() {
            return false;
        }
        if verdict.status != 200 {
            let description = format!("error_description=\"{what}\"");
            return if what.is_empty() { !verdict.says.contains("error") } else { verdict.says.contains(&description) };
        }
        let [by, scope, res] = what.split(';').map(str::trim).collect::<Vec<_>>()[..] else { panic!("{what}") };
        verdict.says.ends_with(&format!("; {scope}; {res}"))
            && verdict.says.split("; ").nth(1) == Some(scene.identifier(by).as_str())
    }
}

async fn judged_alike(db: Db) {
    let provider = Provider::start().await;
    let server = TestServer::start_with(db, |config| {
        config.gateway.ext_authz = true;
        config.gateway.allow_networks = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let scene = Scene::set(&server, &provider).await;
    let guard = scene.guard().await;
    scene.end(&guard).await;
    let router = Router::new().route("/", get(said)).layer(guard.layer());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(axum::serve(listener, router).into_future());

    let cases = cases();
    assert!(cases.len() >= 80, "{}", cases.len());
    let mut requests = Vec::new();
    for case in &cases {
        requests.push(Request::of(case, &scene).await);
    }
    let questions: Vec<Value> = requests.iter().map(Request::for_envoy).collect();
    let of_envoy = ask_as_envoy(server.address(), &questions).await;
    let mut wrong = Vec::new();
    for ((case, request), of_envoy) in cases.iter().zip(&requests).zip(&of_envoy) {
        let guard = by_the_guard(&url, &server.http, request).await;
        let forward_auth = by_forward_auth(&server, request).await;
        let envoy = by_envoy(of_envoy);
        if !case.is_met_by(&guard, &scene) || guard != forward_auth || guard != envoy {
            let Case { line, authorization, identity, answer, .. } = case;
            wrong.push(format!(
                "line {line}: {authorization} | {identity} should be {answer}\n  guard        {guard:?}\n  \
                 forward-auth {forward_auth:?}\n  ext_authz    {envoy:?}"
            ));
        }
    }
    serving.abort();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guard_forward_auth_and_ext_authz_judge_every_case_alike_on_sqlite() {
    judged_alike(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guard_forward_auth_and_ext_authz_judge_every_case_alike_on_postgresql() {
    judged_alike(Db::Postgres).await;
}
