//! Opening the door, running it, closing it.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use forebay_buffer::{Buffer, Clock};
use forebay_order::Format;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

use crate::accept::accept;
use crate::channel::Feed;
use crate::config::{BindError, DoorConfig};
use crate::pace;

/// The storefront's door, listening but not yet answering; [`Door::run`] does.
pub struct Door<B> {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared<B>>,
}

/// Why a running door ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// A thread or its runtime could not be started.
    #[error("door: an accept thread cannot start: {0}")]
    Start(#[from] std::io::Error),
    /// An accept thread ended without being told to.
    #[error("door: an accept thread ended by a fault; orders in flight got no answer")]
    Died,
}

/// What all accept threads share.
pub(crate) struct Shared<B> {
    pub(crate) config: DoorConfig,
    pub(crate) buffer: B,
    pub(crate) lookup_key: [u8; 32],
    pub(crate) clock: Arc<dyn Clock>,
    /// Connections open now.
    pub(crate) open: AtomicUsize,
    feeds: HashMap<String, Feed>,
    /// Name of the first channel that reads order-summary graphs.
    graphs: Option<String>,
}

impl<B: Buffer> Shared<B> {
    pub(crate) fn feed(&self, name: &str) -> Option<&Feed> {
        self.feeds.get(name)
    }

    pub(crate) fn graphs_feed(&self) -> Option<&Feed> {
        self.feeds.get(self.graphs.as_ref()?)
    }

    /// Seconds a sender should stay away from a full disk.
    pub(crate) fn when_drained(&self) -> u64 {
        pace::when_drained(self.buffer.pace())
    }
}

impl<B: Buffer> Door<B> {
    /// Checks the configuration and listens. `lookup_key` keys the hash by which a shopper's orders are
    /// found; it must stay the same for a store's life.
    ///
    /// # Errors
    /// [`BindError`] for a configuration that cannot work, an address other machines can reach, or one
    /// the system does not give.
    pub fn bind(
        config: DoorConfig,
        buffer: B,
        lookup_key: [u8; 32],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BindError> {
        config.check()?;
        let address = config.listen;
        let refused = |source| BindError::Listen { address, source };
        Self::on(TcpListener::bind(address).map_err(refused)?, config, buffer, lookup_key, clock)
    }

    /// As [`Door::bind`], on a socket that listens already; `config.listen` is not looked at.
    ///
    /// # Errors
    /// As [`Door::bind`].
    pub fn on(
        listener: TcpListener,
        mut config: DoorConfig,
        buffer: B,
        lookup_key: [u8; 32],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BindError> {
        let address = config.listen;
        let refused = |source| BindError::Listen { address, source };
        let address = listener.local_addr().map_err(refused)?;
        config.listen = address;
        config.check()?;
        listener.set_nonblocking(true).map_err(refused)?;
        let graphs = config.channels.iter().find(|channel| channel.format == Format::Salesforce);
        let graphs = graphs.map(|channel| channel.name.clone());
        let feeds = config.channels.iter().cloned();
        let feeds = feeds.map(|channel| (channel.name.clone(), Feed::new(channel))).collect();
        let open = AtomicUsize::new(0);
        let shared = Shared { config, buffer, lookup_key, clock, open, feeds, graphs };
        Ok(Self { listener, address, shared: Arc::new(shared) })
    }

    /// Where it listens; the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests on its own threads until `stop` turns true (or its sender is gone): then accepts
    /// nothing new, closes idle connections, lets what is in flight finish for up to `grace`, and returns
    /// once every thread has ended. Dropping the future does not stop the threads; `stop` does.
    ///
    /// # Errors
    /// [`DoorError`] when a thread cannot start or dies; the caller should end the process.
    pub async fn run(self, stop: watch::Receiver<bool>, grace: Duration) -> Result<(), DoorError> {
        let mut threads = Vec::with_capacity(self.shared.config.threads);
        for n in 0..self.shared.config.threads {
            let listener = self.listener.try_clone()?;
            threads.push(start(n, listener, &self.shared, stop.clone(), grace)?);
        }
        drop(self.listener);
        // The first thread that dies is the door's end; the others are not waited for.
        let ended = threads.into_iter().map(async |(thread, ended)| {
            ended.await.map_err(|_| DoorError::Died)??;
            // It said so as its last act, so joining it does not block.
            thread.join().map_err(|_| DoorError::Died)
        });
        futures_util::future::try_join_all(ended).await.map(drop)
    }
}

type Ended = oneshot::Receiver<std::io::Result<()>>;

fn start<B: Buffer>(
    n: usize,
    listener: TcpListener,
    shared: &Arc<Shared<B>>,
    stop: watch::Receiver<bool>,
    grace: Duration,
) -> std::io::Result<(JoinHandle<()>, Ended)> {
    let (ended, has_ended) = oneshot::channel();
    let shared = Arc::clone(shared);
    let body = move || {
        let result = Builder::new_current_thread().enable_io().enable_time().build();
        let result = result.and_then(|runtime| {
            LocalSet::new().block_on(&runtime, async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                accept(listener, shared, stop, grace).await;
                Ok(())
            })
        });
        // Nobody listening means the process is ending anyway.
        drop(ended.send(result));
    };
    let thread = std::thread::Builder::new().name(format!("forebay-door-{n}")).spawn(body)?;
    Ok((thread, has_ended))
}
