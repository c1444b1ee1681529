//! Devices with clients that other people wrote, unmodified, through all that people, time, the server and the network do to
//! them. docs/device-flow.md has the same table.

use std::future::ready;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use keyward_model::device_grant::LIFETIME;
use keyward_server::device_grants::{approve, deny};
use keyward_tests::clients::{self, DeviceProgram};
use keyward_tests::devices::{DEVICE_CODE, Device};
use keyward_tests::relay::{Relay, Seen};
use keyward_tests::server::{Db, TestServer};
use oauth2::basic::BasicClient;
use oauth2::{
    ClientId, DeviceAuthorizationUrl, HttpRequest, HttpResponse, RequestTokenError, Scope,
    StandardDeviceAuthorizationResponse, TokenResponse as _, TokenUrl,
};
use serde_json::{Value, json};

use crate::device_grants::scene;

/// What comes of a device that polls: `scope`, and what a refresh brought; or `error`. `interrupted` counts the failures of
/// the network that its library left to the application, which then asked again with the same code.
type Outcome = LocalBoxFuture<'static, Value>;

/// A client that other people wrote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stock {
    OpenidClient,
    Oauth4webapi,
    Msal,
    Oauth2Crate,
    Curl,
}

impl Stock {
    /// How many failures of the network its library leaves to the application, of one.
    fn leaves_to_the_application(self) -> usize {
        usize::from(self != Self::Oauth2Crate)
    }
}

/// A server behind a relay, a client, and somebody who decides.
struct Stage {
    server: TestServer,
    relay: Relay,
    tv: String,
    olga: String,
}

impl Stage {
    /// Polls are held for so many seconds. Time on the server stands still, but for clients that wait by its clock.
    async fn new(client: Stock, hold_s: u8) -> Self {
        // MSAL speaks to https only.
        let relay = Relay::new(client == Stock::Msal).await;
        let server = TestServer::start_with(Db::Sqlite, |config| {
            config.server.issuer.clone_from(&relay.url);
            config.device_grants.hold_s = hold_s;
        })
        .await;
        relay.lead_to(server.address());
        let (tv, olga) = {
            let admin = server.admin().await;
            scene(&server, &admin, json!({})).await
        };
        Self { server, relay, tv, olga }
    }

    /// A device that has asked by this client, and polls when its outcome is awaited.
    async fn ask(&self, client: Stock) -> (Device, Outcome) {
        let (program, answer) = match client {
            Stock::OpenidClient => DeviceProgram::with_node("openid-client", &self.relay, &self.tv).await,
            Stock::Oauth4webapi => DeviceProgram::with_node("oauth4webapi", &self.relay, &self.tv).await,
            Stock::Msal => DeviceProgram::with_msal(&self.relay, &self.tv).await,
            Stock::Oauth2Crate => return self.ask_with_oauth2_crate().await,
            Stock::Curl => return self.ask_with_curl().await,
        };
        (self.device(answer), program.outcome().boxed_local())
    }

    fn device(&self, answer: Value) -> Device {
        Device { client: self.tv.clone(), answer }
    }

    async fn ask_with_oauth2_crate(&self) -> (Device, Outcome) {
        let http = keyward_tests::http();
        let transport = move |request| send(http.clone(), request);
        let client = BasicClient::new(ClientId::new(self.tv.clone()))
            .set_device_authorization_url(
                DeviceAuthorizationUrl::new(format!("{}/auth/device", self.relay.url)).unwrap(),
            )
            .set_token_uri(TokenUrl::new(format!("{}/token", self.relay.url)).unwrap());
        let asking = client.exchange_device_code().add_scope(Scope::new("Worker".to_owned()));
        let details: StandardDeviceAuthorizationResponse = asking.request_async(&transport).await.unwrap();
        let (answer, clock) = (serde_json::to_value(&details).unwrap(), self.server.clock.clone());
        let polling = async move {
            let pause = |pause| {
                clock.advance(pause);
                ready(())
            };
            let asking = client.exchange_device_access_token(&details);
            match asking.request_async(&transport, pause, None).await {
                Ok(tokens) => {
                    let refresh = client.exchange_refresh_token(tokens.refresh_token().unwrap());
                    let next = refresh.request_async(&transport).await.unwrap();
                    json!({ "scope": tokens.scopes(), "refreshed": next.scopes(), "interrupted": 0 })
                }
                Err(RequestTokenError::ServerResponse(refusal)) => {
                    json!({ "error": refusal.error(), "interrupted": 0 })
                }
                Err(other) => panic!("{other:?}"),
            }
        };
        (self.device(answer), polling.boxed_local())
    }

