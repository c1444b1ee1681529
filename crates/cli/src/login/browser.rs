//! Signing in with the browser of this machine: an authorization code with PKCE that comes back to a loopback address.
//!
//! 1. Listen on a port of 127.0.0.1 that the system chooses                  RFC 8252 §7.3
//! 2. Open the browser at the server, with a challenge and a state           RFC 7636 §4.3, RFC 6749 §4.1.1
//! 3. Take the code from who knows the state, from that server               RFC 6749 §10.12, RFC 9207
//! 4. Get tokens for it, with the verifier                                   RFC 7636 §4.5
//! 5. Tell the browser how it ended

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{StatusCode, header};
use keyward_model::entropy::Entropy;
use keyward_model::pkce::{self, CodeChallenge};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time;

use super::authority::Authority;
use super::cancelled;
use super::screen::Status;
use crate::access::Token;
use crate::failure::Failure;
use crate::terminal::{self, Interrupt};

/// The path that the client for command lines is registered with.
const PATH: &str = "/callback";
/// How long somebody may take to sign in.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the browser may take to read the last page.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the browser brings back (RFC 6749 §4.1.2, RFC 9207 §2).
#[derive(Deserialize)]
struct Brought {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// A code, or why there is none; with whom to tell how it ended.
struct Arrival {
    outcome: Result<String, Failure>,
    told: oneshot::Sender<bool>,
}

/// What the listener must know to believe somebody.
struct Door {
    state: String,
    issuer: String,
    arrivals: mpsc::Sender<Arrival>,
}

/// Signs in.
pub(super) async fn sign_in(
    authority: &Authority,
    endpoint: &str,
    scope: Option<&str>,
    status: &mut Status,
) -> anyhow::Result<Token> {
    let mut interrupt = Interrupt::new()?;
    let entropy = Entropy::system();
    let secret = || entropy.bytes::<32>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let (verifier, state) = (secret()?, secret()?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let redirect_uri = format!("http://{}{PATH}", listener.local_addr()?);
    let challenge = CodeChallenge::of_verifier(&verifier)?;
    let client = authority.client.to_string();
    let mut query = vec![
        ("response_type", "code"),
        ("client_id", client.as_str()),
        ("redirect_uri", redirect_uri.as_str()),
        ("state", state.as_str()),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", pkce::METHOD),
    ];
    query.extend(scope.map(|scope| ("scope", scope)));
    let address = reqwest::Url::parse_with_params(endpoint, &query)
        .ok()
        // What is reached over TLS does not lead out of it.
        .filter(|to| to.scheme() == "https" || to.scheme() == "http" && authority.url.starts_with("http://"))
        .ok_or_else(|| Failure::new("the server names no safe address for browsers to sign in at"))?;

    let (arrivals, mut arriving) = mpsc::channel(1);
    let door = Door { state: state.clone(), issuer: authority.issuer.clone(), arrivals };
    let router = Router::new().route(PATH, get(arrive)).with_state(Arc::new(door));
    let (close, closed) = oneshot::channel::<()>();
    let serving =
        tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(async { drop(closed.await) }).into_future());

    terminal::note(&format!("\n  Sign in at {address}\n"));
    if !open(address.as_str()) {
        terminal::note(
            "  No browser could be opened: open that address yourself, on this machine; elsewhere use --device.\n",
        );
    }
    status.say("waiting for you to sign in with the browser", "; Ctrl-C cancels");
    let arrival = tokio::select! {
        arrival = arriving.recv() => arrival,
        () = interrupt.came() => None,
        () = time::sleep(PATIENCE) => {
            status.clear();
            return Err(Failure::new("nobody signed in within ten minutes")
                .hint("run `keyward login` again, with --device if the browser is on another machine")
                .into());
        }
    };
    let Some(Arrival { outcome, told }) = arrival else {
        status.clear();
        return Err(cancelled().into());
    };
    let outcome = match outcome {
        Ok(code) => tokio::select! {
            tokens = authority.exchange(&code, &verifier, &redirect_uri) => tokens,
            () = interrupt.came() => Err(cancelled().into()),
        },
        Err(failure) => Err(failure.into()),
    };
    // Somebody who has closed the page needs no word.
    let _ = told.send(outcome.is_ok());
    drop(close);
    drop(time::timeout(FAREWELL, serving).await);
    if outcome.is_err() {
        status.clear();
    }
    outcome
}

async fn arrive(State(door): State<Arc<Door>>, Query(brought): Query<Brought>) -> Response {
    // Whoever does not know the state was not sent by this program: the right one may be on the way still.
    if brought.state.as_deref() != Some(&door.state) {
        return page(StatusCode::BAD_REQUEST, "This is not what keyward waits for. Begin again in the terminal.");
    }
    let (told, hear) = oneshot::channel();
    let outcome = read(brought, &door.issuer);
    if door.arrivals.try_send(Arrival { outcome, told }).is_err() {
        return page(StatusCode::GONE, "This was answered before. Go on in the terminal.");
    }
    match hear.await {
        Ok(true) => page(StatusCode::OK, "You are signed in. Go on in the terminal; this page can be closed."),
        _ => page(StatusCode::OK, "Nobody was signed in. The terminal says why; this page can be closed."),
    }
}

fn read(brought: Brought, issuer: &str) -> Result<String, Failure> {
    // RFC 9207 §2.4: a server that says it names itself must have; every Keyward does.
    if brought.iss.as_deref() != Some(issuer) {
        return Err(Failure::new("the browser brought an answer of another server").hint("run `keyward login` again"));
    }
    match (brought.code, brought.error) {
        (Some(code), None) => Ok(code),
        (_, Some(error)) if error == "access_denied" => {
            Err(Failure::new("the answer in the browser was no")
                .hint("if that was a mistake, run `keyward login` again"))
        }
        (_, Some(error)) => Err(Failure::new(brought.error_description.unwrap_or(error))),
        (None, None) => Err(Failure::new("the browser brought neither a code nor an error")),
    }
}

fn page(status: StatusCode, said: &'static str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Keyward</title><style>:root{{color-scheme:light dark}}body{{font:1.1rem system-ui;margin:15vh auto;\
         max-width:32rem;padding:1rem}}</style><h1>Keyward</h1><p>{said}</p></html>"
    );
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (header::CONNECTION, "close"),
    ];
    (status, fields, html).into_response()
}

