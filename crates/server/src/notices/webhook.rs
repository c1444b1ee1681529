//! Notices over HTTP, as Standard Webhooks 1.0 says.

use std::time::Duration;

use http::{StatusCode, header};
use ipnet::IpNet;
use keyward_model::id::NoticeId;
use keyward_model::time::Timestamp;
use keyward_model::webhook::{Webhook, WebhookSecret, sign};
use reqwest::Url;

use super::deliver::Problem;
use crate::outbound::{Failure, Outbound};

/// Sends notices to webhooks.
pub(super) struct Sender(Outbound);

/// One notice for one webhook.
pub(super) struct Post<'a> {
    pub(super) webhook: &'a Webhook,
    pub(super) secrets: &'a [WebhookSecret],
    pub(super) notice: NoticeId,
    pub(super) body: String,
}

impl Sender {
    pub(super) fn new(allowed: Vec<IpNet>, patience: Duration) -> Self {
        Self(Outbound::new(allowed, patience))
    }

    /// A URL that notices may be sent to, or what is wrong with it.
    pub(super) fn target(&self, text: &str) -> Result<Url, &'static str> {
        self.0.target(text).map_err(|failure| match failure {
            Failure::Url(why) => why,
            _ => FORBIDDEN,
        })
    }

    /// Sends once; any answer of the 2xx kind means that the receiver has it.
    pub(super) async fn send(&self, post: Post<'_>, now: Timestamp) -> Result<(), Problem> {
        let Post { webhook, secrets, notice, body } = post;
        let (id, timestamp) = (notice.to_string(), now.as_seconds());
        let signature = sign(secrets, &id, timestamp, &body);
        let answer = self.0.send(&webhook.url, |client, url| {
            let request = client.post(url).header(header::CONTENT_TYPE, "application/json");
            let request = request.header("webhook-id", id).header("webhook-timestamp", timestamp);
            request.header("webhook-signature", signature).body(body)
        });
        // Of the answer nothing but its head is read.
        judge(answer.await.map(|answer| answer.status()))
    }
}

const FORBIDDEN: &str = "its address is not on the public internet; open the network in [notices] allow_networks";

fn judge(answer: Result<StatusCode, Failure>) -> Result<(), Problem> {
    match answer {
        Ok(status) if status.is_success() => Ok(()),
        // Standard Webhooks: 410 says that the receiver wants no more.
        Ok(StatusCode::GONE) => Err(Problem::lasting("it answered 410: it wants no more")),
        Ok(status) if status.is_redirection() => {
            Err(Problem::passing(format!("it answered {}: redirects are not followed", status.as_u16())))
        }
        Ok(status) => Err(Problem::passing(format!("it answered {}", status.as_u16()))),
        Err(Failure::Url(why)) => Err(Problem::lasting(why)),
        Err(Failure::ForbiddenAddress) => Err(Problem::lasting(FORBIDDEN)),
        // A name may have another address tomorrow.
        Err(Failure::Forbidden) => Err(Problem::passing(FORBIDDEN)),
        Err(failure) => Err(Problem::passing(failure.to_string())),
    }
}
