//! From an empty directory: how soon Keyward is ready, how soon it issues its first token, what it then holds
//! resident. The limit server, which creates nothing, is started in turn.

use std::time::Duration;

use crate::http::{Rendered, exchange};
use crate::measure::idle_memory;
use crate::placement::Cpus;
use crate::report::{Comparison, Figure, Target};
use crate::scenario::{Bench, calibrate, token};
use crate::subject::Scratch;
use crate::subject::keyward::{self, Keyward};
use crate::subject::limit::Limit;

/// `/readyz` answers 200 after at most this many milliseconds.
const READY_MILLISECONDS: f64 = 100.0;
/// Resident bytes at rest.
const IDLE_BYTES: f64 = 25.0 * 1024.0 * 1024.0;

/// What one start showed.
struct Start {
    ready: f64,
    first_token: f64,
    idle_bytes: f64,
}

/// Runs the scenario.
pub fn run(bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
    let mut pairs = Vec::new();
    for _ in 0..bench.starts {
        pairs.push((start_keyward(bench)?, start_limit(bench)?));
    }
    let figure = |name, unit, value: fn(&Start) -> f64| {
        let (subject, reference) = pairs.iter().map(|(s, r)| (value(s), value(r))).unzip();
        Figure::new(name, unit, subject, reference)
    };
    Ok(vec![Comparison {
        scenario: "start",
        subject: "keyward".to_owned(),
        reference: "limit".to_owned(),
        figures: vec![
            Figure { target: Some(Target::AtMost(READY_MILLISECONDS)), ..figure("ready", "ms", |start| start.ready) },
            figure("first token", "ms", |start| start.first_token),
            Figure {
                target: Some(Target::AtMost(IDLE_BYTES)),
                ..figure("resident 1 s later", "bytes", |start| start.idle_bytes)
            },
        ],
    }])
}

fn start_keyward(bench: &Bench) -> anyhow::Result<Start> {
    let scratch = Scratch::new()?;
    let keyward = Keyward::start(bench, &scratch, Cpus::All)?;
    let bootstrap = keyward::bootstrap(&scratch)?;
    keyward.token(&bootstrap, keyward::REST_FORM)?;
    Ok(Start {
        ready: milliseconds(keyward.ready_after),
        first_token: milliseconds(keyward.process.started.elapsed()),
        idle_bytes: idle_memory(&keyward.process)?,
    })
}

fn start_limit(bench: &Bench) -> anyhow::Result<Start> {
    let client = calibrate::stand_in();
    let limit = Limit::start(bench, Cpus::All, "token", &client)?;
    let request = Rendered::form(limit.address, "/token", &client, token::FORM);
    exchange(limit.address, &request)?.into_json::<serde_json::Value>()?;
    Ok(Start {
        ready: milliseconds(limit.ready_after),
        first_token: milliseconds(limit.process.started.elapsed()),
        idle_bytes: idle_memory(&limit.process)?,
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
