//! Rights: which scopes on which resources, and how much of them a request is granted.
//!
//! granted = requested ∩ credential ∩ client ∩ owner's rights now. Everything here is pure and denies by default: a
//! scope that the catalogue does not know is worth nothing, an empty `res` touches nothing.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest scope or resource accepted, in bytes.
pub const MAX_NAME: usize = 128;
/// The most scopes or resources in one set that is read from outside.
pub const MAX_SET: usize = 64;
/// The scopes of OpenID Connect Core §5.4 and §11, which some of its clients add to whatever they are told to ask for.
const OPENID: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];

/// Why a text is not a scope, a resource or a set of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// Not a scope-token.
    #[error("a scope has 1 to {MAX_NAME} visible ASCII characters other than \" and \\ (RFC 6749 §3.3)")]
    Scope,
    /// Not a resource path.
    #[error(
        "a resource is * or a path like plant/7: 1 to {MAX_NAME} characters of A-Z a-z 0-9 - . _ ~ : between single slashes"
    )]
    Res,
    /// Too many members.
    #[error("more than {MAX_SET} values")]
    TooMany,
    /// Scopes imply each other in a circle.
    #[error("scope {0} would imply itself")]
    Cycle(Scope),
}

/// A named level or permission: one scope-token of RFC 6749 §3.3.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// The token itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one of Keyward's own scopes, which govern Keyward's API.
    pub fn is_keyward(&self) -> bool {
        self.0.starts_with("keyward:")
    }
}

impl FromStr for Scope {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self, RightsError> {
        let legal = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(legal) {
            return Err(RightsError::Scope);
        }
        Ok(Self(text.into()))
    }
}

/// A resource: `*`, or a slash-separated path that covers itself and all below it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Res(Arc<str>);

impl Res {
    /// Everything.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// The path itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether whoever may touch this may touch `other`: `plant/7` covers `plant/7/line/3`, not `plant/70`.
    pub fn covers(&self, other: &Res) -> bool {
        &*self.0 == "*" || self.0 == other.0 || other.0.strip_prefix(&*self.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for Res {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self, RightsError> {
        let segment = |s: &str| {
            // `.` and `..` would mean another place to whoever joins the path to a URL.
            !matches!(s, "" | "." | "..")
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b':'))
        };
        if text.len() > MAX_NAME || (text != "*" && !text.split('/').all(segment)) {
            return Err(RightsError::Res);
        }
        Ok(Self(text.into()))
    }
}

macro_rules! text_form {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
text_form!(Scope, Res);

/// A set of scopes; its text form is the space-separated list of RFC 6749 §3.3, sorted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Plain membership, without implications.
    pub fn contains(&self, scope: &str) -> bool {
        self.0.iter().any(|s| s.as_str() == scope)
    }

    /// The first scope of this set that `other` lacks.
    pub fn first_beyond<'a>(&'a self, other: &Self) -> Option<&'a Scope> {
        self.0.iter().find(|s| !other.0.contains(s))
    }

    /// What both hold.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// What either holds.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl FromStr for ScopeSet {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self, RightsError> {
        read_set(text.split(' ')).map(Self)
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_set(self.0.iter().map(Scope::as_str), f)
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A set of resources, without members that another member already covers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ResSet(BTreeSet<Res>);

impl ResSet {
    /// Everything.
    pub fn all() -> Self {
        Self(BTreeSet::from([Res::all()]))
    }

    /// The resources in order.
    pub fn iter(&self) -> impl Iterator<Item = &Res> {
        self.0.iter()
    }

    /// Whether it touches nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some member covers the resource.
    pub fn covers(&self, res: &Res) -> bool {
        self.0.iter().any(|r| r.covers(res))
    }

    /// The first resource of this set that `other` does not cover.
    pub fn first_beyond(&self, other: &Self) -> Option<&Res> {
        self.0.iter().find(|r| !other.covers(r))
    }

