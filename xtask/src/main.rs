//! The project's own commands; `cargo xtask help` lists them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use xtask::bench::{self, Name};
use xtask::cargo::Workspace;
use xtask::cluster::Cluster;
use xtask::failure::Result;
use xtask::say::{complain, say};
use xtask::torture::{Fault, Oms, Plan, WriteMode};
use xtask::{ci, tidy, torture, volatile_disk};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every check of the project; continuous integration runs exactly this.
    Ci,
    /// Check the project's rules that no linter knows.
    Tidy,
    /// Strike the real server under load and account for every order. Exit 0 met, 1 missed, 77 skipped.
    Torture {
        /// What happens to the server.
        #[arg(value_enum)]
        fault: Fault,
        /// How often, shared out among the OMSs [default: the kind's own number].
        #[arg(long)]
        runs: Option<u32>,
        /// Take the promise away; then the runs must show it, or they prove nothing.
        #[arg(long)]
        control: bool,
        /// The order management system to drain into.
        #[arg(long, value_enum, default_value_t = OmsName::All)]
        oms: OmsName,
        /// Deliveries a second [default: the kind's own rate].
        #[arg(long)]
        rate: Option<f64>,
        /// What everything random follows from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The one write mode to play in [default: both, in parts of the runs].
        #[arg(long, value_enum)]
        write_mode: Option<WriteMode>,
        /// A server to strike instead of one built for it; with --control a control build.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// The server that is started in place of each that was stopped, as in an upgrade (rolling), or the control build that ends itself (oms-kill).
        #[arg(long)]
        next_binary: Option<PathBuf>,
        /// Print nothing on stdout but the report, one JSON object, which is the last line anyway.
        #[arg(long)]
        json: bool,
    },
    /// Measure what is shipped (profile `dist`) against a baseline, both by turns in one run. Exit 0 met, 1 missed, 77 skipped.
    Bench {
        /// What is measured.
        #[arg(value_enum)]
        name: Name,
        /// The largest sizes too: it takes long, and tens of GiB of disk.
        #[arg(long)]
        full: bool,
        /// A few seconds and no gates: whether the bench itself still works.
        #[arg(long, conflicts_with = "full")]
        short: bool,
        /// One JSON object a line on stdout; progress goes to stderr either way.
        #[arg(long)]
        json: bool,
        /// Measure this server instead, as one of before a change.
        #[arg(long, value_name = "BINARY")]
        server: Option<PathBuf>,
    },
    /// Three NATS servers on loopback, as config/cluster/server.conf has them: TLS, users with least rights, synced.
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Serve the bench's baseline (a process of the benches; ends with its stdin).
    #[command(hide = true)]
    Hello { threads: usize },
    /// Serve the volatile disk (a process of the power cuts; commands on stdin).
    #[command(hide = true)]
    VolatileDisk { directory: PathBuf, size: u64, seed: u64 },
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Start them, on the store they had before if there is one, and wait until they take orders.
    Up {
        /// The first server's port; the others have the next two, and routes are 2,000 above.
        #[arg(long, default_value_t = 4222)]
        port: u16,
    },
    /// Stop them.
    Down {
        /// Their stores, certificates and passwords too.
        #[arg(long)]
        delete: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OmsName {
    /// The embedded default.
    Sqlite,
    /// Append-only; doubles show there.
    Ledger,
    /// A PostgreSQL server of its own (`oms-kill` only).
    Postgres,
    /// The reference OMS over HTTP (`oms-kill` only).
    Http,
    /// One store for each that the fault is for.
    All,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            failure.exit_code()
        }
    }
}

fn perform(command: Command) -> Result<()> {
    match command {
        Command::Ci => ci::run(),
        Command::Tidy => tidy::check(&Workspace::find()?.root),
        Command::Torture {
            fault,
            runs,
            control,
            oms,
            rate,
            seed,
            write_mode,
            binary,
            next_binary,
            json: _,
        } => {
            let oms = match oms {
                OmsName::Sqlite => vec![Oms::Sqlite],
                OmsName::Ledger => vec![Oms::Ledger],
                OmsName::Postgres => vec![Oms::Postgres],
                OmsName::Http => vec![Oms::Http],
                OmsName::All => vec![Oms::Sqlite, Oms::Ledger, Oms::Postgres, Oms::Http],
            };
            let own = Plan::new(fault);
            let (runs, rate) = (runs.unwrap_or(own.runs), rate.unwrap_or(own.rate));
            torture::run(&Plan {
                fault,
                runs,
                control,
                oms,
                rate,
                seed,
                write_mode,
                binary,
                next_binary,
            })
        }
        Command::Bench { name, full, short, json, server } => {
            bench::run(&bench::Plan { name, full, short, json, server })
        }
        Command::Cluster { command } => {
            let workspace = Workspace::find()?;
            match command {
                ClusterCommand::Up { port } => {
                    let cluster = Cluster::of(&workspace, port);
                    cluster.up(&workspace.target)?;
                    say(format_args!(
                        "{}\n`cargo xtask cluster down` stops them",
                        cluster.describe()
                    ));
                    Ok(())
                }
                ClusterCommand::Down { delete } => Cluster::of(&workspace, 0).down(delete),
            }
        }
        Command::Hello { threads } => bench::hello::run(threads),
        Command::VolatileDisk { directory, size, seed } => {
            volatile_disk::run(&directory, size, seed)
        }
    }
}
