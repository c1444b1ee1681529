//! Devices that ask to be signed in, and browsers that let them in: as the pages do, without the pages.

use keyward_model::caller::Network;
use keyward_model::device_grant::Digits;
use keyward_model::id::LoginId;
use keyward_model::login::Method;
use keyward_server::device_grants::{Asked, Refusal, Visitor, approve, claim};
use serde_json::{Value, json};

use crate::server::{Answer, Api, TestServer};

/// RFC 8628 §3.4
pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A device that has asked.
#[derive(Debug, Clone)]
pub struct Device {
    /// Through which client.
    pub client: String,
    /// What it was answered.
    pub answer: Value,
}

impl Device {
    /// What people type.
    pub fn user_code(&self) -> &str {
        self.answer["user_code"].as_str().expect("a code")
    }

    /// The path that its picture leads to.
    pub fn link(&self) -> String {
        format!("/D/{}", self.user_code())
    }

    /// What the device keeps.
    pub fn device_code(&self) -> &str {
        self.answer["device_code"].as_str().expect("a code")
    }
}

impl Api<'_> {
    /// A public client through which devices are signed in, for the new API `https://plant.example`; further members are
    /// added to it.
    pub async fn new_tv(&self, further: Value) -> String {
        let api = self.new_api("https://plant.example", &["Admin", "Supervisor", "Worker"]).await;
        let mut tv = json!({ "name": "tv", "kind": "public", "scope": "Supervisor", "res": ["*"], "apis": [api],
            "device_grant": {} });
        for (name, value) in further.as_object().expect("an object") {
            tv[name] = value.clone();
        }
        self.new_client(tv).await
    }
}

impl TestServer {
    /// The answer to a device that asks through a public client.
    pub async fn ask(&self, client: &str, further: &[(&str, &str)]) -> Answer {
        let form = [&[("client_id", client)], further].concat();
        Answer::of(self.http.post(format!("{}/auth/device", self.url())).form(&form)).await
    }

    /// A device that asks through a public client; it must be answered.
    pub async fn device(&self, client: &str, further: &[(&str, &str)]) -> Device {
        Device { client: client.to_owned(), answer: self.ask(client, further).await.ok() }
    }

    /// A device at another address of this machine, and so in another network than all visitors.
    pub async fn device_elsewhere(&self, client: &str, further: &[(&str, &str)]) -> Device {
        let http = crate::http_from(Some(std::net::IpAddr::from([127, 0, 0, 2])));
        let form = [&[("client_id", client)], further].concat();
        let request = http.post(format!("{}/auth/device", self.url())).form(&form);
        Device { client: client.to_owned(), answer: Answer::of(request).await.ok() }
    }

    /// The answer to a device that asks whether it was let in.
    pub async fn poll(&self, device: &Device, further: &[(&str, &str)]) -> Answer {
        let own = [("grant_type", DEVICE_CODE), ("client_id", &device.client), ("device_code", device.device_code())];
        Answer::of(self.http.post(format!("{}/token", self.url())).form(&[&own[..], further].concat())).await
    }

    /// A browser in which this user has signed in just now, in the network of all devices here.
    pub fn browser_of(&self, user: &str) -> Visitor {
        let now = self.clock.now();
        Visitor {
            user: user.parse().expect("a user's id"),
            login: LoginId::new(now, &self.app.entropy).expect("random bytes"),
            method: Method::Passkey,
            authenticated_at: now,
            network: Network::from(std::net::IpAddr::from([127, 0, 0, 1])),
            source: Some("127.0.0.1".to_owned()),
            now,
        }
    }

    /// The code is typed in this browser.
    pub async fn enter(&self, by: &Visitor, device: &Device) -> Result<Asked, Refusal> {
        claim(&self.app, by, device.user_code(), true).await
    }

    /// The code is typed in this browser, and the device is let in.
    pub async fn let_in(&self, by: &Visitor, device: &Device) -> Option<Digits> {
        let asked = self.enter(by, device).await.expect("the code is right");
        approve(&self.app, by, asked.id, asked.consent(false)).await.expect("nothing stands in the way")
    }
}
