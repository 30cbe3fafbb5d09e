//! Copies of a stopped store.

use std::path::Path;
use std::process::Command;

use crate::failure::{Failure, Result, While as _};

/// Makes `to` a copy of `from`.
pub(super) fn replace(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).when(format_args!("removing {}", to.display()))?;
    }
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().when("copying")?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Broken(format!("cp ended with {status}")))
}
