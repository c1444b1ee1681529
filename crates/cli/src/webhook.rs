//! `keyward webhook`: receivers of notices over HTTP.

use clap::{Args, Subcommand};
use keyward_model::id::{DeliveryId, WebhookId};
use keyward_model::notice::{DeliveryState, NoticeKind};
use keyward_server::api::list::List;
use keyward_server::api::notices::{DeliveryQuery, DeliveryView, Resend, Resent};
use keyward_server::api::webhooks::{IssuedWebhook, NewWebhook, WebhookChange, WebhookView};

use crate::options::{Global, Limit, Sure, one_of, words};
use crate::remote::Remote;
use crate::table::{self, spare, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// The kinds of notices that can be chosen.
pub(crate) const KINDS: &[&str] = &[
    "credential.ending",
    "credential.revoked_in_use",
    "credential.new_network",
    "credential.leak_reported",
    "device_session.disowned",
    "login.new_network",
];

/// Manage webhooks: who is told over HTTP that something is up with a key
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  keyward webhook create chat https://hooks.example.org/keyward
  keyward webhook change webhook_… --to https://hooks.example.org/pager
  keyward webhook test webhook_…
  keyward webhook deliveries --state dead")]
pub(crate) enum Webhook {
    /// List webhooks
    List {
        #[command(flatten)]
        limit: Limit,
    },
    Create(CreateWebhook),
    Change(ChangeWebhook),
    /// Give a webhook another secret; for a day, both sign
    Rotate {
        webhook: WebhookId,
    },
    /// Send a webhook a test notice
    Test {
        webhook: WebhookId,
    },
    Deliveries(ListDeliveries),
    Resend(ResendDeliveries),
    /// Delete a webhook, with what is on its way to it
    Delete {
        webhook: WebhookId,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Add a webhook; its secret is shown this once
#[derive(Args)]
pub(crate) struct CreateWebhook {
    /// What people call it.
    name: String,
    /// Where notices are sent.
    #[arg(value_name = "URL")]
    to: String,
    /// What it is told, everything if absent; the option several times for several.
    #[arg(long = "kind", value_name = "KIND", value_parser = one_of::<NoticeKind>(KINDS))]
    kinds: Vec<NoticeKind>,
}

/// Change a webhook; what is not named stays as it is, its secret too
#[derive(Args)]
pub(crate) struct ChangeWebhook {
    webhook: WebhookId,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// Where notices are sent from now on, those that wait too.
    // The server to talk to is --url everywhere.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// What it is told, instead of what it was; the option several times for several.
    #[arg(long = "kind", value_name = "KIND", value_parser = one_of::<NoticeKind>(KINDS))]
    kinds: Vec<NoticeKind>,
    /// It is told everything.
    #[arg(long, conflicts_with = "kinds")]
    all_kinds: bool,
}

/// List deliveries, the newest first, those by mail too
#[derive(Args)]
pub(crate) struct ListDeliveries {
    /// Only those to this receiver: the id of a webhook or of a user, or the address of the team.
    #[arg(long)]
    target: Option<String>,
    /// Only those in this state; dead ones were given up.
    #[arg(long, value_parser = one_of::<DeliveryState>(&["waiting", "sent", "dead"]))]
    state: Option<DeliveryState>,
    #[command(flatten)]
    limit: Limit,
}

/// Send a delivery again that was sent or given up, or all that were given up to one receiver
#[derive(Args)]
pub(crate) struct ResendDeliveries {
    /// The delivery.
    #[arg(required_unless_present = "dead_to")]
    delivery: Option<DeliveryId>,
    /// All dead ones to this receiver, as `deliveries` names it; at most 1000 at once.
    #[arg(long, value_name = "RECEIVER", conflicts_with = "delivery")]
    dead_to: Option<String>,
}

impl Webhook {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let remote = global.remote().await?;
        match self {
            Self::List { limit } => {
                let found: List<WebhookView> = remote.list("webhooks", &(), limit.most()).await?;
                global.answer(&found, |found| rows(&found.items))
            }
            Self::Create(CreateWebhook { name, to, kinds }) => {
                let issued: IssuedWebhook = remote.post("webhooks", &NewWebhook { name, url: to, kinds }).await?;
                global.answer(&issued, show)
            }
            Self::Change(change) => change.run(global, &remote).await,
            Self::Rotate { webhook } => {
                let issued: IssuedWebhook = remote.act(&format!("webhooks/{webhook}/rotate")).await?;
                global.answer(&issued, show)
            }
            Self::Test { webhook } => {
                let delivery: DeliveryView = remote.act(&format!("webhooks/{webhook}/test")).await?;
                terminal::note(&format!("`keyward webhook deliveries --target {webhook}` tells what became of it"));
                global.answer(&delivery, show_delivery)
            }
            Self::Deliveries(list) => list.run(global, &remote).await,
            Self::Resend(resend) => resend.run(global, &remote).await,
            Self::Delete { webhook, sure } => {
                terminal::confirm(&format!("Delete the webhook {webhook}?"), sure.yes)?;
                remote.delete(&format!("webhooks/{webhook}")).await?;
                terminal::note(&format!("deleted {webhook}"));
                Ok(())
            }
        }
    }
}

impl ChangeWebhook {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let kinds = (self.all_kinds || !self.kinds.is_empty()).then_some(self.kinds);
        let change = WebhookChange { name: self.name, url: self.to, kinds };
        let changed: WebhookView = remote.patch(&format!("webhooks/{}", self.webhook), &change).await?;
        global.answer(&changed, |webhook| table::properties(&properties(webhook)))
    }
}

impl ResendDeliveries {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        if let Some(delivery) = self.delivery {
            let delivery: DeliveryView = remote.act(&format!("deliveries/{delivery}/resend")).await?;
            return global.answer(&delivery, show_delivery);
        }
        let resend = Resend { target: self.dead_to.unwrap_or_default() };
        let resent: Resent = remote.post("deliveries/resend", &resend).await?;
        if resent.left > 0 {
            terminal::note("there are more; the same command again sends those");
        }
        global.answer(&resent, |resent| {
            table::properties(&[("resent", resent.resent.to_string()), ("still dead", resent.left.to_string())])
        })
    }
}

