//! One system call of the server fails, by strace, and strace's own log proves that it did.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::failure::{Failure, Result, While as _};

/// How long strace may take to attach.
const ATTACH_LIMIT: Duration = Duration::from_secs(10);

/// Says why calls cannot be made to fail here, if so.
pub(super) fn missing_means() -> Option<String> {
    let strace = Command::new("strace").arg("--version").output();
    strace.err().map(|error| format!("failing system calls needs strace: {error}"))
}

/// The n-th of these calls (`"3"`), or it and all that follow (`"3+"`), fails with an input/output error and is not
/// performed.
fn injection(calls: &str, n: &str, log: &Path) -> Vec<String> {
    let log = log.display();
    ["-e".to_owned(), format!("trace={calls}"), "-e".to_owned()]
        .into_iter()
        .chain([format!("inject={calls}:error=EIO:when={n}"), "-o".to_owned(), log.to_string()])
        .collect()
}

/// What a server is started behind so that its main thread's (or any other thread's) n-th call fails. The
/// server keeps its process id.
pub(super) fn prefix(calls: &str, n: u32, log: &Path) -> Vec<String> {
    let strace = ["strace", "-D", "-f"].map(str::to_owned);
    strace.into_iter().chain(injection(calls, &n.to_string(), log)).collect()
}

/// A running strace. Dropping it ends it; the server goes on.
#[derive(Debug)]
pub(super) struct Tampered {
    strace: Child,
    log: PathBuf,
}

impl Tampered {
    /// Lets the n-th of these calls of each thread with one of these names fail (`"3+"`: and all after it), and returns
    /// when strace has them.
    pub(super) fn attach(
        pid: u32,
        threads: &[&str],
        calls: &str,
        n: &str,
        log: &Path,
    ) -> Result<Self> {
        File::create(log).when("strace's log")?;
        let mut command = Command::new("strace");
        command.args(injection(calls, n, log));
        for thread in threads_named(pid, threads)? {
            command.arg("-p").arg(thread.to_string());
        }
        let mut strace = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .when("starting strace")?;
        let stderr = strace.stderr.take();
        let tampered = Self { strace, log: log.to_owned() };
        let (said, says) = sync_channel(4);
        if let Some(stderr) = stderr {
            // To the end, so that strace is never held up.
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
                    said.try_send(line).ok();
                }
            });
        }
        let line = says.recv_timeout(ATTACH_LIMIT).when("waiting for strace")?;
        if line.contains("attached") {
            return Ok(tampered);
        }
        Err(Failure::Broken(format!("strace: {line}")))
    }

    /// Whether a call was made to fail.
    pub(super) fn fired(&self) -> Result<bool> {
        fired(&self.log)
    }
}

/// Whether a log of strace's says that a call was made to fail.
pub(super) fn fired(log: &Path) -> Result<bool> {
    Ok(std::fs::read_to_string(log).when("reading strace's log")?.contains("(INJECTED)"))
}

impl Drop for Tampered {
    fn drop(&mut self) {
        self.strace.kill().ok();
        self.strace.wait().ok();
    }
}

/// Ids of a process's threads of these names.
fn threads_named(pid: u32, names: &[&str]) -> Result<Vec<u32>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).when("the server's threads")? {
        let path = entry.when("the server's threads")?.path();
        // A thread that has just ended has no name any more.
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let id = path.file_name().and_then(|id| id.to_str()?.parse::<u32>().ok());
        threads.extend(id.filter(|_| names.contains(&name.trim_end())));
    }
    if threads.is_empty() {
        return Err(Failure::Broken(format!("the server has no thread {names:?}")));
    }
    Ok(threads)
}
