use super::pace::Pace;
use super::stub::{Feed, Script, Stub, ok, status};
use super::*;
use crate::fixture::{KEYS, NOW, PLANT, claims, published, signing_key};
use crate::{TrustedIssuer, User};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use keyward_model::id::{DeviceSessionId, TokenId};
use keyward_model::jws::{SigningAlgorithm, SigningKey};
use keyward_model::token::{AccessTokenClaims, Status, StatusReference};
use serde_json::json;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use uuid::Uuid;

mod feed;

/// The same proportions as usual, in less time.
const PACE: Pace = Pace {
    unknown_keys: Duration::from_millis(400),
    list: Duration::from_millis(50),
    silence: Duration::from_millis(300),
    answer: Duration::from_secs(2),
    poll: Duration::from_secs(1),
    pause: (Duration::from_millis(10), Duration::from_millis(50)),
    ..Pace::USUAL
};

/// A clock that a test moves, and a guard that goes by it.
struct Door {
    clock: Arc<AtomicI64>,
    guard: Guard,
}

fn builder(stub: &Stub, clock: &Arc<AtomicI64>) -> Builder {
    let clock = Arc::clone(clock);
    let mut builder = Guard::discover(&stub.url).audience(PLANT);
    builder.pace = PACE;
    builder.clock(move || Timestamp::from_millis(clock.load(Ordering::SeqCst)))
}

impl Door {
    async fn open(stub: &Stub) -> Self {
        Self::with(stub, |builder| builder).await.expect("the guard begins")
    }

    async fn with(stub: &Stub, change: impl FnOnce(Builder) -> Builder) -> Result<Self, StartError> {
        let clock = Arc::new(AtomicI64::new(NOW.as_millis()));
        let guard = change(builder(stub, &clock)).await?;
        Ok(Self { clock, guard })
    }

