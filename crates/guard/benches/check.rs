//! What a check costs beside the one thing in it that cannot be saved: `cargo bench -p keyward-guard`.
//!
//! Rounds of all three take turns, so that whatever else the machine does meets them alike; the median counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "it measures, and says what came of it"
)]
#![expect(clippy::disallowed_methods, reason = "to measure is to read the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use http::HeaderMap;
use keyward_guard::Guard;
use keyward_model::jws::{Jwks, PublicKey};

#[allow(unreachable_pub, missing_docs, reason = "it is included elsewhere too")]
#[path = "../doc/issuer.rs"]
mod issuer;

const AUDIENCE: &str = "https://plant.example/api";
const ROUNDS: usize = 200;
const EACH: u32 = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let issuer = issuer::Issuer::start().await;
    let guard = async |tokens| {
        let guard = Guard::discover(&issuer.url).audience(AUDIENCE).clock(|| issuer::NOW).feed(false);
        guard.cached_tokens(tokens).await.unwrap()
    };
    let (with, without) = (guard(1000).await, guard(0).await);
    let token = issuer.token(AUDIENCE, |_| {});
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());

    let key = published(&issuer).await;
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();

    let mut times = [(); 3].map(|()| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        times[0].push(time(|| key.verify(black_box(input.as_bytes()), &signature).unwrap()));
        times[1].push(time(|| drop(without.check(black_box(&headers)).unwrap())));
        times[2].push(time(|| drop(with.check(black_box(&headers)).unwrap())));
    }
    let [bare, whole, remembered] = times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2].as_secs_f64() * 1e6
    });
    println!("ES256 signature alone  {bare:8.2} µs");
    println!("token verified anew    {whole:8.2} µs   {:.0} % of the rate of signatures alone", bare / whole * 100.0);
    println!("token remembered       {remembered:8.2} µs   {:.0} times that rate", bare / remembered);
}

fn time(mut work: impl FnMut()) -> Duration {
    let began = Instant::now();
    (0..EACH).for_each(|_| work());
    began.elapsed() / EACH
}

/// The issuer's key, by the way of its key set.
async fn published(issuer: &issuer::Issuer) -> PublicKey {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = issuer.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /jwks HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let jwks: Jwks = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    PublicKey::from_jwk(&jwks.keys[0]).unwrap()
}
