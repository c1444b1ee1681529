//! Names for ids: whatever takes an id also takes a name that only one thing has.

use std::collections::HashMap;
use std::str::FromStr;

use keyward_model::id::{ApiId, ClientId, UserId};
use keyward_server::api::apis::ApiView;
use keyward_server::api::clients::{ClientQuery, ClientView};
use keyward_server::api::users::{UserQuery, UserView};

use crate::failure::Failure;
use crate::remote::Remote;

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
    let prefixes = [ApiId::PREFIX, ClientId::PREFIX, UserId::PREFIX, "cred", "key"];
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
