//! Whole device flows: a device asks and polls, somebody signed in lets it in by the pages, the device gets its tokens. Beside
//! it the limit server issues tokens, so that a ratio says how many bare tokens a flow costs.
//!
//! The poll is held while the pages are gone through and answered by the decision, as the defaults have it. What each step
//! costs by itself is measured on a second server that holds no poll: all flows take one step, then all the next.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::task::JoinSet;

use crate::device::{self, ASK_AT_ONCE, Allowance, Browser, Device, Place, Visit, network};
use crate::http::Rendered;
use crate::load::{Seen, Work, stay_awake, within_a_round};
use crate::measure::{Side, alternate};
use crate::placement::Cpus;
use crate::report::{Comparison, Figure, Spread};
use crate::scenario::{Bench, calibrate, token};
use crate::subject::Scratch;
use crate::subject::keyward::Keyward;
use crate::subject::limit::Limit;
use crate::wire::Wire;

/// Runs the scenario.
pub fn run(bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
    ensure!(bench.flows > 0 && bench.rounds > 0 && bench.connections > 0, "nothing is measured: all must be above 0");
    let client = calibrate::stand_in();
    let limit = Limit::start(bench, Cpus::One, "token", &client)?;
    let tokens = Rendered::form(limit.address, "/token", &client, token::FORM);
    let reference = Side { process: &limit.process, load: bench.load(limit.address, tokens, token::EXPECTS) };
    let figures = whole(bench, &reference)?;
    let per_token = figures.first().and_then(|work| Spread::of(work.reference.iter().copied()));
    let per_token = per_token.context("the limit server was not measured")?.median;
    Ok(vec![
        Comparison {
            scenario: "device-flow",
            subject: "keyward, for a request a whole flow".to_owned(),
            reference: "limit, tokens".to_owned(),
            figures,
        },
        Comparison {
            scenario: "device-flow",
            subject: "keyward, CPU time of each step".to_owned(),
            reference: "limit, a token".to_owned(),
            figures: steps(bench, 1e6 / per_token)?,
        },
    ])
}

/// Rounds of whole flows, as many at once as there are connections.
fn whole(bench: &Bench, reference: &Side<'_>) -> anyhow::Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let keyward = Keyward::start(&device::settled(bench, &[]), &scratch, Cpus::One)?;
    let place = Place::set_up(&keyward, &scratch, at_once(bench, bench.flows)?)?;
    let state = RefCell::new(Progress { allowance: Allowance::new(Instant::now()), begun: 0 });
    let load = Flows { place: Arc::new(place), total: bench.flows, state };
    alternate(bench.rounds, &Side { process: &keyward.process, load }, reference, None)
}

/// How many flows are under way at a time.
fn at_once(bench: &Bench, flows: u32) -> anyhow::Result<usize> {
    Ok(usize::try_from(bench.connections.min(flows.into()))?)
}

/// Flows of a round.
struct Flows {
    place: Arc<Place>,
    total: u32,
    state: RefCell<Progress>,
}

/// What earlier rounds have used up.
struct Progress {
    allowance: Allowance,
    begun: usize,
}

impl Work for Flows {
    fn total(&self) -> u64 {
        self.total.into()
    }

    fn run(&self) -> anyhow::Result<Seen> {
        let mut state = self.state.borrow_mut();
        let numbers = state.begun..state.begun + usize::try_from(self.total)?;
        state.begun = numbers.end;
        thread::sleep(state.allowance.take(self.total, Instant::now()));
        within_a_round(self.send(numbers))
    }
}

impl Flows {
    async fn send(&self, numbers: std::ops::Range<usize>) -> anyhow::Result<Seen> {
        let mut pairs = Vec::new();
        for browser in &self.place.browsers {
            let address = self.place.address;
            pairs.push((browser.clone(), Wire::connect(address).await?, Wire::connect(address).await?));
        }
        let (step, awake) = (pairs.len(), tokio::spawn(stay_awake()));
        let started = Instant::now();
        let mut people = JoinSet::new();
        for (first, (browser, mut own, mut devices)) in pairs.into_iter().enumerate() {
            let (place, numbers) = (Arc::clone(&self.place), numbers.clone());
            people.spawn(async move {
                let mut latencies = Vec::new();
                for number in numbers.skip(first).step_by(step) {
                    latencies.push(flow(&place, number, &browser, (&mut own, &mut devices)).await?);
                }
                anyhow::Ok(latencies)
            });
        }
        let mut latencies = Vec::new();
        while let Some(finished) = people.join_next().await {
            latencies.extend(finished??);
        }
        let wall = started.elapsed();
        awake.abort();
        latencies.sort_unstable();
        Ok(Seen { wall, latencies })
    }
}

/// One flow; how long it took from asking until the device had its tokens and the person the last page.
async fn flow(
    place: &Place,
    number: usize,
    browser: &Browser,
    (own, devices): (&mut Wire, &mut Wire),
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let device = Device::ask(devices, place.address, place.client(number)?, network(number)).await?;
    let (is_in, ()) = tokio::try_join!(device.poll(devices), browser.let_in(own, &device))?;
    ensure!(is_in, "a device was let in and not told within the time for which a poll is held");
    Ok(started.elapsed())
}

