//! Names for ids: whatever takes an id also takes a name that only one thing has. Keys have no names of their own: the
//! name of a client stands for its key, if only one can be meant.

use std::collections::HashMap;
use std::str::FromStr;

use keyward_model::credential::StateName;
use keyward_model::id::{ApiId, ClientId, CredentialId, UserId};
use keyward_server::api::apis::ApiView;
use keyward_server::api::clients::{ClientQuery, ClientView};
use keyward_server::api::credentials::{CredentialQuery, CredentialView};
use keyward_server::api::users::{UserQuery, UserView};

use crate::failure::Failure;
use crate::remote::Remote;

/// Which key the name of a client may stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meant {
    /// The one that can be replaced.
    Active,
    /// The one that is being replaced.
    Retiring,
    /// The only one that works.
    Working,
    /// The one that is being replaced, else the only one that works.
    Watched,
}

impl Meant {
    /// Keys in these states; those of a later group only if there are none of an earlier one.
    fn groups(self) -> &'static [&'static [StateName]] {
        match self {
            Self::Active => &[&[StateName::Active]],
            Self::Retiring => &[&[StateName::Retiring]],
            Self::Working => &[&[StateName::Active, StateName::Retiring]],
            Self::Watched => &[&[StateName::Retiring], &[StateName::Active]],
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Working | Self::Watched => "working",
        }
    }
}

/// Owners of a list beyond this many are shown by their ids.
const MOST_OWNERS: usize = 20;

impl Remote {
    /// The client with this id or name.
    pub(crate) async fn client(&self, text: &str) -> anyhow::Result<ClientView> {
        if let Some(id) = id::<ClientId>(text, ClientId::PREFIX)? {
            return self.get(&format!("clients/{id}")).await;
        }
        let filter = ClientQuery { name: Some(text.to_owned()), ..ClientQuery::default() };
        let found = self.list("clients", &filter, None).await?.items;
        only("client", text, found, |client: &ClientView| client.id.to_string())
    }

    /// The credential with this id, or the only one that can be meant by the name or id of its client.
    pub(crate) async fn credential(&self, text: &str, meant: Meant) -> anyhow::Result<CredentialId> {
        if text.starts_with(ClientId::PREFIX) {
            return self.only_key_of(self.client(text).await?, meant).await;
        }
        if let Some(id) = id::<CredentialId>(text, CredentialId::PREFIX)? {
            return Ok(id);
        }
        let client = self.client(text).await.map_err(|error| match error.downcast::<Failure>() {
            Ok(failure) => anyhow::Error::from(failure.hint(LISTS_KEYS)),
            Err(error) => error,
        })?;
        self.only_key_of(client, meant).await
    }

    async fn only_key_of(&self, client: ClientView, meant: Meant) -> anyhow::Result<CredentialId> {
        let mut found: Vec<CredentialView> = Vec::new();
        for group in meant.groups() {
            for state in *group {
                let filter =
                    CredentialQuery { client: Some(client.id), state: Some(*state), ..CredentialQuery::default() };
                found.extend(self.list("credentials", &filter, None).await?.items);
            }
            if !found.is_empty() {
                break;
            }
        }
        if let [one] = found.as_slice() {
            return Ok(one.id);
        }
        let message =
            format!("{:?} has {} {} keys, so its name does not say which", client.name, found.len(), meant.word());
        let hint = format!("`keyward credential list {}` lists its keys with their ids", client.id);
        Err(Failure::usage(message).hint(hint).into())
    }

    /// The user with this id or name; `me` is the owner of the client as which this command line signs in.
    pub(crate) async fn user(&self, text: &str) -> anyhow::Result<UserView> {
        if text == "me" {
            return self.get("users/me").await;
        }
        if let Some(id) = id::<UserId>(text, UserId::PREFIX)? {
            return self.get(&format!("users/{id}")).await;
        }
        let filter = UserQuery { name: Some(text.to_owned()), ..UserQuery::default() };
        let found = self.list("users", &filter, None).await?.items;
        only("user", text, found, |user: &UserView| user.id.to_string())
    }

    /// The API with this id, audience or name.
    pub(crate) async fn api(&self, text: &str) -> anyhow::Result<ApiView> {
        if let Some(id) = id::<ApiId>(text, ApiId::PREFIX)? {
            return self.get(&format!("apis/{id}")).await;
        }
        let mut all = self.apis().await?;
        if let Some(at) = all.iter().position(|api| api.audience == text) {
            return Ok(all.swap_remove(at));
        }
        all.retain(|api| api.name == text);
        only("API", text, all, |api| api.id.to_string())
    }

    /// All APIs: there are few.
    pub(crate) async fn apis(&self) -> anyhow::Result<Vec<ApiView>> {
        Ok(self.list("apis", &(), None).await?.items)
    }

    /// The ids of APIs given by id, audience or name.
    pub(crate) async fn api_ids(&self, texts: &[String]) -> anyhow::Result<Vec<ApiId>> {
        let mut ids = Vec::with_capacity(texts.len());
        for text in texts {
            ids.push(self.api(text).await?.id);
        }
        Ok(ids)
    }

    /// What people call these users, as far as it may be known.
    pub(crate) async fn user_names(&self, users: impl IntoIterator<Item = UserId>) -> Names {
        let mut names = HashMap::new();
        for user in users {
            if names.len() < MOST_OWNERS && !names.contains_key(&user) {
                let view = self.get::<UserView>(&format!("users/{user}")).await;
                names.insert(user, view.map_or_else(|_| user.to_string(), |view| view.name));
            }
        }
        Names(names)
    }
}

/// Somebody may have given the label of a key, of which many keys may have the same.
const LISTS_KEYS: &str = "`keyward credential list` lists keys with their labels and ids";

/// Users' names.
pub(crate) struct Names(HashMap<UserId, String>);

impl Names {
    /// The user's name, or id.
    pub(crate) fn of(&self, user: UserId) -> String {
        self.0.get(&user).cloned().unwrap_or_else(|| user.to_string())
    }
}

/// The id that the text is; none if it is a name.
fn id<T: FromStr>(text: &str, prefix: &str) -> Result<Option<T>, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(Some(id));
    }
    let prefixes = [ApiId::PREFIX, ClientId::PREFIX, UserId::PREFIX, CredentialId::PREFIX, "key"];
    let other =
        prefixes.iter().find(|p| text.strip_prefix(**p).is_some_and(|rest| rest.starts_with('_') && rest.len() == 27));
    match other {
        Some(other) if *other == prefix => {
            Err(Failure::usage(format!("{text} is mistyped: no id is spelled like that")))
        }
        Some(other) => Err(Failure::usage(format!("{text} is the id of another kind: {other}, not {prefix}"))),
        None => Ok(None),
    }
}

/// The one thing that has this name.
fn only<T>(what: &str, name: &str, mut found: Vec<T>, id: impl Fn(&T) -> String) -> anyhow::Result<T> {
    match (found.pop(), found.as_slice()) {
        (Some(one), []) => Ok(one),
        (Some(last), others) => {
            let ids: Vec<_> = others.iter().chain([&last]).map(id).collect();
            let message = format!("{} things have the name {name:?}", ids.len()).replace("things", &format!("{what}s"));
            Err(Failure::usage(message).hint(format!("say which by its id: {}", ids.join(" "))).into())
        }
        (None, _) => Err(Failure::new(format!("there is no {what} {name:?}"))
            .hint(format!("`keyward {} list` lists what there is", what.to_lowercase()))
            .into()),
    }
}
