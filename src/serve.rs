//! `forebay serve`: from a configuration to a running service, and back to nothing lost.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, Clock, Embedded, SystemClock};
use forebay_ingest::Door;
use forebay_ops::{Ops, View};
use forebay_processor::Drain;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::cli::{EXIT_FAILED, EXIT_MET, EXIT_MISSED, EXIT_USAGE, ServeArgs, fail, print};
use crate::config::{self, Config, Sockets};
use crate::wiring;

/// How long answers get to leave once the buffer has failed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, or until the buffer fails.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    let config = match config::load(&args.flags) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error.to_string()),
    };
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
    match runtime.block_on(serve(&config, sockets, args.json)) {
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

async fn serve(config: &Config, sockets: Sockets, json: bool) -> Result<Ended, String> {
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
    let lookup_key = wiring::lookup_key(&config.data_dir)?;
    let (failed, failure) = oneshot::channel();
    let on_failure = Box::new(move |reason: String| drop(failed.send(reason)));
    let buffer = Embedded::open(wiring::buffer(config), Arc::clone(&clock), on_failure)
        .map_err(|error| error.to_string())?;
    let oms = Arc::new(wiring::oms(config, &clock)?);
    let settings = wiring::drain(config);
    let drain = Drain::start(settings, buffer.clone(), Arc::clone(&oms), Arc::clone(&clock))
        .map_err(|error| error.to_string())?;
    let door = match sockets.orders {
        Some(held) => {
            let settings = wiring::door(config)?;
            Door::on(held, settings, buffer.clone(), lookup_key, Arc::clone(&clock))
        }
        None => Door::bind(wiring::door(config)?, buffer.clone(), lookup_key, Arc::clone(&clock)),
    };
    let door = door.map_err(|error| error.to_string())?;
    let governor = drain.governor().clone();
    let view = View {
        buffer: buffer.clone(),
        oms,
        oms_kind: wiring::oms_word(config.oms.kind),
        drain: Box::new(move || wiring::drain_status(&governor)),
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
    let orders_address = door.local_addr();
    let (stop, stops) = watch::channel(false);
    let (stop_ops, ops_stops) = watch::channel(false);
    let ops = tokio::spawn(ops.run(ops_stops));
    let mut door = tokio::spawn(door.run(stops, config.drain.grace.0));
    tracing::info!(%orders_address, %ops_address, "ready");
    if json {
        print(&ready_line(orders_address, ops_address));
    }

    let ended = tokio::select! {
        () = signals.asked() => Ended::Asked,
        Ok(reason) = failure => Ended::Failed(reason),
        ended = &mut door => return Err(format!("the door broke: {ended:?}")),
    };
    tracing::info!("stopping: no new orders, finishing what is under way");
    stop.send_replace(true);
    let grace = match &ended {
        Ended::Asked => config.drain.grace.0,
        Ended::Failed(_) => LAST_WORDS,
    };
    // Both within the one grace time.
    let (closed, ()) =
        tokio::join!(tokio::time::timeout(grace + LAST_WORDS, door), drain.stop(grace));
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

/// The one line of `serve --json`.
fn ready_line(orders: SocketAddr, ops: SocketAddr) -> String {
    let pid = std::process::id();
    json!({ "event": "ready", "orders": orders, "ops": ops, "pid": pid }).to_string()
}

/// SIGTERM and SIGINT, watched from before the first port opens.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn install() -> Result<Self, String> {
        let install =
            |kind| signal(kind).map_err(|error| format!("cannot watch for signals: {error}"));
        Ok(Self { term: install(SignalKind::terminate())?, int: install(SignalKind::interrupt())? })
    }

    async fn asked(mut self) {
        tokio::select! {
            _ = self.term.recv() => (),
            _ = self.int.recv() => (),
        }
    }
}