    /// What both cover: of two paths where one covers the other, the narrower.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let within = |a: &Self, b: &Self| a.0.iter().filter(|r| b.covers(r)).cloned().collect::<Vec<_>>();
        within(self, other).into_iter().chain(within(other, self)).collect()
    }

    /// The text form used in form parameters and in the database: space-separated.
    pub fn to_text(&self) -> String {
        self.0.iter().map(Res::as_str).collect::<Vec<_>>().join(" ")
    }
}

impl FromIterator<Res> for ResSet {
    fn from_iter<I: IntoIterator<Item = Res>>(res: I) -> Self {
        let all: BTreeSet<Res> = res.into_iter().collect();
        let needed = |r: &&Res| !all.iter().any(|other| other != *r && other.covers(r));
        Self(all.iter().filter(needed).cloned().collect())
    }
}

impl FromStr for ResSet {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self, RightsError> {
        Ok(read_set::<Res>(text.split(' '))?.into_iter().collect())
    }
}

impl fmt::Debug for ResSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.0).finish()
    }
}

impl Serialize for ResSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for ResSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<String>::deserialize(deserializer)?;
        let set: BTreeSet<Res> = read_set(list.iter().map(String::as_str)).map_err(de::Error::custom)?;
        Ok(set.into_iter().collect())
    }
}

fn read_set<'a, T: FromStr<Err = RightsError> + Ord>(
    texts: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<T>, RightsError> {
    let mut set = BTreeSet::new();
    for text in texts.filter(|t| !t.is_empty()) {
        if set.len() == MAX_SET {
            return Err(RightsError::TooMany);
        }
        set.insert(text.parse()?);
    }
    Ok(set)
}

fn write_set<'a>(texts: impl Iterator<Item = &'a str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (n, text) in texts.enumerate() {
        if n > 0 {
            f.write_str(" ")?;
        }
        f.write_str(text)?;
    }
    Ok(())
}

/// All scopes that exist, and what each implies: data that administrators keep, not code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Each scope with everything it implies, itself included.
    closure: BTreeMap<Scope, BTreeSet<Scope>>,
}

impl Catalogue {
    /// From each scope and what it directly implies. An implied scope that is not itself in the list is dropped.
    pub fn new(entries: impl IntoIterator<Item = (Scope, ScopeSet)>) -> Result<Self, RightsError> {
        let direct: BTreeMap<Scope, ScopeSet> = entries.into_iter().collect();
        let mut closure = BTreeMap::new();
        for start in direct.keys() {
            let mut reached = BTreeSet::new();
            let mut next: Vec<&Scope> = vec![start];
            while let Some(scope) = next.pop() {
                let Some((scope, implied)) = direct.get_key_value(scope) else { continue };
                if !reached.insert(scope.clone()) {
                    continue;
                }
                if implied.0.contains(start) {
                    return Err(RightsError::Cycle(start.clone()));
                }
                next.extend(implied.iter());
            }
            closure.insert(start.clone(), reached);
        }
        Ok(Self { closure })
    }

    /// What of the set asks for a right. RFC 6749 §3.3 lets a server "ignore the scope requested by the client": these words
    /// ask for an ID Token or a refresh token, and there is no right that they could go beyond.
    fn without_openid(&self, scopes: &ScopeSet) -> ScopeSet {
        let asks = |scope: &&Scope| self.knows(scope) || !OPENID.contains(&scope.as_str());
        scopes.iter().filter(asks).cloned().collect()
    }

    /// Whether this scope exists.
    pub fn knows(&self, scope: &Scope) -> bool {
        self.closure.contains_key(scope)
    }

    /// The scopes that imply less in `after` than in this.
    pub fn lowered_in(&self, after: &Self) -> ScopeSet {
        let keeps = |scope: &Scope, implied: &BTreeSet<Scope>| {
            after.closure.get(scope).is_some_and(|kept| implied.is_subset(kept))
        };
        self.closure.iter().filter(|(scope, implied)| !keeps(scope, implied)).map(|(scope, _)| scope.clone()).collect()
    }

    /// The scopes of the set that no other of it implies: what there is to say of it in few words.
    pub fn topmost(&self, scopes: &ScopeSet) -> ScopeSet {
        let implied =
            |scope: &Scope, by: &Scope| by != scope && self.closure.get(by).is_some_and(|all| all.contains(scope));
        scopes.iter().filter(|scope| !scopes.iter().any(|by| implied(scope, by))).cloned().collect()
    }

