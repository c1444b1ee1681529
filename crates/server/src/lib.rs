//! Keyward's server: OAuth 2.0 endpoints for machines, a REST API for those who manage them.
//!
//! [`Server::start`] puts everything together; `router` lists every path.

pub mod api;
pub mod app;
pub mod callers;
pub mod clock;
pub mod config;
pub mod device_grants;
pub mod first_start;
pub mod login;
pub mod master_key;
pub mod oauth;
pub mod private_file;
pub mod respond;
pub mod telemetry;

mod budget;
mod command_line;
mod ext_authz;
mod failures;
mod follow;
mod foreign_keys;
mod forward_auth;
mod gateway;
mod health;
mod key_ring;
mod leaks;
mod listen;
mod meter;
mod notices;
mod outbound;
mod pages;
mod principals;
mod proof;
mod registry;
mod request;
mod revoked_tokens;
mod router;
mod schedule;
mod signing_keys;
mod standing;

use std::net::SocketAddr;
use std::sync::Arc;

use app::{App, StartError, Surroundings};
use config::Config;
use first_start::Bootstrap;
use listen::Listener;
use request::{Reception, RequestIds};
use router::Paths;

/// A server that listens and is ready to serve.
pub struct Server {
    /// What it works with.
    pub app: Arc<App>,
    /// The key to begin with, if this was the first start.
    pub bootstrap: Option<Bootstrap>,
    listener: Listener,
    reception: Reception,
}

/// Why a server did not come up.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It cannot listen.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// It cannot work.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Server {
    /// Binds the address, opens everything, and makes what a first start needs.
    pub async fn start(config: &Config, surroundings: Surroundings) -> Result<Self, ServerError> {
        // First of all: a description comes with it, which is not kept, and what follows finds its memory free.
        let (rest, _) = api::router();
        let listen = |error| ServerError::Listen(config.server.listen, error);
        let listener = Listener::bind(&config.server, config.gateway.ext_authz).await.map_err(listen)?;
        let issuer = if config.server.issuer.is_empty() {
            let scheme = if listener.is_tls() { "https" } else { "http" };
            format!("{scheme}://{}", listener.address().map_err(listen)?)
        } else {
            config.server.issuer.clone()
        };
        let (app, bootstrap) = App::start(config, issuer, surroundings).await?;
        let reception = Reception {
            clock: app.clock.clone(),
            ids: RequestIds::new(&app.entropy).map_err(StartError::from)?,
            paths: Paths::of(&app, rest),
            trusted_proxies: config.server.trusted_proxies.clone(),
        };
        Ok(Self { app, bootstrap, listener, reception })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, std::io::Error> {
        self.listener.address()
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.listener.is_tls()
    }

    /// Serves until `stop` completes, then finishes what is under way; true if all of it could be.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> bool {
        // First: what is asked of this node from the moment on at which it listens finds an ear.
        let answerer = tokio::spawn(callers::keep_answering(Arc::clone(&self.app), self.app.store.questions()));
        let follower = tokio::spawn(follow::follow(Arc::clone(&self.app)));
        let worker = tokio::spawn(schedule::work(Arc::clone(&self.app)));
        let counter = tokio::spawn(callers::keep_flushing(Arc::clone(&self.app)));
        let lookout = tokio::spawn(notices::look_out(Arc::clone(&self.app)));
        let sender = tokio::spawn(notices::keep_sending(Arc::clone(&self.app)));
        let fetcher = tokio::spawn(foreign_keys::keep_fetching(Arc::clone(&self.app)));
        let stop = async {
            stop.await;
            // Streams have no end of their own that could be waited for, and whoever polls comes again.
            self.app.feed.close();
            self.app.device_grants.waiting.close();
        };
        let finished = self.listener.serve(self.reception, stop).await;
        follower.abort();
        worker.abort();
        counter.abort();
        lookout.abort();
        sender.abort();
        fetcher.abort();
        self.app.callers.flush_at_the_end().await;
        // Last: nobody waits for a node that is about to stop.
        answerer.abort();
        self.app.store.close().await;
        finished
    }
}
