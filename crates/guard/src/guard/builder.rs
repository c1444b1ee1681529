//! How a guard is set up: what it accepts, and how it begins.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyward_model::id::ClientId;
use keyward_model::time::Timestamp;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use super::asked::Asked;
use super::fetch::{Fault, Http};
use super::follower::Follower;
use super::issuer::Issuer;
use super::pace::Pace;
use super::state::{Clock, State};
use super::{Guard, Inner};
use crate::{DEFAULT_REALM, Expect, MAX_LEEWAY, Memory, Policy, TrustedIssuer};

/// How long the first fetches may take together.
const START_WITHIN: Duration = Duration::from_secs(30);
const USUAL_CACHE: usize = 10_000;

/// What happens to tokens while nobody can say which of them were revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// They count until they end by themselves: the API outlives any failure of the issuer, and a revoked key lives as
    /// long as its last token.
    AcceptUntilExpiry,
    /// They count for so long after the last moment in which everything was known, then they are refused with 503.
    RefuseAfter(Duration),
}

/// Five minutes: longer than a server takes to be restarted or a network to heal, and shorter than a token lives. With
/// [`Unreachable::AcceptUntilExpiry`] whoever can keep an API from its issuer keeps a stolen key alive.
impl Default for Unreachable {
    fn default() -> Self {
        Self::RefuseAfter(Duration::from_secs(300))
    }
}

/// Why a guard could not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It was set up in a way that cannot work.
    #[error("the guard cannot work like this: {0}")]
    Setting(String),
    /// Keys, or what is revoked, could not be fetched.
    #[error(
        "{issuer} could not be asked: {fault}. See that it runs and can be reached from here, or let the guard begin \
         without it: Guard::discover(…).start_unready()"
    )]
    Unreachable {
        /// Whom the guard asked.
        issuer: String,
        /// What came of it.
        fault: String,
    },
}

/// A guard that is not there yet; `.await` makes it one.
#[must_use = "a guard begins with .await or .start_unready()"]
pub struct Builder {
    issuer: String,
    audience: Option<String>,
    identity_clients: Vec<ClientId>,
    trusted: Vec<TrustedIssuer>,
    leeway: Duration,
    unreachable: Unreachable,
    feed: bool,
    cached_tokens: usize,
    realm: String,
    clock: Clock,
    tls: Option<Arc<ClientConfig>>,
    pub(super) pace: Pace,
}

impl Builder {
    pub(super) fn new(issuer: String) -> Self {
        Self {
            issuer,
            audience: None,
            identity_clients: Vec::new(),
            trusted: Vec::new(),
            leeway: crate::DEFAULT_LEEWAY,
            unreachable: Unreachable::default(),
            feed: true,
            cached_tokens: USUAL_CACHE,
            realm: DEFAULT_REALM.to_owned(),
            clock: Arc::new(system),
            tls: None,
            pace: Pace::USUAL,
        }
    }

    /// The audience of this API, as it is registered at the issuer. There is no guard without it.
    pub fn audience(self, audience: impl Into<String>) -> Self {
        Self { audience: Some(audience.into()), ..self }
    }

    /// Accepts the identity tokens of this client from every client, such as those of the company's login.
    pub fn accept_identities_of(mut self, client: ClientId) -> Self {
        self.identity_clients.push(client);
        self
    }

    /// Accepts identity tokens of this issuer, found by OpenID Connect Discovery, from every client.
    pub fn trust(mut self, issuer: TrustedIssuer) -> Self {
        self.trusted.push(issuer);
        self
    }

    /// How far the clocks of issuer and API may differ; half a minute if not said, at most [`MAX_LEEWAY`].
    pub fn leeway(self, leeway: Duration) -> Self {
        Self { leeway: leeway.min(MAX_LEEWAY), ..self }
    }

    /// What happens while nobody can say which tokens were revoked.
    pub fn unreachable(self, unreachable: Unreachable) -> Self {
        Self { unreachable, ..self }
    }

    /// Whether to follow the feed, from which revocations arrive at once; without, the status list is fetched whenever a
    /// copy's time is over, by default each minute.
    pub fn feed(self, feed: bool) -> Self {
        Self { feed, ..self }
    }

