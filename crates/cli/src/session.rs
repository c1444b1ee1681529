//! `keyward session`: device sessions, where somebody is logged in.

use clap::{Args, Subcommand};
use keyward_model::id::DeviceSessionId;
use keyward_server::api::device_sessions::{DeviceSessionChange, DeviceSessionQuery, DeviceSessionView};
use keyward_server::api::instant::Instant;
use keyward_server::api::list::List;

use crate::options::{Global, Limit};
use crate::remote::Remote;
use crate::table::{self, spare, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// Manage device sessions: where users are logged in
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  keyward session list --user me
  keyward session list --client hall-display
  keyward session rename session_01h455vb4pex5vsknk084sn02q 'TV in hall 3'
  keyward session revoke session_01h455vb4pex5vsknk084sn02q")]
pub(crate) enum Session {
    List(ListSessions),
    /// Show one device session
    Show {
        session: DeviceSessionId,
    },
    /// Name a device session that has not ended
    Rename {
        session: DeviceSessionId,
        label: String,
    },
    /// End device sessions at once; their tokens end with them
    Revoke {
        #[arg(required = true, value_name = "SESSION")]
        sessions: Vec<DeviceSessionId>,
    },
}

/// List device sessions, those that ended in the last 30 days too
#[derive(Args)]
pub(crate) struct ListSessions {
    /// Only those of this user; `me` for your own.
    #[arg(long)]
    user: Option<String>,
    /// Only those through this client.
    #[arg(long)]
    client: Option<String>,
    #[command(flatten)]
    limit: Limit,
}

impl Session {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let remote = global.remote().await?;
        match self {
            Self::List(list) => list.run(global, &remote).await,
            Self::Show { session } => {
                let view: DeviceSessionView = remote.get(&format!("device-sessions/{session}")).await?;
                global.answer(&view, properties)
            }
            Self::Rename { session, label } => {
                let change = DeviceSessionChange { label };
                let view: DeviceSessionView = remote.patch(&format!("device-sessions/{session}"), &change).await?;
                global.answer(&view, properties)
            }
            Self::Revoke { sessions } => {
                for session in sessions {
                    let view: DeviceSessionView = remote.act(&format!("device-sessions/{session}/revoke")).await?;
                    global.answer(&view, |view| format!("{} is {}\n", view.id, state(view)))?;
                }
                Ok(())
            }
        }
    }
}

impl ListSessions {
    async fn run(self, global: &Global, remote: &Remote) -> anyhow::Result<()> {
        let user = match &self.user {
            Some(user) => Some(remote.user(user).await?.id),
            None => None,
        };
        let client = match &self.client {
            Some(client) => Some(remote.client(client).await?.id),
            None => None,
        };
        let filter = DeviceSessionQuery { user, client, ..DeviceSessionQuery::default() };
        let found: List<DeviceSessionView> = remote.list("device-sessions", &filter, self.limit.most()).await?;
        global.answer(&found, |found| rows(&found.items))
    }
}

fn rows(sessions: &[DeviceSessionView]) -> String {
    let columns = [
        text("LABEL"),
        whole("SESSION"),
        whole("STATE"),
        spare("USER"),
        spare("CLIENT"),
        spare("FROM"),
        spare("BEGUN"),
        whole("ENDS"),
    ];
    let now = when::now();
    let row = |session: &DeviceSessionView| {
        vec![
            session.label.clone(),
            session.id.to_string(),
            state(session).to_owned(),
            session.user.to_string(),
            session.client.to_string(),
            session.created_from.clone().unwrap_or_default(),
            when::relative(session.created_at.0, now),
            when::relative(session.ended_at.unwrap_or(session.expires_at).0, now),
        ]
    };
    table::render(&columns, sessions.iter().map(row).collect(), terminal::width(), Paint::stdout())
}

fn state(session: &DeviceSessionView) -> &'static str {
    session.end_reason.map_or("active", |reason| reason.as_str())
}

fn properties(session: &DeviceSessionView) -> String {
    let now = when::now();
    let instant = |at: Instant| format!("{} ({})", when::minute(at.0), when::relative(at.0, now));
    table::properties(&[
        ("session", session.id.to_string()),
        ("label", session.label.clone()),
        ("state", state(session).to_owned()),
        ("user", session.user.to_string()),
        ("client", session.client.to_string()),
        ("scope", session.scope.to_string()),
        ("res", session.res.to_text()),
        ("from", session.created_from.clone().unwrap_or_default()),
        ("begun", instant(session.created_at)),
        ("login", instant(session.authenticated_at)),
        ("expires", instant(session.expires_at)),
        ("ended", session.ended_at.map(instant).unwrap_or_default()),
    ])
}
