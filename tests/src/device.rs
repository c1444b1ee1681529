//! A device that is to be signed in (RFC 8628), without a keyboard: it asks, shows its code, and polls.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::server::{Answer, Api, TestServer};

/// The grant that it polls with.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A device that has asked.
pub struct Device<'a> {
    server: &'a TestServer,
    http: reqwest::Client,
    client: String,
    /// What it was answered.
    pub told: Value,
}

/// A public client of a new API, through which devices may be signed in; `device` is the policy of its device grant.
pub async fn display(admin: &Api<'_>, device: Value) -> String {
    let api = admin.new_api("https://plant.example", &["Admin", "Supervisor", "Worker"]).await;
    let display = json!({
        "name": "Hall display", "kind": "public", "scope": "Admin", "res": ["*"], "apis": [api], "device_grant": device,
    });
    admin.new_client(display).await
}

impl<'a> Device<'a> {
    /// A device on this machine asks, and so in the network of all visitors.
    pub async fn asks(server: &'a TestServer, client: &str, label: &str) -> Self {
        Self::asks_from(server, client, label, Ipv4Addr::LOCALHOST.into()).await
    }

    /// One at another address of this machine, and so in another network.
    pub async fn asks_elsewhere(server: &'a TestServer, client: &str, label: &str) -> Self {
        Self::asks_from(server, client, label, Ipv4Addr::new(127, 0, 0, 2).into()).await
    }

    async fn asks_from(server: &'a TestServer, client: &str, label: &str, address: IpAddr) -> Self {
        let http = crate::http_from(Some(address));
        let form = [("client_id", client), ("device_label", label)];
        let request = http.post(format!("{}/auth/device", server.url())).form(&form);
        let told = Answer::of(request).await.ok();
        Self { server, http, client: client.to_owned(), told }
    }

    fn text(&self, member: &str) -> &str {
        self.told[member].as_str().expect("a text")
    }

    /// The code that it shows.
    pub fn code(&self) -> &str {
        self.text("user_code")
    }

    /// The path that its picture leads to.
    pub fn link(&self) -> String {
        format!("/D/{}", self.code())
    }

    /// Asks whether it is signed in, perhaps with digits that it was given.
    pub async fn polls(&self, confirmation: Option<&str>) -> Answer {
        let mut form =
            vec![("grant_type", GRANT), ("client_id", &*self.client), ("device_code", self.text("device_code"))];
        form.extend(confirmation.map(|digits| ("confirmation", digits)));
        Answer::of(self.http.post(format!("{}/token", self.server.url())).form(&form)).await
    }

    /// Gets its tokens; it must have been let in.
    pub async fn is_signed_in(&self) -> Value {
        self.polls(None).await.ok()
    }
}
