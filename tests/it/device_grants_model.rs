//! Device grants as a whole: devices, and four browsers of two people, take random arrows while time passes, and after each
//! step the server is where a model of it is. The model knows the diagram in `keyward_model::device_grant` and nothing of how
//! the server keeps it.

use std::time::Duration;

use keyward_model::id::DeviceGrantId;
use keyward_server::device_grants::{Refusal, Visitor, approve, deny, look, undo};
use keyward_tests::devices::Device;
use keyward_tests::server::{Db, TestServer};
use serde_json::json;

use crate::authority::person;
use crate::device_grants::scene;
use crate::dice::{Dice, seed};

/// The random walk that everybody takes.
const SEED: u64 = 20_261_126;
const STEPS: usize = 300;
/// So that arrows meet: more devices would mean fewer arrows for each.
const OPEN: usize = 4;
const LIFETIME: i64 = 600_000;
const REPLAYABLE: i64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Pending,
    /// By which browser.
    Claimed(usize),
    Approved(usize),
    Redeemed {
        by: usize,
        at: i64,
        ended: bool,
    },
    Denied,
    Expired,
}

struct Grant {
    device: Device,
    id: Option<DeviceGrantId>,
    stage: Stage,
    expires_at: i64,
    events: Vec<&'static str>,
}

impl Grant {
    fn pass(&mut self, now: i64) {
        let is_open = matches!(self.stage, Stage::Pending | Stage::Claimed(_) | Stage::Approved(_));
        if is_open && self.expires_at <= now {
            self.stage = Stage::Expired;
        }
    }

    fn to(&mut self, stage: Stage, event: &'static str) {
        self.stage = stage;
        self.events.push(event);
    }
}

/// Browsers 0 and 1 are of one person, 2 and 3 of the other.
fn person_of(browser: usize) -> usize {
    browser / 2
}

struct Walk<'a> {
    server: &'a TestServer,
    tv: String,
    browsers: Vec<Visitor>,
    grants: Vec<Grant>,
    dice: Dice,
}

