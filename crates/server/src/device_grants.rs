//! Who lets devices in: what somebody who is signed in with a browser may do with a device's code. What the pages show is
//! not here, nor anything of HTTP.
//!
//! 1. [`claim`]: they enter the code, typed or by a link, and see who asks for what, and how much stands in the way
//! 2. [`approve`] or [`deny`], in the same browser
//! 3. [`undo`]: an approval is taken back, also after the device has got its session
//! 4. [`watch`]: a page waits for what becomes of it

pub(crate) mod budgets;
mod friction;
pub(crate) mod pace;
pub(crate) mod waiting;

use std::sync::Arc;
use std::time::Duration;

use keyward_model::caller::Network;
use keyward_model::client::Client;
use keyward_model::device_grant::{Approval, Claim, DeviceGrant, Digits, GrantState, NoArrow};
use keyward_model::entropy::EntropyError;
use keyward_model::event::{Actor, Draft};
use keyward_model::id::{ClientId, DeviceGrantId, LoginId, UserId};
use keyward_model::login::Method;
use keyward_model::rights::{ResSet, Rights, Scope, ScopeSet};
use keyward_model::secret::HashingKey;
use keyward_model::time::Timestamp;
use keyward_model::user_code::UserCode;
use keyward_store::{FoundWho, Origin, StoreError, Tx};
use serde_json::json;

pub use friction::{Friction, Grade, Reason};

use crate::api::device_sessions;
use crate::app::App;
use crate::config::DeviceGrantsConfig;
use crate::registry::Registry;
use budgets::Budgets;
use friction::{Facts, LATELY, friction};
use pace::Pace;
use waiting::Waiting;

/// What device grants need beside the database.
pub struct DeviceGrants {
    pub(crate) waiting: Waiting,
    pub(crate) budgets: Budgets,
    pub(crate) pace: Pace,
    /// Under which the codes are hashed that people type: of few bits, so that nobody who reads the database finds them.
    pub(crate) user_codes: HashingKey,
    /// For how long a poll is held while nothing is decided.
    pub(crate) hold: Duration,
}

impl DeviceGrants {
    /// With the settings, and a key of its own.
    pub(crate) fn new(config: &DeviceGrantsConfig, key: &HashingKey) -> Self {
        Self {
            waiting: Waiting::new(config.held_polls),
            budgets: Budgets::default(),
            pace: Pace::default(),
            user_codes: HashingKey::new(&key.derive("user codes of devices")),
            hold: Duration::from_secs(config.hold_s.into()),
        }
    }
}

/// Somebody who is signed in with a browser, and how they come.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Who.
    pub user: UserId,
    /// In which login.
    pub login: LoginId,
    /// How they proved who they are.
    pub method: Method,
    /// And when.
    pub authenticated_at: Timestamp,
    /// From which network.
    pub network: Network,
    /// Their network address, for the log.
    pub source: Option<String>,
    /// The instant of the request.
    pub now: Timestamp,
}

/// A device that asks, as it is shown to whoever entered its code.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which.
    pub id: DeviceGrantId,
    /// Through which client.
    pub client: ClientId,
    /// What that is called.
    pub client_name: String,
    /// Who answers for the client.
    pub owner: UserId,
    /// What the device calls itself; may be empty.
    pub label: String,
    /// From which network it asks.
    pub network: Network,
    /// From which network whoever looks at this comes.
    pub own_network: Network,
    /// What it says it runs; may be empty.
    pub user_agent: String,
    /// When it asked.
    pub asked_at: Timestamp,
    /// Until when it can be decided.
    pub expires_at: Timestamp,
    /// What it would get: each scope with its description, without those that another implies.
    pub scopes: Vec<ScopeInWords>,
    /// On which resources.
    pub res: ResSet,
    /// Both as one line, to be sent back with a yes.
    pub offer: String,
    /// What stands in the way.
    pub friction: Friction,
    /// When this browser entered the code: what the delay counts from.
    pub claimed_at: Timestamp,
    /// Whether it is shown digits after the approval, which the device must be given.
    pub confirmation: bool,
}