impl ListDeliveries {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let filter = DeliveryQuery { target: self.target, state: self.state, ..DeliveryQuery::default() };
        let found: List<DeliveryView> = remote.list("deliveries", &filter, self.limit.most()).await?;
        global.answer(&found, |found| delivery_rows(&found.items))
    }
}

fn rows(webhooks: &[WebhookView]) -> String {
    let columns = [text("NAME"), whole("ID"), text("URL"), spare("KINDS"), spare("CREATED")];
    let now = when::now();
    let row = |webhook: &WebhookView| {
        let created = when::relative(webhook.created_at.0, now);
        vec![webhook.name.clone(), webhook.id.to_string(), webhook.url.clone(), words(&webhook.kinds), created]
    };
    table::render(&columns, webhooks.iter().map(row).collect(), terminal::width(), Paint::stdout())
}

fn delivery_rows(deliveries: &[DeliveryView]) -> String {
    let columns =
        [whole("ID"), text("TO"), whole("STATE"), whole("TRIED"), whole("WHEN"), text("PROBLEM"), spare("NOTICE")];
    let now = when::now();
    let row = |delivery: &DeliveryView| {
        let at = delivery.due_at.or(delivery.ended_at).map(|at| when::relative(at.0, now));
        vec![
            delivery.id.to_string(),
            delivery.target.clone(),
            delivery.state.to_string(),
            delivery.attempts.to_string(),
            at.unwrap_or_default(),
            delivery.problem.clone(),
            delivery.notice.to_string(),
        ]
    };
    table::render(&columns, deliveries.iter().map(row).collect(), terminal::width(), Paint::stdout())
}

fn show(issued: &IssuedWebhook) -> String {
    let secret = ("secret", issued.secret.clone().unwrap_or_default());
    table::properties(&[&properties(&issued.webhook)[..], &[secret]].concat())
}

fn properties(webhook: &WebhookView) -> [(&'static str, String); 4] {
    [
        ("webhook", webhook.id.to_string()),
        ("name", webhook.name.clone()),
        ("url", webhook.url.clone()),
        ("kinds", if webhook.kinds.is_empty() { "(all)".to_owned() } else { words(&webhook.kinds) }),
    ]
}

fn show_delivery(delivery: &DeliveryView) -> String {
    table::properties(&[
        ("delivery", delivery.id.to_string()),
        ("notice", delivery.notice.to_string()),
        ("to", delivery.target.clone()),
        ("state", delivery.state.to_string()),
    ])
}
