//! `forebay serve`: from a configuration to a running service, and back to nothing lost.

use std::fmt::Display;
use std::future::pending;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::migrate::{Migration, embedded_to_nats, nats_to_embedded};
use forebay_buffer::nats::Nats;
use forebay_buffer::{Buffer, Clock, Embedded, SystemClock};
use forebay_ingest::Door;
use forebay_ops::webhooks::{Webhooks, store_name};
use forebay_ops::{Ops, View};
use forebay_processor::{Drain, Hearing, Oms};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::cli::{
    EXIT_FAILED, EXIT_MET, EXIT_MISSED, EXIT_USAGE, MigrateArgs, ServeArgs, fail, print,
};
use crate::config::{self, Backend, Config, Flags, Role, Sockets};
use crate::wiring;

/// How long answers get to leave once the buffer has failed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, or until the buffer fails.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    run_on(&args.flags, args.json, None)
}

/// Serves on another backend, and moves all orders there meanwhile.
pub(crate) fn migrate(args: &MigrateArgs) -> ExitCode {
    if args.from == args.to {
        return fail(EXIT_USAGE, "--to: is where the orders are already");
    }
    run_on(&args.flags, args.json, Some(args))
}

fn run_on(flags: &Flags, json: bool, migrate: Option<&MigrateArgs>) -> ExitCode {
    let mut config = match config::load(flags) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error.to_string()),
    };
    if let Some(migrate) = migrate {
        config.buffer.backend = migrate.to;
        if config.role != Role::All {
            return fail(
                EXIT_USAGE,
                "role: whoever moves orders takes them in and drains them; leave it out",
            );
        }
    }
    let checked = match config::check(&config) {
        Ok(checked) => checked,
        Err(faults) => return fail(EXIT_USAGE, &faults.join("\nforebay: ")),
    };
    if let Err(error) = wiring::log_to_stderr(&config.log) {
        return fail(EXIT_USAGE, &error);
    }
    #[cfg(forebay_control)]
    if let Err(error) = crate::control::begin() {
        return fail(EXIT_USAGE, &error);
    }
    // Before there are other threads, for it takes them out of the environment.
    let sockets = match config::inherited() {
        Ok(sockets) => sockets,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    checked.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(EXIT_MISSED, &error.to_string()),
        };
    match runtime.block_on(serve(&config, sockets, json, migrate)) {
        Ok(Ended::Asked) => ExitCode::from(EXIT_MET),
        Ok(Ended::Failed(reason)) => fail(EXIT_FAILED, &format!("the buffer failed: {reason}")),
        Err(error) => fail(EXIT_MISSED, &error),
    }
}

/// Why the service ended.
enum Ended {
    /// By a signal, in order.
    Asked,
    /// A write or sync failed; what is on disk decides after the restart.
    Failed(String),
}

