//! Passkeys, made and used by a software authenticator that shares nothing with the server.

use futures_util::future::join_all;
use keyward_tests::authenticator::Device;
use keyward_tests::server::{Api, Db, TestServer};
use keyward_tests::visitor::{PASSWORD, PageSeen, Visitor, invitation, new_user};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::login::{told, user_id};

pub(crate) const ISSUER: &str = "https://iam.example.org";
const REFUSED: &str = "This passkey was not accepted.";

/// A server whose host is a name: browsers offer no passkeys for an address.
pub(crate) async fn named(db: Db) -> TestServer {
    TestServer::start_with(db, |config| ISSUER.clone_into(&mut config.server.issuer)).await
}

async fn offered(visitor: &Visitor<'_>, path: &str, form: &[(&str, &str)]) -> (Value, String) {
    let page = visitor.post(path, form).await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "application/json"), "{}", page.html);
    let offer: Value = serde_json::from_str(&page.html).unwrap();
    (offer["options"].clone(), offer["ceremony"].as_str().unwrap().to_owned())
}

/// Answers the challenge of a sign-in.
async fn answered(visitor: &Visitor<'_>, device: &Device) -> Result<[(&'static str, String); 2], String> {
    let (options, ceremony) = offered(visitor, "/login/passkey/options", &[]).await;
    Ok([("ceremony", ceremony), ("credential", device.answer(&options)?)])
}

async fn send(visitor: &Visitor<'_>, answer: &[(&str, String); 2]) -> PageSeen {
    let form: Vec<_> = answer.iter().map(|(name, value)| (*name, value.as_str())).collect();
    visitor.post("/login/passkey", &form).await
}

pub(crate) async fn sign_in(visitor: &Visitor<'_>, device: &Device) -> PageSeen {
    send(visitor, &answered(visitor, device).await.unwrap()).await
}

/// Accepts an invitation with a passkey.
async fn accept(visitor: &Visitor<'_>, link: &str, device: &Device) -> PageSeen {
    let token = link.rsplit('/').next().unwrap();
    let (options, ceremony) = offered(visitor, "/invitation/passkey/options", &[("token", token)]).await;
    let made = device.make(&options).unwrap();
    let form = [("token", token), ("ceremony", ceremony.as_str()), ("credential", made.as_str())];
    visitor.post("/invitation/passkey", &form).await
}

/// Adds a passkey to the account of whoever is signed in.
async fn add(visitor: &Visitor<'_>, device: &Device) -> PageSeen {
    let token = visitor.get("/account").await.form_token();
    let (options, ceremony) = offered(visitor, "/account/passkeys/options", &[("form_token", token.as_str())]).await;
    let made = device.make(&options).unwrap();
    visitor.submit("/account/passkeys", &[("ceremony", &ceremony), ("credential", &made)]).await
}

/// The ids of the passkeys on the account page.
async fn ids(visitor: &Visitor<'_>) -> Vec<String> {
    let html = visitor.get("/account").await.html;
    let found = html.split("/account/passkeys/passkey_").skip(1).filter_map(|rest| rest.split_once("/rename"));
    found.map(|(id, _)| format!("passkey_{id}")).filter(|id| id.len() == 34).collect()
}

