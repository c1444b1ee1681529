//! A real browser: headless Chromium by WebDriver, with a virtual authenticator by its developer tools.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::run;

/// How long anything may take in a browser, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);
/// What WebDriver calls an element in its JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// As root there is no sandbox to be had, and nothing is to be asked of the internet.
const FLAGS: [&str; 10] = [
    "--headless=new",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with one window. Ends with the value.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    http: reqwest::Client,
}

/// Where the browser keeps passkeys, and whether somebody is there to unlock them.
pub struct Authenticator(String);

impl Browser {
    /// Starts one.
    pub async fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver is installed: run tests/install");
        let said = BufReader::new(driver.stdout.take().expect("it is piped"));
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut browser =
            Self { driver, port: port.expect("chromedriver starts"), session: String::new(), http: crate::http() };
        let profile = format!("--user-data-dir={}", run::subdirectory("browser").display());
        let flags: Vec<_> = FLAGS.into_iter().chain([profile.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": flags } } } });
        let session = browser.ask(Method::POST, "/session", &wanted).await.expect("a session");
        browser.session = session["sessionId"].as_str().expect("an id").to_owned();
        browser
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let request = self.http.request(method.clone(), url).timeout(PATIENCE * 2);
        let request = if method == Method::POST { request.json(body) } else { request };
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let is_success = answer.status().is_success();
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        let value = answer["value"].clone();
        if is_success { Ok(value) } else { Err(value["message"].as_str().unwrap_or_default().to_owned()) }
    }

    async fn command(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask(Method::POST, &format!("/session/{}{path}", self.session), body).await
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url })).await.expect("the page opens");
    }

    /// What a script returns.
    pub async fn script(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] })).await.expect("the script runs")
    }

    /// What a script gives to its last argument.
    pub async fn script_later(&self, script: &str) -> Value {
        self.command("/execute/async", &json!({ "script": script, "args": [] })).await.expect("the script runs")
    }

    /// The developer tools.
    pub async fn tools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.command("/goog/cdp/execute", &body).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    async fn find(&self, css: &str) -> Result<String, String> {
        let found = self.command("/element", &json!({ "using": "css selector", "value": css })).await?;
        Ok(found[ELEMENT].as_str().unwrap_or_default().to_owned())
    }

    /// Presses what this selector finds.
    pub async fn press(&self, css: &str) {
        let element = self.find(css).await.unwrap_or_else(|error| panic!("{css}: {error}"));
        let pressed = self.command(&format!("/element/{element}/click"), &json!({})).await;
        pressed.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Types into what this selector finds.
    pub async fn write(&self, css: &str, text: &str) {
        let element = self.find(css).await.unwrap_or_else(|error| panic!("{css}: {error}"));
        let typed = self.command(&format!("/element/{element}/value"), &json!({ "text": text })).await;
        typed.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// The path of the page.
    pub async fn path(&self) -> String {
        let url = self.ask(Method::GET, &format!("/session/{}/url", self.session), &Value::Null).await;
        let url = url.expect("a page").as_str().unwrap_or_default().to_owned();
        url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default()
    }

    /// What a reader sees.
    pub async fn text(&self) -> String {
        self.script("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the browser is on this path.
    pub async fn until_at(&self, path: &str) {
        let arrived = async || self.path().await == path;
        self.until(arrived, path).await;
    }

    /// Waits until the browser is on a path that begins like this.
    pub async fn until_below(&self, path: &str) {
        let arrived = async || self.path().await.starts_with(path);
        self.until(arrived, path).await;
    }

    /// Waits until a reader sees this.
    pub async fn until_reads(&self, text: &str) {
        let reads = async || self.text().await.contains(text);
        self.until(reads, text).await;
    }

    /// A browser does things in its own time: nothing but looking again tells when they are done.
    async fn until(&self, done: impl AsyncFn() -> bool, what: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !done().await {
            let (path, text) = (self.path().await, self.text().await);
            assert!(tokio::time::Instant::now() < deadline, "not {what:?} but {path}: {text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A window of this width, in light or dark.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tools("Emulation.setDeviceMetricsOverride", size).await;
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.tools("Emulation.setEmulatedMedia", feature).await;
    }

    /// Asks for pages in this language from now on.
    pub async fn speak(&self, language: &str) {
        self.tools("Network.enable", json!({})).await;
        self.tools("Network.setExtraHTTPHeaders", json!({ "headers": { "Accept-Language": language } })).await;
    }

    /// Runs no scripts of pages from now on, or runs them again.
    pub async fn without_scripts(&self, without: bool) {
        self.tools("Emulation.setScriptExecutionDisabled", json!({ "value": without })).await;
    }

    /// Signs out, as far as the browser is concerned.
    pub async fn forget_cookies(&self) {
        self.tools("Network.clearBrowserCookies", json!({})).await;
    }

    /// A picture of the whole page, as PNG.
    pub async fn picture(&self, file: &Path) {
        let picture = self.tools("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let picture = picture["data"].as_str().expect("a picture");
        let picture = base64::engine::general_purpose::STANDARD.decode(picture).expect("base64");
        std::fs::write(file, picture).expect("the file can be written");
    }

    /// What axe-core finds wrong with the page for those who do not see, hear or move as others do.
    pub async fn barriers(&self) -> Value {
        let axe = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/node/node_modules/axe-core/axe.min.js");
        let axe = std::fs::read_to_string(axe).expect("axe-core is installed: run tests/install");
        self.script(&axe).await;
        let run = "const done = arguments[arguments.length - 1];
            axe.run(document, { resultTypes: ['violations'] }).then(
                (found) => done(found.violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html)])),
                (error) => done(String(error)));";
        self.script_later(run).await
    }

    /// A device with passkeys in this browser. Nobody touches it before [`Browser::touch`] says so.
    pub async fn authenticator(&self) -> Authenticator {
        self.authenticator_that("internal", true).await
    }

    /// One that keeps no passkey itself, as small security keys do: it makes some that only those who have their ids can use.
    pub async fn forgetful_authenticator(&self) -> Authenticator {
        self.authenticator_that("usb", false).await
    }

    async fn authenticator_that(&self, transport: &str, keeps: bool) -> Authenticator {
        self.tools("WebAuthn.enable", json!({ "enableUI": false })).await;
        let options = json!({ "options": {
            "protocol": "ctap2", "ctap2Version": "ctap2_1", "transport": transport, "hasResidentKey": keeps,
            "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": false,
            "defaultBackupEligibility": true, "defaultBackupState": true,
        }});
        let added = self.tools("WebAuthn.addVirtualAuthenticator", options).await;
        Authenticator(added["authenticatorId"].as_str().expect("an id").to_owned())
    }

    /// Whether somebody touches it whenever it asks.
    pub async fn touch(&self, authenticator: &Authenticator, touched: bool) {
        let parameters = json!({ "authenticatorId": authenticator.0, "enabled": touched });
        self.tools("WebAuthn.setAutomaticPresenceSimulation", parameters).await;
    }

    /// Whether finger, face or PIN is the right one.
    pub async fn unlock(&self, authenticator: &Authenticator, right: bool) {
        let parameters = json!({ "authenticatorId": authenticator.0, "isUserVerified": right });
        self.tools("WebAuthn.setUserVerified", parameters).await;
    }

    /// How many passkeys it has.
    pub async fn passkeys(&self, authenticator: &Authenticator) -> Vec<Value> {
        let found = self.tools("WebAuthn.getCredentials", json!({ "authenticatorId": authenticator.0 })).await;
        found["credentials"].as_array().cloned().unwrap_or_default()
    }

    /// Puts a passkey into it.
    pub async fn put(&self, authenticator: &Authenticator, passkey: &Value) {
        let parameters = json!({ "authenticatorId": authenticator.0, "credential": passkey });
        self.tools("WebAuthn.addCredential", parameters).await;
    }

    /// Takes all passkeys out of it.
    pub async fn empty(&self, authenticator: &Authenticator) {
        self.tools("WebAuthn.clearCredentials", json!({ "authenticatorId": authenticator.0 })).await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is a child of its driver, which ends it with the session; there is no waiting in a drop but this.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            drop(stream.set_read_timeout(Some(Duration::from_secs(5))));
            let path = format!("/session/{}", self.session);
            let request = format!("DELETE {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            drop(stream.write_all(request.as_bytes()));
            drop(stream.read(&mut [0; 256]));
        }
        run::send("KILL", &[self.driver.id()]);
        drop(self.driver.wait());
    }
}