/// Opens the browser: one of those that BROWSER names, separated by colons, else the system's.
fn open(url: &str) -> bool {
    let named = std::env::var("BROWSER").unwrap_or_default();
    let named = named.split(':').filter(|command| !command.trim().is_empty());
    let usual = if cfg!(target_os = "macos") { &["open"][..] } else { &["xdg-open", "wslview", "sensible-browser"] };
    named.chain(usual.iter().copied()).any(|command| start(command, url))
}

/// Starts it without a shell: the address stands where the command has `%s`, else at its end.
fn start(command: &str, url: &str) -> bool {
    let mut words = command.split_ascii_whitespace();
    let Some(program) = words.next() else { return false };
    let mut arguments: Vec<String> = words.map(|word| word.replace("%s", url)).collect();
    if !command.contains("%s") {
        arguments.push(url.to_owned());
    }
    let started =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    started.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brought(query: &str) -> Result<String, String> {
        let url: axum::http::Uri = format!("/callback?{query}").parse().unwrap();
        let Query(brought) = Query::try_from_uri(&url).unwrap();
        read(brought, "https://keyward.example").map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_code_counts_from_this_server_alone() {
        assert_eq!(brought("code=1&iss=https%3A%2F%2Fkeyward.example").unwrap(), "1");
        for other in ["code=1&iss=https%3A%2F%2Fevil.example", "code=1", "error=access_denied"] {
            assert!(brought(other).unwrap_err().contains("another server"), "{other}");
        }
        let own = |query: &str| brought(&format!("{query}&iss=https%3A%2F%2Fkeyward.example"));
        assert!(own("error=access_denied&error_description=x").unwrap_err().contains("was no"));
        assert_eq!(own("error=invalid_scope&error_description=too+much").unwrap_err(), "too much");
        assert_eq!(own("error=server_error").unwrap_err(), "server_error");
        assert!(own("state=1").is_err());
    }

    #[test]
    fn a_browser_that_is_not_there_is_not_opened() {
        assert!(!start("/nonexistent/browser --new", "http://127.0.0.1/"));
        assert!(!start("  ", "http://127.0.0.1/"));
        assert!(start("true %s", "http://127.0.0.1/"));
    }
}
