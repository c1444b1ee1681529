//! The limit server against a second copy of itself. The ratios must be 1.00; how far they stray is the noise
//! that every other ratio carries too.

use crate::http::{Credentials, Rendered};
use crate::measure::{Side, alternate};
use crate::placement::Cpus;
use crate::report::Comparison;
use crate::scenario::{Bench, token};
use crate::subject::limit::Limit;

/// Runs the scenario.
pub fn run(bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
    let client = stand_in();
    let servers =
        [Limit::start(bench, Cpus::One, "token", &client)?, Limit::start(bench, Cpus::One, "token", &client)?];
    let [subject, reference] = servers.each_ref().map(|server| Side {
        process: &server.process,
        load: bench.load(
            server.address,
            Rendered::form(server.address, "/token", &client, token::FORM),
            token::EXPECTS,
        ),
    });
    Ok(vec![Comparison {
        scenario: "calibrate",
        figures: alternate(bench.rounds, &subject, &reference, None)?,
        subject: "limit".to_owned(),
        reference: "limit again".to_owned(),
    }])
}

/// A client as long as Keyward's, for when there is no Keyward.
pub fn stand_in() -> Credentials {
    Credentials {
        client_id: "client_01jd9zq3m8f2vbn6c4x7k5r1ts".to_owned(),
        client_secret: format!("kw_{}", "0aZ".repeat(24).split_at(71).0),
    }
}