async fn serve(
    config: &Config,
    sockets: Sockets,
    json: bool,
    migrate: Option<&MigrateArgs>,
) -> Result<Ended, String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let signals = Signals::install()?;
    let started = clock.elapsed();
    let metrics = wiring::record_metrics()?;
    tokio::spawn(wiring::keep_metrics_small(metrics.clone()));
    if !config.data_dir.exists() {
        tracing::warn!(
            data_dir = %config.data_dir.display(),
            "the data directory does not exist and is made, empty; if there should be one, stop and look for its disk"
        );
    }
    let mut service = Service {
        config,
        sockets,
        json,
        clock: Arc::clone(&clock),
        signals,
        started,
        metrics,
        lookup_key: [0; 32],
    };
    match config.buffer.backend {
        _ if migrate.is_some() && !config.data_dir.exists() => Err(no_data_dir(config)),
        Backend::Embedded if migrate.is_some() => {
            let (failed, failure) = oneshot::channel();
            let on_failure = Box::new(move |reason: String| drop(failed.send(reason)));
            let (from, to) = (wiring::nats(config)?, wiring::embedded(config));
            let oms = wiring::oms(config, &clock)?;
            let opened = nats_to_embedded(&from, to, clock, on_failure).await;
            let (buffer, lookup_key) = opened.map_err(|error| error.to_string())?;
            wiring::keep_lookup_key(&config.data_dir, lookup_key)?;
            service.lookup_key = lookup_key;
            let moved = buffer.clone();
            let moving = moving(moved.hand_over(), || moved.progress(), migrate, json);
            Box::pin(service.run(buffer, oms, failure, moving)).await
        }
        Backend::Nats if migrate.is_some() => {
            let lookup_key = wiring::lookup_key(&config.data_dir)?;
            let oms = wiring::oms(config, &clock)?;
            let (from, to) = (wiring::embedded(config), wiring::nats(config)?);
            let opening = async move { embedded_to_nats(&from, to, lookup_key, clock).await };
            let buffer = on_a_thread_of_its_own(opening).await?;
            service.lookup_key = buffer.new_store().lookup_key();
            let (_never, failure) = oneshot::channel();
            let moved = buffer.clone();
            let moving = moving(moved.hand_over(), || moved.progress(), migrate, json);
            Box::pin(service.run(buffer, oms, failure, moving)).await
        }
        Backend::Embedded => {
            service.lookup_key = wiring::lookup_key(&config.data_dir)?;
            let (failed, failure) = oneshot::channel();
            let on_failure = Box::new(move |reason: String| drop(failed.send(reason)));
            let buffer = Embedded::open(wiring::embedded(config), clock, on_failure)
                .map_err(|error| error.to_string())?;
            let oms = wiring::oms(config, &service.clock)?;
            service.run(buffer, oms, failure, pending()).await
        }
        Backend::Nats => {
            std::fs::create_dir_all(&config.data_dir)
                .map_err(|error| format!("data_dir: {}: {error}", config.data_dir.display()))?;
            // Before partitions are taken, which a start that fails would keep from the others for a lease.
            let oms = wiring::oms(config, &clock)?;
            let buffer = on_a_thread_of_its_own(Nats::open(wiring::nats(config)?, clock)).await?;
            service.lookup_key = buffer.lookup_key();
            // Trouble of the servers passes, or is theirs to mend: this process goes on, and its readiness says so.
            let (_never, failure) = oneshot::channel();
            service.run(buffer, oms, failure, pending()).await
        }
    }
}

/// Where there is no directory, there is neither a buffer to be left nor a disk that was meant.
fn no_data_dir(config: &Config) -> String {
    let dir = config.data_dir.display();
    format!("data_dir: {dir} does not exist; to move orders to a new one, make it first")
}

/// Moves everything while it is served, says so, and ends, unless it is to be served on.
async fn moving(
    hand_over: impl Future<Output = ()>,
    progress: impl FnOnce() -> Migration,
    migrate: Option<&MigrateArgs>,
    json: bool,
) {
    hand_over.await;
    let migration = progress();
    if json {
        print(&json!({ "event": "moved", "migration": migration }).to_string());
    }
    tracing::info!(
        "any number of processes may serve from there now: set buffer.backend = {:?}",
        migration.to
    );
    if migrate.is_none_or(|migrate| !migrate.until_done) {
        pending().await
    }
}

/// Opens a buffer on NATS whose connection and tasks have a thread of their own: what they write while it is busy leaves in
/// one go, which spares the servers, and their syncs, more than it costs here.
async fn on_a_thread_of_its_own<B: Buffer, E: Display + Send>(
    opening: impl Future<Output = Result<B, E>> + Send + 'static,
) -> Result<B, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let (opened, opens) = oneshot::channel();
    let run = move || {
        runtime.block_on(async move {
            let buffer = opening.await.map_err(|error| error.to_string());
            let is_open = buffer.is_ok();
            if opened.send(buffer).is_ok() && is_open {
                std::future::pending::<()>().await;
            }
        });
    };
    let thread = std::thread::Builder::new().name("forebay-nats".to_owned()).spawn(run);
    thread.map_err(|error| format!("no thread for NATS: {error}"))?;
    opens.await.map_err(|_| "the thread for NATS ended".to_owned())?
}

/// What a service runs with, whatever its buffer.
struct Service<'a> {
    config: &'a Config,
    sockets: Sockets,
    json: bool,
    clock: Arc<dyn Clock>,
    signals: Signals,
    started: Duration,
    metrics: PrometheusHandle,
    lookup_key: [u8; 32],
}