/// Somebody invited who made a passkey with this device.
pub(crate) async fn invited<'a>(server: &'a TestServer, admin: &Api<'_>, name: &str, device: &Device) -> Visitor<'a> {
    let link = invitation(admin, &new_user(admin, name).await).await;
    let visitor = Visitor::new(server);
    accept(&visitor, &link, device).await.leads_to("/account?done=invited");
    visitor
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_makes_a_passkey_from_an_invitation_and_signs_in_with_it_without_a_name() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = named(db).await;
        let admin = server.admin().await;
        let phone = Device::at(ISSUER, false);
        let olga = invited(&server, &admin, "olga", &phone).await;
        assert!(olga.is_signed_in().await);
        let elsewhere = Visitor::new(&server);
        let (options, _) = offered(&elsewhere, "/login/passkey/options", &[]).await;
        assert_eq!((&options["rpId"], &options["userVerification"]), (&json!("iam.example.org"), &json!("required")));
        sign_in(&elsewhere, &phone).await.leads_to("/account");
        assert!(elsewhere.get("/account").await.html.contains("with a passkey"));
        elsewhere.sign_in("olga", PASSWORD).await.is_refused(StatusCode::FORBIDDEN, "Name or password is wrong.");

        let told = told(&admin, &user_id(&admin, "olga").await).await;
        let kinds: Vec<_> = told.iter().map(|(kind, _)| kind.as_str()).filter(|kind| *kind != "login.failed").collect();
        let expected = ["user.created", "user.invited", "passkey.added", "login.succeeded", "login.succeeded"];
        assert_eq!(kinds, expected);
        assert_eq!(told[4].1["amr"], json!(["pop", "mfa"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_is_made_as_one_that_is_found_without_a_name() {
    let server = named(Db::Sqlite).await;
    let admin = server.admin().await;
    let user = new_user(&admin, "olga").await;
    let link = invitation(&admin, &user).await;
    let token = link.rsplit('/').next().unwrap();
    let (options, _) = offered(&Visitor::new(&server), "/invitation/passkey/options", &[("token", token)]).await;
    let selection = &options["authenticatorSelection"];
    assert_eq!((&selection["residentKey"], &selection["userVerification"]), (&json!("required"), &json!("required")));
    assert_eq!((&options["attestation"], &options["rp"]["id"]), (&json!("none"), &json!("iam.example.org")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_counts_once() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = named(db).await;
        let admin = server.admin().await;
        let phone = Device::at(ISSUER, false);
        drop(invited(&server, &admin, "olga", &phone).await);
        let visitor = Visitor::new(&server);
        let answer = answered(&visitor, &phone).await.unwrap();
        let visitors: Vec<_> = (0..8).map(|_| Visitor::new(&server)).collect();
        let answers = join_all(visitors.iter().map(|visitor| send(visitor, &answer))).await;
        let let_in = answers.iter().filter(|answer| answer.status == StatusCode::SEE_OTHER).count();
        assert_eq!(let_in, 1, "{answers:?}");
        send(&visitor, &answer).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_ends_after_five_minutes_and_answers_nothing_else() {
    let server = named(Db::Sqlite).await;
    let admin = server.admin().await;
    let phone = Device::at(ISSUER, false);
    let olga = invited(&server, &admin, "olga", &phone).await;
    let visitor = Visitor::new(&server);
    let [ceremony, credential] = answered(&visitor, &phone).await.unwrap();
    let [other, _] = answered(&visitor, &phone).await.unwrap();
    let cut = ("ceremony", ceremony.1[1..].to_owned());
    for wrong in [other, cut, ("ceremony", String::new())] {
        send(&visitor, &[wrong, credential.clone()]).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
    }
    // That of a registration is for whom it was made, and for making one.
    let token = olga.get("/account").await.form_token();
    let (_, making) = offered(&olga, "/account/passkeys/options", &[("form_token", token.as_str())]).await;
    send(&visitor, &[("ceremony", making), credential.clone()]).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
    server.clock.advance(std::time::Duration::from_secs(300));
    send(&visitor, &[ceremony, credential]).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
    sign_in(&visitor, &phone).await.leads_to("/account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_from_another_site_or_by_a_locked_device_is_refused() {
    let server = named(Db::Sqlite).await;
    let admin = server.admin().await;
    let phone = Device::at(ISSUER, false);
    drop(invited(&server, &admin, "olga", &phone).await);
    let visitor = Visitor::new(&server);
    // The same registrable domain: the device signs, and the origin gives it away.
    for origin in ["https://iam.example.org:8443", "https://evil.iam.example.org"] {
        let answer = answered(&visitor, &phone.visiting(origin)).await.unwrap();
        send(&visitor, &answer).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
    }
    assert!(answered(&visitor, &phone.visiting("https://evil.example")).await.is_err(), "a browser does not even ask");
    // A browser that asks for no finger gets an answer from the locked device, and the server does not take it.
    phone.unlock(false);
    let (mut options, ceremony) = offered(&visitor, "/login/passkey/options", &[]).await;
    options["userVerification"] = json!("discouraged");
    let unverified = phone.answer(&options).unwrap();
    let answer = [("ceremony", ceremony), ("credential", unverified)];
    send(&visitor, &answer).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
    phone.unlock(true);
    sign_in(&visitor, &phone).await.leads_to("/account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_device_that_counts_is_found_out() {
    let server = named(Db::Sqlite).await;
    let admin = server.admin().await;
    let key = Device::at(ISSUER, true);
    drop(invited(&server, &admin, "olga", &key).await);
    let visitor = Visitor::new(&server);
    let copy = key.clone_of();
    sign_in(&visitor, &key).await.leads_to("/account");
    sign_in(&Visitor::new(&server), &copy).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
    // Whoever it was stolen from finds it in the log, which is written apart from the answer.
    let user = user_id(&admin, "olga").await;
    let failed = async || told(&admin, &user).await.into_iter().find(|(kind, _)| kind == "login.failed");
    let noted = async {
        loop {
            match failed().await {
                Some((_, data)) => break data,
                None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    let noted = tokio::time::timeout(std::time::Duration::from_secs(30), noted).await.expect("it is noted");
    assert_eq!(noted["method"], "passkey");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_that_comes_back_as_another_kind_of_passkey_is_refused() {
    let server = named(Db::Sqlite).await;
    let admin = server.admin().await;
    let key = Device::at(ISSUER, true);
    drop(invited(&server, &admin, "olga", &key).await);
    let copied = key.synchronised();
    sign_in(&Visitor::new(&server), &copied).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
    sign_in(&Visitor::new(&server), &key).await.leads_to("/account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_that_the_server_cannot_read_any_more_is_not_called_wrong() {
    let server = named(Db::Sqlite).await;
    let admin = server.admin().await;
    let phone = Device::at(ISSUER, false);
    drop(invited(&server, &admin, "olga", &phone).await);
    server.execute("UPDATE passkeys SET verifier = '{}'").await;
    sign_in(&Visitor::new(&server), &phone).await.is_refused(StatusCode::SERVICE_UNAVAILABLE, "cannot answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_made_by_a_locked_device_is_not_taken() {
    let server = named(Db::Sqlite).await;
    let admin = server.admin().await;
    let link = invitation(&admin, &new_user(&admin, "olga").await).await;
    let (token, visitor) = (link.rsplit('/').next().unwrap(), Visitor::new(&server));
    let phone = Device::at(ISSUER, false);
    phone.unlock(false);
    let (mut options, ceremony) = offered(&visitor, "/invitation/passkey/options", &[("token", token)]).await;
    options["authenticatorSelection"]["userVerification"] = json!("discouraged");
    let made = phone.make(&options).unwrap();
    let form = [("token", token), ("ceremony", ceremony.as_str()), ("credential", made.as_str())];
    assert_eq!(visitor.post("/invitation/passkey", &form).await.status, StatusCode::FORBIDDEN);
    phone.unlock(true);
    accept(&visitor, &link, &Device::at(ISSUER, false)).await.leads_to("/account?done=invited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passkeys_are_added_named_and_removed_and_the_last_way_in_stays() {
    for db in [Db::Sqlite, Db::Postgres] {
        let server = named(db).await;
        let admin = server.admin().await;
        let (phone, laptop) = (Device::at(ISSUER, false), Device::at(ISSUER, false));
        let olga = invited(&server, &admin, "olga", &phone).await;
        let only = ids(&olga).await;
        let last = olga.submit(&format!("/account/passkeys/{}/remove", only[0]), &[]).await;
        last.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "This is all you have to sign in with.");

        add(&olga, &laptop).await.leads_to("/account?done=passkey-added");
        let mut both = ids(&olga).await;
        // Both were made in the same millisecond of a clock that stands still.
        both.sort_by_key(|id| *id != only[0]);
        assert_eq!((both.len(), &both[0]), (2, &only[0]));
        let rename = format!("/account/passkeys/{}/rename", both[1]);
        olga.submit(&rename, &[("name", "my <b>laptop</b>")]).await.leads_to("/account?done=passkey-renamed");
        assert!(
            olga.get("/account").await.html.contains("my &#60;b&#62;laptop"),
            "{}",
            olga.get("/account").await.html
        );
        assert_eq!(olga.submit(&rename, &[("name", " ")]).await.status, StatusCode::UNPROCESSABLE_ENTITY);

        sign_in(&Visitor::new(&server), &phone).await.leads_to("/account");
        let remove = format!("/account/passkeys/{}/remove", both[0]);
        olga.submit(&remove, &[]).await.leads_to("/account?done=passkey-removed");
        sign_in(&Visitor::new(&server), &phone).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
        sign_in(&Visitor::new(&server), &laptop).await.leads_to("/account");
        assert_eq!(olga.submit(&remove, &[]).await.status, StatusCode::NOT_FOUND);

        // Nobody touches what is somebody else's.
        let mallory = invited(&server, &admin, "mallory", &Device::at(ISSUER, false)).await;
        for (what, form) in [("rename", &[("name", "mine")][..]), ("remove", &[])] {
            let answer = mallory.submit(&format!("/account/passkeys/{}/{what}", both[1]), form).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{what}");
        }
        let told = told(&admin, &user_id(&admin, "olga").await).await;
        let kinds: Vec<_> =
            told.iter().map(|(kind, _)| kind.as_str()).filter(|kind| kind.starts_with("passkey.")).collect();
        assert_eq!(kinds, ["passkey.added", "passkey.added", "passkey.renamed", "passkey.removed"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_with_one_device_are_told_apart() {
    let server = named(Db::Sqlite).await;
    let admin = server.admin().await;
    let shared = Device::at(ISSUER, false);
    drop(invited(&server, &admin, "olga", &shared).await);
    let hers = shared.clone_of();
    drop(invited(&server, &admin, "sam", &shared).await);
    let visitor = Visitor::new(&server);
    sign_in(&visitor, &shared).await.leads_to("/account");
    assert!(visitor.get("/account").await.html.contains("<strong>sam</strong>"), "the newest is offered first");
    sign_in(&visitor, &hers).await.leads_to("/account");
    assert!(visitor.get("/account").await.html.contains("<strong>olga</strong>"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_user_is_not_let_in_by_passkey_and_what_was_guessed_before_hinders_nobody() {
    let server = named(Db::Sqlite).await;
    let admin = server.admin().await;
    let phone = Device::at(ISSUER, false);
    drop(invited(&server, &admin, "olga", &phone).await);
    let visitor = Visitor::new(&server);
    loop {
        let page = visitor.post("/login/passkey", &[("ceremony", "x"), ("credential", "{}")]).await;
        if page.status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        page.is_refused(StatusCode::FORBIDDEN, REFUSED);
    }
    sign_in(&visitor, &phone).await.leads_to("/account");
    admin.act(&format!("/api/v1/users/{}/disable", user_id(&admin, "olga").await)).await.ok();
    sign_in(&visitor, &phone).await.is_refused(StatusCode::FORBIDDEN, "This account is disabled.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_at_an_address_offers_no_passkeys() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let link = invitation(&admin, &new_user(&admin, "olga").await).await;
    let visitor = Visitor::new(&server);
    for page in [visitor.get("/login").await, visitor.get(&link[link.find("/invitation").unwrap()..]).await] {
        assert!(page.status.is_success() && !page.html.contains("data-passkey"), "{}", page.html);
    }
    assert_eq!(visitor.post("/login/passkey/options", &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_the_answer_to_a_challenge_of_another() {
    let server = named(Db::Postgres).await;
    let admin = server.admin().await;
    let phone = Device::at(ISSUER, false);
    drop(invited(&server, &admin, "olga", &phone).await);
    let other = server.another_node().await;
    let (here, there) = (Visitor::new(&server), Visitor::new(&other));
    let answer = answered(&here, &phone).await.unwrap();
    send(&there, &answer).await.leads_to("/account");
    send(&here, &answer).await.is_refused(StatusCode::FORBIDDEN, REFUSED);
    assert!(there.is_signed_in().await);
}
