use super::*;
use crate::User;
use crate::fixture::{ISSUER, KEYS, NOW, PLANT, STORE, claims, expect, key_set, published, signing_key};
use keyward_model::id::{DeviceSessionId, UserId};
use keyward_model::jws::{ACCESS_TOKEN, PrivateKey, SigningAlgorithm, SigningKey};
use keyward_model::token::{Audience, Subject};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;
use uuid::Uuid;

const PROVIDER: &str = "https://login.example";

static PROVIDER_KEY: LazyLock<SigningKey> = LazyLock::new(|| signing_key(90, SigningAlgorithm::EdDsa));

fn keys() -> Keys {
    Keys::new(key_set()).with(PROVIDER, KeySet::from_jwks(&published([&*PROVIDER_KEY])))
}

fn provider(rights: Option<Rights>) -> TrustedIssuer {
    TrustedIssuer { issuer: PROVIDER.to_owned(), audience: "plant-web".to_owned(), rights }
}

fn rights(scope: &str, res: &str) -> Rights {
    Rights { scope: scope.parse().unwrap(), res: res.parse().unwrap() }
}

fn anna() -> UserId {
    UserId::from_uuid(Uuid::from_u128(20))
}

/// Anna's, got by the public client that `claims()` belongs to.
fn identity() -> AccessTokenClaims {
    AccessTokenClaims {
        sub: Subject::User(anna()),
        act: None,
        cred: None,
        sid: Some(DeviceSessionId::from_uuid(Uuid::from_u128(21))),
        auth_time: Some(NOW),
        scope: "Worker".parse().unwrap(),
        res: "plant/7/line/3 plant/8".parse().unwrap(),
        ..claims()
    }
}

fn of_provider(change: &[(&str, Value)]) -> String {
    let mut json = json!({
        "iss": PROVIDER, "aud": ["plant-web"], "sub": "anna@login", "iat": NOW.as_seconds(),
        "exp": NOW.as_seconds() + 300, "scope": "Worker", "res": ["plant/7"], "email": "anna@example.com",
    });
    for (name, value) in change {
        json[*name] = value.clone();
    }
    PROVIDER_KEY.sign("JWT", json.to_string().as_bytes()).unwrap()
}

fn signed(claims: &AccessTokenClaims) -> String {
    claims.sign(&KEYS[0]).unwrap()
}

fn check(policy: &Policy, client: &str, identity: Option<&str>) -> Result<Caller, Refusal> {
    policy.check(&Presented { authorization: client, identity }, &keys(), NOW)
}

fn policy() -> Policy {
    Policy::new(expect())
}

fn refused(verdict: Result<Caller, Refusal>) -> Refusal {
    verdict.expect_err("it is refused")
}

#[test]
fn a_client_alone_acts_as_its_owner_and_is_not_taken_for_them() {
    let caller = check(&policy(), &signed(&claims()), None).unwrap();
    assert_eq!((caller.client(), caller.credential()), (claims().client_id, claims().cred));
    assert_eq!((caller.user(), caller.session()), (None, None));
    assert_eq!(caller.modified_by(), claims().sub.to_string());
    assert!(caller.allows("Supervisor", "plant/7/line/3") && !caller.allows("Admin", "plant/7"));
    assert_eq!(caller.require("Supervisor", "plant/8"), Err(Refusal::Res("plant/8".into())));
    assert_eq!(caller.require("Admin", "plant/8"), Err(Refusal::Scope("Admin".into())));
    assert!(!caller.allows("Supervisor", "../7"));
}

#[test]
fn with_a_user_present_the_request_may_do_what_both_may() {
    let caller = check(&policy(), &signed(&claims()), Some(&signed(&identity()))).unwrap();
    assert_eq!((caller.user(), caller.session()), (Some(User::Keyward(anna())), identity().sid));
    assert_eq!((caller.modified_by(), caller.client()), (anna().to_string(), claims().client_id));
    assert_eq!((caller.scope().to_string(), caller.res().to_text()), ("Worker".into(), "plant/7/line/3".into()));
    assert_eq!(caller.keyward_tokens().count(), 2);
}

