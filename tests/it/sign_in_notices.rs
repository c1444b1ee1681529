//! Somebody signs in where they never did: they are told, in case it was not they.

use keyward_server::config::Config;
use keyward_tests::mail::MailServer;
use keyward_tests::receiver::Receiver;
use keyward_tests::server::{Api, Db, TestServer};
use keyward_tests::visitor::{PASSWORD, Visitor, invitation, new_user};
use serde_json::{Value, json};

use crate::login::{told, user_id};
use crate::webhooks::{arrived, new_webhook};

/// A server that believes this machine where somebody comes from.
fn believing(config: &mut Config) {
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    config.notices.allow_networks = vec!["127.0.0.0/8".parse().unwrap()];
}

async fn networks_told(admin: &Api<'_>) -> Vec<String> {
    let notices = admin.get("/api/v1/notices?kind=login.new_network").await.ok();
    let network = |notice: &Value| notice["body"]["data"]["network"].as_str().unwrap().to_owned();
    notices["items"].as_array().unwrap().iter().map(network).collect()
}

async fn a_new_network_is_told_once(db: Db) {
    let server = TestServer::start_with(db, believing).await;
    let (admin, receiver) = (server.admin().await, Receiver::start().await);
    new_webhook(&admin, &receiver, &["login.new_network"]).await;
    let link = invitation(&admin, &new_user(&admin, "olga").await).await;
    let home = Visitor::at(&server, "192.0.2.1");
    home.accept(&link, PASSWORD).await.leads_to("/account?done=invited");
    Visitor::at(&server, "192.0.2.1").sign_in("olga", PASSWORD).await.leads_to("/account");
    assert_eq!(networks_told(&admin).await, [""; 0], "neither the first network nor a known one is news");

    for address in ["2001:db8::1", "2001:db8::2"] {
        Visitor::at(&server, address).sign_in("olga", PASSWORD).await.leads_to("/account");
    }
    assert_eq!(networks_told(&admin).await, ["2001:db8::/64"]);
    let user = user_id(&admin, "olga").await;
    let said: Value = serde_json::from_str(&arrived(&server, &receiver, 1).await[0].body).unwrap();
    assert_eq!(said["type"], "login.new_network");
    let data = json!({
        "user": { "id": user, "name": "olga" }, "method": "password", "network": "2001:db8::/64",
        "next": format!("{}/account", server.app.issuer),
    });
    assert_eq!(said["data"], data);
    assert!(told(&admin, &user).await.iter().any(|(k, d)| k == "notice.due" && d["about"] == "login.new_network"));

    // A browser that is known goes where it likes.
    let travelling = home.moved_to("198.51.100.1");
    travelling.sign_in("olga", PASSWORD).await.leads_to("/account");
    assert_eq!(networks_told(&admin).await.len(), 1);
    // Whoever roams is told of three a day.
    for n in 2..8 {
        Visitor::at(&server, &format!("198.51.100.{n}")).sign_in("olga", PASSWORD).await.leads_to("/account");
    }
    assert_eq!(networks_told(&admin).await.len(), 3);
    server.clock.advance(std::time::Duration::from_secs(24 * 3600));
    let admin = server.api(&admin.secrets).await;
    Visitor::at(&server, "203.0.113.1").sign_in("olga", PASSWORD).await.leads_to("/account");
    assert_eq!(networks_told(&admin).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_network_is_told_once_on_sqlite() {
    a_new_network_is_told_once(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_network_is_told_once_on_postgresql() {
    a_new_network_is_told_once(Db::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_letter_says_who_where_and_what_to_do() {
    let mail = MailServer::start().await;
    let url = mail.url();
    let server = TestServer::start_with(Db::Sqlite, |config| {
        believing(config);
        *config.mail.smtp_url = url;
        config.mail.from = "Keyward <keyward@plant.example>".to_owned();
    })
    .await;
    let admin = server.admin().await;
    drop(Visitor::invited(&server, &admin, "olga").await);
    let user = user_id(&admin, "olga").await;
    admin.patch(&format!("/api/v1/users/{user}"), &json!({ "email": "olga@plant.example" })).await.ok();
    Visitor::at(&server, "203.0.113.9").sign_in("olga", PASSWORD).await.leads_to("/account");
    server.app.send_notices().await.unwrap();
    let mails = mail.mails(1).await;
    assert_eq!(
        (&mails[0]["to"], &mails[0]["headers"]["subject"]),
        (&json!(["olga@plant.example"]), &json!("olga signed in from a new network"))
    );
    let text = mails[0]["text"].as_str().unwrap().replace("\r\n", "\n");
    let expected = format!(
        "olga signed in from a new network.\n\nuser      olga ({user})\nnetwork   203.0.113.9\nby        password\n\n\
         If it was not you, end that login at:\n  {}/account",
        server.app.issuer
    );
    assert_eq!(text.trim_end(), expected);
}
