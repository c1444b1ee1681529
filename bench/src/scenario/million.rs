//! Token requests with 1,000,000 credentials in the database, against Keyward with one credential in its own:
//! always the same credential, a working set that fits into the cache, and one far larger than it.

use std::sync::Arc;
use std::time::Instant;

use crate::http::{Credentials, Rendered};
use crate::load::Load;
use crate::measure::{Side, alternate};
use crate::placement::Cpus;
use crate::report::{Comparison, Figure, Target};
use crate::scenario::{Bench, token};
use crate::seed::{self, Seeded};
use crate::subject::Scratch;
use crate::subject::keyward::{Keyward, database};

/// The share of its own speed with one credential that Keyward keeps.
const TARGET: Target = Target::RatioAtLeast(0.95);
/// A working set that the cache holds (`[cache] entries` is 10,000 unless set otherwise).
const WITHIN_CACHE: u32 = 5_000;
/// A working set of which the cache holds a tenth.
const BEYOND_CACHE: u32 = 100_000;

/// Runs the scenario.
pub fn run(bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
    let (few, many) = (Scratch::new()?, Scratch::new()?);
    let (small, lone_client) = start_small(bench, &few)?;
    let (large, seeded) = start_filled(bench, &many, bench.credentials)?;
    let alone = bench.load(small.address, request(&small, &lone_client), token::EXPECTS);
    let ready = |keyward: &Keyward| vec![keyward.ready_after.as_secs_f64() * 1e3];
    let sets =
        [("always one of them", 1), ("random, within the cache", WITHIN_CACHE), ("random, beyond it", BEYOND_CACHE)];
    sets.into_iter()
        .map(|(name, count)| {
            let subject = Side { process: &large.process, load: load(bench, &large, seeded.sample(count)) };
            let reference = Side { process: &small.process, load: alone.clone() };
            let mut figures = vec![Figure::new("ready on this database", "ms", ready(&large), ready(&small))];
            figures.extend(alternate(bench.rounds, &subject, &reference, Some(TARGET))?);
            Ok(Comparison {
                scenario: "million",
                subject: format!("{} credentials, {name}", bench.credentials),
                reference: "one credential".to_owned(),
                figures,
            })
        })
        .collect()
}

/// Both servers are started a second time, on a database that exists.
fn start_small(bench: &Bench, scratch: &Scratch) -> anyhow::Result<(Keyward, Credentials)> {
    let keyward = Keyward::start(bench, scratch, Cpus::One)?;
    let client = keyward.set_up(scratch)?;
    keyward.process.stop()?;
    Ok((Keyward::start(bench, scratch, Cpus::One)?, client))
}

/// A server with so many credentials in its database.
pub(super) fn start_filled(bench: &Bench, scratch: &Scratch, credentials: u32) -> anyhow::Result<(Keyward, Seeded)> {
    let keyward = Keyward::start(bench, scratch, Cpus::One)?;
    let template = keyward.set_up(scratch)?;
    keyward.process.stop()?;
    let started = Instant::now();
    let seeded = seed::fill(&database(scratch), &template, credentials)?;
    let bytes = std::fs::metadata(database(scratch))?.len();
    println!("seeded {credentials} credentials in {:.0} s: {} MiB\n", started.elapsed().as_secs_f64(), bytes >> 20);
    Ok((Keyward::start(bench, scratch, Cpus::One)?, seeded))
}

/// A load that picks one of these clients at random each time.
pub(super) fn load(bench: &Bench, keyward: &Keyward, clients: impl Iterator<Item = Credentials>) -> Load {
    let requests: Arc<[Rendered]> = clients.map(|client| request(keyward, &client)).collect();
    bench.mixed_load(keyward.address, requests, token::EXPECTS)
}

fn request(keyward: &Keyward, client: &Credentials) -> Rendered {
    Rendered::form(keyward.address, "/token", client, token::FORM)
}