#[test]
fn a_client_that_is_known_without_a_token_is_bound_by_the_same_rule() {
    let beside = |identity: Option<&str>| policy().check_beside(claims(), identity, &keys(), NOW);
    let both = beside(Some(&signed(&identity()))).unwrap();
    assert_eq!((both.modified_by(), both.scope().to_string()), (anna().to_string(), "Worker".into()));
    assert_eq!(beside(None).unwrap().modified_by(), claims().sub.to_string());
    assert_eq!(refused(beside(Some(&signed(&claims())))), Refusal::NotIdentityToken);
}

#[test]
fn a_public_clients_identity_token_stands_alone_and_a_confidential_ones_does_not() {
    let caller = check(&policy(), &signed(&identity()), None).unwrap();
    assert_eq!((caller.user(), caller.modified_by()), (Some(User::Keyward(anna())), anna().to_string()));
    let confidential = AccessTokenClaims { cred: claims().cred, ..identity() };
    let verdict = check(&policy(), &signed(&confidential), None);
    assert_eq!(refused(verdict), Refusal::ClientTokenMissing(claims().client_id));
    assert!(check(&policy(), &signed(&claims()), Some(&signed(&confidential))).is_ok());
}

#[test]
fn tokens_in_each_others_places_are_refused() {
    let (client, identity) = (signed(&claims()), signed(&identity()));
    assert_eq!(refused(check(&policy(), &client, Some(&client))), Refusal::NotIdentityToken);
    assert_eq!(refused(check(&policy(), &identity, Some(&identity))), Refusal::NotClientToken);
    assert_eq!(refused(check(&policy(), &identity, Some(&client))), Refusal::NotClientToken);
    let neither = signed(&AccessTokenClaims { act: None, ..claims() });
    assert_eq!(refused(check(&policy(), &neither, None)), Refusal::Kind);
    assert_eq!(refused(check(&policy(), &client, Some(&neither))), of_identity(Refusal::Kind));
}

#[test]
fn tokens_of_different_clients_go_together_only_where_the_api_says_so() {
    let web = ClientId::from_uuid(Uuid::from_u128(30));
    let elsewhere = signed(&AccessTokenClaims { client_id: web, ..identity() });
    let client = signed(&claims());
    assert_eq!(refused(check(&policy(), &client, Some(&elsewhere))), Refusal::OtherClient(web));
    assert!(check(&policy().accept_identities_of(web), &client, Some(&elsewhere)).is_ok());
    let another = policy().accept_identities_of(claims().client_id);
    assert_eq!(refused(check(&another, &client, Some(&elsewhere))), Refusal::OtherClient(web));
}

#[test]
fn an_identity_token_must_be_as_valid_as_a_client_token() {
    let client = signed(&claims());
    let with = |identity: AccessTokenClaims| refused(check(&policy(), &client, Some(&signed(&identity))));
    let aud = Audience::one(STORE);
    assert_eq!(with(AccessTokenClaims { aud: aud.clone(), ..identity() }), of_identity(Refusal::Audience(aud)));
    let exp = NOW.minus(std::time::Duration::from_secs(60));
    assert_eq!(with(AccessTokenClaims { exp, ..identity() }), of_identity(Refusal::Expired(exp)));
    let damaged = format!("{}AA", signed(&identity()).strip_suffix(|_| true).unwrap());
    assert!(matches!(refused(check(&policy(), &client, Some(&damaged))), Refusal::Identity(_)));
    // A bad client token is told of first.
    let expired = signed(&AccessTokenClaims { exp, ..claims() });
    assert_eq!(refused(check(&policy(), &expired, Some("x"))), Refusal::Expired(exp));
}

