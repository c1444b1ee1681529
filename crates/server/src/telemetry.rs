//! Logs and traces: what the operator sees. Never a secret; everything that is said names clients, credentials and
//! requests by id.

mod line;
mod traces;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, FilterFn, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, LogLevel};
use line::Line;
pub(crate) use traces::RequestSpan;
pub use traces::TraceError;

/// Spans and events of ours begin with this, whatever the crate.
const OURS: &str = "keyward";

/// Sends what is still to be sent when dropped.
#[must_use = "dropped, it ends the traces"]
pub struct Telemetry {
    _traces: Option<traces::Exporter>,
}

/// Sends log lines to standard error, and traces to where the settings say. Needs the runtime.
pub fn start(config: &Config) -> Result<Telemetry, TraceError> {
    let level = match config.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Libraries speak up only when something is wrong: at finer levels some print what they send.
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(OURS, level);
    // What it refuses is said by us, with whose it was: by itself it calls a stranger's mistake an error.
    let targets = targets.with_target("webauthn_rs", LevelFilter::OFF);
    let events = FilterFn::new(|metadata: &Metadata<'_>| metadata.is_event()).with_max_level_hint(level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(Line(config.log.format));
    let exporter = traces::Exporter::start(&config.telemetry)?;
    let registry = tracing_subscriber::registry().with(lines.with_filter(targets.and(events)));
    // Not an `Option` of a layer: that would make every span that nobody wants cost a tenth of a microsecond.
    let first = match &exporter {
        None => registry.try_init(),
        Some(exporter) => {
            let ours = FilterFn::new(|m: &Metadata<'_>| m.is_span() && m.target().starts_with(OURS));
            registry.with(exporter.layer().with_filter(ours.with_max_level_hint(LevelFilter::INFO))).try_init()
        }
    };
    // A second initialisation in one process keeps the first.
    if first.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(Telemetry { _traces: exporter })
}

/// A panic is a line like any other, so that it has its request's id.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(tracing::field::display);
    let message = panic.payload_as_str().unwrap_or("(not a text)");
    tracing::error!(location, panic = message, "panicked: this is a fault of the program");
}