/// A scope, and what administrators say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeInWords {
    /// Its name.
    pub name: String,
    /// Its description; may be empty.
    pub description: String,
}

impl Asked {
    /// A yes to what is asked here.
    pub fn consent(&self, acknowledged: bool) -> Consent {
        Consent { offer: self.offer.clone(), acknowledged }
    }
}

/// What whoever approves has said.
#[derive(Debug, Clone, Default)]
pub struct Consent {
    /// To what: [`Asked::offer`] as it was shown to them. The owner of the client can change meanwhile what devices get.
    pub offer: String,
    /// That the device is before them, where that is asked.
    pub acknowledged: bool,
}

/// What became of taking an approval back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// The device has got nothing.
    Denied,
    /// The device had got its session, which has ended.
    SessionEnded,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No device asks with this code: mistyped, or too late.
    #[error("no device asks with this code")]
    Unknown,
    /// Too many wrong codes, or too many changes.
    #[error("too often; it can be tried again later")]
    TooMany(Duration),
    /// Another account had entered this code: now nobody lets the device in.
    #[error("another account has entered this code; nothing comes of it")]
    Contested,
    /// They have let this device in already.
    #[error("this device was let in already")]
    Approved,
    /// Another browser entered the code, or another account.
    #[error("this was begun in another browser")]
    Foreign,
    /// It was decided, or its time is over.
    #[error("this has ended")]
    Ended,
    /// Client and user have nothing in common that could be given.
    #[error("there is nothing that this device could be given")]
    Nothing,
    /// The code must be typed, not followed.
    #[error("the code must be typed")]
    TypeCode,
    /// They must sign in once more.
    #[error("a fresh sign-in is needed")]
    SignInAfresh,
    /// The device would get something else than they were shown.
    #[error("it has changed what the device would get")]
    Changed,
    /// They must say that the device is before them.
    #[error("it must be acknowledged that the device is elsewhere")]
    Acknowledge,
    /// They cannot have read the question.
    #[error("too soon after the question")]
    TooSoon(Duration),
    /// A fault of our own.
    #[error(transparent)]
    Fault(#[from] StoreError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl From<NoArrow> for Refusal {
    fn from(why: NoArrow) -> Self {
        match why {
            NoArrow::Ended => Self::Ended,
            NoArrow::Foreign | NoArrow::Undecided => Self::Foreign,
            NoArrow::Contested => Self::Contested,
            NoArrow::Approved => Self::Approved,
        }
    }
}

/// Enters a code: `typed`, or by following a link that had it. Whoever is first has it. A second account is refused, and
/// with it the device: its code is in more hands than it should be.
pub async fn claim(app: &Arc<App>, by: &Visitor, code: &str, typed: bool) -> Result<Asked, Refusal> {
    charge_code(app, by).await?;
    let Some(grant) = find_by_code(app, code, by.now).await? else {
        tracing::info!(user = %by.user, source = by.source, "a code was entered with which no device asks");
        return Err(Refusal::Unknown);
    };
    app.device_grants.budgets.was_right(by.user, by.network);
    let mut tx = begin(app, by).await?;
    let Some(before) = tx.find_device_grant(grant.id).await? else { return Err(Refusal::Unknown) };
    match before.may_claim(by.user, by.now) {
        Ok(()) => {}
        Err(NoArrow::Contested) => return Err(contest(app, tx, by, &before).await?),
        Err(why) => return Err(why.into()),
    }
    let claim = Claim { user: by.user, login: by.login, claimed_at: by.now, typed };
    let Some(claimed) = tx.claim_device_grant(grant.id, &claim).await? else { return Err(Refusal::Ended) };
    // A page that is loaded again is no news.
    if !matches!(&before.state, GrantState::Claimed(known) if known.login == by.login) {
        tx.record(draft("device_grant.claimed", &claimed));
    }
    commit(app, tx, by).await?;
    look_at(app, by, &claimed).await
}

/// What the browser that entered the code has before it.
pub async fn look(app: &Arc<App>, by: &Visitor, id: DeviceGrantId) -> Result<Asked, Refusal> {
    let grant = app.store.find_device_grant(id).await?.ok_or(Refusal::Ended)?;
    look_at(app, by, &grant).await
}

