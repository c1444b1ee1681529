//! A guard that finds out by itself what it needs to know, before and beside requests and never on their way.

mod asked;
mod builder;
pub(crate) mod event;
mod fetch;
mod follower;
mod issuer;
mod measures;
mod pace;
mod revocations;
pub(crate) mod sse;
mod state;
pub(crate) mod status_list;

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use keyward_model::time::Timestamp;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::{Caller, Presented, Refusal};
use state::State;

pub use builder::{Builder, StartError, Unreachable};
pub use measures::Measures;

/// Says who calls an API, and refuses whoever may not. Cloning shares it; the tasks behind it end with the last clone.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    state: Arc<State>,
    tasks: Vec<AbortHandle>,
}

impl Guard {
    /// A guard for tokens of this issuer, whose keys it finds by RFC 8414. The URL is the issuer's own, character by
    /// character; it begins with `https://` unless it is on this machine.
    pub fn discover(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }

    /// Who sent a request with these headers. Waits for nothing and asks nobody.
    pub fn check(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        self.check_tokens(&Presented::of(headers).inspect_err(|refusal| self.0.state.meter.refused(refusal))?)
    }

    /// The same for tokens that came in another way than in headers of HTTP.
    pub fn check_tokens(&self, presented: &Presented<'_>) -> Result<Caller, Refusal> {
        let state = &self.0.state;
        let verdict = state.judge(presented);
        if let Err(refusal) = &verdict {
            for missing in state.missing_for(refusal) {
                missing.want();
            }
        }
        self.counted(verdict)
    }

    /// The same, but where keys or revocations that are just being fetched may change the verdict, it waits for them, at
    /// most two seconds: a token signed by a key of a moment ago is accepted at the first try.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let presented = Presented::of(headers).inspect_err(|refusal| self.0.state.meter.refused(refusal))?;
        let state = &self.0.state;
        let mut verdict = state.judge(&presented);
        if let Err(refusal) = &verdict {
            let missing = state.missing_for(refusal);
            let mut rounds: Vec<_> = missing.iter().map(|missing| (missing, missing.watch())).collect();
            // What was fetched before somebody watched would be waited for in vain.
            verdict = state.judge(&presented);
            rounds.retain(|(missing, _)| verdict.is_err() && missing.want());
            let fetched = async {
                for (_, round) in &mut rounds {
                    drop(round.changed().await);
                    verdict = state.judge(&presented);
                    if verdict.is_ok() {
                        break;
                    }
                }
            };
            drop(timeout(state.pace.patience, fetched).await);
        }
        self.counted(verdict)
    }

    fn counted(&self, verdict: Result<Caller, Refusal>) -> Result<Caller, Refusal> {
        match &verdict {
            Ok(_) => self.0.state.meter.accepted(),
            Err(refusal) => self.0.state.meter.refused(refusal),
        }
        verdict
    }

    /// Fetches keys and revocations now, for whoever cannot wait until the guard does it by itself; says what went wrong.
    pub async fn refresh(&self) -> Result<(), StartError> {
        let state = &self.0.state;
        let fresh = async {
            for keys in &state.keys_asked {
                keys.fresh().await?;
            }
            state.list_asked.fresh().await
        };
        let unreachable =
            |fault: fetch::Fault| StartError::Unreachable { issuer: state.issuer.clone(), fault: fault.to_string() };
        fresh.await.map_err(unreachable)
    }

    /// What it has done so far, and how it stands.
    pub fn measures(&self) -> Measures {
        self.0.state.measures()
    }

    /// The protection space that its challenges name.
    pub fn realm(&self) -> &str {
        &self.0.state.realm
    }

    /// This instant, by the guard's clock.
    pub fn now(&self) -> Timestamp {
        self.0.state.now()
    }

    #[cfg(feature = "tower")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    #[cfg(feature = "tower")]
    pub(crate) fn count_refusal(&self, refusal: &Refusal) {
        self.0.state.meter.refused(refusal);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("issuer", &self.0.state.issuer).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[cfg(test)]
mod stub;
#[cfg(test)]
mod tests;