    fn advance(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    fn check(&self, token: &str) -> Result<Caller, Refusal> {
        self.guard.check(&headers(token, None))
    }
}

fn headers(token: &str, identity: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    if let Some(identity) = identity {
        headers.insert(crate::IDENTITY_TOKEN, HeaderValue::try_from(identity).unwrap());
    }
    headers
}

/// The claims of a token with this place in the list.
fn at(stub: &Stub, idx: u64) -> AccessTokenClaims {
    let status_list = StatusReference { idx, uri: format!("{}/status-lists/1", stub.url) };
    AccessTokenClaims { iss: stub.url.clone(), status: Some(Status { status_list }), ..claims() }
}

fn token(stub: &Stub, idx: u64) -> String {
    at(stub, idx).sign(&KEYS[0]).unwrap()
}

/// Waits for what comes by itself.
async fn until(what: &str, mut come: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if come() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came: {what}");
}

#[tokio::test]
async fn a_guard_finds_keys_and_list_by_itself_and_then_asks_nobody() {
    let stub = Stub::start().await;
    stub.end_place(3);
    let door = Door::open(&stub).await;
    let caller = door.check(&token(&stub, 2)).unwrap();
    assert_eq!(caller.client(), claims().client_id);
    assert!(matches!(door.check(&token(&stub, 3)), Err(Refusal::Ended(_))));
    assert_eq!(door.guard.check(&HeaderMap::new()).unwrap_err(), Refusal::Missing);
    let asked = stub.seen("get ");
    for _ in 0..1000 {
        door.check(&token(&stub, 2)).unwrap();
    }
    assert_eq!(stub.seen("get "), asked);
    let measures = door.guard.measures();
    assert_eq!((measures.accepted, measures.fetches_failed, measures.feed_connected), (1001, 0, true));
}

#[tokio::test]
async fn a_guard_that_is_set_up_wrongly_says_what_to_do() {
    let stub = Stub::start().await;
    let refused = |builder: Builder| builder.start_unready().unwrap_err().to_string();
    assert!(refused(Guard::discover(&stub.url)).contains(".audience(…)"));
    assert!(refused(Guard::discover("http://keyward.example").audience(PLANT)).contains("https://"));
    let trusted = |issuer: &str| TrustedIssuer { issuer: issuer.into(), audience: "x".into(), rights: None };
    assert!(refused(Guard::discover(&stub.url).audience(PLANT).trust(trusted(&stub.url))).contains(".trust(…)"));
    assert!(refused(Guard::discover(&stub.url).audience(PLANT).trust(trusted("login"))).contains("not a URL"));

    stub.set(|script| script.issuer = Some("https://other.example".into()));
    let error = Door::with(&stub, |builder| builder).await.err().unwrap().to_string();
    assert!(error.contains("it is of the issuer \"https://other.example\""), "{error}");
}

#[tokio::test]
async fn an_issuer_that_is_away_at_the_start_is_an_error_or_is_waited_for() {
    let stub = Stub::start().await;
    let address = stub.url.strip_prefix("http://").unwrap().parse().unwrap();
    stub.set(|script| script.away = true);
    let error = Door::with(&stub, |builder| builder).await.err().unwrap().to_string();
    assert!(error.contains("start_unready") && error.contains(&stub.url), "{error}");

    let clock = Arc::new(AtomicI64::new(NOW.as_millis()));
    let door = Door { guard: builder(&stub, &clock).start_unready().unwrap(), clock };
    let token = token(&stub, 1);
    drop(stub);
    let refusal = door.check(&token).unwrap_err();
    assert_eq!((refusal.status(), refusal.challenge("x")), (503, None), "{refusal}");
    let _stub = Stub::at(address).await;
    until("the issuer is back", || door.check(&token).is_ok()).await;
}

#[tokio::test]
async fn what_is_not_a_key_set_is_not_taken_for_one() {
    let stub = Stub::start().await;
    for answer in [
        status("302 Found"),
        status("500 Broken"),
        ok("<html>", ""),
        ok(r#"{"keys":[]}"#, ""),
        ok(&" ".repeat(600 * 1024), ""),
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_owned(),
        "garbage\r\n\r\n".to_owned(),
    ] {
        stub.set(|script| script.jwks_answer = Some(answer.clone()));
        let begun = Door::with(&stub, |builder| builder).await;
        assert!(matches!(begun, Err(StartError::Unreachable { .. })), "{answer:.60}");
    }
    // With keys that are there it goes on, whatever becomes of the issuer.
    stub.set(|script| script.jwks_answer = None);
    let door = Door::open(&stub).await;
    stub.set(|script| script.jwks_answer = Some(ok(r#"{"keys":[]}"#, "")));
    assert!(door.guard.refresh().await.is_err());
    assert!(door.check(&token(&stub, 1)).is_ok());
}

#[tokio::test]
async fn a_token_of_a_new_key_is_accepted_at_the_first_try() {
    let stub = Stub::start().await;
    let door = Door::open(&stub).await;
    tokio::time::sleep(PACE.unknown_keys * 2).await;
    let new = signing_key(7, SigningAlgorithm::EdDsa);
    stub.set(|script| script.jwks = published(KEYS.iter().chain([&new])));
    let token = at(&stub, 1).sign(&new).unwrap();
    assert!(door.guard.admit(&headers(&token, None)).await.is_ok());
}

#[tokio::test]
async fn invented_key_names_do_not_reach_the_issuer() {
    let stub = Stub::start().await;
    let door = Door::open(&stub).await;
    let before = stub.seen("get /jwks");
    let began = tokio::time::Instant::now();
    for number in 100..300 {
        let token = at(&stub, 1).sign(&invented(number)).unwrap();
        assert!(matches!(door.guard.admit(&headers(&token, None)).await, Err(Refusal::KeyUnknown(_))));
    }
    let most = began.elapsed().as_millis() / PACE.unknown_keys.as_millis() + 1;
    let asked = stub.seen("get /jwks") - before;
    assert!(asked as u128 <= most, "{asked} times instead of {most}");
    assert_eq!(door.guard.measures().cache_entries, 0, "only good tokens are remembered");
}

/// Another name each time; one key behind all, for keys take long to make.
fn invented(number: u128) -> SigningKey {
    let kid = keyward_model::id::KeyId::from_uuid(Uuid::from_u128(number));
    let der = KEYS[1].private().to_pkcs8().unwrap();
    SigningKey::new(kid, keyward_model::jws::PrivateKey::from_pkcs8(SigningAlgorithm::EdDsa, &der).unwrap()).unwrap()
}

#[tokio::test]
async fn a_key_that_is_withdrawn_ends_what_it_signed_remembered_or_not() {
    let stub = Stub::start().await;
    let door = Door::open(&stub).await;
    let (old, other) = (token(&stub, 1), at(&stub, 1).sign(&KEYS[1]).unwrap());
    assert!(door.check(&old).is_ok() && door.check(&old).is_ok() && door.check(&other).is_ok());
    assert_eq!((door.guard.measures().cache_hits, door.guard.measures().cache_entries), (1, 2));
    stub.set(|script| {
        script.jwks = published([&KEYS[1]]);
        script.log.push(("keys", json!({})));
    });
    until("the key is withdrawn", || door.check(&old).is_err()).await;
    assert!(matches!(door.check(&old), Err(Refusal::KeyUnknown(_))));
    assert!(door.check(&other).is_ok());
    assert_eq!(door.guard.measures().cache_entries, 1);
}

#[tokio::test]
async fn a_withdrawn_key_does_not_come_back_from_a_node_that_is_behind() {
    let stub = Stub::start().await;
    let door = Door::open(&stub).await;
    let old = token(&stub, 1);
    assert!(door.check(&old).is_ok());
    let withdraw = |script: &mut Script| {
        script.jwks = published([&KEYS[1]]);
        script.jwks_behind = Some(published(KEYS.iter()));
    };
    stub.set(|script| {
        withdraw(script);
        script.log.push(("keys", json!({})));
    });
    until("the key is withdrawn", || door.check(&old).is_err()).await;
    door.guard.refresh().await.unwrap();
    assert!(matches!(door.check(&old), Err(Refusal::KeyUnknown(_))), "whatever the keys are read for");
    assert!(stub.seen("get /jwks?applied=2 ") > 1);
    assert_eq!(stub.seen("get /jwks"), stub.seen("cache-control: no-cache\r\n") - stub.seen("get /.well-known"));

    // The first keys are read before the feed has said as of when, those of its reset are not.
    let other = Stub::start().await;
    other.set(withdraw);
    let door = Door::with(&other, |builder| builder.unreachable(Unreachable::AcceptUntilExpiry)).await.unwrap();
    let old = token(&other, 1);
    until("the reset has brought the keys", || matches!(door.check(&old), Err(Refusal::KeyUnknown(_)))).await;
    assert_eq!(other.seen("get /jwks?applied=1 "), 1);
}

#[tokio::test]
async fn a_guard_outlives_that_its_issuer_goes_on_with_another_database() {
    let stub = Stub::start().await;
    stub.set(|script| script.log.extend([("keys", json!({})), ("keys", json!({}))]));
    let door = Door::open(&stub).await;
    assert!(door.check(&token(&stub, 1)).is_ok());
    // Restored from before, with other keys, and its feed is not to be had.
    let new = signing_key(7, SigningAlgorithm::EdDsa);
    stub.set(|script| {
        (script.feed, script.polls, script.log) = (Feed::Cut, false, vec![]);
        script.jwks = published(KEYS.iter().chain([&new]));
    });
    let token = at(&stub, 1).sign(&new).unwrap();
    until("its keys are there", || door.check(&token).is_ok()).await;
}

#[tokio::test]
async fn a_remembered_token_lives_no_longer_than_it_says() {
    let stub = Stub::start().await;
    let door = Door::with(&stub, |builder| builder.leeway(Duration::ZERO).unreachable(Unreachable::AcceptUntilExpiry));
    let door = door.await.unwrap();
    let token = token(&stub, 1);
    assert!(door.check(&token).is_ok());
    door.advance(599);
    assert!(door.check(&token).is_ok());
    assert_eq!(door.guard.measures().cache_hits, 1);
    door.advance(1);
    assert!(matches!(door.check(&token), Err(Refusal::Expired(_))));
}

#[tokio::test]
async fn a_user_of_a_trusted_issuer_is_present_beside_a_client() {
    let (stub, login) = (Stub::start().await, Stub::start().await);
    let key = signing_key(70, SigningAlgorithm::EdDsa);
    login.set(|script| script.jwks = published([&key]));
    let issuer = || TrustedIssuer { issuer: login.url.clone(), audience: "plant-web".into(), rights: None };
    let door = Door::with(&stub, |builder| builder.trust(issuer())).await.unwrap();
    let identity = json!({
        "iss": login.url, "aud": "plant-web", "sub": "anna", "iat": NOW.as_seconds(), "exp": NOW.as_seconds() + 300,
        "scope": "Worker", "res": ["plant/7"],
    });
    let identity = key.sign("JWT", identity.to_string().as_bytes()).unwrap();
    for _ in 0..2 {
        let caller = door.guard.check(&headers(&token(&stub, 1), Some(&identity))).unwrap();
        assert_eq!(caller.user(), Some(User::Foreign { issuer: &login.url, subject: "anna" }));
        assert!(caller.allows("Worker", "plant/7") && !caller.allows("Supervisor", "plant/7"));
    }
    // What was remembered as an identity is no client token for that.
    assert!(matches!(door.check(&identity), Err(Refusal::Type(_) | Refusal::KeyUnknown(_))));
    door.advance(331);
    let refusal = door.guard.check(&headers(&token(&stub, 1), Some(&identity))).unwrap_err();
    assert!(matches!(refusal, Refusal::Identity(cause) if matches!(*cause, Refusal::Expired(_))));

    login.set(|script| script.away = true);
    assert!(Door::with(&stub, |builder| builder.trust(issuer())).await.is_err());
    let clock = Arc::new(AtomicI64::new(NOW.as_millis()));
    let guard = builder(&stub, &clock).trust(issuer()).start_unready().unwrap();
    until("Keyward's keys are there", || guard.check(&headers(&token(&stub, 1), None)).is_ok()).await;
    let refusal = guard.check(&headers(&token(&stub, 1), Some(&identity))).unwrap_err();
    assert_eq!(refusal.status(), 503, "whose it is cannot be told yet: {refusal}");
}

#[tokio::test]
async fn a_trusted_issuer_that_is_away_for_a_day_is_not_trusted_any_more() {
    let (stub, login) = (Stub::start().await, Stub::start().await);
    let key = signing_key(70, SigningAlgorithm::EdDsa);
    login.set(|script| script.jwks = published([&key]));
    let issuer = TrustedIssuer { issuer: login.url.clone(), audience: "plant-web".into(), rights: None };
    let lenient = |builder: Builder| builder.trust(issuer).unreachable(Unreachable::AcceptUntilExpiry);
    let door = Door::with(&stub, lenient).await.unwrap();
    let day = 24 * 3600;
    let long = AccessTokenClaims { exp: NOW.plus(Duration::from_secs(2 * day)), ..at(&stub, 1) };
    let (client, exp) = (long.sign(&KEYS[0]).unwrap(), long.exp.as_seconds());
    let identity = json!({ "iss": login.url, "aud": "plant-web", "sub": "anna", "iat": NOW.as_seconds(), "exp": exp });
    let both = headers(&client, Some(&key.sign("JWT", identity.to_string().as_bytes()).unwrap()));
    assert!(door.guard.check(&both).is_ok());
    login.set(|script| script.away = true);
    door.advance(day as i64 - 1);
    assert!(door.guard.refresh().await.is_err());
    assert!(door.guard.check(&both).is_ok(), "not for a day yet");
    door.advance(1);
    until("it is not trusted", || door.guard.check(&both).is_err()).await;
    let refusal = door.guard.check(&both).unwrap_err();
    assert_eq!(refusal.status(), 503, "whether it was withdrawn cannot be told: {refusal}");
    assert!(door.check(&client).is_ok(), "Keyward's own are another matter");
    login.set(|script| script.away = false);
    until("it is trusted again", || door.guard.check(&both).is_ok()).await;
}

#[tokio::test]
async fn an_identity_token_whose_session_ended_is_refused_as_such() {
    let stub = Stub::start().await;
    let door = Door::open(&stub).await;
    let identity = AccessTokenClaims {
        act: None,
        cred: None,
        sid: Some(DeviceSessionId::from_uuid(Uuid::from_u128(5))),
        ..at(&stub, 9)
    };
    let identity = identity.sign(&KEYS[1]).unwrap();
    let both = headers(&token(&stub, 1), Some(&identity));
    assert!(door.guard.check(&both).is_ok());
    stub.end_place(9);
    until("the session has ended", || door.guard.check(&both).is_err()).await;
    assert!(matches!(door.guard.check(&both), Err(Refusal::Identity(cause)) if matches!(*cause, Refusal::Ended(_))));
    assert!(door.check(&token(&stub, 1)).is_ok());
}

#[tokio::test]
async fn the_work_behind_a_guard_ends_with_its_last_clone() {
    let stub = Stub::start().await;
    let door = Door::open(&stub).await;
    let state = Arc::downgrade(&door.guard.0.state);
    let clone = door.guard.clone();
    drop(door);
    assert!(clone.check(&headers(&token(&stub, 1), None)).is_ok());
    drop(clone);
    until("the tasks have ended", || state.upgrade().is_none()).await;
}
