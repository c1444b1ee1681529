//! Somebody with a browser, without a browser: pages, forms and cookies over HTTP.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use reqwest::header::{HeaderMap, SET_COOKIE};
use reqwest::{RequestBuilder, StatusCode};

use crate::server::{Api, TestServer};

/// The cookie of a login.
pub const LOGIN_COOKIE: &str = "__Host-keyward";
/// The cookie of a browser in which somebody signed in before.
pub const DEVICE_COOKIE: &str = "__Host-keyward-device";
/// A password that may be chosen.
pub const PASSWORD: &str = "seven green lamps";

/// Somebody with a browser of their own.
pub struct Visitor<'a> {
    http: &'a reqwest::Client,
    server: String,
    cookies: Mutex<BTreeMap<String, String>>,
    address: String,
}

/// A page, or where to go instead.
#[derive(Debug)]
pub struct PageSeen {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its HTML.
    pub html: String,
}

impl<'a> Visitor<'a> {
    /// A new browser.
    pub fn new(server: &'a TestServer) -> Self {
        Self::at(server, "192.0.2.1")
    }

    /// The same at another address, where the server trusts this machine as a proxy.
    pub fn at(server: &'a TestServer, address: &str) -> Self {
        Self { address: address.to_owned(), ..Self::of(&server.http, server.url()) }
    }

    /// The same before a server that runs elsewhere, at this URL.
    pub fn of(http: &'a reqwest::Client, server: String) -> Self {
        Self { http, server, cookies: Mutex::default(), address: "192.0.2.1".to_owned() }
    }

    /// The same browser once more: what it learns from now on, the other does not.
    pub fn copy(&self) -> Self {
        let cookies = Mutex::new(self.cookies().clone());
        Self { http: self.http, server: self.server.clone(), cookies, address: self.address.clone() }
    }

    /// The same browser at another address.
    pub fn moved_to(&self, address: &str) -> Self {
        Self { address: address.to_owned(), ..self.copy() }
    }

    /// Somebody invited as a new user of this name, who has set a password and is signed in.
    pub async fn invited(server: &'a TestServer, admin: &Api<'_>, name: &str) -> Self {
        let link = invitation(admin, &new_user(admin, name).await).await;
        let visitor = Self::new(server);
        visitor.accept(&link, PASSWORD).await.leads_to("/account?done=invited");
        visitor
    }

    fn cookies(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a cookie holds.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies().get(name).cloned()
    }

    /// Puts a cookie into the browser.
    pub fn set_cookie(&self, name: &str, value: &str) {
        self.cookies().insert(name.to_owned(), value.to_owned());
    }

    /// Takes a cookie out of the browser.
    pub fn forget(&self, name: &str) {
        self.cookies().remove(name);
    }

    /// Opens a page.
    pub async fn get(&self, path: &str) -> PageSeen {
        self.send(self.http.get(self.url(path))).await
    }

    /// Sends a form from a page of the server.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> PageSeen {
        self.send(self.http.post(self.url(path)).header("sec-fetch-site", "same-origin").form(form)).await
    }

    /// Sends a form of a page on which somebody is signed in, with what that page says of it.
    pub async fn submit(&self, path: &str, form: &[(&str, &str)]) -> PageSeen {
        let token = self.get("/account").await.form_token();
        self.post(path, &[&[("form_token", token.as_str())], form].concat()).await
    }

    /// Tries to sign in with a password.
    pub async fn sign_in(&self, name: &str, password: &str) -> PageSeen {
        self.post("/login", &[("name", name), ("password", password)]).await
    }

    /// Sets a password by the link of an invitation.
    pub async fn accept(&self, link: &str, password: &str) -> PageSeen {
        let token = link.rsplit('/').next().unwrap_or_default();
        self.post("/invitation", &[("token", token), ("password", password)]).await
    }

    /// Whether somebody is signed in here.
    pub async fn is_signed_in(&self) -> bool {
        self.get("/account").await.status == StatusCode::OK
    }

    /// Sends a request as this browser.
    pub async fn send(&self, request: RequestBuilder) -> PageSeen {
        let cookies: Vec<_> = self.cookies().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.header("x-forwarded-for", &self.address).header("cookie", cookies.join("; "));
        let response = request.send().await.expect("the server answers");
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().expect("visible ASCII");
            let (name, rest) = cookie.split_once('=').expect("a cookie");
            if cookie.contains("Max-Age=0") {
                self.forget(name);
            } else {
                self.set_cookie(name, rest.split(';').next().unwrap_or_default());
            }
        }
        PageSeen { status, headers, html: response.text().await.expect("a page") }
    }

    /// The full URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }
}

impl PageSeen {
    /// A header's value; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
    }

    /// What the forms of the page carry for the login.
    pub fn form_token(&self) -> String {
        let found = self.html.split("name=\"form_token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        found.unwrap_or_else(|| panic!("no form of a login: {self:?}")).to_owned()
    }

    /// Asserts that it leads on to this path.
    pub fn leads_to(&self, path: &str) {
        assert_eq!((self.status, self.header("location")), (StatusCode::SEE_OTHER, path), "{}", self.html);
    }

    /// Asserts that it is refused so.
    pub fn is_refused(&self, status: StatusCode, because: &str) {
        assert_eq!(self.status, status, "{}", self.html);
        assert!(self.html.contains(because), "{because:?} is not in {}", self.html);
    }
}

/// A new user; their id.
pub async fn new_user(admin: &Api<'_>, name: &str) -> String {
    let user = admin.post("/api/v1/users", &serde_json::json!({ "name": name })).await.created();
    user["id"].as_str().expect("an id").to_owned()
}

/// The link of a new invitation.
pub async fn invitation(admin: &Api<'_>, user: &str) -> String {
    let invited = admin.act(&format!("/api/v1/users/{user}/invitation")).await.created();
    invited["link"].as_str().expect("a link").to_owned()
}
