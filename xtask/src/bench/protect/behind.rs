//! Who stands behind the database on the machine that they share: it runs only where the database has nothing to do, as if it had
//! a machine of its own.

use std::process::Command;

use crate::failure::{Failure, Result, While as _};

/// A process with all its threads.
pub(super) fn process(pid: u32) -> Result<()> {
    stand_behind(&["--all-tasks"], pid)
}

/// The calling thread, and what it starts from now on.
pub(super) fn this_thread() -> Result<()> {
    stand_behind(&[], rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs())
}

/// Linux's policy for what is to wait for all else (`SCHED_IDLE`).
fn stand_behind(whom: &[&str], id: u32) -> Result<()> {
    let mut command = Command::new("chrt");
    command.args(whom).args(["--idle", "--pid", "0", &id.to_string()]);
    let done = command.output().when("running chrt, of util-linux")?;
    if done.status.success() {
        return Ok(());
    }
    Err(Failure::Broken(format!("chrt: {}", String::from_utf8_lossy(&done.stderr).trim())))
}
