//! What an event of a change says: for each member that is another one now, its old and its new value.

use keyward_store::{TokensOf, Tx};
use serde_json::{Map, Value, json};

use crate::api::call::Call;
use crate::oauth::status_list::last_token_dead;
use crate::respond::ApiError;

/// In the event of a change: how many credentials and device sessions got a new place in the status list.
pub const MOVED: &str = "moved";

/// The members that differ between two descriptions of one thing, each as `{"old": …, "new": …}`.
pub(super) fn between(old: &Value, new: &Value) -> Value {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return json!({}) };
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let changed = names.filter(|name| old.get(*name) != new.get(*name));
    let value = |name: &String| json!({ "old": old.get(name), "new": new.get(name) });
    Value::Object(changed.map(|name| (name.clone(), value(name))).collect::<Map<_, _>>())
}

/// Ends the tokens that are out, because less may be granted from now on. The event says with how many credentials and
/// device sessions they were got.
pub(super) async fn end_tokens(call: &Call, tx: &mut Tx, of: TokensOf<'_>, event: &mut Value) -> Result<(), ApiError> {
    let moved = tx.end_tokens(of, last_token_dead(call.now), call.now).await?;
    if let Value::Object(members) = event
        && moved > 0
    {
        members.insert(MOVED.to_owned(), json!(moved));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told_with_both_values() {
        let old = json!({ "name": "press", "scope": "Worker", "disabled_at": null, "gone": 1 });
        let new = json!({ "name": "press 7", "scope": "Worker", "disabled_at": 5, "come": ["x"] });
        let told = json!({
            "name": { "old": "press", "new": "press 7" },
            "disabled_at": { "old": null, "new": 5 },
            "gone": { "old": 1, "new": null },
            "come": { "old": null, "new": ["x"] },
        });
        assert_eq!(between(&old, &new), told);
        assert_eq!(between(&old, &old), json!({}));
    }
}