#[test]
fn a_trusted_issuers_users_may_do_what_the_api_gives_them() {
    let client = signed(&claims());
    let token = of_provider(&[]);
    let unknown = refused(check(&policy(), &client, Some(&token)));
    assert_eq!(unknown, of_identity(Refusal::KeyUnknown(PROVIDER_KEY.kid().to_string())));
    for (given, scope, res) in [
        (None, "Worker", "plant/7"),
        (Some(rights("Supervisor Admin", "plant/7/line/1")), "Supervisor", "plant/7/line/1"),
        (Some(Rights::default()), "", ""),
    ] {
        let caller = check(&policy().trust(provider(given)), &client, Some(&token)).unwrap();
        assert_eq!((caller.scope().to_string().as_str(), caller.res().to_text().as_str()), (scope, res));
        assert_eq!(caller.user(), Some(User::Foreign { issuer: PROVIDER, subject: "anna@login" }));
        assert_eq!((caller.modified_by().as_str(), caller.keyward_tokens().count()), ("anna@login", 1));
    }
    let silent = of_provider(&[("scope", Value::Null), ("res", Value::Null)]);
    let caller = check(&policy().trust(provider(None)), &client, Some(&silent)).unwrap();
    assert!(caller.scope().is_empty() && caller.res().is_empty());
}

#[test]
fn a_trusted_issuer_vouches_for_its_own_users_only() {
    let trusting = policy().trust(provider(None));
    let client = signed(&claims());
    for (name, value) in [
        ("iss", json!(ISSUER)),
        ("iss", json!("https://login.example/")),
        ("aud", json!(PLANT)),
        ("aud", json!([])),
        ("exp", json!(NOW.as_seconds() - 31)),
        ("exp", Value::Null),
        ("nbf", json!(NOW.as_seconds() + 31)),
        ("iat", json!(NOW.as_seconds() + 31)),
        ("scope", json!(["Worker"])),
        ("res", json!("plant/7")),
    ] {
        let verdict = check(&trusting, &client, Some(&of_provider(&[(name, value.clone())])));
        assert!(matches!(refused(verdict), Refusal::Identity(_)), "{name} = {value}");
    }
    let (anna, client_id) = (anna().to_string(), claims().client_id.to_string());
    for sub in [
        anna.clone(),
        anna.to_uppercase(),
        anna.replacen("user", "User", 1),
        format!(" {anna}"),
        client_id.clone(),
        client_id.to_uppercase(),
        String::new(),
        " ".to_owned(),
        "anna ".to_owned(),
        " anna".to_owned(),
        "anna\n".to_owned(),
        "a".repeat(256),
    ] {
        let refusal = refused(check(&trusting, &client, Some(&of_provider(&[("sub", json!(sub))]))));
        assert_eq!(refusal, of_identity(Refusal::Subject), "{sub:?}");
        assert_eq!(refusal.description(), "identity token: the token's sub is not a name that its issuer may give");
    }
    for sub in ["Anna", "user_anna", "anna smith", "client"] {
        assert!(check(&trusting, &client, Some(&of_provider(&[("sub", json!(sub))]))).is_ok(), "{sub:?}");
    }
    // Its tokens are no client tokens, and its key signs nothing of Keyward's.
    assert!(matches!(refused(check(&trusting, &of_provider(&[]), None)), Refusal::Type(_)));
    let forged = identity().sign(&PROVIDER_KEY).unwrap();
    assert_eq!(refused(check(&trusting, &client, Some(&forged))), of_identity(Refusal::Issuer(ISSUER.into())));
    assert!(matches!(refused(check(&trusting, &forged, None)), Refusal::KeyUnknown(_)));
    let events = PROVIDER_KEY.sign("logout+jwt", b"{}").unwrap();
    assert!(matches!(refused(check(&trusting, &client, Some(&events))), Refusal::Identity(_)));
}

