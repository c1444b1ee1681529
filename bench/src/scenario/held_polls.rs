//! Many devices that wait at once: each question is held, answered `authorization_pending`, and asked again after the
//! interval. What that takes of memory and CPU while nobody decides, and how soon after a decision its device knows.
//!
//! 1. All devices ask, no faster than the server lets them, from few networks
//! 2. Each opens a connection and polls, all within half the time for which a poll is held: memory is read when all have
//! 3. Nobody decides for some whole turns of holding and pausing: CPU time
//! 4. A person lets some of them in, one after the other, evenly spread over all: the lag
//!
//! A device that pauses when it is let in learns of it when it asks again, so those whose poll was held at that instant
//! are told apart from all: only they show what the server adds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::device::{self, ASK_AT_ONCE, ASK_EACH, Allowance, Device, Place, network};
use crate::load::quantile;
use crate::measure::idle_memory;
use crate::placement::Cpus;
use crate::process::{Process, require_open_files};
use crate::report::{Comparison, Figure, Target};
use crate::scenario::Bench;
use crate::subject::Scratch;
use crate::subject::keyward::{Keyward, complaints};
use crate::wire::Wire;

/// How long a poll is held, and how long a device then waits before it asks again: the defaults.
const HOLD: Duration = Duration::from_secs(8);
const INTERVAL: Duration = Duration::from_secs(2);
/// All devices begin within this time, so that for a moment all are held.
const BEGIN: Duration = Duration::from_secs(4);
/// And so long the last question may be on its way.
const ARRIVE: Duration = Duration::from_secs(1);
/// So many turns of holding and pausing are watched while nobody decides.
const TURNS: u32 = 3;
/// Devices that are let in, and the time between two of them, so that each meets the load and not the one before.
const APPROVALS: usize = 100;
const BETWEEN: Duration = Duration::from_millis(200);
/// Devices of one network: its polls are bounded to 1,200 a minute, and each device polls six times.
const OF_NETWORK: u32 = 150;
/// Of these so many may ask at once, a little less than the server lets them.
const ASK_OF_NETWORK: u32 = 50;
/// Connections and files that driver and server need besides.
const MORE_FILES: u64 = 500;
/// A device waits ten minutes for a decision; so much of it is left for everything after they all have asked.
const LEFT: Duration = Duration::from_secs(180);
const LIFETIME: Duration = Duration::from_secs(600);
/// Whatever the server does, it has ended by then.
const ENDS: Duration = Duration::from_secs(900);
/// p95 of the lag of a held poll, in milliseconds.
const LAG_MILLISECONDS: f64 = 300.0;

/// Runs the scenario.
pub fn run(bench: &Bench) -> anyhow::Result<Vec<Comparison>> {
    let devices = bench.devices;
    let most = most_devices();
    ensure!(
        (1..=most).contains(&devices),
        "--devices must be between 1 and {most}: more cannot ask before the first of them have waited too long"
    );
    // The server inherits the limit, and each device is a connection at both ends.
    require_open_files(u64::from(devices) + MORE_FILES)?;
    let scratch = Scratch::new()?;
    let settled = device::settled(
        bench,
        &[
            ("KEYWARD_SERVER_MAX_CONNECTIONS", (u64::from(devices) + MORE_FILES).to_string()),
            ("KEYWARD_DEVICE_GRANTS_HELD_POLLS", devices.to_string()),
            ("KEYWARD_DEVICE_GRANTS_HOLD_S", HOLD.as_secs().to_string()),
        ],
    );
    let keyward = Keyward::start(&settled, &scratch, Cpus::One)?;
    let place = Place::set_up(&keyward, &scratch, 1)?;
    let figures = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async { timeout(ENDS, measure(&keyward.process, &place, devices)).await })
        .context("the server is too slow for so many devices; try fewer with --devices")
        .flatten()
        .with_context(|| complaints(&scratch))?;
    Ok(vec![Comparison { scenario: "held-polls", subject: "keyward".to_owned(), reference: String::new(), figures }])
}

/// So many can ask before too little of the first one's time is left.
fn most_devices() -> u32 {
    let asking = LIFETIME.saturating_sub(LEFT).as_millis() / ASK_EACH.as_millis();
    ASK_AT_ONCE + u32::try_from(asking).unwrap_or_default()
}

async fn measure(process: &Process, place: &Place, count: u32) -> anyhow::Result<Vec<Figure>> {
    println!("process {}: {count} devices ask", process.id());
    let devices = ask_all(place, count).await?;
    let before = idle_memory(process)?;
    let mut crowd = Crowd::begin(place, &devices).await?;
    let held = crowd.waiting.held.load(Ordering::Relaxed);
    let growth = process.memory()?.resident as f64 - before;
    ensure!(held > 0, "no poll is held");
    println!("process {}: {held} polls are held; nobody decides for {} s", process.id(), (turn() * TURNS).as_secs());
    let idle = crowd.idle(process).await?;
    let lags = crowd.approve(place, &devices).await?;
    let mut figures = vec![
        Figure::new("devices that wait", "", vec![f64::from(count)], Vec::new()),
        Figure::new("polls held at once", "", vec![held as f64], Vec::new()),
        Figure::new("resident before they poll", "bytes", vec![before], Vec::new()),
        Figure::new("resident while held", "bytes", vec![before + growth], Vec::new()),
        Figure::new("resident per held poll", "octets", vec![growth / held as f64], Vec::new()),
    ];
    figures.extend(idle);
    figures.extend(lags.figures());
    Ok(figures)
}

