//! Commands: what people type. Data goes to stdout, messages to stderr.

pub(crate) mod buffer;
mod check;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod exceptions;
pub(crate) mod oms;
pub(crate) mod orders;
pub(crate) mod outcomes;
pub(crate) mod replay;
pub(crate) mod status;
pub(crate) mod webhooks;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Backend, Flags};

/// All met, or what was asked for is printed.
pub(crate) const EXIT_MET: u8 = 0;
/// What was asked for is not so (books that do not balance, an order that is not there).
pub(crate) const EXIT_MISSED: u8 = 1;
/// Wrong usage or configuration.
pub(crate) const EXIT_USAGE: u8 = 2;
/// The buffer failed; the process must not go on.
pub(crate) const EXIT_FAILED: u8 = 70;

/// Takes storefront order bursts in, makes them durable, and drains them into an order management system
/// at a pace it can hold.
#[derive(Debug, Parser)]
#[command(name = "forebay", version = crate::control::VERSION, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  forebay demo                                   play a flash sale and balance its books
  forebay serve --data-dir forebay-data          take orders on 127.0.0.1:8080
  forebay status                                 backlog, drain, exceptions
  forebay orders get forebay demo 1001           one order
  forebay outcomes --follow                      what becomes of orders, as it happens
  forebay exceptions list                        what needs a person
  forebay replay --since 26h                     send again what a restored OMS lacks
  forebay buffer check --data-dir forebay-data   is every byte of a stopped service's buffer whole
  forebay migrate --from embedded --to nats --config forebay.toml   serve on a cluster, and move all orders there
  forebay doctor --data-dir forebay-data         is this disk, this clock, this machine fit for it
  forebay webhooks test mail --config forebay.toml   does the receiver of the webhook mail take a signed ping
  forebay oms serve --db oms.db --client-id-file id --client-secret-file secret   an OMS with faults, to test against";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take orders in and drain them into the OMS
    Serve(ServeArgs),
    /// Play a flash sale against a fresh service and balance the books
    Demo(crate::demo::DemoArgs),
    /// Look at the configuration
    Config(config::ConfigArgs),
    /// Say whether this machine and directory can keep what Forebay promises
    Doctor(doctor::DoctorArgs),
    /// Check, count or export the buffer of a stopped service, without changing it
    Buffer(buffer::BufferArgs),
    /// Serve on another backend, and move all orders there meanwhile
    Migrate(MigrateArgs),
    /// Show how a running service stands
    Status(status::StatusArgs),
    /// Look at orders of a running service
    Orders(orders::OrdersArgs),
    /// Print what became of orders of a running service, and wait for more
    Outcomes(outcomes::OutcomesArgs),
    /// List, show, retry or discard process exceptions of a running service
    Exceptions(exceptions::ExceptionsArgs),
    /// After the OMS was restored from a backup: send again what it lacks
    Replay(replay::ReplayArgs),
    /// A reference OMS to test against, in a process of its own
    Oms(oms::OmsArgs),
    /// Try whether a webhook's receiver takes what it is sent
    Webhooks(webhooks::WebhooksArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) flags: Flags,
    /// Print one line of JSON with the addresses on stdout when ready
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Where the orders are now; nobody may serve from there any more
    #[arg(long, value_name = "BACKEND")]
    pub(crate) from: Backend,
    /// Where they go, and what is served from at once
    #[arg(long, value_name = "BACKEND")]
    pub(crate) to: Backend,
    /// Stop once everything is there, instead of serving on
    #[arg(long)]
    pub(crate) until_done: bool,
    #[command(flatten)]
    pub(crate) flags: Flags,
    /// Print a line of JSON on stdout when ready, and one when everything is there
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which service a command talks to.
#[derive(Debug, Args)]
pub(crate) struct Service {
    /// Address of the service's operator's door [default: ops.listen of the configuration]
    #[arg(long, global = true, value_name = "ADDR")]
    ops: Option<std::net::SocketAddr>,
    /// Configuration file to take ops.listen from
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Says on stderr why a command failed.
#[expect(clippy::print_stderr, reason = "messages of a command line program go to stderr")]
pub(crate) fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("forebay: {message}");
    ExitCode::from(code)
}

/// Writes a line of data to stdout; a reader that went away (`| head`) is no error.
pub(crate) fn print(line: &str) {
    use std::io::Write;
    let written = writeln!(std::io::stdout().lock(), "{line}");
    drop(written);
}
