//! How a guard learns what is revoked, and what it does when it cannot.

use super::*;

/// Refused because it ended, however that was learned.
fn ended(verdict: &Result<Caller, Refusal>) -> bool {
    matches!(verdict, Err(Refusal::Ended(_)))
}

#[tokio::test]
async fn what_the_feed_tells_is_in_force_at_once() {
    let stub = Stub::start().await;
    let door = Door::open(&stub).await;
    let (one, two) = (token(&stub, 1), token(&stub, 2));
    assert!(door.check(&one).is_ok() && door.check(&two).is_ok());
    stub.end_place(1);
    until("the place has ended", || ended(&door.check(&one))).await;
    assert!(door.check(&two).is_ok());
    stub.set(|script| script.log.push(("places", json!({ "restored": [1] }))));
    until("the place is restored", || door.check(&one).is_ok()).await;

    let jti = TokenId::from_uuid(Uuid::from_u128(77));
    let single = AccessTokenClaims { jti, ..at(&stub, 2) }.sign(&KEYS[0]).unwrap();
    assert!(door.check(&single).is_ok());
    let revoked = json!({ "revoked": [{ "jti": jti, "exp": NOW.as_seconds() + 600 }] });
    stub.set(|script| script.log.push(("tokens", revoked)));
    until("the token is revoked", || ended(&door.check(&single))).await;
    assert!(door.check(&two).is_ok(), "another token of the same key");
    assert_eq!(stub.seen("get /status-lists/1"), 1, "the list was needed only to begin with");
    // A credential younger than the list.
    assert!(door.check(&token(&stub, 100_000)).is_ok());
}

#[tokio::test]
async fn a_feed_that_breaks_goes_on_where_it_ended() {
    let stub = Stub::start().await;
    let door = Door::open(&stub).await;
    let one = token(&stub, 1);
    assert!(door.check(&one).is_ok());
    stub.set(|script| script.away = true);
    until("it is lost", || !door.guard.measures().feed_connected).await;
    stub.set(|script| {
        script.log.push(("places", json!({ "ended": [1] })));
        script.away = false;
    });
    until("the place has ended", || ended(&door.check(&one))).await;
    assert!(stub.seen("last-event-id: 1\r\n") > 0);
    // Ended in the log only: no list could have told.
    assert_eq!(stub.seen("get /status-lists/1"), 1);
}

#[tokio::test]
async fn after_a_reset_the_list_is_never_one_from_before() {
    let stub = Stub::start().await;
    stub.set(|script| script.log.extend([("keys", json!({})), ("keys", json!({}))]));
    let door = Door::open(&stub).await;
    assert_eq!((stub.seen("/status-lists/1?applied=3 "), stub.seen("get /status-lists/1 ")), (1, 0));
    // Another database, with a shorter log.
    stub.set(|script| (script.away, script.log) = (true, vec![]));
    until("it is lost", || !door.guard.measures().feed_connected).await;
    stub.set(|script| script.away = false);
    until("it begins anew", || stub.seen("/status-lists/1?applied=0 ") > 0).await;
}

#[tokio::test]
async fn without_a_feed_the_list_is_followed() {
    for feed in [
        Feed::Missing,
        Feed::Full,
        Feed::Silent,
        Feed::Comments,
        Feed::Garbage,
        Feed::Endless,
        Feed::Cut,
        Feed::NoReset,
        Feed::Foreign,
    ] {
        let stub = Stub::start().await;
        stub.set(|script| (script.feed, script.polls) = (feed, false));
        stub.end_place(1);
        let door = Door::open(&stub).await;
        assert!(ended(&door.check(&token(&stub, 1))), "{feed:?}");
        assert!(door.check(&token(&stub, 2)).is_ok(), "{feed:?}");
        stub.set(|script| script.revoked = vec![claims().jti.to_string()]);
        door.guard.refresh().await.unwrap();
        assert!(ended(&door.check(&token(&stub, 2))), "{feed:?}");
        assert!(!door.guard.measures().feed_connected, "{feed:?}");
    }
}

#[tokio::test]
async fn an_api_that_wants_no_feed_asks_for_none() {
    let stub = Stub::start().await;
    let door = Door::with(&stub, |builder| builder.feed(false)).await.unwrap();
    assert!(door.check(&token(&stub, 1)).is_ok());
    let fetched = stub.seen("get /status-lists/1");
    door.guard.refresh().await.unwrap();
    assert_eq!(stub.seen("if-none-match"), 1, "what is known is not sent again");
    assert_eq!((stub.seen("/revocations"), stub.seen("get /status-lists/1")), (0, fetched + 1));
    assert!(door.check(&token(&stub, 1)).is_ok());
    // A credential younger than the copy: the list is fetched while the request waits.
    let young = headers(&token(&stub, 1000), None);
    assert_eq!(door.guard.check(&young).unwrap_err().status(), 503);
    stub.set(|script| script.bits = vec![0; 1000]);
    tokio::time::sleep(PACE.list * 2).await;
    assert!(door.guard.admit(&young).await.is_ok());
}

