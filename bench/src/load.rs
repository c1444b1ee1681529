//! The load generator: a fixed number of requests over a fixed number of kept-alive connections,
//! each connection sending its next request when the answer to the last has been read and checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use crate::http::Rendered;
use crate::wire::Wire;

/// No round may take longer than this, whatever the server does.
const ROUND_LIMIT: Duration = Duration::from_secs(300);

/// The requests of a round and how they are sent.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// What is sent: always the only one, or uniformly at random one of several.
    pub requests: Arc<[Rendered]>,
    /// Bytes that every good answer contains.
    pub expects: &'static str,
    /// Connections open at a time.
    pub connections: u64,
    /// Requests in the whole round.
    pub total: u64,
}

/// What the generator saw.
#[derive(Debug)]
pub struct Seen {
    /// From the first request sent to the last answer read, connections already open.
    pub wall: Duration,
    /// One latency per request, sorted.
    pub latencies: Vec<Duration>,
}

impl Seen {
    /// The latency below which this share (0 to 1) of the requests stayed.
    pub fn quantile(&self, share: f64) -> Duration {
        quantile(&self.latencies, share)
    }
}

/// The duration below which this share (0 to 1) of the sorted ones stayed.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or_default()
}

/// What a round does on a server, again and again.
pub trait Work {
    /// How many requests, or whatever else is counted, one round has.
    fn total(&self) -> u64;

    /// Does it. Any answer that is not as it should be is an error.
    fn run(&self) -> anyhow::Result<Seen>;
}

/// Runs the generator, which is one thread, for at most as long as a round may take.
pub fn within_a_round<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async { tokio::time::timeout(ROUND_LIMIT, work).await })
        .context("the round took too long")?
}

impl Work for Load {
    fn total(&self) -> u64 {
        self.total
    }

    fn run(&self) -> anyhow::Result<Seen> {
        within_a_round(self.send())
    }
}

impl Load {
    /// The same load with another number of requests.
    pub fn of(&self, total: u64) -> Self {
        Self { total, ..self.clone() }
    }

    async fn send(&self) -> anyhow::Result<Seen> {
        let mut wires = Vec::new();
        for _ in 0..self.connections {
            wires.push(Wire::connect(self.address).await?);
        }
        let sent = Arc::new(AtomicU64::new(0));
        let awake = tokio::spawn(stay_awake());
        let started = Instant::now();
        let mut connections = JoinSet::new();
        for (number, wire) in wires.into_iter().enumerate() {
            let connection =
                Connection { wire, load: self.clone(), sent: Arc::clone(&sent), dice: Dice::new(number as u64) };
            connections.spawn(connection.run());
        }
        let mut latencies = Vec::with_capacity(usize::try_from(self.total)?);
        while let Some(finished) = connections.join_next().await {
            latencies.extend(finished??);
        }
        let wall = started.elapsed();
        awake.abort();
        latencies.sort_unstable();
        Ok(Seen { wall, latencies })
    }
}

/// Keeps the generator from ever waiting in the kernel: there, each answer would have to wake it, at several
/// microseconds of the server's CPU time, and it would be asleep the more often the slower a server is.
pub async fn stay_awake() {
    loop {
        tokio::task::yield_now().await;
    }
}

struct Connection {
    wire: Wire,
    load: Load,
    /// Requests sent by all connections together.
    sent: Arc<AtomicU64>,
    dice: Dice,
}

impl Connection {
    async fn run(mut self) -> anyhow::Result<Vec<Duration>> {
        let requests = Arc::clone(&self.load.requests);
        let mut latencies = Vec::new();
        while self.sent.fetch_add(1, Ordering::Relaxed) < self.load.total {
            let request = match &requests[..] {
                [only] => only,
                several => several.get(self.dice.below(several.len())).context("no requests to send")?,
            };
            let started = Instant::now();
            let (status, body) = self.wire.send(request).await?;
            ensure!(
                status == 200 && contains(body, self.load.expects.as_bytes()),
                "answered {status} {}",
                String::from_utf8_lossy(body)
            );
            latencies.push(started.elapsed());
        }
        Ok(latencies)
    }
}

/// Whether `wanted` stands in `body`; it is at the front of every answer, so this is cheap.
fn contains(body: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || body.windows(wanted.len()).any(|part| part == wanted)
}

/// A small repeatable generator (xorshift64*), so that every run asks for the same keys.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(number).unwrap_or(0) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_from_the_sorted_latencies() {
        let seen = Seen { wall: Duration::from_secs(1), latencies: (1..=101).map(Duration::from_millis).collect() };
        assert_eq!(seen.quantile(0.5), Duration::from_millis(51));
        assert_eq!(seen.quantile(0.99), Duration::from_millis(100));
    }

    #[test]
    fn the_dice_reach_every_request() {
        let mut dice = Dice::new(3);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            if let Some(count) = seen.get_mut(dice.below(10)) {
                *count += 1;
            }
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
    }
}
