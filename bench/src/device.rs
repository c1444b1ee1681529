//! The device flow from both ends (RFC 8628): devices that ask and poll, and browsers in which somebody is signed in and
//! lets them in, by the pages and without scripts.
//!
//! The server bounds how often one network, one client and everybody together may ask. No budget is raised for a
//! measurement: devices are in many networks, as a trusted proxy would say, and belong to several clients, and all together
//! keep the pace by [`Allowance`].

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::http::{Answer, Rendered, exchange};
use crate::scenario::Bench;
use crate::subject::Scratch;
use crate::subject::keyward::{AUDIENCE, Keyward};
use crate::wire::Wire;

/// The clients that the devices belong to: of each, 600 may ask at once and 300 a minute.
const CLIENTS: usize = 8;
/// How many devices may ask at once, a little less than the server lets them.
pub const ASK_AT_ONCE: u32 = 2_900;
/// One after each such time may ask beyond that: 1,500 a minute.
pub const ASK_EACH: Duration = Duration::from_millis(40);
/// What every user of a measurement signs in with.
const PASSWORD: &str = "nine quiet harbours";
/// The grant, RFC 8628 §3.4.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Settings without which the flow of so many through one machine is refused: who comes for whom is believed, and each
/// browser lets in more devices than any person would.
const SETTINGS: [(&str, &str); 2] =
    [("KEYWARD_SERVER_TRUSTED_PROXIES", "127.0.0.0/8"), ("KEYWARD_LIMITS_CHANGES_BURST", "1000000")];

/// The same bench with the settings of the device flow and these; what the command line sets counts more.
pub fn settled(bench: &Bench, further: &[(&str, String)]) -> Bench {
    let own = SETTINGS.into_iter().map(|(name, value)| (name, value.to_owned())).chain(further.iter().cloned());
    let settings = own.map(|(name, value)| (name.to_owned(), value)).chain(bench.settings.iter().cloned());
    Bench { settings: settings.collect(), ..bench.clone() }
}

/// What the server knows before the first device asks.
#[derive(Debug)]
pub struct Place {
    /// The server.
    pub address: SocketAddr,
    /// The clients that devices ask through.
    pub clients: Vec<String>,
    /// The browsers, each with a user of its own.
    pub browsers: Vec<Browser>,
}

impl Place {
    /// Creates clients and users, and signs these in.
    pub fn set_up(keyward: &Keyward, scratch: &Scratch, browsers: usize) -> anyhow::Result<Self> {
        let rest = keyward.administrator(scratch)?;
        let names = (0..CLIENTS).map(|number| format!("devices {number}"));
        let clients = names.map(|name| rest.create_device_client(&name)).collect::<anyhow::Result<Vec<_>>>()?;
        rest.create_api(AUDIENCE, &clients.iter().map(String::as_str).collect::<Vec<_>>())?;
        let browsers = (0..browsers).map(|number| {
            let invitation = rest.invite(&format!("user {number}"))?;
            Browser::accept(keyward.address, &invitation)
        });
        Ok(Self { address: keyward.address, clients, browsers: browsers.collect::<anyhow::Result<_>>()? })
    }

    /// The client of the device with this number.
    pub fn client(&self, number: usize) -> anyhow::Result<&str> {
        Ok(self.clients.get(number % CLIENTS).context("there are too few clients")?)
    }
}

/// The address with this number, each in a network of its own.
pub fn network(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | (u32::try_from(number).unwrap_or(u32::MAX) & 0xff_ffff))
}

fn forwarded(from: Ipv4Addr) -> String {
    format!("X-Forwarded-For: {from}\r\n")
}

/// How many devices have asked, and when the next may.
#[derive(Debug)]
pub struct Allowance {
    since: Instant,
    asked: u32,
}

impl Allowance {
    /// Of a server that no device has asked.
    pub fn new(now: Instant) -> Self {
        Self { since: now, asked: 0 }
    }

    /// Counts so many that ask now, and gives the time that the last of them has to wait before.
    pub fn take(&mut self, devices: u32, now: Instant) -> Duration {
        self.asked += devices;
        let due = ASK_EACH * self.asked.saturating_sub(ASK_AT_ONCE);
        due.saturating_sub(now.duration_since(self.since))
    }
}

/// RFC 8628 §3.2, as far as a device needs it here.
#[derive(Deserialize)]
struct Codes {
    device_code: String,
    user_code: String,
}

