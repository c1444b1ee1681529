//! The listener: accepts connections, bounds them, and ends in an orderly way.

mod connection;
mod deadline;
mod framing;
pub(crate) mod room;
mod tls;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::ServerConfig;
use crate::meter;
use crate::request::Reception;
use connection::Speaker;
use room::Room;
use tls::Tls;

/// Marks an answer whose body goes on for as long as its client reads it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endless;

/// Accepts connections until told to stop, then lets requests under way finish.
pub(crate) struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<Tls>>,
    places: Arc<Semaphore>,
    room: Arc<Room>,
    prior_knowledge: bool,
    patience: Duration,
    grace: Duration,
}

impl Listener {
    /// Binds the address of the settings; `prior_knowledge` is whether HTTP/2 may come without TLS.
    pub(crate) async fn bind(config: &ServerConfig, prior_knowledge: bool) -> Result<Self, io::Error> {
        Ok(Self {
            tcp: TcpListener::bind(config.listen).await?,
            tls: Tls::load(config)?,
            places: Arc::new(Semaphore::new(config.max_connections.try_into().unwrap_or(Semaphore::MAX_PERMITS))),
            prior_knowledge,
            room: Room::new(config.max_connections_per_network, config.trusted_proxies.clone()),
            patience: Duration::from_secs(config.header_timeout_s.into()),
            grace: Duration::from_secs(config.shutdown_grace_s.into()),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr, io::Error> {
        self.tcp.local_addr()
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `stop` completes; true if everything under way could be finished.
    pub(crate) async fn serve(self, reception: Reception, stop: impl Future<Output = ()>) -> bool {
        let mut reloading = JoinSet::new();
        reloading.spawn(tls::reload_on_hangup(self.tls.clone()));
        let speaker =
            Arc::new(Speaker::new(self.patience, self.tls.clone(), self.prior_knowledge, Arc::new(reception)));
        let stopping = watch::Sender::new(false);
        // Dropped at the end of the grace, it ends what is still there.
        let mut connections = JoinSet::new();
        tokio::select! {
            () = self.accept(&speaker, &stopping, &mut connections) => {}
            () = stop => {}
        }
        drop(self.tcp);
        stopping.send_replace(true);
        tokio::time::timeout(self.grace, async { while connections.join_next().await.is_some() {} }).await.is_ok()
    }

    async fn accept(&self, speaker: &Arc<Speaker>, stopping: &watch::Sender<bool>, connections: &mut JoinSet<()>) {
        // The place comes before the connection: whoever finds none waits, unaccepted.
        while let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
            let (stream, peer) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: others will close theirs.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(part) = self.room.part(peer.ip()) else {
                // Dropped, and so closed: whoever has this many needs no answer to know why.
                meter::REFUSED_CONNECTIONS.increment();
                tracing::debug!(%peer, "a connection beyond max_connections_per_network was closed");
                continue;
            };
            let (speaker, stop) = (Arc::clone(speaker), stopping.subscribe());
            connections.spawn(async move {
                let open = meter::OPEN_CONNECTIONS.enter();
                speaker.speak(stream, peer, stop).await;
                drop((open, part, place));
            });
            while connections.try_join_next().is_some() {}
        }
    }
}
