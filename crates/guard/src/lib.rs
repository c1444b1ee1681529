//! Says who calls an API, and refuses whoever may not: Keyward's access tokens, verified in front of the API itself.
//!
//! A [`Guard`] needs the issuer's URL and the API's own audience. It finds keys and revocations by itself and keeps both
//! up to date in the background; no request waits for a network.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/issuer.rs"));
//! # fn main() { tokio::runtime::Runtime::new().unwrap().block_on(async {
//! # let issuer = Issuer::start().await;
//! # let token = issuer.token("https://plant.example/api", |_| {});
//! use http::HeaderMap;
//! use keyward_guard::{Guard, Refusal};
//!
//! let guard = Guard::discover(&issuer.url) // "https://keyward.example"
//!     .audience("https://plant.example/api")
//! #   .clock(|| NOW)
//!     .await?;
//!
//! let mut headers = HeaderMap::new();
//! assert_eq!(guard.check(&headers).unwrap_err(), Refusal::Missing);
//!
//! headers.insert("authorization", format!("Bearer {token}").parse()?);
//! let caller = guard.check(&headers)?;
//! caller.require("Supervisor", "plant/7/line/3")?;
//! let modified_by = caller.modified_by(); // the user who is present, else the owner of the client
//! assert!(modified_by.starts_with("user_"));
//!
//! let refusal = caller.require("Supervisor", "plant/8").unwrap_err();
//! assert_eq!(refusal.status(), 403);
//! assert!(refusal.challenge("plant").unwrap().starts_with("Bearer realm=\"plant\", error=\"insufficient_scope\""));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap() }
//! ```
//!
//! # In axum
//!
//! With the feature `axum` a [`Caller`] is an argument of handlers, and `?` refuses. [`Guard::layer`] stands in front of
//! whole routers, with axum or with anything else of `tower` (feature `tower`).
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/issuer.rs"));
//! # #[cfg(feature = "axum")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, extract::Path, routing::{get, post}};
//! use keyward_guard::{Caller, Guard, Refusal};
//!
//! // No handler that takes a `Caller` is reached without a good token.
//! async fn line(caller: Caller, Path(line): Path<String>) -> Result<String, Refusal> {
//!     caller.require("Worker", &format!("plant/7/line/{line}"))?;
//!     Ok(format!("hello {}", caller.modified_by()))
//! }
//!
//! # let issuer = Issuer::start().await;
//! let guard = Guard::discover(&issuer.url) // "https://keyward.example"
//!     .audience("https://plant.example/api")
//!     .realm("plant")
//! #   .clock(|| NOW)
//!     .await?;
//! let supervisors = Router::new()
//!     .route("/stop", post(async || "stopped"))
//!     .layer(guard.layer().require_scope("Supervisor"));
//! let app: Router = Router::new().route("/line/{line}", get(line)).with_state(guard).merge(supervisors);
//!
//! # use {axum::body::Body, http::Request, tower::ServiceExt};
//! # let token = format!("Bearer {}", issuer.token("https://plant.example/api", |_| {}));
//! # let request = Request::get("/line/3").header("authorization", token).body(Body::empty())?;
//! let answer = app.clone().oneshot(request).await?;
//! assert_eq!(answer.status(), 200);
//! let answer = app.oneshot(Request::post("/stop").body(Body::empty())?).await?;
//! assert_eq!(answer.status(), 401);
//! assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"plant\"");
//! # Ok(())
//! # }
//! # fn main() {
//! #     #[cfg(feature = "axum")]
//! #     tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! # }
//! ```
//!
//! # Two tokens
//!
//! `Authorization` carries the token of an application; `Identity-Token` may carry that of a user who is present. What
//! both allow is what the request may do. A device on which a user signed in sends its identity token alone. Tokens that
//! were not issued to the same client are refused, unless the API says whose it accepts:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use keyward_guard::{Guard, TrustedIssuer};
//!
//! let guard = Guard::discover("https://keyward.example")
//!     .audience("https://plant.example/api")
//!     .accept_identities_of("client_01m84jxtceexztegt567snmvbg".parse()?) // the company's own login
//!     .trust(TrustedIssuer {
//!         issuer: "https://login.example".into(),
//!         audience: "plant-web".into(),
//!         rights: None, // what its tokens say
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is revoked
//!
//! The guard follows the issuer's feed, on which a revocation arrives at once; where there is no feed it fetches the status
//! list each minute. While neither can be had, [`Unreachable`] says what becomes of tokens: by default they are accepted
//! for five minutes more, and then answered with 503. [`Guard::measures`] tells how it stands.
//!
//! # Without a guard
//!
//! The rule itself is a pure function: [`Policy::check`] for two tokens, [`verify`] for one. With
//! `default-features = false` nothing else is built, and nothing here does I/O, waits or reads a clock.
//!
//! ```
//! use keyward_guard::{Expect, KeySet, Refusal, bearer, require_res, require_scope, verify};
//! use keyward_model::time::Timestamp;
//!
//! fn may_start_line(authorization: &[u8], keys: &KeySet, now: Timestamp) -> Result<String, Refusal> {
//!     let expect = Expect::new("https://keyward.example", "https://plant.example/api");
//!     let claims = verify(bearer(authorization)?, keys, &expect, now)?;
//!     require_scope(&claims, "Supervisor")?;
//!     require_res(&claims, "plant/7/line/3")?;
//!     Ok(claims.sub.to_string())
//! }
//!
//! let refusal = may_start_line(b"Bearer a.b", &KeySet::default(), Timestamp::from_millis(0)).unwrap_err();
//! assert_eq!(refusal.status(), 401);
//! ```

mod answer;
#[cfg(feature = "axum")]
mod axum;
mod bearer;
#[cfg(feature = "memory")]
mod cache;
mod caller;
#[cfg(test)]
mod fixture;
mod foreign;
#[cfg(all(fuzzing, feature = "discover"))]
pub mod fuzzing;
#[cfg(feature = "discover")]
mod guard;
mod keys;
#[cfg(feature = "tower")]
mod layer;
#[cfg(feature = "memory")]
mod memory;
mod presented;
mod refusal;
mod two_token;
mod verify;

pub use answer::DEFAULT_REALM;
#[cfg(feature = "axum")]
pub use axum::Rejection;
pub use bearer::bearer;
pub use caller::{Caller, Identity, User};
pub use foreign::{ForeignIdentity, TrustedIssuer};
#[cfg(feature = "discover")]
pub use guard::{Builder, Guard, Measures, StartError, Unreachable};
pub use keys::KeySet;
#[cfg(feature = "tower")]
pub use layer::{GuardLayer, Guarded};
#[cfg(feature = "memory")]
pub use memory::{Given, Memory};
pub use presented::{IDENTITY_TOKEN, Presented};
pub use refusal::{ErrorCode, Refusal};
pub use two_token::{Keys, Policy};
pub use verify::{DEFAULT_LEEWAY, Expect, MAX_LEEWAY, require_res, require_scope, verify};
