//! `keyward credential callers`, `keyward client callers`, `keyward user callers`: who uses which key.

use std::time::Duration;

use clap::Args;
use keyward_model::caller::Outcome;
use keyward_model::time::Timestamp;
use keyward_server::api::callers::{CallerQuery, CallerView};
use keyward_server::api::instant::Instant;
use keyward_server::api::list::List;

use crate::options::{Global, Limit, one_of};
use crate::remote::Remote;
use crate::table::{self, spare, text, whole};
use crate::terminal::{self, Paint};
use crate::when;

/// Which callers to show.
#[derive(Args)]
pub(crate) struct CallerOptions {
    /// Only those seen within this time: 24h, 7d.
    #[arg(long, value_name = "DURATION", value_parser = when::parse_duration)]
    within: Option<Duration>,
    /// Only those that were let in, or that came after the end of the credential.
    #[arg(long, value_parser = one_of::<Outcome>(&["accepted", "refused"]))]
    outcome: Option<Outcome>,
    #[command(flatten)]
    limit: Limit,
}

impl CallerOptions {
    /// Shows the callers of what this path names.
    pub(crate) async fn list(self, global: &Global, remote: &Remote, of: &str) -> anyhow::Result<()> {
        let since = self.within.map(|within| Instant(when::now().minus(within)));
        let filter = CallerQuery { since, outcome: self.outcome, ..CallerQuery::default() };
        let found: List<CallerView> = remote.list(&format!("{of}/callers"), &filter, self.limit.most()).await?;
        global.answer(&found, |found| report(&found.items, when::now(), Paint::stdout()))
    }
}

fn report(callers: &[CallerView], now: Timestamp, paint: Paint) -> String {
    let table = rows(callers, now, paint);
    if callers.is_empty() { table } else { format!("{}\n\n{table}", headline(callers, now)) }
}

/// Callers as a table.
pub(crate) fn rows(callers: &[CallerView], now: Timestamp, paint: Paint) -> String {
    let columns = [
        text("INSTANCE"),
        text("USER AGENT"),
        whole("NETWORK"),
        whole("LAST SEEN"),
        whole("USES"),
        spare("REFUSED"),
        spare("FIRST SEEN"),
        whole("CREDENTIAL"),
        spare("LABEL"),
        whole("STATE"),
        spare("REPORTED BY"),
    ];
    let row = |caller: &CallerView| {
        vec![
            caller.instance.clone(),
            caller.user_agent.clone(),
            network(caller).to_owned(),
            when::relative(caller.last_seen_at.0, now),
            caller.accepted.to_string(),
            caller.refused.to_string(),
            when::relative(caller.first_seen_at.0, now),
            caller.credential.to_string(),
            caller.label.clone(),
            caller.state.to_string(),
            caller.reporter.map(|reporter| reporter.to_string()).unwrap_or_default(),
        ]
    };
    table::render(&columns, callers.iter().map(row).collect(), terminal::width(), paint)
}

/// How many there are, and how long ago the last one came: `3 callers, the last seen 4 min ago`.
pub(crate) fn headline(callers: &[CallerView], now: Timestamp) -> String {
    let last = callers.iter().map(|caller| caller.last_seen_at.0).max();
    let last = last.map_or_else(String::new, |at| format!(", the last seen {}", when::relative(at, now)));
    format!("{} caller{}{last}", callers.len(), if callers.len() == 1 { "" } else { "s" })
}

/// From where it calls; those who are not told apart call from anywhere.
pub(crate) fn network(caller: &CallerView) -> &str {
    if caller.network.is_empty() { "elsewhere" } else { &caller.network }
}

/// What people know it by: the name it says, else what it says it runs.
pub(crate) fn name(caller: &CallerView) -> &str {
    let names = [caller.instance.as_str(), caller.user_agent.as_str()];
    names.into_iter().find(|name| !name.is_empty()).unwrap_or("(nameless)")
}
