//! The client credentials grant with ES256, one credential, against the limit server: the figure that
//! Keyward is built around.

use crate::http::Rendered;
use crate::measure::{Side, alternate, idle_memory};
use crate::placement::Cpus;
use crate::report::{Comparison, Figure, Target};
use crate::scenario::{Bench, answer_sizes};
use crate::subject::Scratch;
use crate::subject::keyward::Keyward;
use crate::subject::limit::Limit;

/// The body of every token request.
pub const FORM: &str = "grant_type=client_credentials&scope=Worker";
/// What every good answer contains.
pub const EXPECTS: &str = "\"access_token\"";
/// Keyward's share of what the limit server does with a CPU second.
const TARGET: Target = Target::RatioAtLeast(0.80);

/// Runs the scenario.
pub fn run(bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
    let scratch = Scratch::new()?;
    let keyward = Keyward::start(bench, &scratch, Cpus::One)?;
    let client = keyward.set_up(&scratch)?;
    let limit = Limit::start(bench, Cpus::One, "token", &client)?;
    let load = |address| {
        let request = Rendered::form(address, "/token", &client, FORM);
        bench.load(address, request, EXPECTS)
    };
    let subject = Side { process: &keyward.process, load: load(keyward.address) };
    let reference = Side { process: &limit.process, load: load(limit.address) };
    let idle = Figure::new(
        "resident before load",
        "bytes",
        vec![idle_memory(&keyward.process)?],
        vec![idle_memory(&limit.process)?],
    );
    let mut figures = vec![answer_sizes(&subject.load, &reference.load)?, idle];
    figures.extend(alternate(bench.rounds, &subject, &reference, Some(TARGET))?);
    Ok(vec![Comparison { scenario: "token", subject: "keyward".to_owned(), reference: "limit".to_owned(), figures }])
}
