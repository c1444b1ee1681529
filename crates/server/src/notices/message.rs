//! What a notice says: JSON for programs, and a letter for people made of the same.

use std::net::IpAddr;

use keyward_model::client::Client;
use keyward_model::credential::StateName;
use keyward_model::device_session::DeviceSession;
use keyward_model::entropy::{Entropy, EntropyError};
use keyward_model::id::{ClientId, CredentialId, DeviceSessionId, NoticeId, UserId};
use keyward_model::login::{Login, Method};
use keyward_model::notice::{Notice, NoticeKind, Occasion};
use keyward_model::time::Timestamp;
use keyward_model::user::User;
use keyward_store::{Concerned, SeenCaller};
use serde::{Deserialize, Serialize};

use crate::api::instant::Instant;
use crate::config::OnReport;
use crate::principals::Principal;

const DAY_S: i64 = 24 * 3600;

/// A notice, and to whom it goes.
pub(crate) struct Message {
    /// What is noted and sent.
    pub(crate) notice: Notice,
    /// Whose key it is about, if it is about one.
    pub(crate) client: Option<ClientId>,
    /// Who owns that key, or signed in.
    pub(crate) owner: UserId,
    /// Their address now, if they have one and are to be told.
    pub(crate) email: Option<String>,
}

/// The body that receivers get.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Body {
    #[serde(rename = "type")]
    pub(super) kind: NoticeKind,
    pub(super) timestamp: Instant,
    pub(super) data: Data,
}

/// Everything that a notice of any kind may hold; what does not apply is left out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Data {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) credential: Option<Named<CredentialId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<StateName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<Named<ClientId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<Named<UserId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Named<DeviceSessionId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Named<UserId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<Method>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ends_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revoked_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<String>,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on_report: Option<OnReport>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) callers: Vec<NamedCaller>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// An id, and what people call it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Named<T> {
    pub(super) id: T,
    pub(super) name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NamedCaller {
    pub(super) instance: String,
    pub(super) user_agent: String,
    pub(super) network: String,
    pub(super) last_seen_at: Instant,
}

/// A report that a key has leaked.
pub(crate) struct Leak<'a> {
    /// Where it was found, as the reporter says.
    pub(crate) place: &'a str,
    /// From where it was reported.
    pub(crate) source: Option<IpAddr>,
    /// What happens to the key.
    pub(crate) on_report: OnReport,
    /// When it ends, if it is retired.
    pub(crate) retire_at: Option<Timestamp>,
}

impl Message {
    /// What is to be told of a key.
    pub(super) fn new(
        kind: NoticeKind,
        concerned: &Concerned,
        callers: &[SeenCaller],
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        let occasion = concerned.occasion.clone();
        let about = Instant(Timestamp::from_millis(occasion.deadline));
        let data = Data {
            credential: Some(Named { id: concerned.credential, name: concerned.label.clone() }),
            state: Some(concerned.state),
            client: Some(Named { id: concerned.client, name: concerned.client_name.clone() }),
            owner: Some(Named { id: concerned.owner, name: concerned.owner_name.clone() }),
            ends_at: (kind == NoticeKind::Ending).then_some(about),
            revoked_at: (kind == NoticeKind::RevokedInUse).then_some(about),
            network: (kind == NoticeKind::NewNetwork).then(|| occasion.rung.clone()),
            callers: callers.iter().map(named).collect(),
            next: Some(next(kind, concerned)),
            ..Data::default()
        };
        let id = NoticeId::new(now, entropy)?;
        let body = body(&Body { kind, timestamp: Instant(now), data });
        let notice = Notice { id, kind, credential: Some(concerned.credential), occasion, body, created_at: now };
        Ok(Self { notice, client: Some(concerned.client), owner: concerned.owner, email: concerned.email.clone() })
    }

