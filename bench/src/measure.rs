//! Rounds in pairs: the same load on one server, then on the other, again and again, so that whatever else
//! the machine does meets both alike.

use std::thread;
use std::time::Duration;

use anyhow::ensure;

use crate::load::{Load, Seen, Work};
use crate::process::Process;
use crate::report::{Figure, Target};

/// How long a server rests before its idle memory is read.
const REST: Duration = Duration::from_secs(1);

/// A server and the load it gets.
#[derive(Debug)]
pub struct Side<'server, W = Load> {
    /// Where CPU time and memory are read.
    pub process: &'server Process,
    /// What a round sends.
    pub load: W,
}

/// What one round on one server showed.
#[derive(Clone, Copy, Debug)]
struct Round {
    per_cpu_second: f64,
    per_second: f64,
    p50_microseconds: f64,
    p99_microseconds: f64,
    resident_bytes: f64,
}

impl<W: Work> Side<'_, W> {
    fn round(&self) -> anyhow::Result<Round> {
        let before = self.process.cpu_seconds()?;
        let seen = self.load.run()?;
        let cpu = self.process.cpu_seconds()? - before;
        ensure!(cpu > 0.0, "a round is too short to measure CPU time");
        let requests = self.load.total() as f64;
        Ok(Round {
            per_cpu_second: requests / cpu,
            per_second: requests / seen.wall.as_secs_f64(),
            p50_microseconds: microseconds(&seen, 0.5),
            p99_microseconds: microseconds(&seen, 0.99),
            resident_bytes: self.process.memory()?.resident as f64,
        })
    }
}

fn microseconds(seen: &Seen, share: f64) -> f64 {
    seen.quantile(share).as_secs_f64() * 1e6
}

/// Runs `rounds` pairs and gives the figures every load scenario has: work per CPU second (with its target, if any),
/// throughput, latencies, memory under load and one second after it.
pub fn alternate<S: Work, R: Work>(
    rounds: usize,
    subject: &Side<'_, S>,
    reference: &Side<'_, R>,
    target: Option<Target>,
) -> anyhow::Result<Vec<Figure>> {
    println!(
        "process {} against process {}: {rounds} pairs of {} requests",
        subject.process.id(),
        reference.process.id(),
        subject.load.total()
    );
    let mut pairs = Vec::new();
    // Warms caches, connections and buffers up; not measured.
    subject.load.run()?;
    reference.load.run()?;
    for _ in 0..rounds {
        pairs.push((subject.round()?, reference.round()?));
    }
    let figure = |name, unit, value: fn(&Round) -> f64| {
        let (subject, reference) = pairs.iter().map(|(s, r)| (value(s), value(r))).unzip();
        Figure::new(name, unit, subject, reference)
    };
    let work = figure("requests per CPU second", "", |round| round.per_cpu_second);
    let rested = rest(subject, reference)?;
    Ok(vec![
        Figure { target, ..work },
        figure("requests per second", "", |round| round.per_second),
        figure("latency p50", "µs", |round| round.p50_microseconds),
        figure("latency p99", "µs", |round| round.p99_microseconds),
        figure("resident under load", "bytes", |round| round.resident_bytes),
        rested,
    ])
}

fn rest<S, R>(subject: &Side<'_, S>, reference: &Side<'_, R>) -> anyhow::Result<Figure> {
    Ok(Figure::new(
        "resident 1 s after load",
        "bytes",
        vec![idle_memory(subject.process)?],
        vec![idle_memory(reference.process)?],
    ))
}

/// Resident bytes of a server that has had nothing to do for a second.
pub fn idle_memory(process: &Process) -> anyhow::Result<f64> {
    thread::sleep(REST);
    Ok(process.memory()?.resident as f64)
}
