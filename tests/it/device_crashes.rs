//! A server is killed while devices come for what was decided: each gets one session, whatever it was answered.

use futures_util::future::join_all;
use keyward_tests::devices::{DEVICE_CODE, Device};
use keyward_tests::keyward::Process;
use keyward_tests::server::{Db, TestServer};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::device_grants::scene;

const DEVICES: usize = 12;

/// Polls until there are tokens; `None` if the server was gone before.
async fn come(http: reqwest::Client, url: String, device: Device, first: watch::Sender<bool>) -> Option<Value> {
    let form = [
        ("grant_type", DEVICE_CODE.to_owned()),
        ("client_id", device.client.clone()),
        ("device_code", device.device_code().to_owned()),
    ];
    let answer = http.post(format!("{url}/token")).form(&form).send().await.ok()?;
    let status = answer.status();
    let tokens = answer.json::<Value>().await.ok()?;
    assert!(status.is_success(), "{tokens}");
    first.send_replace(true);
    Some(tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_devices_come_gives_each_of_them_one_session() {
    let server = TestServer::start_in_real_time(Db::Postgres, |_| {}).await;
    let (database, issuer) = (server.database_url().unwrap().to_owned(), server.url());
    let key = server.directory.join("master.key").display().to_string();
    let settings =
        [("KEYWARD_DATABASE_URL", &*database), ("KEYWARD_MASTER_KEY_FILE", &*key), ("KEYWARD_SERVER_ISSUER", &*issuer)];
    let mut doomed = Process::serve(&settings).await;
    let (tv, olga) = {
        let admin = server.admin().await;
        scene(&server, &admin, json!({})).await
    };
    let mut devices = Vec::new();
    for _ in 0..DEVICES {
        let device = server.device(&tv, &[]).await;
        server.let_in(&server.browser_of(&olga), &device).await;
        devices.push(device);
    }

    let first = watch::Sender::new(false);
    let coming = devices
        .iter()
        .map(|device| tokio::spawn(come(server.http.clone(), doomed.url(), device.clone(), first.clone())));
    let coming: Vec<_> = coming.collect();
    first.subscribe().wait_for(|came| *came).await.unwrap();
    doomed.kill_9();
    let answered = join_all(coming).await;

    for (device, answered) in devices.iter().zip(answered) {
        // Of a redemption that was not acknowledged nothing is known; one that was is the one there is.
        let tokens = server.poll(device, &[]).await.ok();
        assert!(answered.unwrap().is_none_or(|answered| answered == tokens));
    }
    let devices = i64::try_from(DEVICES).unwrap();
    assert_eq!(server.count("SELECT count(*) FROM device_sessions WHERE ended_at IS NULL").await, devices);
    assert_eq!(server.count("SELECT count(*) FROM refresh_tokens").await, devices);
    assert_eq!(server.count("SELECT count(*) FROM events WHERE kind = 'device_grant.redeemed'").await, devices);
}