    /// What a shell script does: asks, and goes on asking while it is told to wait or hears nothing.
    async fn ask_with_curl(&self) -> (Device, Outcome) {
        let own = format!("client_id={}", self.tv);
        let asked = curl(&self.relay.url, "/auth/device", &[&own, "scope=Worker"]).await;
        let (device, clock, url) = (self.device(asked.unwrap()), self.server.clock.clone(), self.relay.url.clone());
        let grant_type = format!("grant_type={DEVICE_CODE}");
        let code = format!("device_code={}", device.device_code());
        let mut interval = device.answer["interval"].as_u64().unwrap();
        let polling = async move {
            let mut interrupted = 0;
            loop {
                let said = curl(&url, "/token", &[&grant_type, &own, &code]).await.unwrap_or_default();
                match said["error"].as_str() {
                    Some("authorization_pending") => {}
                    Some("slow_down") => interval += 5,
                    Some(error) => return json!({ "error": error, "interrupted": interrupted }),
                    None if said.is_null() => interrupted += 1,
                    None => {
                        let token = format!("refresh_token={}", said["refresh_token"].as_str().unwrap());
                        let next = curl(&url, "/token", &["grant_type=refresh_token", &own, &token]).await.unwrap();
                        return json!({ "scope": said["scope"], "refreshed": next["scope"], "interrupted": interrupted });
                    }
                }
                assert!(interrupted < 5, "the network fails once");
                clock.advance(Duration::from_secs(interval));
            }
        };
        (device, polling.boxed_local())
    }

    async fn decide(&self, device: &Device, yes: bool) {
        let by = self.server.browser_of(&self.olga);
        let asked = self.server.enter(&by, device).await.unwrap();
        if yes {
            approve(&self.server.app, &by, asked.id, asked.consent(false)).await.unwrap();
        } else {
            deny(&self.server.app, &by, asked.id).await.unwrap();
        }
    }

    /// The same server, with nothing in its memory, at the same address.
    async fn restart(self) -> Self {
        let Self { server, relay, tv, olga } = self;
        let settings = |config: &mut keyward_server::config::Config| {
            config.server.issuer.clone_from(&relay.url);
            config.device_grants.hold_s = 8;
        };
        let server = server.restart_with(settings).await;
        relay.lead_to(server.address());
        Self { server, relay, tv, olga }
    }

    /// The errors that polls were answered, in their order; tokens are empty.
    fn errors(&self) -> Vec<String> {
        let error =
            |answer: &String| serde_json::from_str::<Value>(answer).unwrap()["error"].as_str().map(str::to_owned);
        self.relay.seen().answers.iter().map(|answer| error(answer).unwrap_or_default()).collect()
    }
}

async fn send(http: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let response = http.execute(request.try_into()?).await?;
    let mut converted = oauth2::http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        converted = converted.header(name, value);
    }
    Ok(converted.body(response.bytes().await?.to_vec()).expect("it was a response"))
}

