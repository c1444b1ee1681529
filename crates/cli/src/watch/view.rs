//! How a watched rotation looks: a pure function of how things stand.

use std::collections::HashMap;
use std::time::Duration;

use keyward_model::credential::StateName;
use keyward_model::time::Timestamp;
use keyward_server::api::callers::CallerView;
use keyward_server::api::credentials::CredentialView;
use unicode_width::UnicodeWidthStr as _;

use super::{Standing, Used};
use crate::caller::{headline, name, network};
use crate::table::cut;
use crate::terminal::{Paint, visible};
use crate::when;

/// With at least this many columns the keys stand beside each other, else one below the other.
const SIDE_BY_SIDE: usize = 110;
/// Columns between them.
const GAP: usize = 4;
/// Names up to this width have their networks in one column.
const NAME: usize = 20;
/// Lines of a block besides its callers, and of a picture besides its blocks.
const HEAD: usize = 4;
const FOOT: usize = 4;

/// Whether nobody has used the old key for so long that it may be ended.
pub(super) fn may_finish(standing: &Standing, quiet: Duration) -> bool {
    let old = &standing.old;
    // Without a successor, or before its time, there is nothing to finish.
    old.credential.retire_at.is_some() && old.callers.iter().all(|caller| is_quiet(caller, standing.at, quiet))
}

fn is_quiet(caller: &CallerView, now: Timestamp, quiet: Duration) -> bool {
    now.since(caller.last_seen_at.0) >= quiet
}

/// A picture of this size.
pub(super) struct Frame {
    pub(super) quiet: Duration,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) paint: Paint,
}

impl Frame {
    /// The old key with its callers leaving, the successor with its callers arriving, and what can be done.
    pub(super) fn render(&self, standing: &Standing, notice: &str) -> String {
        let beside = self.width >= SIDE_BY_SIDE && standing.successor.is_some();
        let blocks = 1 + usize::from(standing.successor.is_some());
        let width = if beside { (self.width - GAP) / 2 } else { self.width };
        let height = if beside { self.height } else { self.height / blocks };
        let room = Room { width, lines: height.saturating_sub(HEAD + FOOT).max(1), now: standing.at };
        let title = if standing.successor.is_some() { "OLD KEY" } else { "KEY" };
        let old = room.block(title, &standing.old, Some(self.quiet));
        // Whoever has arrived has arrived, also when not seen for long.
        let mut lines = match standing.successor.as_ref().map(|used| room.block("SUCCESSOR", used, None)) {
            None => self.painted(&old),
            Some(new) if beside => self.side_by_side(&old, &new, width),
            Some(new) => self.painted(&[old, vec![Line::default()], new].concat()),
        };
        let mut last = vec![Line::default(), self.advice(standing)];
        if !notice.is_empty() {
            last.push(Line { text: visible(notice), look: Look::Warning });
        }
        lines.extend(self.painted(&last));
        lines.join("\n") + "\n"
    }

    fn painted(&self, lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.painted(self.width, self.paint)).collect()
    }

    fn side_by_side(&self, left: &[Line], right: &[Line], width: usize) -> Vec<String> {
        let empty = Line::default();
        let joined = |n| {
            let (left, right) = (left.get(n).unwrap_or(&empty), right.get(n).unwrap_or(&empty));
            let blanks = if right.text.is_empty() { 0 } else { width + GAP - cut(&left.text, width).width() };
            left.painted(width, self.paint) + &" ".repeat(blanks) + &right.painted(width, self.paint)
        };
        (0..left.len().max(right.len())).map(joined).collect()
    }

    fn advice(&self, standing: &Standing) -> Line {
        let quiet = when::span(self.quiet);
        if may_finish(standing, self.quiet) {
            let text = format!("nobody has used the old key for {quiet}: f finishes the rotation, q leaves");
            return Line { text, look: Look::Good };
        }
        let left = standing.old.callers.iter().filter(|caller| !is_quiet(caller, standing.at, self.quiet)).count();
        let text = match (standing.old.credential.retire_at, left) {
            (None, _) => "this key is not being replaced; q leaves".to_owned(),
            (Some(_), left) => format!("{left} still to be moved (seen within {quiet}); q leaves"),
        };
        Line { text, look: Look::Dim }
    }
}

/// The room for one key.
struct Room {
    width: usize,
    /// For its callers.
    lines: usize,
    now: Timestamp,
}

