//! Introspection of one live token, RFC 7662, asked by the API it is for, against a limit server that
//! verifies the signature and answers with the claims.

use anyhow::Context as _;
use serde_json::json;

use crate::http::Rendered;
use crate::measure::{Side, alternate};
use crate::placement::Cpus;
use crate::report::Comparison;
use crate::scenario::{Bench, answer_sizes, token};
use crate::subject::Scratch;
use crate::subject::keyward::{AUDIENCE, Keyward};
use crate::subject::limit::Limit;

/// What every good answer contains.
const EXPECTS: &str = "\"active\":true";

/// Runs the scenario.
pub fn run(bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
    let scratch = Scratch::new()?;
    let keyward = Keyward::start(bench, &scratch, Cpus::One)?;
    let rest = keyward.administrator(&scratch)?;
    let holder = rest.create_client("holder")?;
    let asking = rest.create_client("asking")?;
    let api = rest.create_api(AUDIENCE, &[&holder])?;
    rest.change(&format!("/api/v1/apis/{api}"), &json!({"client": asking}))?;
    let holder = rest.create_credential(&holder)?;
    let asking = rest.create_credential(&asking)?;
    let issued = keyward.token(&holder, token::FORM)?;
    let limit = Limit::start(bench, Cpus::One, "introspect", &asking)?;
    let sample = limit.token.as_ref().context("the limit server issued no token")?;
    let load = |address, token: &str| {
        let request = Rendered::form(address, "/introspect", &asking, &format!("token={token}"));
        bench.load(address, request, EXPECTS)
    };
    let subject = Side { process: &keyward.process, load: load(keyward.address, &issued) };
    let reference = Side { process: &limit.process, load: load(limit.address, sample) };
    let mut figures = vec![answer_sizes(&subject.load, &reference.load)?];
    figures.extend(alternate(bench.rounds, &subject, &reference, None)?);
    Ok(vec![Comparison {
        scenario: "introspect",
        subject: "keyward".to_owned(),
        reference: "limit".to_owned(),
        figures,
    }])
}