/// All devices ask, network after network by turns, at the pace that the server allows.
async fn ask_all(place: &Place, count: u32) -> anyhow::Result<Vec<Device>> {
    let networks = usize::try_from(networks(count))?;
    let mut allowance = Allowance::new(Instant::now());
    let mut wire = Wire::connect(place.address).await?;
    let mut devices = Vec::new();
    for number in 0..usize::try_from(count)? {
        sleep(allowance.take(1, Instant::now())).await;
        let from = network(number % networks);
        devices.push(Device::ask(&mut wire, place.address, place.client(number)?, from).await?);
    }
    Ok(devices)
}

/// In how many networks so many devices are.
fn networks(count: u32) -> u32 {
    count.div_ceil(OF_NETWORK).max(count.min(ASK_AT_ONCE).div_ceil(ASK_OF_NETWORK))
}

/// What all devices share while they wait.
struct Waiting {
    /// Polls that are under way.
    held: AtomicUsize,
    /// Polls that were answered.
    answered: AtomicUsize,
    /// Which devices have a poll under way.
    by_device: Vec<AtomicBool>,
}

/// All devices; they stop with this.
struct Crowd {
    waiting: Arc<Waiting>,
    polling: JoinSet<anyhow::Result<()>>,
    told: mpsc::Receiver<Told>,
}

/// That a device has learned that it was let in, and when.
type Told = (usize, Instant);

/// Polls until the device is let in.
async fn poll(
    device: Device,
    number: usize,
    mut wire: Wire,
    (waiting, tell): (Arc<Waiting>, mpsc::Sender<Told>),
) -> anyhow::Result<()> {
    loop {
        waiting.enter(number, true);
        let is_in = device.poll(&mut wire).await;
        waiting.enter(number, false);
        if is_in? {
            // Nobody listens any more when everything was measured.
            let _ = tell.send((number, Instant::now())).await;
            return Ok(());
        }
        sleep(INTERVAL).await;
    }
}

impl Waiting {
    fn of(devices: usize) -> Self {
        let by_device = (0..devices).map(|_| AtomicBool::default()).collect();
        Self { held: AtomicUsize::new(0), answered: AtomicUsize::new(0), by_device }
    }

    fn enter(&self, number: usize, is_held: bool) {
        if let Some(own) = self.by_device.get(number) {
            own.store(is_held, Ordering::Relaxed);
        }
        if is_held {
            self.held.fetch_add(1, Ordering::Relaxed);
        } else {
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_held(&self, number: usize) -> bool {
        self.by_device.get(number).is_some_and(|own| own.load(Ordering::Relaxed))
    }
}

/// How often a device asks.
fn turn() -> Duration {
    HOLD + INTERVAL
}

impl Crowd {
    /// Every device polls, one after the other within [`BEGIN`].
    async fn begin(place: &Place, devices: &[Device]) -> anyhow::Result<Self> {
        let waiting = Arc::new(Waiting::of(devices.len()));
        let (tell, told) = mpsc::channel(devices.len());
        let mut polling = JoinSet::new();
        let each = BEGIN / u32::try_from(devices.len())?;
        let started = tokio::time::Instant::now();
        for (number, (device, place_in_line)) in devices.iter().zip(0..).enumerate() {
            sleep_until(started + each * place_in_line).await;
            let wire = Wire::connect(place.address).await.context("a device cannot connect")?;
            polling.spawn(poll(device.clone(), number, wire, (Arc::clone(&waiting), tell.clone())));
        }
        // The questions of the last ones have to arrive; those of the first are still held.
        sleep(ARRIVE).await;
        let mut crowd = Self { waiting, polling, told };
        crowd.require_whole()?;
        Ok(crowd)
    }

    /// No device was answered anything else than it should be: a load of which parts are missing proves nothing.
    fn require_whole(&mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.polling.try_join_next() {
            ended?.context("a device gave up")?;
        }
        Ok(())
    }

    /// What the server does while nobody decides.
    async fn idle(&mut self, process: &Process) -> anyhow::Result<[Figure; 2]> {
        let answered = |crowd: &Self| crowd.waiting.answered.load(Ordering::Relaxed) as f64;
        let (started, cpu_before, answered_before) = (Instant::now(), process.cpu_seconds()?, answered(self));
        sleep(turn() * TURNS).await;
        self.require_whole()?;
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), process.cpu_seconds()? - cpu_before);
        let answers = answered(self) - answered_before;
        Ok([
            Figure::new("CPU while nobody decides", "ms per s", vec![cpu * 1e3 / seconds], Vec::new()),
            Figure::new("polls answered meanwhile", "per s", vec![answers / seconds], Vec::new()),
        ])
    }