#[tokio::test]
async fn a_feed_that_falls_silent_is_noticed_and_the_list_takes_over() {
    let stub = Stub::start().await;
    let door = Door::open(&stub).await;
    stub.set(|script| script.feed = Feed::Silent);
    stub.end_place(1);
    until("the list has told it", || ended(&door.check(&token(&stub, 1)))).await;
    stub.set(|script| script.feed = Feed::Well);
    until("the feed is back", || door.guard.measures().feed_connected).await;
}

#[tokio::test]
async fn a_feed_that_is_held_back_makes_nothing_certain() {
    for polls in [false, true] {
        let stub = Stub::start().await;
        // Polled for where there is no stream.
        stub.set(|script| script.feed = if polls { Feed::Cut } else { Feed::Well });
        let door = Door::open(&stub).await;
        until("it is followed", || door.guard.measures().feed_connected).await;
        // What the feed says is late, and within what clocks may differ.
        let late = |seconds: u64| move |script: &mut Script| script.now = Some(NOW.minus(Duration::from_secs(seconds)));
        stub.set(late(20));
        until("what it knows is of then", || door.guard.measures().uncertain_for == Some(Duration::from_secs(20)))
            .await;
        assert!(door.guard.measures().feed_connected && door.check(&token(&stub, 1)).is_ok());
        assert_eq!(door.guard.measures().accepted_on_trust, 0);
        // Later than that; what is ended is told to those who ask for the list.
        stub.set(late(31));
        until("it is lost", || !door.guard.measures().feed_connected).await;
        stub.set(|script| script.bits[0] = 0b10);
        until("the list has told it", || ended(&door.check(&token(&stub, 1)))).await;
        assert!(!door.guard.measures().feed_connected);
        stub.set(late(0));
        until("the feed is back", || door.guard.measures().feed_connected).await;
        // Of another version, which does not say.
        stub.set(|script| script.now = None);
        until("it is lost again", || !door.guard.measures().feed_connected).await;
    }
}

#[tokio::test]
async fn where_streams_keep_breaking_events_are_polled_for() {
    for feed in [Feed::Cut, Feed::Comments] {
        let stub = Stub::start().await;
        stub.set(|script| script.feed = feed);
        let door = Door::open(&stub).await;
        until("it polls", || door.guard.measures().feed_connected).await;
        let one = token(&stub, 1);
        assert!(door.check(&one).is_ok());
        stub.set(|script| script.log.push(("places", json!({ "ended": [1] }))));
        until("the place has ended", || ended(&door.check(&one))).await;
        until("it goes on", || stub.seen("after=2&wait=1 ") > 1).await;
        door.guard.refresh().await.unwrap();
        assert!(door.guard.measures().feed_connected);
    }
}

#[tokio::test]
async fn what_is_no_list_of_the_issuer_changes_nothing() {
    let stub = Stub::start().await;
    let door = Door::with(&stub, |builder| builder.feed(false)).await.unwrap();
    let other = super::super::stub::list_jwt("https://other.example", &[0xff], &[]);
    for answer in [status("302 Found"), status("304 Not Modified"), ok("", ""), ok("a.b.c", ""), ok(&other, "")] {
        stub.set(|script| (script.list_answer, script.bits) = (Some(answer.clone()), vec![1; 16]));
        let unchanged = answer.starts_with("HTTP/1.1 304") && stub.seen("if-none-match") > 0;
        assert!(door.guard.refresh().await.is_err() || unchanged, "{answer:.60}");
        assert!(door.check(&token(&stub, 8)).is_ok());
        assert!(door.guard.measures().last_fault.is_some() || unchanged);
    }
}

#[tokio::test]
async fn when_nobody_can_be_reached_the_api_has_decided_what_becomes_of_tokens() {
    let stub = Stub::start().await;
    let strict = Door::open(&stub).await;
    let lenient = Door::with(&stub, |builder| builder.unreachable(Unreachable::AcceptUntilExpiry)).await.unwrap();
    let exp = NOW.plus(Duration::from_secs(9999));
    let long = AccessTokenClaims { exp, ..at(&stub, 1) }.sign(&KEYS[0]).unwrap();
    stub.set(|script| script.away = true);
    for door in [&strict, &lenient] {
        until("it is lost", || !door.guard.measures().feed_connected).await;
        door.advance(299);
        assert!(door.check(&long).is_ok());
        door.advance(2);
    }
    let refusal = strict.check(&long).unwrap_err();
    assert_eq!((refusal.status(), refusal.code()), (503, None));
    assert!(lenient.check(&long).is_ok());
    lenient.advance(9999);
    assert!(matches!(lenient.check(&long), Err(Refusal::Expired(_))));
    assert_eq!((strict.guard.measures().accepted_on_trust, lenient.guard.measures().accepted_on_trust), (1, 2));
    assert_eq!(strict.guard.measures().uncertain_for.unwrap().as_secs(), 301);
    // It comes back by itself.
    stub.set(|script| (script.away, script.now) = (false, Some(strict.guard.now())));
    until("it is certain again", || strict.check(&long).is_ok()).await;
}
