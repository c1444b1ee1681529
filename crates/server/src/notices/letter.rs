//! The letter that people get: plain text, short.

use keyward_model::notice::NoticeKind;

use super::message::{Body, Data, Named, NamedCaller};
use crate::api::instant::Instant;
use crate::config::OnReport;

/// A subject and a text.
pub(super) struct Letter {
    /// One line.
    pub(super) subject: String,
    /// Lines that end in `\n`.
    pub(super) text: String,
}

/// Writes what the body of a notice says.
pub(super) fn write(body: &Body) -> Letter {
    let Data { credential, client, owner, session, user, callers, next, .. } = &body.data;
    let subject = subject(body);
    let mut text = format!("{subject}.\n\n");
    let mut line = |what: &str, value: String| text.push_str(&format!("{what:8}  {value}\n"));
    if let Some(client) = client {
        line("client", known_as(client));
    }
    if let Some(credential) = credential {
        line("key", known_as(credential));
    }
    if let Some(owner) = owner {
        line("owner", known_as(owner));
    }
    if let Some(session) = session {
        line("device", known_as(session));
    }
    if let Some(user) = user {
        line("user", known_as(user));
    }
    for (what, at) in [("ends", body.data.ends_at), ("revoked", body.data.revoked_at)] {
        if let Some(at) = at {
            line(what, minute(at));
        }
    }
    if let Some(place) = &body.data.place {
        line("found", place.clone());
    }
    if let Some(network) = &body.data.network {
        line(if body.kind == NoticeKind::LeakReported { "reporter" } else { "network" }, network.clone());
    }
    if let Some(method) = body.data.method {
        line("by", method.as_str().replace('_', " "));
    }
    if let Some(user_agent) = &body.data.user_agent {
        line("browser", user_agent.clone());
    }
    if !callers.is_empty() {
        text.push_str("\nUsed from, the last first:\n");
        for caller in callers {
            text.push_str(&format!("  {}\n", place(caller)));
        }
    }
    if let Some(next) = next {
        let what =
            if body.kind == NoticeKind::NewSignIn { "If it was not you, end that login at" } else { "What to do next" };
        text.push_str(&format!("\n{what}:\n  {next}\n"));
    }
    Letter { subject, text }
}

fn subject(body: &Body) -> String {
    let client = body.data.client.as_ref().map_or("", |client| client.name.as_str());
    match body.kind {
        NoticeKind::Ending => {
            let ends = body.data.ends_at.map(minute).unwrap_or_default();
            format!("A key of {client} ends on {ends}, and is in use")
        }
        NoticeKind::RevokedInUse => format!("A revoked key of {client} is still tried"),
        NoticeKind::NewNetwork => format!("A key of {client} is used from a new network"),
        NoticeKind::LeakReported => {
            let fate = match (body.data.on_report, body.data.ends_at) {
                (Some(OnReport::Revoke), _) => "was revoked".to_owned(),
                (_, Some(ends)) => format!("ends on {}", minute(ends)),
                (_, None) => "still works".to_owned(),
            };
            format!("A key of {client} was reported as leaked, and {fate}")
        }
        NoticeKind::Disowned => {
            let user = body.data.user.as_ref().map_or("", |user| user.name.as_str());
            format!("A device acted for {user} through {client} and is not theirs; it was ended")
        }
        NoticeKind::NewSignIn => {
            let user = body.data.user.as_ref().map_or("", |user| user.name.as_str());
            format!("{user} signed in from a new network")
        }
        NoticeKind::Test => "Keyward can send you notices".to_owned(),
    }
}

fn known_as<T: std::fmt::Display>(named: &Named<T>) -> String {
    if named.name.is_empty() { named.id.to_string() } else { format!("{} ({})", named.name, named.id) }
}

fn place(caller: &NamedCaller) -> String {
    let texts = [caller.instance.as_str(), caller.user_agent.as_str(), caller.network.as_str()];
    let shown: Vec<_> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    format!("{}, last seen {}", shown.join(", "), minute(caller.last_seen_at))
}

/// To the minute, in UTC.
fn minute(at: Instant) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0.as_millis()).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
