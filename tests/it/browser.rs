//! Signing in with a real browser: what only a browser shows. One of them for each story, for each takes its seconds.

use keyward_tests::browser::{Authenticator, Browser};
use keyward_tests::echo::Echo;
use keyward_tests::server::{Api, Db, TestServer};
use keyward_tests::visitor::{PASSWORD, invitation, new_user};
use serde_json::json;

use crate::login::user_id;

pub(crate) const BUTTON: &str = "form[data-passkey=get] button";
const CREATE: &str = "form[data-passkey=create] button";

/// Invites a new user, who makes a passkey in this browser.
pub(crate) async fn joins(browser: &Browser, device: &Authenticator, admin: &Api<'_>, name: &str) {
    let link = invitation(admin, &new_user(admin, name).await).await;
    browser.open(&link).await;
    browser.until_reads("Create a passkey").await;
    browser.touch(device, true).await;
    browser.press(CREATE).await;
    browser.until_at("/account?done=invited").await;
    browser.touch(device, false).await;
}

/// Takes autofill away, as in browsers that do not have it: what happens then is the button's doing.
pub(crate) async fn without_autofill(browser: &Browser) {
    let source = "delete PublicKeyCredential.isConditionalMediationAvailable;";
    browser.tools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_makes_a_passkey_and_signs_in_by_autofill_and_by_the_button() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let (admin, browser) = (server.admin().await, Browser::start().await);
    let device = browser.authenticator().await;
    let login = format!("{}/login", server.app.issuer);
    joins(&browser, &device, &admin, "olga").await;
    let cookies = browser.tools("Network.getCookies", json!({})).await;
    let mut names: Vec<_> =
        cookies["cookies"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["__Host-keyward", "__Host-keyward-device"], "a browser takes them from http://localhost");
    assert_eq!(browser.script("return document.cookie").await, "", "no script sees them");

    // The page waits in the autofill of the name for as long as nobody picks a passkey there. Then somebody does, and
    // presses nothing on the page.
    browser.forget_cookies().await;
    browser.open(&login).await;
    browser.until_reads("Sign in with a passkey").await;
    assert_eq!(browser.path().await, "/login");
    browser.touch(&device, true).await;
    browser.open(&login).await;
    browser.until_at("/account").await;
    browser.until_reads("Signed in as olga").await;

    // The button, first with the wrong finger.
    browser.touch(&device, false).await;
    without_autofill(&browser).await;
    browser.forget_cookies().await;
    browser.open(&login).await;
    browser.unlock(&device, false).await;
    browser.touch(&device, true).await;
    browser.press(BUTTON).await;
    browser.until_reads("No passkey was used.").await;
    assert_eq!(browser.path().await, "/login");
    browser.unlock(&device, true).await;
    browser.press(BUTTON).await;
    browser.until_at("/account").await;

    // One that she removed from her account is refused, although the device has it still.
    let removed = browser.passkeys(&device).await;
    assert_eq!(removed.len(), 1);
    browser.write("#password", PASSWORD).await;
    browser.press("form[action='/account/password'] button").await;
    browser.until_at("/account?done=password").await;
    browser.press("form[action$='/remove'] button").await;
    browser.until_at("/account?done=passkey-removed").await;
    browser.forget_cookies().await;
    browser.open(&login).await;
    browser.press(BUTTON).await;
    browser.until_reads("This passkey was not accepted.").await;
    browser.write("#name", "olga").await;
    browser.write("#password", PASSWORD).await;
    browser.press("form[action='/login'] button").await;
    browser.until_at("/account").await;
    browser.press("form[data-passkey=create] button").await;
    browser.until_at("/account?done=passkey-added").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authenticator_that_keeps_no_passkey_makes_none_that_could_open_nothing() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let (admin, browser) = (server.admin().await, Browser::start().await);
    let device = browser.forgetful_authenticator().await;
    let link = invitation(&admin, &new_user(&admin, "olga").await).await;
    browser.open(&link).await;
    browser.until_reads("Create a passkey").await;
    browser.touch(&device, true).await;
    browser.press(CREATE).await;
    browser.until_reads("No passkey was used.").await;
    assert_eq!(browser.passkeys(&device).await, [json!(null); 0]);
    // The invitation is as good as before.
    browser.write("#password", PASSWORD).await;
    browser.press("form[action='/invitation'] button").await;
    browser.until_at("/account?done=invited").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_at_one_browser_sign_in_each_with_their_own_passkey() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let (admin, browser) = (server.admin().await, Browser::start().await);
    let device = browser.authenticator().await;
    without_autofill(&browser).await;
    joins(&browser, &device, &admin, "olga").await;
    let hers = browser.passkeys(&device).await;
    joins(&browser, &device, &admin, "sam").await;
    let both = browser.passkeys(&device).await;
    assert_eq!(both.len(), 2);
    let his = both.iter().find(|passkey| passkey["credentialId"] != hers[0]["credentialId"]).unwrap();
    browser.touch(&device, true).await;
    for (passkey, name) in [(&hers[0], "olga"), (his, "sam")] {
        browser.empty(&device).await;
        browser.put(&device, passkey).await;
        browser.forget_cookies().await;
        browser.open(&format!("{}/login?continue=/account", server.app.issuer)).await;
        browser.press(BUTTON).await;
        browser.until_at("/account").await;
        browser.until_reads(&format!("Signed in as {name}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_scripts_everything_works_but_passkeys() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let (admin, browser) = (server.admin().await, Browser::start().await);
    let link = invitation(&admin, &new_user(&admin, "olga").await).await;
    browser.without_scripts(true).await;
    browser.open(&link).await;
    let text = browser.text().await;
    assert!(!text.contains("Create a passkey") && text.contains("Set the password"), "{text}");
    browser.write("#password", PASSWORD).await;
    browser.press("form[action='/invitation'] button").await;
    browser.until_at("/account?done=invited").await;
    browser.press("form[action='/account/recovery-codes'] button").await;
    browser.until_reads("Your recovery codes").await;
    // The heading may be there before the rest of the page is.
    let code = loop {
        let text = browser.text().await;
        if let Some(code) = text.split_whitespace().find(|word| word.matches('-').count() == 3 && word.len() >= 19) {
            break code.to_owned();
        }
    };
    browser.open(&format!("{}/account", server.app.issuer)).await;
    browser.press("form[action='/logout'] button").await;
    browser.until_at("/signed-out").await;
    browser.open(&format!("{}/login?continue=/account", server.app.issuer)).await;
    browser.press("a[href^='/login/recovery']").await;
    browser.write("#name", "olga").await;
    browser.write("#code", &code).await;
    browser.press("form[action='/login/recovery'] button").await;
    browser.until_at("/account?done=recovered").await;
}

/// A public client that people may let in.
async fn shop(admin: &Api<'_>) -> String {
    let api = admin.new_api("https://plant.example", &["Worker"]).await;
    let shop = json!({ "name": "Shop", "kind": "public", "scope": "Worker", "res": ["*"], "apis": [api],
        "redirect_uris": ["http://127.0.0.1/cb"] });
    admin.new_client(shop).await
}

/// The path at which it asks.
fn ask(client: &str, redirect_uri: &str) -> String {
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    format!(
        "/authorize?response_type=code&client_id={client}&redirect_uri={redirect_uri}&state=s\
         &code_challenge={challenge}&code_challenge_method=S256"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_leads_the_browser_on_to_the_application_and_nowhere_else() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let (admin, browser) = (server.admin().await, Browser::start().await);
    let device = browser.authenticator().await;
    joins(&browser, &device, &admin, "olga").await;
    let user = user_id(&admin, "olga").await;
    admin.patch(&format!("/api/v1/users/{user}"), &json!({ "scope": "Worker", "res": ["plant"] })).await.ok();
    let shop = shop(&admin).await;
    let application = Echo::start().await;
    let callback = format!("http://{}/cb", application.address());
    for (decision, said) in [("allow", "?code="), ("deny", "?error=access_denied")] {
        browser.open(&format!("{}{}", server.app.issuer, ask(&shop, &callback))).await;
        browser.until_reads("Let this application in?").await;
        browser.press(&format!("button[value={decision}]")).await;
        browser.until_below(&format!("/cb{said}")).await;
    }
}

/// Looks at a page as people do who read this language, in light or dark, in a window of this width.
pub(crate) struct Reader<'a> {
    browser: &'a Browser,
    language: &'static str,
    scheme: &'static str,
    width: u32,
}

pub(crate) const READERS: [(&str, &str, u32); 3] = [("en", "light", 1440), ("de", "dark", 768), ("fr", "light", 320)];

impl<'a> Reader<'a> {
    pub(crate) async fn new(
        browser: &'a Browser,
        (language, scheme, width): (&'static str, &'static str, u32),
    ) -> Self {
        browser.speak(language).await;
        browser.look(width, 900, scheme).await;
        Self { browser, language, scheme, width }
    }

    /// Finds nothing in the way on the page that is open. Keeps a picture where `KEYWARD_TEST_PICTURES` says.
    pub(crate) async fn looks(&self, name: &str) {
        let Self { browser, language, scheme, width } = self;
        assert_eq!(browser.script("return document.documentElement.lang").await, *language, "{name}");
        assert_eq!(browser.barriers().await, json!([]), "{name} in {language}, {scheme}");
        let wider = browser.script("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "{name} in {language} is {wider} px wider than {width}");
        if let Some(pictures) = std::env::var_os("KEYWARD_TEST_PICTURES").map(std::path::PathBuf::from) {
            browser.picture(&pictures.join(format!("{name}-{language}-{width}-{scheme}.png"))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_has_barriers_in_any_language() {
    let server = TestServer::start_for_browsers(Db::Sqlite).await;
    let (admin, browser) = (server.admin().await, Browser::start().await);
    let device = browser.authenticator().await;
    let issuer = &server.app.issuer;
    for reader in READERS {
        let reader = Reader::new(&browser, reader).await;
        browser.open(&format!("{issuer}/login")).await;
        reader.looks("login").await;
        browser.write("#name", "nobody").await;
        browser.write("#password", "wrong").await;
        browser.press("form[action='/login'] button").await;
        reader.looks("wrong").await;
    }
    browser.speak("en").await;
    joins(&browser, &device, &admin, "olga").await;
    let link = invitation(&admin, &new_user(&admin, "sam").await).await;
    for reader in READERS {
        let reader = Reader::new(&browser, reader).await;
        for (name, path) in [
            ("again", "/login?again=1"),
            ("recovery", "/login/recovery"),
            ("ended", "/invitation/x"),
            ("account", "/account?done=invited"),
            ("devices-none", "/account/devices"),
            ("signed-out", "/signed-out"),
        ] {
            browser.open(&format!("{issuer}{path}")).await;
            reader.looks(name).await;
        }
        browser.open(&link).await;
        reader.looks("invitation").await;
        browser.open(&format!("{issuer}/account")).await;
        browser.press("form[action='/account/recovery-codes'] button").await;
        reader.looks("codes").await;
    }
    let shop = shop(&admin).await;
    admin
        .patch(&format!("/api/v1/users/{}", user_id(&admin, "olga").await), &json!({ "scope": "Worker", "res": ["*"] }))
        .await
        .ok();
    for reader in READERS {
        let reader = Reader::new(&browser, reader).await;
        browser.open(&format!("{issuer}{}", ask(&shop, "http://127.0.0.1:1/cb"))).await;
        reader.looks("authorize").await;
        browser.open(&format!("{issuer}{}", ask(&shop, "http://127.0.0.1:1/other"))).await;
        reader.looks("application").await;
    }
    browser.speak("en").await;
    // And for whoever signed in long ago.
    server.clock.advance(std::time::Duration::from_secs(16 * 60));
    let reader = Reader::new(&browser, READERS[0]).await;
    browser.open(&format!("{issuer}/account")).await;
    reader.looks("stale").await;
}
