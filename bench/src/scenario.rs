//! The questions that can be asked, one file each. A new one = one file, one variant, one line in `run`.

pub mod calibrate;
pub mod callers;
pub mod device_flow;
pub mod forward_auth;
pub mod held_polls;
pub mod introspect;
pub mod jwks;
pub mod million;
pub mod start;
pub mod token;

use std::net::SocketAddr;
use std::sync::Arc;

use clap::ValueEnum;
use serde::Serialize;

use crate::http::{Answer, Rendered, exchange};
use crate::load::Load;
use crate::placement::Placement;
use crate::report::{Comparison, Figure};

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// The limit server against itself: how much of a ratio is noise.
    Calibrate,
    /// Token requests with one credential, against the limit server.
    Token,
    /// From an empty directory to ready, again and again.
    Start,
    /// Introspection of one token, against the limit server.
    Introspect,
    /// The key set, against the limit server.
    Jwks,
    /// `/forward-auth` for one token, against a limit server that answers 200.
    ForwardAuth,
    /// Token requests with 1,000,000 credentials in the database, against Keyward with one.
    Million,
    /// Token requests with callers written down as usual, against Keyward that only counts them.
    Callers,
    /// Whole device flows, and what each step costs, against the limit server's tokens.
    DeviceFlow,
    /// 10,000 devices whose polls are held: memory, CPU, and how soon they know of a decision.
    HeldPolls,
}

impl Scenario {
    /// Runs it.
    pub fn run(self, bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
        match self {
            Self::Calibrate => calibrate::run(bench),
            Self::Token => token::run(bench),
            Self::Start => start::run(bench),
            Self::Introspect => introspect::run(bench),
            Self::Jwks => jwks::run(bench),
            Self::ForwardAuth => forward_auth::run(bench),
            Self::Million => million::run(bench),
            Self::Callers => callers::run(bench),
            Self::DeviceFlow => device_flow::run(bench),
            Self::HeldPolls => held_polls::run(bench),
        }
    }
}

/// How everything is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// The `keyward` binary.
    #[serde(skip)]
    pub keyward: String,
    /// The `keyward-limit` binary.
    #[serde(skip)]
    pub limit: String,
    /// Which CPU runs what.
    pub placement: Placement,
    /// Connections of the generator.
    pub connections: u64,
    /// Requests in a round.
    pub requests: u64,
    /// Pairs of rounds.
    pub rounds: usize,
    /// Starts in the scenario `start`.
    pub starts: usize,
    /// Credentials in the database in the scenario `million`.
    pub credentials: u32,
    /// Flows of a round in the scenario `device-flow`.
    pub flows: u32,
    /// Devices in the scenario `held-polls`.
    pub devices: u32,
    /// Settings of Keyward beyond its defaults, as environment variables.
    pub settings: Vec<(String, String)>,
}

impl Bench {
    /// A load of full rounds that sends this one request again and again.
    pub fn load(&self, address: SocketAddr, request: Rendered, expects: &'static str) -> Load {
        self.mixed_load(address, Arc::new([request]), expects)
    }

    /// A load of full rounds that picks one of the requests at random each time.
    pub fn mixed_load(&self, address: SocketAddr, requests: Arc<[Rendered]>, expects: &'static str) -> Load {
        Load { address, requests, expects, connections: self.connections, total: self.requests }
    }
}

/// How long the answers of both are, so that nobody wins by saying less.
fn answer_sizes(subject: &Load, reference: &Load) -> anyhow::Result<Figure> {
    let size = |load: &Load| -> anyhow::Result<Vec<f64>> {
        let request = load.requests.iter().take(1);
        request
            .map(|request| {
                let Answer { head, body, .. } = exchange(load.address, request)?;
                Ok((head.len() + body.len()) as f64)
            })
            .collect()
    };
    Ok(Figure::new("length of an answer", "octets", size(subject)?, size(reference)?))
}