    /// About how many verified tokens are remembered, 10,000 if not said, of about 2 KiB each; 0 remembers none.
    pub fn cached_tokens(self, tokens: usize) -> Self {
        Self { cached_tokens: tokens, ..self }
    }

    /// The protection space that challenges name (RFC 9110 §11.5); `api` if not said.
    pub fn realm(self, realm: impl Into<String>) -> Self {
        Self { realm: realm.into(), ..self }
    }

    /// Another clock than the system's, for tests.
    pub fn clock(self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Another configuration of TLS than the system's roots, such as a certificate authority of the company's own.
    pub fn tls(self, config: Arc<ClientConfig>) -> Self {
        Self { tls: Some(config), ..self }
    }

    /// Begins at once, in the runtime of the caller. Until keys and revocations are there, all requests are refused with
    /// 503: for an API that must start whether or not its issuer runs.
    pub fn start_unready(self) -> Result<Guard, StartError> {
        let setting = |err: Fault| StartError::Setting(err.to_string());
        let Some(audience) = self.audience.filter(|audience| !audience.is_empty()) else {
            return Err(StartError::Setting("say for which API, with .audience(…)".to_owned()));
        };
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(StartError::Setting(
                "it must begin within a tokio runtime, in which it fetches keys".to_owned(),
            ));
        }
        if self.trusted.iter().any(|trusted| trusted.issuer == self.issuer) {
            return Err(StartError::Setting(format!("{} is the issuer itself: do not .trust(…) it", self.issuer)));
        }
        let http = Http::new(self.tls, self.pace.answer);
        let mut others: Vec<&str> = self.trusted.iter().map(|trusted| trusted.issuer.as_str()).collect();
        others.sort_unstable();
        others.dedup();
        let others = others.into_iter().map(|other| Issuer::trusted(other, http.clone()));
        let own = Issuer::own(&self.issuer, http.clone());
        let issuers: Vec<Issuer> = [own].into_iter().chain(others).collect::<Result<_, _>>().map_err(setting)?;

        let policy = Policy::new(Expect::new(&self.issuer, audience).with_leeway(self.leeway));
        let policy = self.identity_clients.into_iter().fold(policy, Policy::accept_identities_of);
        let state = Arc::new(State {
            policy: self.trusted.into_iter().fold(policy, Policy::trust),
            unreachable: self.unreachable,
            issuer: self.issuer,
            clock: self.clock,
            realm: self.realm,
            pace: self.pace,
            keys: Default::default(),
            keys_asked: issuers.iter().map(|_| Arc::new(Asked::default())).collect(),
            list_asked: Asked::default(),
            keys_as_of: Default::default(),
            memory: Memory::of_one_policy(self.cached_tokens),
            revocations: Default::default(),
            meter: Default::default(),
        });
        let follower = Follower::new(Arc::clone(&state), http, self.feed).map_err(setting)?;
        let mut tasks: Vec<AbortHandle> = vec![tokio::spawn(follower.run()).abort_handle()];
        for (issuer, asked) in issuers.into_iter().zip(&state.keys_asked) {
            tasks.push(tokio::spawn(issuer.run(Arc::clone(&state), Arc::clone(asked))).abort_handle());
        }
        Ok(Guard(Arc::new(Inner { state, tasks })))
    }

    /// Begins when everything is there that is needed to accept a token.
    async fn start(self) -> Result<Guard, StartError> {
        let guard = self.start_unready()?;
        let state = &guard.0.state;
        let first = async {
            for keys in &state.keys_asked {
                keys.first().await?;
            }
            match (state.list_asked.first().await, state.unreachable) {
                (Err(fault), Unreachable::RefuseAfter(_)) => Err(fault),
                _ => Ok(()),
            }
        };
        let begun = timeout(START_WITHIN, first).await.unwrap_or_else(|_| Err(Fault("it took too long".into())));
        match begun {
            Ok(()) => Ok(guard),
            Err(fault) => Err(StartError::Unreachable { issuer: state.issuer.clone(), fault: fault.to_string() }),
        }
    }
}

impl IntoFuture for Builder {
    type Output = Result<Guard, StartError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
fn system() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