    /// What is to be told of a key that somebody found, once a day while it goes on. Of a disabled owner's key too, but
    /// not to them: enabled again, it would work.
    pub(crate) fn leak(
        holder: &Principal,
        leak: &Leak<'_>,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        let Principal { entry, client, owner } = holder;
        let key = entry.credential.id;
        let revoked_at = (leak.on_report == OnReport::Revoke).then_some(now);
        let end = leak.retire_at.or(revoked_at).map_or(0, Timestamp::as_millis);
        let occasion = Occasion { deadline: end, rung: (now.as_seconds() / DAY_S).to_string() };
        let data = Data {
            credential: Some(Named { id: key, name: entry.credential.label.clone() }),
            client: Some(Named { id: client.id, name: client.name.clone() }),
            owner: Some(Named { id: owner.id, name: owner.name.clone() }),
            ends_at: leak.retire_at.map(Instant),
            revoked_at: revoked_at.map(Instant),
            network: leak.source.map(|source| source.to_string()),
            place: Some(leak.place.to_owned()).filter(|place| !place.is_empty()),
            on_report: Some(leak.on_report),
            next: Some(match leak.on_report {
                OnReport::Note => format!("keyward credential revoke {key}"),
                OnReport::Revoke | OnReport::Retire => format!("keyward credential callers {key}"),
            }),
            ..Data::default()
        };
        let (id, kind) = (NoticeId::new(now, entropy)?, NoticeKind::LeakReported);
        let body = body(&Body { kind, timestamp: Instant(now), data });
        let notice = Notice { id, kind, credential: Some(key), occasion, body, created_at: now };
        let email = owner.email.clone().filter(|_| owner.disabled_at.is_none());
        Ok(Self { notice, client: Some(client.id), owner: owner.id, email })
    }

    /// What is to be told of a device that acted for a user and is not theirs: to administrators, for it may be the trace of
    /// somebody who talks others into signing in foreign devices.
    pub(crate) fn disowned(
        session: &DeviceSession,
        client: &Client,
        user: &User,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        let data = Data {
            session: Some(Named { id: session.id, name: session.label.clone() }),
            client: Some(Named { id: client.id, name: client.name.clone() }),
            user: Some(Named { id: user.id, name: user.name.clone() }),
            revoked_at: Some(Instant(now)),
            network: session.created_from.clone(),
            next: Some(format!("keyward session list --client {}", client.id)),
            ..Data::default()
        };
        let (id, kind) = (NoticeId::new(now, entropy)?, NoticeKind::Disowned);
        let body = body(&Body { kind, timestamp: Instant(now), data });
        let occasion = Occasion { deadline: 0, rung: session.id.to_string() };
        let notice = Notice { id, kind, credential: None, occasion, body, created_at: now };
        Ok(Self { notice, client: Some(client.id), owner: client.owner, email: None })
    }

    /// What is to be told of somebody who signed in where they never did. Every login is an occasion of its own.
    pub(crate) fn new_sign_in(
        user: &User,
        login: &Login,
        issuer: &str,
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        let (id, kind, now) = (NoticeId::new(login.created_at, entropy)?, NoticeKind::NewSignIn, login.created_at);
        let data = Data {
            user: Some(Named { id: user.id, name: user.name.clone() }),
            method: Some(login.method),
            user_agent: Some(login.user_agent.clone()).filter(|user_agent| !user_agent.is_empty()),
            network: Some(login.network.clone()),
            next: Some(format!("{issuer}/account")),
            ..Data::default()
        };
        let body = body(&Body { kind, timestamp: Instant(now), data });
        let occasion = Occasion { deadline: 0, rung: login.id.to_string() };
        let notice = Notice { id, kind, credential: None, occasion, body, created_at: now };
        Ok(Self { notice, client: None, owner: user.id, email: user.email.clone() })
    }

    /// What tells a webhook that it can be reached. Every test is an occasion of its own.
    pub(crate) fn test(now: Timestamp, entropy: &Entropy) -> Result<Notice, EntropyError> {
        let (kind, id) = (NoticeKind::Test, NoticeId::new(now, entropy)?);
        let body = body(&Body { kind, timestamp: Instant(now), data: Data::default() });
        let occasion = Occasion { deadline: 0, rung: id.to_string() };
        Ok(Notice { id, kind, credential: None, occasion, body, created_at: now })
    }
}

fn body(body: &Body) -> String {
    // Our own types always serialise; an empty body would be noticed at once.
    serde_json::to_string(body).unwrap_or_default()
}

fn named(caller: &SeenCaller) -> NamedCaller {
    NamedCaller {
        instance: caller.instance.clone(),
        user_agent: caller.user_agent.clone(),
        network: caller.network.clone(),
        last_seen_at: Instant(caller.sightings.last_seen_at),
    }
}

/// The command that helps on.
fn next(kind: NoticeKind, concerned: &Concerned) -> String {
    let key = concerned.credential;
    match (kind, concerned.state) {
        (NoticeKind::Ending, StateName::Active) => format!("keyward credential rotate {key}"),
        (NoticeKind::Ending, _) => format!("keyward credential watch {key}"),
        (NoticeKind::RevokedInUse, _) => format!("keyward credential callers {key} --outcome refused"),
        (
            NoticeKind::NewNetwork
            | NoticeKind::LeakReported
            | NoticeKind::Disowned
            | NoticeKind::NewSignIn
            | NoticeKind::Test,
            _,
        ) => {
            format!("keyward credential callers {key}")
        }
    }
}