/// A device that has asked.
#[derive(Clone, Debug)]
pub struct Device {
    /// What somebody types.
    pub user_code: String,
    /// From where it comes.
    pub from: Ipv4Addr,
    /// What it polls with.
    pub poll: Rendered,
}

impl Device {
    /// Asks.
    pub async fn ask(wire: &mut Wire, address: SocketAddr, client: &str, from: Ipv4Addr) -> anyhow::Result<Self> {
        let form = format!("client_id={client}&device_label=bench");
        let request = Rendered::plain_form(address, "/auth/device", &forwarded(from), &form);
        let Codes { device_code, user_code } = wire.ask(&request).await?.into_json()?;
        let form = format!("grant_type={GRANT_TYPE}&client_id={client}&device_code={device_code}");
        Ok(Self { user_code, from, poll: Rendered::plain_form(address, "/token", &forwarded(from), &form) })
    }

    /// Polls once; true if it was let in, false if nobody has decided.
    pub async fn poll(&self, wire: &mut Wire) -> anyhow::Result<bool> {
        let (status, body) = wire.send(&self.poll).await?;
        let text = String::from_utf8_lossy(body);
        match status {
            200 if text.contains("\"access_token\"") => Ok(true),
            400 if text.contains("\"authorization_pending\"") => Ok(false),
            _ => anyhow::bail!("a device was answered {status} {text}"),
        }
    }
}

/// A browser in which somebody is signed in. It follows no redirection by itself: each request is a step.
#[derive(Clone, Debug)]
pub struct Browser {
    address: SocketAddr,
    /// `name=value` of its login.
    login: String,
}

/// What a browser has before it on the way to a decision.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// `name=value` of which device it is about, once a code was entered.
    held: String,
    /// What the forms of this login carry.
    form_token: String,
    /// Which device the question is about.
    grant: String,
    /// What the question said the device would get.
    offer: String,
}

impl Browser {
    /// Sets a password by the secret of an invitation, and is signed in with it.
    pub fn accept(address: SocketAddr, invitation: &str) -> anyhow::Result<Self> {
        let form = format!("token={invitation}&password={}", PASSWORD.replace(' ', "+"));
        let request = Rendered::plain_form(address, "/invitation", "Sec-Fetch-Site: same-origin\r\n", &form);
        let answer = leads_on(exchange(address, &request)?, "/account?done=invited")?;
        Ok(Self { address, login: cookie(&answer, "__Host-keyward").context("no login began")? })
    }

    /// The page to type a code on.
    pub async fn page(&self, wire: &mut Wire, from: Ipv4Addr) -> anyhow::Result<Visit> {
        let page = self.get(wire, "/device", (&Visit::default(), from)).await?;
        Ok(Visit { form_token: value(&page, "form_token")?, ..Visit::default() })
    }

    /// Types the code.
    pub async fn enter(&self, wire: &mut Wire, device: &Device, visit: &mut Visit) -> anyhow::Result<()> {
        let form = format!("form_token={}&code={}", visit.form_token, device.user_code);
        let request = Rendered::plain_form(self.address, "/device", &self.headers((visit, device.from)), &form);
        let answer = leads_on(wire.ask(&request).await?, "/device/confirm")?;
        visit.held = cookie(&answer, "__Host-keyward-grant").context("the browser keeps no device")?;
        Ok(())
    }

    /// The question.
    pub async fn question(&self, wire: &mut Wire, device: &Device, visit: &mut Visit) -> anyhow::Result<()> {
        let page = self.get(wire, "/device/confirm", (visit, device.from)).await?;
        visit.form_token = value(&page, "form_token")?;
        visit.grant = value(&page, "grant")?;
        visit.offer = value(&page, "offer")?.replace(' ', "+");
        Ok(())
    }

    /// Says yes.
    pub async fn decide(&self, wire: &mut Wire, device: &Device, visit: &mut Visit) -> anyhow::Result<()> {
        let form = format!("form_token={}&grant={}&offer={}&answer=yes", visit.form_token, visit.grant, visit.offer);
        let headers = self.headers((visit, device.from));
        let request = Rendered::plain_form(self.address, "/device/decision", &headers, &form);
        let answer = leads_on(wire.ask(&request).await?, "/device/done")?;
        if let Some(held) = cookie(&answer, "__Host-keyward-grant") {
            visit.held = held;
        }
        Ok(())
    }

