//! One event as one line, with the id of the request that it belongs to.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;
use crate::request;

/// How lines are written.
pub(super) struct Line(pub(super) LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut said = Said::default();
        event.record(&mut said);
        if let Some(id) = request::current() {
            said.push("request", id.to_string());
        }
        let (level, target) = (event.metadata().level().as_str(), event.metadata().target());
        match self.0 {
            LogFormat::Text => writeln!(writer, "{timestamp} {level:>5} {target}: {said}"),
            LogFormat::Json => {
                let head = [("timestamp", timestamp), ("level", level.to_owned()), ("target", target.to_owned())];
                let head = head.map(|(name, text)| (name, Value::String(text)));
                let message = ("message", Value::String(said.message));
                let members = Object(head.into_iter().chain([message]).chain(said.fields).collect());
                writeln!(writer, "{}", serde_json::to_string(&members).map_err(|_| fmt::Error)?)
            }
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Said {
    fn push(&mut self, name: &'static str, value: impl Into<Value>) {
        self.fields.push((name, value.into()));
    }
}

impl Visit for Said {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // Some libraries give their message as a field of that name.
        if field.name() == "message" { self.message = value.to_owned() } else { self.push(field.name(), value) }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" { self.message = text } else { self.push(field.name(), text) }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, &self.message, |c| c.is_control())?;
        for (name, value) in &self.fields {
            write!(f, " {name}=")?;
            match value {
                Value::String(text) => write_text(f, text, |c| c.is_control() || c.is_whitespace() || c == '"')?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

/// Nothing that was logged can look like a line of its own, or like another field.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str, needs_quotes: impl Fn(char) -> bool) -> fmt::Result {
    if text.chars().any(needs_quotes) { write!(f, "{text:?}") } else { f.write_str(text) }
}

struct Object(Vec<(&'static str, Value)>);

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use keyward_model::entropy::Entropy;
    use keyward_model::id::RequestId;
    use keyward_model::time::Timestamp;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).event_format(Line(format));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_text_line_stays_one_line_whatever_is_logged() {
        let line = logged(LogFormat::Text, || {
            tracing::info!(client = "a b\nclient=c", count = 3, plain = %"x", "said\nand done");
        });
        let (_, said) = line.split_once("tests: ").unwrap();
        assert_eq!(said, "\"said\\nand done\" client=\"a b\\nclient=c\" count=3 plain=x\n");
        assert!(line.contains("  INFO keyward_server::"), "{line}");
    }

    #[test]
    fn a_json_line_is_an_object() {
        let line = logged(LogFormat::Json, || tracing::warn!(n = -1, yes = true, s = "a\"b\n", "said {}", 1));
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["level"], &value["message"]), (&"WARN".into(), &"said 1".into()));
        assert_eq!((&value["n"], &value["yes"], &value["s"]), (&(-1).into(), &true.into(), &"a\"b\n".into()));
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'), "{value}");
        assert_eq!(value["request"], Value::Null);
        let line = logged(LogFormat::Json, || tracing::warn!(message = "said", n = 1));
        assert_eq!(line.matches("\"message\":\"said\"").count(), 1, "{line}");
    }

    #[test]
    fn a_line_has_the_id_of_its_request() {
        let id = RequestId::new(Timestamp::from_seconds(0), &Entropy::seeded(1)).unwrap();
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = logged(format, || request::within(id, || tracing::info!("said")));
            assert!(line.contains(&id.to_string()), "{line}");
        }
    }
}