/// What was answered; `None` if nothing was.
async fn curl(url: &str, path: &str, form: &[&str]) -> Option<Value> {
    let mut command = std::process::Command::new("curl");
    command.args(["--silent", "--max-time", "60", &format!("{url}{path}")]);
    for pair in form {
        command.args(["--data-urlencode", pair]);
    }
    let output = clients::run_command(command).await;
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn has_polled(seen: &Seen) -> bool {
    seen.asked > 0
}

fn require_signed_in(outcome: &Value, interrupted: usize) {
    // The oauth2 crate gives scopes as a list.
    let scope = |name: &str| outcome[name].as_str().or_else(|| outcome[name][0].as_str());
    assert_eq!((scope("scope"), scope("refreshed")), (Some("Worker"), Some("Worker")), "{outcome}");
    assert_eq!(outcome["interrupted"], interrupted, "{outcome}");
}

async fn somebody_decides(client: Stock, yes: bool) -> Value {
    let stage = Stage::new(client, 8).await;
    let (device, outcome) = stage.ask(client).await;
    let deciding = async {
        stage.relay.until(has_polled).await;
        stage.decide(&device, yes).await;
    };
    tokio::join!(outcome, deciding).0
}

async fn yes(client: Stock) {
    require_signed_in(&somebody_decides(client, true).await, 0);
}

async fn no(client: Stock) {
    let outcome = somebody_decides(client, false).await;
    assert_eq!((&outcome["error"], &outcome["interrupted"]), (&json!("access_denied"), &json!(0)), "{outcome}");
}

async fn nobody_decides(client: Stock) {
    let stage = Stage::new(client, 1).await;
    let (_, outcome) = stage.ask(client).await;
    let time_passes = async {
        stage.relay.until(|seen| !seen.answers.is_empty()).await;
        stage.server.clock.advance(LIFETIME);
    };
    let (outcome, ()) = tokio::join!(outcome, time_passes);
    assert_eq!((&outcome["error"], &outcome["interrupted"]), (&json!("expired_token"), &json!(0)), "{outcome}");
    assert_eq!(stage.errors()[0], "authorization_pending");
}

async fn it_is_told_to_slow_down(client: Stock) {
    let stage = Stage::new(client, 1).await;
    let (device, outcome) = stage.ask(client).await;
    // The first question is free, and time stands still: the client's own comes too early.
    assert_eq!(stage.server.poll(&device, &[]).await.body["error"], "authorization_pending");
    let deciding = async {
        stage.relay.until(|seen| !seen.answers.is_empty()).await;
        stage.decide(&device, true).await;
    };
    let (outcome, ()) = tokio::join!(outcome, deciding);
    require_signed_in(&outcome, 0);
    let errors = stage.errors();
    assert_eq!((errors[0].as_str(), errors.last().unwrap().as_str()), ("slow_down", ""), "{errors:?}");
}

/// The server goes, with the connection, while it holds a question.
async fn the_server_restarts(client: Stock) {
    let stage = Stage::new(client, 8).await;
    let (device, outcome) = stage.ask(client).await;
    let restarting = async {
        stage.relay.until(has_polled).await;
        stage.relay.cut();
        let stage = stage.restart().await;
        stage.decide(&device, true).await;
        stage
    };
    let (outcome, stage) = tokio::join!(outcome, restarting);
    require_signed_in(&outcome, client.leaves_to_the_application());
    assert_eq!(stage.errors().last().unwrap(), "", "the first question was never answered");
}

async fn the_answer_is_lost(client: Stock) {
    let stage = Stage::new(client, 8).await;
    let (device, outcome) = stage.ask(client).await;
    stage.relay.lose_tokens();
    let deciding = async {
        stage.relay.until(has_polled).await;
        stage.decide(&device, true).await;
    };
    let (outcome, ()) = tokio::join!(outcome, deciding);
    require_signed_in(&outcome, client.leaves_to_the_application());
    {
        let seen = stage.relay.seen();
        let with_tokens: Vec<&String> = seen.answers.iter().filter(|body| body.contains("access_token")).collect();
        assert_eq!((seen.lost, with_tokens.len()), (1, 2));
        assert_eq!(with_tokens[0], with_tokens[1], "it gets what it would have got");
    }
    assert_eq!(stage.server.count("SELECT count(*) FROM device_sessions WHERE ended_at IS NULL").await, 1);
}

macro_rules! stories {
    ($($name:ident: $client:expr)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn is_signed_in() {
                yes($client).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn takes_a_no() {
                no($client).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn stops_when_nobody_came_in_time() {
                nobody_decides($client).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn slows_down_and_is_signed_in() {
                it_is_told_to_slow_down($client).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn outlives_a_restart_of_the_server_in_mid_poll() {
                the_server_restarts($client).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn gets_an_answer_that_was_lost_again() {
                the_answer_is_lost($client).await;
            }
        }
    )*};
}

stories! {
    openid_client: Stock::OpenidClient
    oauth4webapi: Stock::Oauth4webapi
    msal: Stock::Msal
    the_oauth2_crate: Stock::Oauth2Crate
    curl_in_a_loop: Stock::Curl
}
