//! A process of the demo: this binary with other arguments, which says in one line when it is ready.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long one may take to start, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// This binary, to be given arguments.
///
/// # Errors
/// In words.
pub(super) fn this_binary() -> Result<Command, String> {
    let binary = std::env::current_exe();
    Ok(Command::new(binary.map_err(|error| format!("this binary cannot be found: {error}"))?))
}

/// Starts it, and reads its first line.
///
/// # Errors
/// In words, with what it logged.
pub(super) async fn start<T: DeserializeOwned>(
    mut command: Command,
    log: &Path,
    name: &str,
) -> Result<(Child, T), String> {
    let explain = |error: std::io::Error| format!("cannot start {name}: {error}");
    let file = std::fs::File::create(log).map_err(explain)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).kill_on_drop(true);
    let mut child = command.spawn().map_err(explain)?;
    let stdout = child.stdout.take().ok_or_else(|| format!("{name} has no stdout"))?;
    let (mut line, mut stdout) = (String::new(), BufReader::new(stdout));
    match tokio::time::timeout(PATIENCE, stdout.read_line(&mut line)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(explain(error)),
        Err(_) => return Err(format!("{name} was not ready within {PATIENCE:?}")),
    }
    let ready = serde_json::from_str(&line).map_err(|_| {
        let log = std::fs::read_to_string(log).unwrap_or_default();
        format!("{name} did not start:\n{log}")
    })?;
    Ok((child, ready))
}

/// Asks it to stop, and waits.
///
/// # Errors
/// In words.
pub(super) async fn stop(child: &mut Child, name: &str) -> Result<(), String> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
        && let Some(pid) = rustix::process::Pid::from_raw(pid)
    {
        let asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        asked.map_err(|error| format!("cannot stop {name}: {error}"))?;
    }
    match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status:?}")),
        Err(_) => Err(format!("{name} did not stop within {PATIENCE:?}")),
    }
}