impl Room {
    /// A key with its callers; with `quiet`, those who have left are marked.
    fn block(&self, title: &str, used: &Used, quiet: Option<Duration>) -> Vec<Line> {
        let credential = &used.credential;
        let title = [title, &visible(&credential.label), &credential.id.to_string()].map(str::to_owned);
        let title = title.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
        let mut lines = vec![
            Line { text: title, look: Look::Title },
            Line { text: state(credential, self.now), look: Look::of(credential.state) },
            Line::plain(headline(&used.callers, self.now)),
            Line::default(),
        ];
        let shown = || used.callers.iter().take(self.lines);
        let names =
            shown().map(|caller| visible(name(caller)).width()).filter(|width| *width <= NAME).max().unwrap_or(0);
        lines.extend(shown().map(|caller| self.caller(caller, names, quiet)));
        if let Some(hidden) = used.callers.len().checked_sub(self.lines).filter(|hidden| *hidden > 0) {
            lines.push(Line { text: format!("  … and {hidden} more"), look: Look::Dim });
        }
        lines
    }

    fn caller(&self, caller: &CallerView, names: usize, quiet: Option<Duration>) -> Line {
        let Self { width, now, .. } = *self;
        let has_left = quiet.is_some_and(|quiet| is_quiet(caller, now, quiet));
        let mark = if has_left { "-" } else { "*" };
        let refused = if caller.refused > 0 { format!(", {} refused", caller.refused) } else { String::new() };
        let seen = when::relative(caller.last_seen_at.0, now);
        let tail = format!("  {seen:>11}  {:>6} uses{refused}", caller.accepted);
        let name = visible(name(caller));
        let blanks = " ".repeat(names.saturating_sub(name.width()) + 2);
        let who = format!("{mark} {name}{blanks}{}", network(caller));
        let who = cut(&who, width.saturating_sub(tail.width()).max(12));
        let blanks = width.saturating_sub(who.width() + tail.width()).min(52usize.saturating_sub(who.width()));
        let text = format!("{who}{}{tail}", " ".repeat(blanks));
        Line { text, look: if has_left { Look::Dim } else { Look::Plain } }
    }
}

/// `retiring, ends in 6 days (2026-12-01 12:00 UTC)`
fn state(credential: &CredentialView, now: Timestamp) -> String {
    let told = |word: &str, at: Timestamp| format!(", {word} {} ({})", when::relative(at, now), when::minute(at));
    let end = match (credential.ended_at, credential.retire_at.or(credential.expires_at)) {
        (Some(ended), _) => told("ended", ended.0),
        (None, Some(ends)) => told("ends", ends.0),
        (None, None) => String::new(),
    };
    format!("{}{end}", credential.state)
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Look {
    #[default]
    Plain,
    Title,
    Dim,
    Good,
    Warning,
}

impl Look {
    fn of(state: StateName) -> Self {
        match state {
            StateName::Active => Self::Good,
            StateName::Retiring => Self::Warning,
            StateName::Expired | StateName::Revoked | StateName::Purged => Self::Dim,
        }
    }
}

/// A line of a picture. It is cut and measured before it is coloured.
#[derive(Debug, Clone, Default)]
struct Line {
    text: String,
    look: Look,
}

impl Line {
    fn plain(text: String) -> Self {
        Self { text, look: Look::Plain }
    }

    fn painted(&self, width: usize, paint: Paint) -> String {
        let text = cut(&self.text, width);
        match self.look {
            Look::Plain => text,
            Look::Title => paint.bold(&text),
            Look::Dim => paint.dim(&text),
            Look::Good => paint.green(&text),
            Look::Warning => paint.yellow(&text),
        }
    }
}

/// Something that is not as it was.
#[derive(Debug)]
pub(super) enum Change<'a> {
    /// A credential has another state or end, or came in as the successor.
    Credential(&'a CredentialView),
    /// A caller came, or came again.
    Caller(&'a CallerView),
}

/// What changed between two looks; at the first look, everything.
pub(super) fn changes<'a>(before: Option<&Standing>, now: &'a Standing) -> Vec<Change<'a>> {
    let before = before.map(|before| before.used().collect::<Vec<_>>()).unwrap_or_default();
    let stands = |c: &CredentialView| (c.state, c.retire_at, c.expires_at, c.successor);
    let known: HashMap<_, _> = before.iter().map(|used| (used.credential.id, stands(&used.credential))).collect();
    let seen: HashMap<_, _> = before.iter().flat_map(|used| &used.callers).map(|c| (identity(c), uses(c))).collect();
    let mut changes = Vec::new();
    for used in now.used() {
        if known.get(&used.credential.id) != Some(&stands(&used.credential)) {
            changes.push(Change::Credential(&used.credential));
        }
        // The server lists the newest first; in a log the newest comes last.
        let came = used.callers.iter().rev().filter(|caller| seen.get(&identity(caller)) != Some(&uses(caller)));
        changes.extend(came.map(Change::Caller));
    }
    changes
}