#[test]
fn an_issuer_may_be_trusted_for_two_audiences_and_share_the_name_of_a_key() {
    let clash = SigningKey::new(KEYS[0].kid(), PrivateKey::generate(SigningAlgorithm::EdDsa).unwrap()).unwrap();
    let keys = Keys::new(key_set()).with(PROVIDER, KeySet::from_jwks(&published([&clash])));
    let other = TrustedIssuer { audience: "store-web".to_owned(), ..provider(None) };
    let policy = policy().trust(other).trust(provider(None));
    let payload = json!({
        "iss": PROVIDER, "aud": "plant-web", "sub": "anna", "iat": NOW.as_seconds(), "exp": NOW.as_seconds() + 9,
    });
    let foreign = clash.sign("JWT", payload.to_string().as_bytes()).unwrap();
    for identity in [foreign, signed(&identity())] {
        let presented = Presented { authorization: &signed(&claims()), identity: Some(&identity) };
        assert!(policy.check(&presented, &keys, NOW).is_ok());
    }
}

#[test]
fn issuers_that_share_keys_are_told_apart_by_their_names() {
    let others = ["https://a.example", "https://z.example"];
    let set = || KeySet::from_jwks(&published([&*PROVIDER_KEY]));
    let keys = others.into_iter().fold(keys(), |keys, other| keys.with(other, set()));
    let trust = |policy: Policy, issuer: &str| policy.trust(TrustedIssuer { issuer: issuer.into(), ..provider(None) });
    let all = [others[0], PROVIDER, others[1]].into_iter().fold(policy(), trust);
    let client = signed(&claims());
    let check = |policy: &Policy, identity: &str| {
        policy.check(&Presented { authorization: &client, identity: Some(identity) }, &keys, NOW)
    };
    for issuer in [others[0], PROVIDER, others[1]] {
        let caller = check(&all, &of_provider(&[("iss", json!(issuer))])).unwrap();
        assert_eq!(caller.user(), Some(User::Foreign { issuer, subject: "anna@login" }));
    }
    let nobody = "https://b.example";
    let verdict = check(&all, &of_provider(&[("iss", json!(nobody))]));
    assert_eq!(refused(verdict), of_identity(Refusal::Issuer(nobody.into())));
    let verdict = check(&all, &of_provider(&[("aud", json!("store-web"))]));
    assert_eq!(refused(verdict), of_identity(Refusal::Audience(Audience::one("store-web"))));
}

fn some_rights() -> impl Strategy<Value = Rights> {
    let scope = prop::sample::subsequence(vec!["Admin", "Supervisor", "Worker"], 0..=3);
    let res = prop::sample::subsequence(vec!["plant", "plant/7", "plant/7/line/3", "plant/70", "store"], 0..=5);
    (scope, res).prop_map(|(scope, res)| rights(&scope.join(" "), &res.join(" ")))
}

proptest! {
    #[test]
    fn a_user_never_adds_a_right_to_a_client(ours in some_rights(), theirs in some_rights(), scope in "Admin|Supervisor|Worker", res in "plant|plant/7|plant/7/line/3|plant/70|store") {
        let client = Arc::new(AccessTokenClaims { scope: ours.scope, res: ours.res, ..claims() });
        let user = Arc::new(AccessTokenClaims { scope: theirs.scope, res: theirs.res, ..identity() });
        let alone = |token: &Arc<AccessTokenClaims>| token.has_scope(&scope) && token.covers(&res);
        let both = policy().combine(Arc::clone(&client), Some(Identity::Keyward(Arc::clone(&user)))).unwrap();
        prop_assert_eq!(both.allows(&scope, &res), alone(&client) && alone(&user));
    }

    #[test]
    fn no_identity_token_makes_the_rule_panic(text in "\\PC{0,300}", payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let trusting = policy().trust(provider(None));
        let client = signed(&claims());
        prop_assert!(check(&trusting, &client, Some(&text)).is_err());
        for typ in ["JWT", ACCESS_TOKEN] {
            prop_assert!(check(&trusting, &client, Some(&PROVIDER_KEY.sign(typ, &payload).unwrap())).is_err());
            prop_assert!(check(&trusting, &client, Some(&KEYS[0].sign(typ, &payload).unwrap())).is_err());
        }
    }
}
