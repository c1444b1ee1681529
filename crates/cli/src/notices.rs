//! `keyward notices`: what people were told lately.

use clap::Args;
use keyward_model::notice::NoticeKind;
use keyward_server::api::list::List;
use keyward_server::api::notices::{NoticeQuery, NoticeView};
use serde_json::Value;

use crate::names::Meant;
use crate::options::{Global, Limit, one_of};
use crate::table::{self, spare, text, whole};
use crate::terminal::{self, Paint};
use crate::webhook::KINDS;
use crate::when;

/// Show what people were told of keys and logins, the newest first
#[derive(Args)]
pub(crate) struct Notices {
    /// Only about this key: its id, or its client if only one key of that works.
    #[arg(long)]
    credential: Option<String>,
    /// Only of this kind.
    #[arg(long, value_parser = one_of::<NoticeKind>(KINDS))]
    kind: Option<NoticeKind>,
    #[command(flatten)]
    limit: Limit,
}

impl Notices {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let remote = global.remote().await?;
        let credential = match &self.credential {
            Some(credential) => Some(remote.credential(credential, Meant::Working).await?),
            None => None,
        };
        let filter = NoticeQuery { credential, kind: self.kind, ..NoticeQuery::default() };
        let found: List<NoticeView> = remote.list("notices", &filter, self.limit.most()).await?;
        global.answer(&found, |found| rows(&found.items))
    }
}

fn rows(notices: &[NoticeView]) -> String {
    let columns = [whole("WHEN"), whole("KIND"), text("CLIENT"), whole("CREDENTIAL"), spare("LABEL"), spare("NOTICE")];
    let now = when::now();
    let row = |notice: &NoticeView| {
        let said = |path: &str| notice.body.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        vec![
            when::relative(notice.created_at.0, now),
            notice.kind.to_string(),
            said("/data/client/name"),
            notice.credential.map(|credential| credential.to_string()).unwrap_or_default(),
            said("/data/credential/name"),
            notice.id.to_string(),
        ]
    };
    table::render(&columns, notices.iter().map(row).collect(), terminal::width(), Paint::stdout())
}