impl Walk<'_> {
    fn now(&self) -> i64 {
        self.server.clock.now().as_millis()
    }

    fn browser(&self, at: usize) -> Visitor {
        Visitor { now: self.server.clock.now(), ..self.browsers[at].clone() }
    }

    async fn step(&mut self) -> String {
        let now = self.now();
        self.grants.iter_mut().for_each(|grant| grant.pass(now));
        let open = self.grants.iter().filter(|g| !matches!(g.stage, Stage::Denied | Stage::Expired)).count();
        if open < OPEN {
            let device = self.server.device(&self.tv, &[]).await;
            self.grants.push(Grant {
                device,
                id: None,
                stage: Stage::Pending,
                expires_at: now + LIFETIME,
                events: vec![],
            });
            return format!("ask {}", self.grants.len() - 1);
        }
        let (which, browser) = (self.dice.roll(self.grants.len()), self.dice.roll(4));
        match self.dice.roll(16) {
            0..=4 => self.enter(which, browser).await,
            5..=7 => self.approve(which, browser).await,
            8 => self.deny(which, browser).await,
            9 => self.undo(which, browser).await,
            10..=12 => self.poll(which).await,
            13 => self.cancel(which).await,
            _ => {
                let seconds = self.dice.one_of(&[1, 30, 59, 60, 120, 300]);
                self.server.clock.advance(Duration::from_secs(seconds));
                self.server.app.run_schedule().await.unwrap();
                let now = self.now();
                for grant in &mut self.grants {
                    let before = grant.stage;
                    grant.pass(now);
                    if grant.stage == Stage::Expired && matches!(before, Stage::Claimed(_) | Stage::Approved(_)) {
                        grant.events.push("device_grant.expired");
                    }
                }
                format!("{seconds} s pass")
            }
        }
    }

    /// Only codes that are open: each other one would use up the budget of its account.
    async fn enter(&mut self, which: usize, browser: usize) -> String {
        let (by, grant) = (self.browser(browser), &mut self.grants[which]);
        let same = |holder: usize| person_of(holder) == person_of(browser);
        let told = match grant.stage {
            Stage::Pending | Stage::Claimed(_) | Stage::Approved(_) => self.server.enter(&by, &grant.device).await,
            _ => return "nothing to enter".to_owned(),
        };
        match grant.stage {
            Stage::Claimed(holder) if holder == browser => drop(told.unwrap()),
            Stage::Pending => {
                grant.id = Some(told.unwrap().id);
                grant.to(Stage::Claimed(browser), "device_grant.claimed");
            }
            Stage::Claimed(holder) if same(holder) => {
                told.unwrap();
                grant.to(Stage::Claimed(browser), "device_grant.claimed");
            }
            Stage::Approved(holder) if same(holder) => assert!(matches!(told, Err(Refusal::Approved)), "{told:?}"),
            _ => {
                assert!(matches!(told, Err(Refusal::Contested)), "{told:?}");
                grant.to(Stage::Denied, "device_grant.denied");
            }
        }
        format!("{browser} enters {which}")
    }

    async fn approve(&mut self, which: usize, browser: usize) -> String {
        let (by, grant) = (self.browser(browser), &mut self.grants[which]);
        let Some(id) = grant.id else { return "nothing to approve".to_owned() };
        let asked = look(&self.server.app, &by, id).await;
        let consent = asked.map(|asked| asked.consent(false)).unwrap_or_default();
        let told = approve(&self.server.app, &by, id, consent).await;
        let is_right = grant.stage == Stage::Claimed(browser);
        assert_eq!(told.is_ok(), is_right, "{told:?}");
        if is_right {
            grant.to(Stage::Approved(browser), "device_grant.approved");
        }
        format!("{browser} approves {which}")
    }

    async fn deny(&mut self, which: usize, browser: usize) -> String {
        let (by, grant) = (self.browser(browser), &mut self.grants[which]);
        let Some(id) = grant.id else { return "nothing to deny".to_owned() };
        let told = deny(&self.server.app, &by, id).await;
        let is_right = grant.stage == Stage::Claimed(browser);
        assert_eq!(told.is_ok(), is_right, "{told:?}");
        if is_right {
            grant.to(Stage::Denied, "device_grant.denied");
        }
        format!("{browser} denies {which}")
    }

    async fn undo(&mut self, which: usize, browser: usize) -> String {
        let (by, grant) = (self.browser(browser), &mut self.grants[which]);
        let Some(id) = grant.id else { return "nothing to undo".to_owned() };
        let told = undo(&self.server.app, &by, id).await;
        let same = |holder: usize| person_of(holder) == person_of(browser);
        match grant.stage {
            Stage::Approved(holder) if same(holder) => {
                told.unwrap();
                grant.to(Stage::Denied, "device_grant.denied");
            }
            Stage::Redeemed { by, at, ended: false } if same(by) => {
                told.unwrap();
                grant.stage = Stage::Redeemed { by, at, ended: true };
            }
            _ => assert!(told.is_err(), "{told:?}"),
        }
        format!("{browser} takes {which} back")
    }

    async fn poll(&mut self, which: usize) -> String {
        let now = self.now();
        let grant = &mut self.grants[which];
        let told = self.server.poll(&grant.device, &[]).await;
        let said = told.error().1;
        match grant.stage {
            Stage::Pending | Stage::Claimed(_) => {
                assert!(["authorization_pending", "slow_down"].contains(&said), "{}", told.body);
            }
            Stage::Approved(by) => {
                assert_eq!(said, "", "{}", told.body);
                grant.to(Stage::Redeemed { by, at: now, ended: false }, "device_grant.redeemed");
            }
            Stage::Redeemed { at, ended: false, .. } if now < at + REPLAYABLE => assert_eq!(said, "", "{}", told.body),
            Stage::Redeemed { by, at, .. } => {
                assert_eq!(said, "invalid_grant");
                grant.stage = Stage::Redeemed { by, at, ended: true };
            }
            Stage::Denied => assert_eq!(said, "access_denied"),
            Stage::Expired => assert_eq!(said, "expired_token"),
        }
        format!("{which} polls")
    }

    async fn cancel(&mut self, which: usize) -> String {
        let grant = &mut self.grants[which];
        let form = [("client_id", self.tv.as_str()), ("token", grant.device.device_code())];
        let request = self.server.http.post(format!("{}/revoke", self.server.url())).form(&form);
        keyward_tests::server::Answer::of(request).await.ok();
        match grant.stage {
            Stage::Pending => grant.stage = Stage::Denied,
            Stage::Claimed(_) | Stage::Approved(_) => grant.to(Stage::Denied, "device_grant.denied"),
            Stage::Redeemed { by, at, .. } => grant.stage = Stage::Redeemed { by, at, ended: true },
            Stage::Denied | Stage::Expired => {}
        }
        format!("{which} gives up")
    }

    /// Every grant somebody has entered stands where the model says, and the log tells how it came there.
    async fn compare(&self) {
        let now = self.server.clock.now();
        for grant in &self.grants {
            let Some(id) = grant.id else { continue };
            let found = self.server.app.store.find_device_grant(id).await.unwrap().unwrap();
            let expected = match grant.stage {
                Stage::Pending => "pending",
                Stage::Claimed(_) => "claimed",
                Stage::Approved(_) => "approved",
                Stage::Redeemed { .. } => "redeemed",
                Stage::Denied => "denied",
                Stage::Expired => "expired",
            };
            assert_eq!(found.state_at(now).name().as_str(), expected, "{id}");
            if let keyward_model::device_grant::GrantState::Redeemed { session, .. } = found.state {
                let session = self.server.app.store.find_device_session(session).await.unwrap().unwrap();
                let ended = matches!(grant.stage, Stage::Redeemed { ended: true, .. });
                assert_eq!(session.is_active(now), !ended, "{id}");
            }
        }
    }

    async fn compare_log(&self) {
        for grant in &self.grants {
            let Some(id) = grant.id else { continue };
            let filter = keyward_store::EventFilter { subject: Some(id.to_string()), ..Default::default() };
            let events = self.server.app.store.list_events(&filter, 0, 200).await.unwrap();
            assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), grant.events, "{id}");
        }
    }
}

