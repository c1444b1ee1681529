//! Devices with clients that other people wrote, unmodified: curl in a loop, the oauth2 crate, and openid-client on top of
//! oauth4webapi. Each is let in, and each is refused.

use keyward_server::device_grants::{approve, deny};
use keyward_tests::clients::{self, NodeDevice};
use keyward_tests::devices::{DEVICE_CODE, Device};
use keyward_tests::server::{Db, TestServer};
use oauth2::basic::BasicClient;
use oauth2::{
    ClientId, DeviceAuthorizationUrl, DeviceCodeErrorResponseType, HttpRequest, HttpResponse, RequestTokenError, Scope,
    StandardDeviceAuthorizationResponse, TokenResponse as _, TokenUrl,
};
use serde_json::{Value, json};

use crate::device_grants::scene;

/// A server that holds polls as it does for everybody, a client, and somebody who decides.
async fn server() -> (TestServer, String, String) {
    let server = TestServer::start_in_real_time(Db::Sqlite, |config| config.device_grants.hold_s = 8).await;
    let (tv, olga) = {
        let admin = server.admin().await;
        scene(&server, &admin, json!({})).await
    };
    (server, tv, olga)
}

async fn decide(server: &TestServer, user: &str, device: &Device, yes: bool) {
    let by = server.browser_of(user);
    let asked = server.enter(&by, device).await.unwrap();
    if yes {
        approve(&server.app, &by, asked.id, asked.consent(false)).await.unwrap();
    } else {
        deny(&server.app, &by, asked.id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openid_client_signs_a_device_in_and_takes_a_no() {
    let (server, tv, olga) = server().await;
    for yes in [true, false] {
        let (device, answer) = NodeDevice::ask(&server.url(), &tv, "Worker").await;
        decide(&server, &olga, &Device { client: tv.clone(), answer }, yes).await;
        let outcome = device.outcome().await;
        let expected = json!({ "scope": "Worker", "token_type": "bearer", "refreshed": "Worker" });
        if yes {
            assert_eq!(outcome, expected);
        } else {
            assert_eq!(outcome["error"], "access_denied", "{outcome}");
        }
    }
}

async fn send(http: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let response = http.execute(request.try_into()?).await?;
    let mut converted = oauth2::http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        converted = converted.header(name, value);
    }
    Ok(converted.body(response.bytes().await?.to_vec()).expect("it was a response"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oauth2_crate_signs_a_device_in_and_takes_a_no() {
    let (server, tv, olga) = server().await;
    let http = keyward_tests::http();
    let transport = async |request: HttpRequest| send(&http, request).await;
    let client = BasicClient::new(ClientId::new(tv.clone()))
        .set_device_authorization_url(DeviceAuthorizationUrl::new(format!("{}/auth/device", server.url())).unwrap())
        .set_token_uri(TokenUrl::new(format!("{}/token", server.url())).unwrap());
    for yes in [true, false] {
        let asking = client.exchange_device_code().add_scope(Scope::new("Worker".to_owned()));
        let details: StandardDeviceAuthorizationResponse = asking.request_async(&transport).await.unwrap();
        let answer = serde_json::to_value(&details).unwrap();
        let polling = client.exchange_device_access_token(&details).request_async(&transport, tokio::time::sleep, None);
        let device = Device { client: tv.clone(), answer };
        let (tokens, ()) = tokio::join!(polling, decide(&server, &olga, &device, yes));
        match tokens {
            Ok(tokens) => assert!(yes && tokens.refresh_token().is_some()),
            Err(RequestTokenError::ServerResponse(refusal)) => {
                assert_eq!((yes, refusal.error()), (false, &DeviceCodeErrorResponseType::AccessDenied));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// What a shell script does: asks, and goes on asking while it is told to wait.
async fn curl(url: &str, form: &[String]) -> Value {
    let mut command = std::process::Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", url]);
    for pair in form {
        command.args(["--data-urlencode", pair]);
    }
    let output = clients::run_command(command).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_in_a_loop_signs_a_device_in_and_takes_a_no() {
    let (server, tv, olga) = server().await;
    for yes in [true, false] {
        let own = format!("client_id={tv}");
        let answer = curl(&format!("{}/auth/device", server.url()), &[own.clone(), "scope=Worker".to_owned()]).await;
        let device = Device { client: tv.clone(), answer };
        let code = format!("device_code={}", device.device_code());
        let form = [format!("grant_type={DEVICE_CODE}"), own, code];
        let polling = async {
            loop {
                let said = curl(&format!("{}/token", server.url()), &form).await;
                if said["error"] != "authorization_pending" {
                    return said;
                }
                let pause = said["interval"].as_u64().unwrap();
                tokio::time::sleep(std::time::Duration::from_secs(pause)).await;
            }
        };
        let (said, ()) = tokio::join!(polling, decide(&server, &olga, &device, yes));
        if yes {
            assert_eq!(said["scope"], "Worker", "{said}");
        } else {
            assert_eq!(said["error"], "access_denied", "{said}");
        }
    }
}