/// Lets the device in. Gives the digits that it must be given, if its client wants that.
pub async fn approve(
    app: &Arc<App>,
    by: &Visitor,
    id: DeviceGrantId,
    consent: Consent,
) -> Result<Option<Digits>, Refusal> {
    let asked_lately = asked_lately(app, id, by.now).await?;
    let mut tx = begin(app, by).await?;
    let grant = tx.find_device_grant(id).await?.ok_or(Refusal::Ended)?;
    let claim = grant.may_decide(by.user, by.login, by.now)?;
    let who = tx.find_client_and_user(grant.client, by.user).await?.ok_or(Refusal::Ended)?;
    let rights = rights_now(app, &who, &grant)?;
    if consent.offer != rights.to_text() {
        return Err(Refusal::Changed);
    }
    let friction = judge(&grant, &claim, &rights, (by, asked_lately));
    require_consent(&friction, (by, &grant, &claim), consent.acknowledged)?;
    let approval = Approval {
        claim,
        approved_at: by.now,
        authenticated_at: by.authenticated_at,
        method: by.method,
        network: by.network,
        digits: grant.confirmation.then(|| Digits::generate(&app.entropy)).transpose()?,
        wrong: 0,
    };
    let approved = tx.approve_device_grant(id, &approval, &rights).await?.ok_or(Refusal::Ended)?;
    tx.record(draft("device_grant.approved", &approved));
    commit(app, tx, by).await?;
    Ok(approval.digits)
}

/// Says no. It asks nothing.
pub async fn deny(app: &Arc<App>, by: &Visitor, id: DeviceGrantId) -> Result<(), Refusal> {
    let mut tx = begin(app, by).await?;
    let grant = tx.find_device_grant(id).await?.ok_or(Refusal::Ended)?;
    grant.may_decide(by.user, by.login, by.now)?;
    let denied = tx.refuse_device_grant(id, (by.user, by.login), by.now).await?.ok_or(Refusal::Ended)?;
    tx.record(draft("device_grant.denied", &denied));
    commit(app, tx, by).await
}

/// Gives a code free again that this browser has entered, so that another account of whoever sits there can enter it.
pub async fn release(app: &Arc<App>, by: &Visitor, id: DeviceGrantId) -> Result<(), Refusal> {
    let mut tx = begin(app, by).await?;
    let released = tx.release_device_grant(id, (by.user, by.login), by.now).await?.ok_or(Refusal::Ended)?;
    tx.record(draft("device_grant.released", &released));
    commit(app, tx, by).await
}

/// Takes an approval back, in any browser of whoever gave it: before the device has come nothing is given, afterwards the
/// session ends with all its tokens.
pub async fn undo(app: &Arc<App>, by: &Visitor, id: DeviceGrantId) -> Result<Undone, Refusal> {
    let mut tx = begin(app, by).await?;
    // The statement before the look: if the device comes for its session at this moment, the look finds that session.
    let undone = if let Some(denied) = tx.undo_device_grant(id, by.user, by.now).await? {
        tx.record(draft("device_grant.denied", &denied));
        Undone::Denied
    } else {
        let grant = tx.find_device_grant(id).await?.ok_or(Refusal::Ended)?;
        let session = match grant.state {
            GrantState::Redeemed { by: user, session, .. } if user == by.user => session,
            _ => return Err(grant.may_undo(by.user, by.now).err().unwrap_or(NoArrow::Ended).into()),
        };
        let revoked = tx.revoke_device_session(session, by.now).await?.ok_or(Refusal::Ended)?;
        tx.record(device_sessions::draft("device_session.revoked", &revoked));
        Undone::SessionEnded
    };
    commit(app, tx, by).await?;
    Ok(undone)
}