#[expect(clippy::print_stdout, reason = "a failure names its seed and the steps before it")]
async fn walk(db: Db) {
    let seed = seed(SEED);
    let server = TestServer::start(db).await;
    let admin = server.admin().await;
    let (tv, olga) = scene(&server, &admin, json!({})).await;
    let (sam, _) = person(&admin, &server, "sam", "keyward:self").await;
    let sam = sam["id"].as_str().unwrap();
    let browsers = [&*olga, &*olga, sam, sam].iter().map(|user| server.browser_of(user)).collect();
    let mut walk = Walk { server: &server, tv, browsers, grants: Vec::new(), dice: Dice(seed) };
    for step in 0..STEPS {
        let what = walk.step().await;
        println!("{step}: {what}");
        walk.compare().await;
    }
    walk.compare_log().await;
    let reached = |wanted: fn(&Stage) -> bool| walk.grants.iter().filter(|grant| wanted(&grant.stage)).count();
    assert!(reached(|stage| matches!(stage, Stage::Redeemed { .. })) > 0, "the walk came nowhere");
    assert!(reached(|stage| *stage == Stage::Denied) > 0 && reached(|stage| *stage == Stage::Expired) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_arrows_of_devices_and_browsers_lead_where_the_model_says_on_sqlite() {
    walk(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_arrows_of_devices_and_browsers_lead_where_the_model_says_on_postgresql() {
    walk(Db::Postgres).await;
}
