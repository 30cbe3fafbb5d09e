//! How a command of this crate ends when it does not end well, and with which exit code.

use std::process::ExitCode;

/// The result of everything here that can end a command.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a command ended early or missed its goal.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command ran and what it measured or checked is not as promised.
    #[error("missed: {0}")]
    Missed(String),
    /// The command line asks for something that does not exist.
    #[error("usage: {0}")]
    Usage(String),
    /// A means the command needs is not here, and it may do without.
    #[error("skipped: {0}")]
    Skipped(String),
    /// The command's own machinery failed, so it says nothing about Forebay.
    #[error("broken: {0}")]
    Broken(String),
    /// A person or the system asked it to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// The exit code of DESIGN.md's measuring commands: 1 missed, 2 usage, 77 skipped.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Missed(_) | Self::Broken(_) => 1,
            Self::Usage(_) => 2,
            Self::Skipped(_) => 77,
            Self::Interrupted => 130,
        })
    }

    /// Something that failed while doing `what`.
    pub fn broken(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Broken(format!("{what}: {error}"))
    }
}

/// Says what was being done when something failed.
pub trait While<T> {
    /// Turns the error into [`Failure::Broken`], naming what was being done.
    fn when(self, what: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: std::fmt::Display> While<T> for std::result::Result<T, E> {
    fn when(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::broken(what, error))
    }
}