/// The steps of a flow, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ask,
    Poll,
    Page,
    Enter,
    Question,
    Decide,
    Done,
    Token,
}

impl Step {
    const ALL: [Self; 8] =
        [Self::Ask, Self::Poll, Self::Page, Self::Enter, Self::Question, Self::Decide, Self::Done, Self::Token];

    const fn name(self) -> &'static str {
        match self {
            Self::Ask => "device: POST /auth/device",
            Self::Poll => "device: POST /token, pending, not held",
            Self::Page => "browser: GET /device",
            Self::Enter => "browser: POST /device",
            Self::Question => "browser: GET /device/confirm",
            Self::Decide => "browser: POST /device/decision",
            Self::Done => "browser: GET /device/done",
            Self::Token => "device: POST /token, its tokens",
        }
    }
}

/// CPU time of each step in microseconds, beside that of one token of the limit server.
fn steps(bench: &Bench, token_microseconds: f64) -> anyhow::Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let settled = device::settled(bench, &[("KEYWARD_DEVICE_GRANTS_HOLD_S", "0".to_owned())]);
    let keyward = Keyward::start(&settled, &scratch, Cpus::One)?;
    let flows = batch(bench);
    let place = Arc::new(Place::set_up(&keyward, &scratch, at_once(bench, flows)?)?);
    println!("process {}: {flows} flows step by step", keyward.process.id());
    let numbers: Vec<usize> = (0..usize::try_from(flows)?).collect();
    let share = numbers.len().div_ceil(place.browsers.len());
    let mut people: Vec<Person> = place.browsers.iter().zip(numbers.chunks(share)).map(Person::new).collect();
    let mut figures = Vec::new();
    for step in Step::ALL {
        let before = keyward.process.cpu_seconds()?;
        people = within_a_round(all_take(step, people, Arc::clone(&place)))?;
        let each = (keyward.process.cpu_seconds()? - before) * 1e6 / f64::from(flows);
        figures.push(Figure::new(step.name(), "µs", vec![each], vec![token_microseconds]));
    }
    let all = figures.iter().flat_map(|figure| &figure.subject).sum();
    figures.push(Figure::new("all steps", "µs", vec![all], vec![token_microseconds]));
    Ok(figures)
}

/// As many flows as all rounds together, and as many as may ask at once: CPU time is read in steps of 10 ms.
fn batch(bench: &Bench) -> u32 {
    let rounds = u32::try_from(bench.rounds).unwrap_or(u32::MAX);
    bench.flows.saturating_mul(rounds).min(ASK_AT_ONCE)
}

/// Somebody with a browser and several devices.
struct Person {
    browser: Browser,
    flows: Vec<Flow>,
}

/// A flow between two steps.
struct Flow {
    number: usize,
    device: Option<Device>,
    visit: Visit,
}

impl Person {
    fn new((browser, numbers): (&Browser, &[usize])) -> Self {
        let flow = |number: &usize| Flow { number: *number, device: None, visit: Visit::default() };
        Self { browser: browser.clone(), flows: numbers.iter().map(flow).collect() }
    }
}

async fn all_take(step: Step, people: Vec<Person>, place: Arc<Place>) -> anyhow::Result<Vec<Person>> {
    let awake = tokio::spawn(stay_awake());
    let mut taking = JoinSet::new();
    for mut person in people {
        let place = Arc::clone(&place);
        taking.spawn(async move {
            // Another connection for each step: one that waits for its turn too long is closed by the server.
            let mut wire = Wire::connect(place.address).await?;
            for flow in &mut person.flows {
                flow.take(step, &place, &person.browser, &mut wire).await.with_context(|| step.name())?;
            }
            anyhow::Ok(person)
        });
    }
    let mut people = Vec::new();
    while let Some(taken) = taking.join_next().await {
        people.push(taken??);
    }
    awake.abort();
    Ok(people)
}

impl Flow {
    async fn take(&mut self, step: Step, place: &Place, browser: &Browser, wire: &mut Wire) -> anyhow::Result<()> {
        match (step, &self.device) {
            (Step::Ask, _) => {
                let client = place.client(self.number)?;
                self.device = Some(Device::ask(wire, place.address, client, network(self.number)).await?);
            }
            (_, None) => bail!("the device has not asked"),
            (Step::Poll, Some(device)) => {
                ensure!(!device.poll(wire).await?, "a device was let in and nobody was asked")
            }
            (Step::Page, Some(device)) => self.visit = browser.page(wire, device.from).await?,
            (Step::Enter, Some(device)) => browser.enter(wire, device, &mut self.visit).await?,
            (Step::Question, Some(device)) => browser.question(wire, device, &mut self.visit).await?,
            (Step::Decide, Some(device)) => browser.decide(wire, device, &mut self.visit).await?,
            (Step::Done, Some(device)) => browser.done(wire, device, &self.visit).await?,
            (Step::Token, Some(device)) => ensure!(device.poll(wire).await?, "a device was let in and got no tokens"),
        }
        Ok(())
    }
}
