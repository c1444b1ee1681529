//! What it costs to know who uses which key: token requests on a Keyward that writes its callers down as usual, against one
//! that counts them too and writes none of them down while it is measured. With one key, and with many.
//!
//! 1. Rounds last for several flushes, however fast the machine is
//! 2. A round ends when what its tokens left to be written is written: it is part of what they cost
//!
//! No setting turns the counting itself off; what that takes is read from a profile (`bench/README.md`).

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::http::{Rendered, exchange};
use crate::load::Work as _;
use crate::measure::Side;
use crate::report::{Comparison, Figure, Target};
use crate::scenario::{Bench, million};
use crate::subject::Scratch;
use crate::subject::keyward::Keyward;

/// Less than 2 % of what a token costs.
const TARGET: Target = Target::RatioAtLeast(0.98);
/// Keys in both databases, all of which the cache holds.
const MANY: u32 = 5_000;
/// `[callers] flush_s`: the default, and one that never comes.
const USUAL: u32 = 5;
const NEVER: u32 = u32::MAX;
/// So many flushes come while a round sends.
const FLUSHES: u32 = 2;
/// After the last one, so long until it is over.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the scenario.
pub fn run(bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
    let (usual, never) = (flushing(bench, USUAL), flushing(bench, NEVER));
    let scratches = (Scratch::new()?, Scratch::new()?);
    let (writing, known_there) = million::start_filled(&usual, &scratches.0, MANY)?;
    let (counting, known_here) = million::start_filled(&never, &scratches.1, MANY)?;
    [("one key", 1), ("many keys", MANY)]
        .into_iter()
        .map(|(name, keys)| {
            let load = million::load(bench, &writing, known_there.sample(keys));
            let subject = Side { process: &writing.process, load };
            let load = million::load(bench, &counting, known_here.sample(keys));
            let reference = Side { process: &counting.process, load };
            let figures = alternate(bench.rounds, &subject, &reference)?;
            ensure!(
                unwritten(&writing)? == 0,
                "callers were not written down in time: the machine is too busy to measure"
            );
            ensure!(unwritten(&counting)? > 0, "the server that was to count only has written its callers down");
            Ok(Comparison {
                scenario: "callers",
                subject: format!("{name}, written down every {USUAL} s"),
                reference: "counted only".to_owned(),
                figures,
            })
        })
        .collect()
}

fn flushing(bench: &Bench, flush_s: u32) -> Bench {
    let own = ("KEYWARD_CALLERS_FLUSH_S".to_owned(), flush_s.to_string());
    Bench { settings: bench.settings.iter().cloned().chain([own]).collect(), ..bench.clone() }
}

fn alternate(rounds: usize, subject: &Side<'_>, reference: &Side<'_>) -> anyhow::Result<Vec<Figure>> {
    let (subject_id, reference_id) = (subject.process.id(), reference.process.id());
    let seconds = ((every() * (FLUSHES + 1) + GRACE) * 2).as_secs();
    println!("process {subject_id} against process {reference_id}: {rounds} pairs of {seconds} s");
    // Warms caches, connections and buffers up; not measured.
    subject.load.run()?;
    reference.load.run()?;
    let (mut written, mut counted) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        written.push(round(subject)?);
        counted.push(round(reference)?);
    }
    let microseconds = |per_second: &[f64]| per_second.iter().map(|tokens| 1e6 / tokens).collect();
    let cost = Figure::new("CPU per token", "µs", microseconds(&written), microseconds(&counted));
    let work = Figure::new("tokens per CPU second", "", written, counted);
    Ok(vec![Figure { target: Some(TARGET), ..work }, cost])
}

/// Tokens for a CPU second of all that they lead to.
fn round(side: &Side<'_>) -> anyhow::Result<f64> {
    let (before, began) = (side.process.cpu_seconds()?, Instant::now());
    let mut tokens = 0;
    while began.elapsed() < every() * FLUSHES {
        side.load.run()?;
        tokens += side.load.total();
    }
    thread::sleep(every() + GRACE);
    let cpu = side.process.cpu_seconds()? - before;
    ensure!(cpu > 0.0, "a round is too short to measure CPU time");
    Ok(tokens as f64 / cpu)
}

/// Callers that a server has not written down.
fn unwritten(keyward: &Keyward) -> anyhow::Result<u64> {
    let metrics = exchange(keyward.address, &Rendered::get(keyward.address, "/metrics"))?;
    let text = String::from_utf8_lossy(&metrics.body);
    let line = text.lines().find_map(|line| line.strip_prefix("keyward_callers_unwritten "));
    Ok(line.context("the server does not say how many callers are not written down")?.parse()?)
}

fn every() -> Duration {
    Duration::from_secs(USUAL.into())
}
