//! `keyward doctor`: what the settings are, where each comes from, and what is unsafe in them.

mod checks;
mod resolved;

use std::net::SocketAddr;

use clap::Args;
use keyward_server::config::DEFAULTS;
use serde::Serialize;

use crate::failure::Failure;
use crate::options::Global;
use crate::settings::{self, Settings};
use crate::table::{self, text, whole};
use crate::terminal::{self, Paint};
use checks::Finding;
use resolved::Setting;

/// Check the server's settings and files, and a running server if there is one
///
/// Takes the options of `keyward serve` and resolves the same settings. Exits 1 if something is unsafe.
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward doctor --config /etc/keyward/keyward.toml
  keyward doctor --settings > keyward.toml")]
pub(crate) struct Doctor {
    #[command(flatten)]
    files: Settings,
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Print every setting with its default and its explanation: a configuration file to begin with.
    #[arg(long = "settings")]
    print_defaults: bool,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// To be mended.
    Unsafe,
}

#[derive(Serialize)]
struct Report {
    settings: Vec<Setting>,
    findings: Vec<Finding>,
}

impl Doctor {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> anyhow::Result<()> {
        if self.print_defaults {
            return Ok(terminal::print(DEFAULTS)?);
        }
        let settings = resolved::resolve(&self.files, self.listen)?;
        let findings = match self.files.load(self.listen) {
            Err(error) => vec![Finding::of_unusable(&error)],
            Ok(config) => {
                let mut findings = checks::settings(&config, &self.files);
                findings.extend(checks::files(&config, &self.files));
                let url = global.server().map_or_else(|| settings::likely_url(&config), str::to_owned);
                findings.extend(checks::server(&config, &url).await);
                findings
            }
        };
        let report = Report { settings, findings };
        global.answer(&report, print)?;
        match report.findings.iter().filter(|finding| finding.level == Level::Unsafe).count() {
            0 => Ok(()),
            1 => Err(Failure::new("one thing is unsafe").into()),
            many => Err(Failure::new(format!("{many} things are unsafe")).into()),
        }
    }
}

fn print(report: &Report) -> String {
    let paint = Paint::stdout();
    let row = |setting: &Setting| {
        let value = if setting.value.is_empty() { "-" } else { &setting.value };
        vec![setting.name.clone(), value.to_owned(), setting.from.clone()]
    };
    let columns = [whole("SETTING"), text("VALUE"), text("FROM")];
    let mut out = table::render(&columns, report.settings.iter().map(row).collect(), terminal::width(), paint);
    out.push('\n');
    for Finding { level, what, advice } in &report.findings {
        let word = match level {
            Level::Ok => paint.green("ok    "),
            Level::Note => paint.yellow("note  "),
            Level::Unsafe => paint.red("unsafe"),
        };
        out.push_str(&format!("{word}  {what}\n"));
        if let Some(advice) = advice {
            out.push_str(&format!("        {}\n", paint.dim(advice)));
        }
    }
    out
}
