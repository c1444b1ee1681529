//! `keyward-bench`: measures Keyward against the limit server from one command.
#![allow(clippy::print_stdout, reason = "a program for the terminal: its tables are its output")]

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Parser;
use keyward_bench::placement::Placement;
use keyward_bench::report;
use keyward_bench::scenario::{Bench, Scenario};

/// Measures Keyward against the limit server: same load, alternating rounds, ratios pair by pair.
#[derive(Parser)]
#[command(name = "keyward-bench", version)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_values = ["token", "start"])]
    scenarios: Vec<Scenario>,
    /// The keyward binary [default: beside this one].
    #[arg(long)]
    keyward: Option<PathBuf>,
    /// The limit server's binary [default: beside this one].
    #[arg(long)]
    limit: Option<PathBuf>,
    /// Connections of the generator.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Requests in a round.
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    /// Pairs of rounds.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Starts in the scenario `start`.
    #[arg(long, default_value_t = 20)]
    starts: usize,
    /// Credentials in the database in the scenario `million`.
    #[arg(long, default_value_t = 1_000_000)]
    credentials: u32,
    /// Flows in a round of the scenario `device-flow`.
    #[arg(long, default_value_t = 130)]
    flows: u32,
    /// Devices that wait in the scenario `held-polls`.
    #[arg(long, default_value_t = 10_000)]
    devices: u32,
    /// A setting of Keyward, such as KEYWARD_DATABASE_URL=…; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Leave the choice of CPUs to the scheduler.
    #[arg(long)]
    unpinned: bool,
    /// Write the raw figures here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let placement = if arguments.unpinned { Placement::Free } else { Placement::choose()? };
    placement.pin_generator()?;
    let bench = Bench {
        keyward: binary(arguments.keyward, "keyward")?,
        limit: binary(arguments.limit, "keyward-limit")?,
        placement,
        connections: arguments.connections,
        requests: arguments.requests,
        rounds: arguments.rounds,
        starts: arguments.starts,
        credentials: arguments.credentials,
        flows: arguments.flows,
        devices: arguments.devices,
        settings: arguments.settings,
    };
    let mut comparisons = Vec::new();
    for scenario in arguments.scenarios {
        let found = scenario.run(&bench)?;
        for comparison in &found {
            println!("{}", comparison.print());
        }
        comparisons.extend(found);
    }
    if let Some(path) = arguments.json {
        report::write_json(&path, &bench, &comparisons)?;
    }
    Ok(())
}

/// The path of a program: what was given, else the file of that name beside this binary.
fn binary(given: Option<PathBuf>, name: &str) -> anyhow::Result<String> {
    let path = match given {
        Some(path) => path,
        None => env::current_exe()?.with_file_name(name),
    };
    let path = std::path::absolute(path)?;
    path.into_os_string().into_string().ok().context("the path of a program must be UTF-8")
}

fn setting(text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = text.split_once('=').context("expected NAME=VALUE")?;
    ensure!(name.starts_with("KEYWARD_"), "settings start with KEYWARD_");
    Ok((name.to_owned(), value.to_owned()))
}
