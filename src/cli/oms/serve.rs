//! `forebay oms serve`: the reference order management system (OMS), in a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use forebay_reference_oms::{Dialect, Faults, Options, Server, TlsFiles};
use serde_json::json;

use super::super::{EXIT_MET, EXIT_MISSED, EXIT_USAGE, fail, print};
use crate::serve::Signals;
use crate::wiring;

/// What it logs: trouble of its own, for the rest is in its ledger.
const LOG: &str = "warn";

/// Arguments of `oms serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How it speaks: generic, salesforce, dynamics, netsuite, commercetools or sap
    #[arg(long, value_name = "NAME", default_value = "generic", value_parser = dialect)]
    dialect: Dialect,
    /// The ledger (SQLite); made if it is not there
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    /// File with the client id that may have tokens
    #[arg(long, value_name = "FILE")]
    client_id_file: PathBuf,
    /// File with its secret
    #[arg(long, value_name = "FILE")]
    client_secret_file: PathBuf,
    /// Certificate chain (PEM), to serve TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Faults from the start (JSON, as POST /control takes them)
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Post what became of orders that were only taken to this address (http://), as POST /control sets `tell`
    #[arg(long, value_name = "URL")]
    tell: Option<String>,
    /// Orders in one create call at most
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    batch_max: usize,
}

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(args: &ServeArgs) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    if let Err(error) = wiring::log_to_stderr(LOG) {
        return fail(EXIT_USAGE, &error);
    }
    let listener = match TcpListener::bind(args.listen) {
        Ok(listener) => listener,
        Err(error) => return fail(EXIT_USAGE, &format!("--listen: {}: {error}", args.listen)),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(serve(&options, listener)),
        Err(error) => Err(error.to_string()),
    };
    match served {
        Ok(()) => ExitCode::from(EXIT_MET),
        Err(error) => fail(EXIT_MISSED, &error),
    }
}

async fn serve(options: &Options, listener: TcpListener) -> Result<(), String> {
    let signals = Signals::install()?;
    let server = Server::open(options, listener).map_err(|error| error.to_string())?;
    let (listen, pid) = (server.url(), std::process::id());
    print(&json!({ "event": "ready", "ready": { "listen": listen }, "pid": pid }).to_string());
    server.run(signals.asked()).await;
    Ok(())
}

fn options(args: &ServeArgs) -> Result<Options, String> {
    let secret = |path: &Path| read(path).map(|text| text.trim_end().to_owned());
    let faults = match &args.faults {
        Some(path) => Faults::read(&read(path)?)
            .map_err(|error| format!("--faults: {}: {error}", path.display()))?,
        None => Faults::default(),
    };
    let faults = Faults { tell: args.tell.clone().or(faults.tell.clone()), ..faults };
    if faults.tell.as_ref().is_some_and(|url| !url.starts_with("http://")) {
        return Err("--tell: must begin with http://".to_owned());
    }
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.clone(), key: key.clone() }),
        _ => None,
    };
    let (id, secret) = (secret(&args.client_id_file)?, secret(&args.client_secret_file)?);
    let options = Options::new(args.db.clone(), &id, &secret);
    Ok(Options { faults, tls, batch_max: args.batch_max, dialect: args.dialect, ..options })
}

fn dialect(name: &str) -> Result<Dialect, String> {
    let known: Vec<_> = Dialect::ALL.into_iter().map(Dialect::name).collect();
    let found = Dialect::ALL.into_iter().find(|dialect| dialect.name() == name);
    found.ok_or_else(|| format!("known are {}", known.join(", ")))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