    /// What became of it.
    pub async fn done(&self, wire: &mut Wire, device: &Device, visit: &Visit) -> anyhow::Result<()> {
        self.get(wire, "/device/done", (visit, device.from)).await.map(drop)
    }

    /// From the first page to the last.
    pub async fn let_in(&self, wire: &mut Wire, device: &Device) -> anyhow::Result<()> {
        let mut visit = self.page(wire, device.from).await?;
        self.enter(wire, device, &mut visit).await?;
        self.question(wire, device, &mut visit).await?;
        self.decide(wire, device, &mut visit).await?;
        self.done(wire, device, &visit).await
    }

    async fn get(&self, wire: &mut Wire, path: &str, on: (&Visit, Ipv4Addr)) -> anyhow::Result<Answer> {
        let answer = wire.ask(&Rendered::plain(self.address, path, &self.headers(on))).await?;
        ensure!(answer.status == 200, "{path} was answered {}", answer.status);
        Ok(answer)
    }

    /// In the network of the device, so that one tap is enough.
    fn headers(&self, (visit, from): (&Visit, Ipv4Addr)) -> String {
        let held = if visit.held.is_empty() { String::new() } else { format!("; {}", visit.held) };
        format!("{}Cookie: {}{held}\r\nSec-Fetch-Site: same-origin\r\n", forwarded(from), self.login)
    }
}

/// An answer that leads on to this path; what else it leads to, or shows, is a refusal.
fn leads_on(answer: Answer, path: &str) -> anyhow::Result<Answer> {
    let to = answer.header("location").next().unwrap_or_default();
    ensure!(answer.status == 303 && to == path, "answered {} to {to:?}, not on to {path}", answer.status);
    Ok(answer)
}

/// `name=value` of a cookie that an answer sets.
fn cookie(answer: &Answer, name: &str) -> Option<String> {
    let cookies = answer.header("set-cookie").filter_map(|cookie| cookie.split(';').next());
    cookies.filter(|cookie| cookie.split_once('=').is_some_and(|(found, _)| found == name)).last().map(str::to_owned)
}

/// What a hidden field of a page holds.
fn value(page: &Answer, name: &str) -> anyhow::Result<String> {
    let html = String::from_utf8_lossy(&page.body);
    let (_, rest) = html.split_once(&format!("name=\"{name}\" value=\"")).with_context(|| {
        let title = html.split_once("<title>").and_then(|(_, rest)| rest.split('<').next()).unwrap_or_default();
        format!("the page {title:?} has no {name}")
    })?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use super::*;

    fn answer(head: &str, body: &str) -> Answer {
        Answer { status: 303, head: head.to_owned(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_browser_keeps_the_cookie_of_this_name_and_no_other() {
        let head =
            "HTTP/1.1 303 See Other\r\nset-cookie: a-b=1; Path=/\r\nSet-Cookie: a=2=; Secure\r\nLocation: /x\r\n\r\n";
        let set = answer(head, "");
        assert_eq!(cookie(&set, "a").as_deref(), Some("a=2="));
        assert_eq!(cookie(&set, "b"), None);
    }

    #[test]
    fn another_way_on_than_the_expected_one_is_an_error_that_names_it() {
        let head = "HTTP/1.1 303 See Other\r\nlocation: /login\r\n\r\n";
        assert!(leads_on(answer(head, ""), "/login").is_ok());
        let error = leads_on(answer(head, ""), "/device/done").unwrap_err().to_string();
        assert!(error.contains("\"/login\""), "{error}");
    }

    #[test]
    fn a_hidden_field_is_read_from_a_page_and_its_absence_named() {
        let page = answer("", "<title>Devices</title><input type=\"hidden\" name=\"grant\" value=\"grant_1\">");
        assert_eq!(value(&page, "grant").unwrap(), "grant_1");
        let error = value(&page, "form_token").unwrap_err().to_string();
        assert_eq!(error, "the page \"Devices\" has no form_token");
    }

    #[test]
    fn many_ask_at_once_and_whoever_comes_then_waits_its_turn() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert_eq!(allowance.take(ASK_AT_ONCE, start), Duration::ZERO);
        assert_eq!(allowance.take(25, start), Duration::from_secs(1));
        assert_eq!(allowance.take(25, start + Duration::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn every_device_has_a_network_of_its_own() {
        assert_eq!(network(0), Ipv4Addr::new(10, 0, 0, 0));
        assert_eq!(network(66_000), Ipv4Addr::new(10, 1, 1, 208));
    }
}