/// Waits until the grant is in another state than the one that is `known`, for at most this time; gives the state then.
/// Only whoever entered the code may watch.
pub async fn watch(
    app: &Arc<App>,
    user: UserId,
    id: DeviceGrantId,
    known: &GrantState,
    within: Duration,
) -> Result<GrantState, Refusal> {
    let mut waiter = app.device_grants.waiting.hear(id);
    let look = async || {
        let grant = app.store.find_device_grant(id).await?.ok_or(Refusal::Ended)?;
        let state = grant.state_at(app.clock.now());
        if state.user() == Some(user) { Ok(state) } else { Err(Refusal::Foreign) }
    };
    let ends_at = tokio::time::Instant::now() + within;
    loop {
        let state = look().await?;
        let left = ends_at.saturating_duration_since(tokio::time::Instant::now());
        if state.name() != known.name() || left.is_zero() || !waiter.changed(left).await {
            return if state.name() == known.name() { look().await } else { Ok(state) };
        }
    }
}

/// The most that a device may be given through this client, whoever lets it in; `None` if it may be given nothing.
pub(crate) fn ceiling(registry: &Registry, client: &Client) -> Option<Rights> {
    let policy = client.device.as_ref()?;
    let own = Rights { scope: policy.scope.clone(), res: client.rights.res.clone() };
    let within = own.intersect(&client.rights, &registry.catalogue);
    Some(Rights { scope: within.scope.intersect(&registry.known_to_apis_of(client)), res: within.res })
}

/// What the log says of a device grant.
pub(crate) fn draft(kind: &'static str, grant: &DeviceGrant) -> Draft {
    let mut data = json!({ "client": grant.client, "label": grant.label, "network": grant.network.to_string() });
    let further = match &grant.state {
        GrantState::Claimed(claim) => json!({ "user": claim.user, "typed": claim.typed }),
        GrantState::Approved(approval) => json!({
            "user": approval.claim.user, "scope": grant.rights.scope, "res": grant.rights.res,
            "amr": approval.method.amr(), "authenticated_at": approval.authenticated_at,
            "approved_from": approval.network.to_string(),
        }),
        GrantState::Redeemed { by, session, .. } => json!({ "user": by, "session": session }),
        GrantState::Denied { of, reason, .. } => json!({ "user": of, "reason": reason }),
        GrantState::Expired { of, expired_at } => json!({ "user": of, "expired_at": expired_at }),
        GrantState::Pending => json!({}),
    };
    if let (Some(data), serde_json::Value::Object(further)) = (data.as_object_mut(), further) {
        data.extend(further);
    }
    Draft { kind, subject: grant.id.to_string(), data }
}

async fn find_by_code(app: &App, code: &str, now: Timestamp) -> Result<Option<DeviceGrant>, StoreError> {
    let Some(code) = UserCode::parse(code) else { return Ok(None) };
    let hash = app.device_grants.user_codes.hash(&code.secret());
    app.store.find_device_grant_of_user(&hash, now).await
}

/// Charges a code before it is looked up: whoever enters many at once has no more of them than one after the other.
async fn charge_code(app: &App, by: &Visitor) -> Result<(), Refusal> {
    let budgets = &app.device_grants.budgets;
    if let Some(wait) = budgets.charge_code(by.user, by.network, by.now) {
        return Err(Refusal::TooMany(wait));
    }
    let open = app.store.count_open_user_codes(by.now).await?;
    budgets.charge_everybody((by.user, by.network), open, by.now).map_or(Ok(()), |wait| Err(Refusal::TooMany(wait)))
}

/// Ends what a second account has entered. The refusal commits: it must not be there any more for either of the two.
async fn contest(app: &Arc<App>, mut tx: Tx, by: &Visitor, grant: &DeviceGrant) -> Result<Refusal, Refusal> {
    if let Some(denied) = tx.contest_device_grant(grant.id, by.user, by.now).await? {
        tracing::warn!(grant = %grant.id, user = %by.user, source = by.source, "two accounts have entered one code");
        tx.record(draft("device_grant.denied", &denied));
        commit(app, tx, by).await?;
    }
    Ok(Refusal::Contested)
}