impl Service<'_> {
    /// Opens the doors this process has, and runs until it is asked to stop, or `end` comes, or the buffer fails.
    async fn run<B: Buffer>(
        self,
        buffer: B,
        oms: Oms,
        failure: oneshot::Receiver<String>,
        end: impl Future<Output = ()>,
    ) -> Result<Ended, String> {
        let Self { config, sockets, json, clock, signals, started, metrics, lookup_key } = self;
        let (oms, fleet) = (Arc::new(oms), store_name(&lookup_key));
        // Before the door and the drain: a new one is told all that happens from here on.
        let webhooks = Webhooks::start(wiring::webhooks(config, &lookup_key), &buffer, &clock);
        let webhooks = webhooks.await.map_err(|error| error.to_string())?;
        let drain = match config.role {
            Role::Ingest => None,
            Role::All | Role::Process => {
                let settings = wiring::drain(config, &fleet);
                let drain =
                    Drain::start(settings, buffer.clone(), Arc::clone(&oms), Arc::clone(&clock));
                Some(drain.map_err(|error| error.to_string())?)
            }
        };
        let door = match (config.role, sockets.orders) {
            (Role::Process, _) => None,
            (Role::All | Role::Ingest, held) => {
                let settings = wiring::door(config)?;
                let (buffer, clock) = (buffer.clone(), Arc::clone(&clock));
                let door = match held {
                    Some(held) => Door::on(held, settings, buffer, lookup_key, clock),
                    None => Door::bind(settings, buffer, lookup_key, clock),
                };
                Some(door.map_err(|error| error.to_string())?)
            }
        };
        let governor = drain.as_ref().map(|drain| drain.governor().clone());
        let without = || Hearing::without_drain(Arc::clone(&clock));
        let hearing = drain.as_ref().map_or_else(without, Drain::hearing);
        let view = View {
            buffer: buffer.clone(),
            oms,
            fleet,
            oms_kind: wiring::oms_word(config.oms.kind),
            drain: Box::new(move || wiring::drain_status(governor.as_ref())),
            webhooks: webhooks.board(),
            outcomes_secret_file: config.oms.outcomes_secret_file.clone(),
            hearing,
            metrics,
            clock,
            started,
            version: crate::control::VERSION,
        };
        let ops = match sockets.ops {
            Some(held) => Ops::on(held, view),
            None => Ops::bind(config.ops.listen, view),
        };
        let ops = ops.map_err(|error| error.to_string())?;
        let ops_address = ops.local_addr().map_err(|error| error.to_string())?;
        let orders_address = door.as_ref().map(Door::local_addr);
        let (stop, stops) = watch::channel(false);
        let (stop_ops, ops_stops) = watch::channel(false);
        let ops = tokio::spawn(ops.run(ops_stops));
        let grace = config.drain.grace.0;
        let mut door = tokio::spawn(async move {
            match door {
                Some(door) => door.run(stops, grace).await,
                None => until(stops).await,
            }
        });
        tracing::info!(?orders_address, %ops_address, "ready");
        if json {
            print(&ready_line(orders_address, ops_address));
        }

        let ended = tokio::select! {
            () = signals.asked() => Ended::Asked,
            () = end => Ended::Asked,
            Ok(reason) = failure => Ended::Failed(reason),
            ended = &mut door => return Err(format!("the door broke: {ended:?}")),
        };
        tracing::info!("stopping: no new orders, finishing what is under way");
        stop.send_replace(true);
        let grace = match &ended {
            Ended::Asked => grace,
            Ended::Failed(_) => LAST_WORDS,
        };
        let drained = async {
            if let Some(drain) = drain {
                drain.stop(grace).await;
            }
        };
        // All within the one grace time.
        let closed = tokio::time::timeout(grace + LAST_WORDS, door);
        let (closed, (), ()) = tokio::join!(closed, drained, webhooks.stop(grace));
        if !matches!(closed, Ok(Ok(Ok(())))) {
            tracing::warn!(
                "requests were cut off at the end of the grace time; their senders send again"
            );
        }
        buffer.close().await;
        stop_ops.send_replace(true);
        drop(ops.await);
        Ok(ended)
    }
}

/// Where there is no door: nothing until the stop.
async fn until<E>(mut stops: watch::Receiver<bool>) -> Result<(), E> {
    drop(stops.wait_for(|stop| *stop).await);
    Ok(())
}

/// The one line of `serve --json`.
fn ready_line(orders: Option<SocketAddr>, ops: SocketAddr) -> String {
    let pid = std::process::id();
    json!({ "event": "ready", "orders": orders, "ops": ops, "pid": pid }).to_string()
}

/// SIGTERM and SIGINT, watched from before the first port opens.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    pub(crate) fn install() -> Result<Self, String> {
        let install =
            |kind| signal(kind).map_err(|error| format!("cannot watch for signals: {error}"));
        Ok(Self { term: install(SignalKind::terminate())?, int: install(SignalKind::interrupt())? })
    }

    pub(crate) async fn asked(mut self) {
        tokio::select! {
            _ = self.term.recv() => (),
            _ = self.int.recv() => (),
        }
    }
}