    /// The scopes with all they imply; unknown ones are worth nothing.
    pub fn expand(&self, scopes: &ScopeSet) -> ScopeSet {
        ScopeSet(scopes.iter().filter_map(|s| self.closure.get(s)).flatten().cloned().collect())
    }
}

/// Scopes and the resources on which they hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Which scopes.
    pub scope: ScopeSet,
    /// On which resources.
    pub res: ResSet,
}

impl Rights {
    /// What both allow, every implied scope written out.
    #[must_use]
    pub fn intersect(&self, other: &Self, catalogue: &Catalogue) -> Self {
        Self {
            scope: catalogue.expand(&self.scope).intersect(&catalogue.expand(&other.scope)),
            res: self.res.intersect(&other.res),
        }
    }

    /// Whether `after`, in place of this, allows less of anything.
    pub fn is_lowered_to(&self, after: &Self, catalogue: &Catalogue) -> bool {
        catalogue.expand(&self.scope).first_beyond(&catalogue.expand(&after.scope)).is_some()
            || self.res.first_beyond(&after.res).is_some()
    }

    /// What of this, as it is written, the ceiling does not allow. Scopes that do not exist are worth nothing.
    #[must_use]
    pub fn beyond(&self, ceiling: &Self, catalogue: &Catalogue) -> Self {
        let allowed = catalogue.expand(&ceiling.scope);
        let scope = self.scope.iter().filter(|s| catalogue.knows(s) && !allowed.0.contains(*s)).cloned().collect();
        Self { scope, res: self.res.iter().filter(|r| !ceiling.res.covers(r)).cloned().collect() }
    }

    /// In one line. What somebody was shown is told by it from what they would be shown now.
    pub fn to_text(&self) -> String {
        format!("{} {}", self.scope, self.res.to_text())
    }

    /// Whether it names no scope and no resource.
    pub fn is_empty(&self) -> bool {
        self.scope.is_empty() && self.res.is_empty()
    }
}

/// What a token request asks for; `None` asks for all that may be had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// The `scope` parameter.
    pub scope: Option<ScopeSet>,
    /// The `res` parameter.
    pub res: Option<ResSet>,
}

/// What was asked for beyond what may be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// This scope may not be granted.
    #[error("scope {0} is more than this credential may be granted")]
    Scope(Scope),
    /// This resource may not be granted.
    #[error("res {0} is more than this credential may be granted")]
    Res(Res),
    /// Nothing was asked for and nothing may be granted.
    #[error(
        "this credential may be granted nothing: its own scope and res, its client's and its owner's have nothing in common"
    )]
    Nothing,
}

/// What is granted of a request within the ceiling (credential ∩ client ∩ owner, already intersected).
///
/// Asking for more than may be granted is an error; asking for nothing grants everything. The words of OpenID Connect are
/// ignored beside a scope, and refused alone: whoever asks for an ID Token only must not be given everything.
pub fn grant(requested: &Requested, ceiling: &Rights, catalogue: &Catalogue) -> Result<Rights, Excess> {
    let scope = match &requested.scope {
        None => ceiling.scope.clone(),
        Some(scope) => {
            let asked = catalogue.without_openid(scope);
            let judged = if asked.is_empty() { scope } else { &asked };
            if let Some(beyond) = judged.first_beyond(&ceiling.scope) {
                return Err(Excess::Scope(beyond.clone()));
            }
            // A ceiling narrowed to one API's scopes may lack some that an asked one implies.
            catalogue.expand(judged).intersect(&ceiling.scope)
        }
    };
    let res = match &requested.res {
        None => ceiling.res.clone(),
        Some(res) => {
            if let Some(beyond) = res.first_beyond(&ceiling.res) {
                return Err(Excess::Res(beyond.clone()));
            }
            res.clone()
        }
    };
    if scope.is_empty() || res.is_empty() {
        return Err(Excess::Nothing);
    }
    Ok(Rights { scope, res })
}