async fn look_at(app: &Arc<App>, by: &Visitor, grant: &DeviceGrant) -> Result<Asked, Refusal> {
    let claim = grant.may_decide(by.user, by.login, by.now)?;
    let asked_lately = asked_lately(app, grant.id, by.now).await?;
    let who = app.store.find_client_and_user(grant.client, by.user).await?.ok_or(Refusal::Ended)?;
    let rights = rights_now(app, &who, grant)?;
    let friction = judge(grant, &claim, &rights, (by, asked_lately));
    let scopes = in_words(&app.registry.load(), &rights.scope);
    Ok(Asked {
        id: grant.id,
        client: who.client.id,
        client_name: who.client.name,
        owner: who.client.owner,
        label: grant.label.clone(),
        network: grant.network,
        own_network: by.network,
        user_agent: grant.user_agent.clone(),
        asked_at: grant.created_at,
        expires_at: grant.expires_at,
        scopes,
        offer: rights.to_text(),
        res: rights.res,
        friction,
        claimed_at: claim.claimed_at,
        confirmation: grant.confirmation,
    })
}

/// Scopes as people read them: those that no other of them implies, with what administrators say of each.
pub(crate) fn in_words(registry: &Registry, scopes: &ScopeSet) -> Vec<ScopeInWords> {
    let topmost = registry.catalogue.topmost(scopes);
    let words =
        |name: &Scope| ScopeInWords { name: name.to_string(), description: registry.description(name).to_owned() };
    topmost.iter().map(words).collect()
}

async fn asked_lately(app: &App, id: DeviceGrantId, now: Timestamp) -> Result<u64, StoreError> {
    match app.store.find_device_grant(id).await? {
        Some(grant) => app.store.count_device_grants(grant.network, now.minus(LATELY)).await,
        None => Ok(0),
    }
}

/// What the device would get: what it asked for ∩ what its client may give devices ∩ the user's rights now.
pub(crate) fn rights_now(app: &App, who: &FoundWho, grant: &DeviceGrant) -> Result<Rights, Refusal> {
    let is_standing = who.client.disabled_at.is_none() && who.user.disabled_at.is_none();
    let registry = app.registry.load();
    let ceiling = ceiling(&registry, &who.client).filter(|_| is_standing).ok_or(Refusal::Ended)?;
    let rights = grant.rights.intersect(&ceiling, &registry.catalogue).intersect(&who.user.rights, &registry.catalogue);
    if rights.scope.is_empty() || rights.res == ResSet::default() { Err(Refusal::Nothing) } else { Ok(rights) }
}

fn judge(grant: &DeviceGrant, claim: &Claim, rights: &Rights, (by, asked_lately): (&Visitor, u64)) -> Friction {
    friction(Facts {
        same_network: grant.network == by.network,
        asked_lately,
        age: by.now.since(grant.created_at),
        typed: claim.typed,
        administers: rights.scope.iter().any(|scope| scope.is_keyward()),
    })
}

/// What is asked of whoever approves is not only shown: without it nothing is approved.
fn require_consent(
    friction: &Friction,
    (by, grant, claim): (&Visitor, &DeviceGrant, &Claim),
    acknowledged: bool,
) -> Result<(), Refusal> {
    if friction.must_type_code {
        return Err(Refusal::TypeCode);
    }
    if friction.must_sign_in_afresh && by.authenticated_at < grant.created_at {
        return Err(Refusal::SignInAfresh);
    }
    if friction.must_acknowledge && !acknowledged {
        return Err(Refusal::Acknowledge);
    }
    match friction.delay.checked_sub(by.now.since(claim.claimed_at)).filter(|wait| !wait.is_zero()) {
        Some(wait) => Err(Refusal::TooSoon(wait)),
        None => Ok(()),
    }
}

/// Begins a change, within what one user may change in a while: each is kept in the log for ever.
async fn begin(app: &App, by: &Visitor) -> Result<Tx, Refusal> {
    match app.sign_in.throttle.charge_change(by.user, by.now) {
        Some(wait) => Err(Refusal::TooMany(wait)),
        None => Ok(app.store.begin().await?),
    }
}

async fn commit(app: &App, tx: Tx, by: &Visitor) -> Result<(), Refusal> {
    let actor = Actor::Login { user: by.user, login: by.login };
    let seq = tx.commit(&Origin { actor, source: by.source.clone(), now: by.now }).await?;
    Ok(app.wait_until_applied(seq).await?)
}
