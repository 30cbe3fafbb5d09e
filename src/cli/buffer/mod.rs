//! `forebay buffer`: a stopped service's buffer, looked at without changing anything.

mod check;
mod export;
mod stats;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use forebay_buffer::{InspectError, Inspection, inspect};

use super::{EXIT_FAILED, EXIT_USAGE, fail};
use crate::config::{self, Flags};

/// Arguments of `buffer`.
#[derive(Debug, Args)]
pub(crate) struct BufferArgs {
    #[command(subcommand)]
    command: BufferCommand,
    /// Directory of everything Forebay keeps
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file (TOML) to take data_dir from
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum BufferCommand {
    /// Verify every byte; list each damaged order. Exit 0 if all is whole, 1 if not
    Check {
        /// Print one JSON object a line; the last is the summary
        #[arg(long)]
        json: bool,
    },
    /// Count segments, bytes and orders
    Stats {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write every order that is not yet in the OMS, one JSON object a line, with its body. The bodies hold
    /// personal data
    Export {
        /// Write to this file, which must not exist, and sync it [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Looks through the buffer of a stopped service. Exit 2 where there is none or a service holds it.
pub(crate) fn run(args: &BufferArgs) -> ExitCode {
    let flags =
        Flags { data_dir: args.data_dir.clone(), config: args.config.clone(), ..Flags::default() };
    let found = match config::load(&flags) {
        Ok(config) => inspect(&config.data_dir.join("buffer")),
        Err(error) => return fail(EXIT_USAGE, &error.to_string()),
    };
    match found {
        Ok(found) => look(&args.command, &found),
        Err(error @ (InspectError::Missing(_) | InspectError::InUse(_))) => {
            fail(EXIT_USAGE, &error.to_string())
        }
        Err(error @ InspectError::Unreadable { .. }) => fail(EXIT_FAILED, &error.to_string()),
    }
}

fn look(command: &BufferCommand, found: &Inspection) -> ExitCode {
    match command {
        BufferCommand::Check { json } => check::run(found, *json),
        BufferCommand::Stats { json } => stats::run(found, *json),
        BufferCommand::Export { out } => export::run(found, out.as_deref()),
    }
}
