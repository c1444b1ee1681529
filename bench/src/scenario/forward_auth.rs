//! `/forward-auth` for one live token, as a gateway asks for every request of a busy client, against a limit server that
//! answers everything with an empty 200.

use crate::http::Rendered;
use crate::measure::{Side, alternate};
use crate::placement::Cpus;
use crate::report::Comparison;
use crate::scenario::{Bench, answer_sizes, calibrate, token};
use crate::subject::Scratch;
use crate::subject::keyward::{AUDIENCE, Keyward};
use crate::subject::limit::Limit;

/// What every good answer contains.
const EXPECTS: &str = "";
/// An answer costs a fraction of a token; rounds are that much longer, so that CPU time can be read.
const LONGER: u64 = 3;

/// Runs the scenario.
pub fn run(bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
    let scratch = Scratch::new()?;
    let keyward = Keyward::start(bench, &scratch, Cpus::One)?;
    let client = keyward.set_up(&scratch)?;
    let issued = keyward.token(&client, token::FORM)?;
    let limit = Limit::start(bench, Cpus::One, "nothing", &calibrate::stand_in())?;
    let load = |address| {
        let request = Rendered::bearing(address, &format!("/forward-auth?audience={AUDIENCE}"), &issued);
        bench.load(address, request, EXPECTS).of(bench.requests * LONGER)
    };
    let subject = Side { process: &keyward.process, load: load(keyward.address) };
    let reference = Side { process: &limit.process, load: load(limit.address) };
    let mut figures = vec![answer_sizes(&subject.load, &reference.load)?];
    figures.extend(alternate(bench.rounds, &subject, &reference, None)?);
    Ok(vec![Comparison {
        scenario: "forward-auth",
        subject: "keyward".to_owned(),
        reference: "limit".to_owned(),
        figures,
    }])
}
