//! What the API behind a gateway is told of its caller. It believes these headers, so a gateway removes all of them from
//! what comes in.

use http::{HeaderMap, HeaderName, HeaderValue};
use keyward_guard::{Caller, Refusal, User};

use crate::oauth::key_warning::KEY_EXPIRES;

/// Every header that may be among them.
pub(crate) const NAMES: [HeaderName; 10] =
    [CLIENT, SUBJECT, USER, USER_ISSUER, MODIFIED_BY, SCOPE, RES, CREDENTIAL, SESSION, KEY_EXPIRES];

/// The application, `client_…`.
const CLIENT: HeaderName = HeaderName::from_static("keyward-client");
/// The `sub` of the token in `Authorization`: the owner of the client, the client itself where it acts in its own name, or
/// the user to whom a public client's token belongs.
const SUBJECT: HeaderName = HeaderName::from_static("keyward-subject");
/// The user who is present; absent where an application calls by itself.
const USER: HeaderName = HeaderName::from_static("keyward-user");
/// Who vouches for that user, if it is not Keyward: users of different issuers may have the same name.
const USER_ISSUER: HeaderName = HeaderName::from_static("keyward-user-issuer");
/// On whose behalf: the user who is present, else the subject.
const MODIFIED_BY: HeaderName = HeaderName::from_static("keyward-modified-by");
/// The scopes that all tokens of the request allow, separated by spaces.
const SCOPE: HeaderName = HeaderName::from_static("keyward-scope");
/// The resources that all tokens of the request cover, separated by spaces.
const RES: HeaderName = HeaderName::from_static("keyward-res");
/// The key behind it, `cred_…`.
const CREDENTIAL: HeaderName = HeaderName::from_static("keyward-credential");
/// The device session of the user who is present.
const SESSION: HeaderName = HeaderName::from_static("keyward-session");

/// All of the headers, empty where there is nothing to say: some gateways make something of a header that is not there.
pub(super) fn headers(caller: &Caller, key_expires: Option<HeaderValue>) -> Result<HeaderMap, Refusal> {
    let issuer = match caller.user() {
        Some(User::Foreign { issuer, .. }) => Some(issuer.to_owned()),
        _ => None,
    };
    let told = [
        (CLIENT, Some(caller.client().to_string())),
        (SUBJECT, Some(caller.client_token().sub.to_string())),
        (USER, caller.user().map(|user| user.to_string())),
        (USER_ISSUER, issuer),
        (MODIFIED_BY, Some(caller.modified_by())),
        (SCOPE, Some(caller.scope().to_string())),
        (RES, Some(caller.res().to_text())),
        (CREDENTIAL, caller.credential().map(|credential| credential.to_string())),
        (SESSION, caller.session().map(|session| session.to_string())),
    ];
    let told = told.into_iter().map(|(name, text)| Ok((name, value(text.unwrap_or_default())?)));
    let key_expires = key_expires.unwrap_or_else(|| HeaderValue::from_static(""));
    told.chain([Ok((KEY_EXPIRES, key_expires))]).collect()
}

/// A value that arrives as it was sent: spaces at its ends would be lost on the way, and with them who is meant.
fn value(text: String) -> Result<HeaderValue, Refusal> {
    let refusal = || Refusal::Identity(Box::new(Refusal::Subject));
    if text.trim() != text {
        return Err(refusal());
    }
    HeaderValue::try_from(text).map_err(|_| refusal())
}
