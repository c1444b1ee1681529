//! Signing a device in with a real browser: the whole way, what it looks like, and that nothing is in anybody's way.

use keyward_tests::browser::Browser;
use keyward_tests::server::{Api, Db, TestServer};
use keyward_tests::visitor::{PASSWORD, invitation, new_user};
use serde_json::json;

use crate::browser::{BUTTON, READERS, Reader, joins, without_autofill};
use crate::device_pages::{administration, display};
use crate::login::user_id;

const YES: &str = "button[value=yes]";
const NO: &str = "button[value=no]";
const CONTINUE: &str = "form[action='/device'] button";

async fn with_rights(admin: &Api<'_>, name: &str) {
    let user = user_id(admin, name).await;
    let rights = json!({ "scope": "Supervisor", "res": ["plant/7", "office"] });
    admin.patch(&format!("/api/v1/users/{user}"), &rights).await.ok();
}

async fn types(browser: &Browser, issuer: &str, code: &str) {
    browser.open(&format!("{issuer}/device")).await;
    browser.write("#code", code).await;
    browser.press(CONTINUE).await;
    browser.until_at("/device/confirm").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_is_followed_a_passkey_touched_and_the_page_tells_when_the_device_is_signed_in() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let (admin, browser) = (server.admin().await, Browser::start().await);
    let phone = browser.authenticator().await;
    without_autofill(&browser).await;
    joins(&browser, &phone, &admin, "olga").await;
    with_rights(&admin, "olga").await;
    let tv = display(&admin, json!({ "confirmation": true })).await;
    let device = server.device(&tv, &[("device_label", "Living-room TV")]).await;

    browser.forget_cookies().await;
    browser.open(&format!("{}{}", server.app.issuer, device.link())).await;
    browser.until_at("/login?continue=/device").await;
    // First with the wrong finger: the code is still there afterwards.
    browser.unlock(&phone, false).await;
    browser.touch(&phone, true).await;
    browser.press(BUTTON).await;
    browser.until_reads("No passkey was used.").await;
    browser.unlock(&phone, true).await;
    browser.press(BUTTON).await;
    browser.until_at("/device").await;
    browser.until_reads(device.user_code()).await;
    browser.press(YES).await;
    browser.until_at("/device/confirm").await;
    browser.until_reads("Is it in front of you?").await;
    browser.press(YES).await;
    browser.until_at("/device/done").await;
    browser.until_reads("The device asks for these digits:").await;
    let digits = browser.script("return document.querySelector('.digits').innerText").await;
    server.poll(&device, &[("confirmation", digits.as_str().unwrap())]).await.ok();
    // Nobody presses anything: the page is told.
    browser.until_reads("Living-room TV is signed in").await;
    browser.press("form[action='/device/undo'] button").await;
    browser.until_reads("It is taken back").await;
    let inside = browser.script("return performance.getEntriesByType('navigation')[0].name + document.referrer").await;
    assert!(!inside.to_string().contains(device.user_code()), "{inside}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_scripts_a_device_is_signed_in_by_password() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let (admin, browser) = (server.admin().await, Browser::start().await);
    let link = invitation(&admin, &new_user(&admin, "olga").await).await;
    browser.without_scripts(true).await;
    browser.open(&link).await;
    browser.write("#password", PASSWORD).await;
    browser.press("form[action='/invitation'] button").await;
    browser.until_at("/account?done=invited").await;
    with_rights(&admin, "olga").await;
    browser.press("form[action='/logout'] button").await;
    browser.until_at("/signed-out").await;
    let tv = display(&admin, json!({})).await;
    let device = server.device_elsewhere(&tv, &[("device_label", "TV")]).await;
    browser.open(&format!("{}/device", server.app.issuer)).await;
    browser.until_at("/login?continue=/device").await;
    browser.write("#name", "olga").await;
    browser.write("#password", PASSWORD).await;
    browser.press("form[action='/login'] button").await;
    browser.until_at("/device").await;
    types(&browser, &server.app.issuer, &device.user_code().to_lowercase()).await;
    browser.press(YES).await;
    browser.until_reads("Say that the device is in front of you").await;
    browser.press(".check").await;
    browser.press(YES).await;
    browser.until_at("/device/done").await;
    server.poll(&device, &[]).await.ok();
    browser.press("a[href='/device/done']").await;
    browser.until_reads("TV is signed in").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_of_the_device_flow_has_barriers_in_any_language() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let (admin, browser) = (server.admin().await, Browser::start().await);
    let phone = browser.authenticator().await;
    let issuer = &server.app.issuer;
    browser.speak("en").await;
    joins(&browser, &phone, &admin, "olga").await;
    with_rights(&admin, "olga").await;
    let tv = display(&admin, json!({ "confirmation": true })).await;
    for reader in READERS {
        let reader = Reader::new(&browser, reader).await;
        browser.open(&format!("{issuer}/device")).await;
        reader.looks("device").await;
        browser.write("#code", "nonsense").await;
        browser.press(CONTINUE).await;
        reader.looks("device-unknown").await;
        let device = server.device(&tv, &[("device_label", "Living-room TV")]).await;
        browser.open(&format!("{issuer}{}", device.link())).await;
        reader.looks("device-compare").await;
        browser.press(YES).await;
        browser.until_at("/device/confirm").await;
        reader.looks("device-confirm").await;
        browser.press(YES).await;
        browser.until_at("/device/done").await;
        reader.looks("device-approved").await;
        let digits = browser.script("return document.querySelector('.digits').innerText").await;
        server.poll(&device, &[("confirmation", digits.as_str().unwrap())]).await.ok();
        browser.open(&format!("{issuer}/device/done")).await;
        reader.looks("device-done").await;
        browser.open(&format!("{issuer}/account/devices")).await;
        reader.looks("devices").await;

        let device = server.device_elsewhere(&tv, &[("device_label", "Wohnzimmer, 2. Stock, neben dem Fenster")]).await;
        types(&browser, issuer, device.user_code()).await;
        reader.looks("device-elsewhere").await;
        browser.press(NO).await;
        browser.until_at("/device/done").await;
        reader.looks("device-denied").await;
        browser.open(&format!("{issuer}/login?continue=/device&again=other")).await;
        reader.looks("another").await;
    }
    let cli = administration(&admin, "olga").await;
    server.clock.advance(std::time::Duration::from_secs(60));
    for reader in READERS {
        let reader = Reader::new(&browser, reader).await;
        let device = server.device(&cli, &[("device_label", "terminal")]).await;
        browser.open(&format!("{issuer}{}", device.link())).await;
        browser.press(YES).await;
        browser.until_at("/device/confirm").await;
        reader.looks("device-care").await;
    }
    // And on a television that has a browser.
    let reader = Reader::new(&browser, ("en", "dark", 1920)).await;
    for (name, path) in [("device-confirm", "/device/confirm"), ("devices", "/account/devices"), ("device", "/device")]
    {
        browser.open(&format!("{issuer}{path}")).await;
        reader.looks(name).await;
    }
}