fn identity(caller: &CallerView) -> [String; 5] {
    let reporter = caller.reporter.map(|reporter| reporter.to_string()).unwrap_or_default();
    [
        caller.credential.to_string(),
        reporter,
        caller.network.clone(),
        caller.user_agent.clone(),
        caller.instance.clone(),
    ]
}

fn uses(caller: &CallerView) -> (i64, i64) {
    (caller.accepted, caller.refused)
}

impl Change<'_> {
    /// For people who read along in a pipe or a log.
    pub(super) fn line(&self, now: Timestamp) -> String {
        match self {
            Self::Credential(credential) => {
                let label = visible(&credential.label);
                let successor = credential.successor.map(|id| format!(", successor {id}")).unwrap_or_default();
                let text = format!("{}  {}  {label}", when::second(now), credential.id);
                format!("{}  is {}{successor}", text.trim_end(), state(credential, now))
            }
            Self::Caller(caller) => {
                let refused = if caller.refused > 0 { format!(", {} refused", caller.refused) } else { String::new() };
                format!(
                    "{}  {}  {}  {}  {} uses{refused}",
                    when::second(caller.last_seen_at.0),
                    caller.credential,
                    visible(name(caller)),
                    network(caller),
                    caller.accepted,
                )
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use keyward_server::api::instant::Instant;
    use serde_json::json;

    pub(in crate::watch) const OLD: &str = "cred_01h455vb4pex5vsknk084sn02q";
    pub(in crate::watch) const NEW: &str = "cred_01h455vb4pex5vsknk084sn02r";
    pub(in crate::watch) const NOW: Timestamp = Timestamp::from_seconds(1_795_435_200);

    fn ago(seconds: i64) -> Instant {
        Instant(Timestamp::from_seconds(NOW.as_seconds() - seconds))
    }

    pub(in crate::watch) fn credential(id: &str, label: &str, successor: Option<&str>) -> CredentialView {
        let (state, retire_at) = match successor {
            Some(_) => ("retiring", Some(ago(-6 * 86400))),
            None => ("active", None),
        };
        serde_json::from_value(json!({
            "id": id, "client": "client_01h455vb4pex5vsknk084sn02q", "label": label, "state": state, "scope": null,
            "res": null, "created_at": ago(90 * 86400), "created_by": "user_01h455vb4pex5vsknk084sn02q",
            "expires_at": null, "retire_at": retire_at, "successor": successor, "ended_at": null, "end_reason": null,
            "purge_at": null,
        }))
        .unwrap()
    }

    pub(in crate::watch) fn caller(id: &str, instance: &str, network: &str, seen: i64, accepted: i64) -> CallerView {
        serde_json::from_value(json!({
            "credential": id, "label": "", "state": "retiring", "client": "client_01h455vb4pex5vsknk084sn02q",
            "network": network, "user_agent": "press/2", "instance": instance, "first_seen_at": ago(90 * 86400),
            "last_seen_at": ago(seen), "accepted": accepted, "refused": 0, "reporter": null,
        }))
        .unwrap()
    }

    fn rotation() -> Standing {
        let old = vec![caller(OLD, "press 7", "192.0.2.7", 4, 1204), caller(OLD, "", "", 25 * 3600, 3)];
        let new = vec![caller(NEW, "press 8", "2001:db8::/64", 60, 12)];
        Standing {
            at: NOW,
            old: Used { credential: credential(OLD, "hall 3", Some(NEW)), callers: old },
            successor: Some(Used { credential: credential(NEW, "hall 3, second", None), callers: new }),
        }
    }

    fn frame(width: usize, height: usize) -> Frame {
        Frame { quiet: Duration::from_secs(86400), width, height, paint: Paint::never() }
    }

    #[test]
    fn in_a_narrow_terminal_the_successor_stands_below() {
        let expected = "\
OLD KEY  hall 3  cred_01h455vb4pex5vsknk084sn02q
retiring, ends in 6 days (2026-11-29 12:00 UTC)
2 callers, the last seen just now

* press 7  192.0.2.7                                     just now    1204 uses
- press/2  elsewhere                                     25 h ago       3 uses

SUCCESSOR  hall 3, second  cred_01h455vb4pex5vsknk084sn02r
active
1 caller, the last seen 60 s ago

* press 8  2001:db8::/64                                 60 s ago      12 uses

1 still to be moved (seen within 24 h); q leaves
";
        assert_eq!(frame(80, 24).render(&rotation(), ""), expected);
    }

    #[test]
    fn in_a_wide_terminal_they_stand_side_by_side() {
        let picture = frame(150, 40).render(&rotation(), "the server is away");
        let lines: Vec<_> = picture.lines().collect();
        assert!(lines[0].starts_with("OLD KEY  hall 3") && lines[0].ends_with(NEW), "{picture}");
        assert!(lines[4].starts_with("* press 7") && lines[4].contains("* press 8  2001:db8::/64"), "{picture}");
        assert!(lines.iter().all(|line| line.width() <= 150), "{picture}");
        assert_eq!(lines.last(), Some(&"the server is away"));
    }

    #[test]
    fn each_side_has_its_colours_and_networks_stand_in_one_column() {
        let mut standing = rotation();
        standing.old.callers[0].instance = "hall 3 west".to_owned();
        let picture = Frame { paint: Paint::always(), ..frame(150, 40) }.render(&standing, "");
        let lines: Vec<_> = picture.lines().collect();
        assert!(
            lines[1].starts_with("\u{1b}[33mretiring") && lines[1].ends_with("\u{1b}[32mactive\u{1b}[0m"),
            "{picture}"
        );
        assert!(lines[5].starts_with("\u{1b}[2m- press/2      elsewhere"), "{picture}");
        assert!(
            lines[4].starts_with("* hall 3 west  192.0.2.7 ") && lines[4].contains("  * press 8  2001"),
            "{picture}"
        );
    }

    #[test]
    fn a_picture_is_no_larger_than_its_terminal() {
        let mut standing = rotation();
        let crowd = (0..64).map(|n| caller(OLD, &format!("press \u{5de5}\u{5382} {n}"), "192.0.2.7", n, 1));
        standing.old.callers = crowd.collect();
        for (width, height) in [(80, 24), (40, 20), (150, 24), (200, 60)] {
            let picture = frame(width, height).render(&standing, "a notice");
            assert!(picture.lines().count() <= height, "{width}x{height}:\n{picture}");
            assert!(picture.lines().all(|line| line.width() <= width), "{width}x{height}:\n{picture}");
            assert!(picture.contains("more"), "{picture}");
        }
    }

    #[test]
    fn finishing_is_offered_once_all_have_left_for_long_enough() {
        let mut standing = rotation();
        assert!(!may_finish(&standing, Duration::from_secs(86400)));
        standing.old.callers.remove(0);
        assert!(may_finish(&standing, Duration::from_secs(86400)));
        assert!(frame(80, 24).render(&standing, "").contains("f finishes the rotation"));
        standing.old.credential = credential(OLD, "hall 3", None);
        assert!(!may_finish(&standing, Duration::from_secs(86400)), "a key that is not being replaced has no finish");
    }

    #[test]
    fn what_a_caller_says_of_itself_cannot_steer_the_terminal() {
        let mut standing = rotation();
        standing.old.callers[0].instance = "\u{1b}[2Jpress".to_owned();
        standing.old.credential.label = "a\u{202e}b\n".to_owned();
        let picture = frame(80, 24).render(&standing, "");
        assert!(!picture.contains(['\u{1b}', '\u{202e}']), "{picture:?}");
        assert!(changes(None, &standing).iter().all(|change| !change.line(NOW).contains(['\u{1b}', '\u{202e}', '\n'])));
    }

    #[test]
    fn a_line_is_written_for_what_changed_and_for_nothing_else() {
        let before = rotation();
        fn lines(before: Option<&Standing>, now: &Standing) -> Vec<String> {
            changes(before, now).iter().map(|change| change.line(NOW)).collect()
        }
        assert_eq!(lines(None, &before).len(), 5, "two credentials and three callers");
        assert!(lines(Some(&before), &before).is_empty());
        let mut now = before.clone();
        now.old.callers[1] = caller(OLD, "", "", 0, 4);
        now.successor.as_mut().unwrap().callers.push(caller(NEW, "press 7", "192.0.2.7", 1, 1));
        assert_eq!(
            lines(Some(&before), &now),
            [
                format!("2026-11-23 12:00:00  {OLD}  press/2  elsewhere  4 uses"),
                format!("2026-11-23 11:59:59  {NEW}  press 7  192.0.2.7  1 uses"),
            ]
        );
        now.old.credential.retire_at = Some(ago(-86400));
        assert_eq!(
            lines(Some(&before), &now)[0],
            format!(
                "2026-11-23 12:00:00  {OLD}  hall 3  is retiring, ends in 24 h (2026-11-24 12:00 UTC), successor {NEW}"
            )
        );
    }
}