    /// Lets some devices in, one after the other.
    async fn approve(&mut self, place: &Place, devices: &[Device]) -> anyhow::Result<Lags> {
        let browser = place.browsers.first().context("nobody is signed in")?;
        let mut decided = HashMap::new();
        for number in sample(devices.len(), APPROVALS) {
            let device = devices.get(number).context("no such device")?;
            // Another connection each time, as devices are far apart.
            let mut wire = Wire::connect(place.address).await?;
            let mut visit = browser.page(&mut wire, device.from).await?;
            browser.enter(&mut wire, device, &mut visit).await?;
            browser.question(&mut wire, device, &mut visit).await?;
            decided.insert(number, (Instant::now(), self.waiting.is_held(number)));
            browser.decide(&mut wire, device, &mut visit).await?;
            sleep(BETWEEN).await;
        }
        let mut lags = Lags::default();
        while !decided.is_empty() {
            self.require_whole()?;
            // Longer than any turn: who has not come by then does not come.
            let Some((number, at)) = timeout(turn() * 2, self.told.recv()).await.ok().flatten() else {
                bail!("{} devices were let in and not told", decided.len());
            };
            let (since, was_held) = decided.remove(&number).context("a device got tokens that nobody let in")?;
            lags.note(at.duration_since(since), was_held);
        }
        self.require_whole()?;
        Ok(lags.sorted())
    }
}

/// From just before a decision was sent until its device had read its tokens, sorted.
#[derive(Debug, Default)]
struct Lags {
    held: Vec<Duration>,
    all: Vec<Duration>,
}

/// So many numbers below `count`, spread evenly; fewer if there are not so many.
fn sample(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(wanted);
    (0..taken).map(move |place| place * count / taken)
}

impl Lags {
    fn note(&mut self, lag: Duration, was_held: bool) {
        self.all.push(lag);
        if was_held {
            self.held.push(lag);
        }
    }

    fn sorted(mut self) -> Self {
        self.held.sort_unstable();
        self.all.sort_unstable();
        self
    }

    /// The samples in the order they are sorted in, and their tails.
    fn figures(&self) -> Vec<Figure> {
        let milliseconds = |lag: &Duration| lag.as_secs_f64() * 1e3;
        let samples = |lags: &[Duration]| lags.iter().map(milliseconds).collect();
        let at = |lags: &[Duration], share| vec![milliseconds(&quantile(lags, share))];
        vec![
            Figure::new("devices let in", "", vec![self.all.len() as f64], Vec::new()),
            Figure::new("of these held at that instant", "", vec![self.held.len() as f64], Vec::new()),
            Figure::new("lag of those held", "ms", samples(&self.held), Vec::new()),
            Figure::new("lag of those held, p50", "ms", at(&self.held, 0.5), Vec::new()),
            Figure {
                target: Some(Target::AtMost(LAG_MILLISECONDS)),
                ..Figure::new("lag of those held, p95", "ms", at(&self.held, 0.95), Vec::new())
            },
            Figure::new("lag of all, p50", "ms", at(&self.all, 0.5), Vec::new()),
            Figure::new("lag of all, p95", "ms", at(&self.all, 0.95), Vec::new()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_over_all_devices_and_names_none_twice() {
        assert_eq!(sample(10_000, 4).collect::<Vec<_>>(), [0, 2_500, 5_000, 7_500]);
        assert_eq!(sample(3, 100).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(sample(0, 100).count(), 0);
    }

    #[test]
    fn ten_thousand_devices_can_ask_before_the_first_has_waited_too_long() {
        assert!((10_000..20_000).contains(&most_devices()), "{}", most_devices());
    }

    #[test]
    fn no_network_has_more_devices_than_may_ask_at_once_and_poll_all_the_time() {
        for (devices, expected) in [(1, 1), (60, 2), (3_000, 58), (10_000, 67), (13_400, 90)] {
            assert_eq!(networks(devices), expected, "{devices}");
        }
    }

    #[test]
    fn a_device_that_paused_counts_among_all_and_not_among_those_held() {
        let mut lags = Lags::default();
        lags.note(Duration::from_millis(20), true);
        lags.note(Duration::from_millis(1_900), false);
        let figure = |name| lags.figures().into_iter().find(|figure| figure.name == name).map(|figure| figure.subject);
        assert_eq!(figure("lag of those held, p95"), Some(vec![20.0]));
        assert_eq!(figure("lag of all, p95"), Some(vec![1_900.0]));
        assert_eq!(figure("of these held at that instant"), Some(vec![1.0]));
    }

    #[test]
    fn who_is_held_is_counted_and_known() {
        let waiting = Waiting::of(2);
        waiting.enter(1, true);
        assert!(waiting.is_held(1) && !waiting.is_held(0));
        waiting.enter(1, false);
        let counts = (waiting.held.load(Ordering::Relaxed), waiting.answered.load(Ordering::Relaxed));
        assert_eq!((counts, waiting.is_held(1)), ((0, 1), false));
    }
}
