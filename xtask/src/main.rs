//! The project's own commands; `cargo xtask help` lists them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::failure::Result;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the volatile disk (a process of the power cuts; commands on stdin).
    #[command(hide = true)]
    VolatileDisk { directory: PathBuf, size: u64, seed: u64 },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            use std::io::Write as _;
            writeln!(std::io::stderr(), "{failure}").ok();
            failure.exit_code()
        }
    }
}

fn perform(command: Command) -> Result<()> {
    match command {
        Command::VolatileDisk { directory, size, seed } => {
            xtask::volatile_disk::run(&directory, size, seed)
        }
    }
}
