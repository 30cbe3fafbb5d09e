//! A server of a fleet beside the one with the load's door, on a data directory of its own.

use std::time::Duration;

use forebay_loadtest::Target;

use super::interrupt::Interrupt;
use super::scene::Scene;
use super::server::{Server, Setup, Start};
use crate::failure::{Failure, Result, While as _};
use crate::time::Stopwatch;

/// How long it may take until a worker commits.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// What the log says of each partition that is taken, and how many of its orders may have been sent.
const TOOK: &str = "may_be_sent=";
/// What the report calls those.
pub(super) const INHERITED: &str = "loans_inherited";

/// The server, and how it is started.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) setup: Setup,
    server: Option<Server>,
    /// Where it answers, or did last.
    target: Option<Target>,
}

impl Worker {
    /// Starts the n-th beside the first server.
    pub(super) fn start_beside(scene: &mut Scene<'_>, n: usize) -> Result<Self> {
        Self { setup: scene.setup_beside(n)?, server: None, target: None }.started(scene)
    }

    /// The same, in another role than the first server's.
    pub(super) fn start_in_role(scene: &mut Scene<'_>, n: usize, role: &str) -> Result<Self> {
        let setup = scene.setup_beside(n)?;
        let text = std::fs::read_to_string(&setup.config).when("reading its configuration")?;
        let text = format!("role = {role:?}\n{text}");
        std::fs::write(&setup.config, text).when(setup.config.display())?;
        Self { setup, server: None, target: None }.started(scene)
    }

    fn started(mut self, scene: &Scene<'_>) -> Result<Self> {
        self.start(scene.interrupt())?;
        Ok(self)
    }

    /// Starts one that does not run.
    pub(super) fn start(&mut self, interrupt: &Interrupt) -> Result<()> {
        let mut server = self.setup.spawn(&[])?;
        match server.ready(interrupt)? {
            Start::Ready(target, _) => {
                (self.server, self.target) = (Some(server), Some(target));
            }
            Start::Failed(why) => {
                let why = format!("a worker did not start: {why}: {}", self.tail());
                return Err(Failure::Missed(why));
            }
        }
        Ok(())
    }

    /// Where it answers.
    pub(super) fn target(&self) -> Result<Target> {
        self.target.ok_or_else(|| Failure::Broken("a worker does not run".to_owned()))
    }

    /// Waits until it has written to the OMS's file, which is all it writes to but its log; what it wrote is then still to be
    /// settled. Says whether it came to that.
    pub(super) fn commits(&mut self, interrupt: &Interrupt) -> Result<bool> {
        let server = self.server()?;
        let before = server.bytes_to_files()?;
        let watch = Stopwatch::start();
        while server.bytes_to_files()? == before {
            if watch.left_of(COMMIT_LIMIT).is_zero() {
                return Ok(false);
            }
            // No event tells it in time, and a pause would be longer than what is aimed at.
            interrupt.wait(Duration::ZERO)?;
        }
        Ok(true)
    }

    /// Whether it was this that ended it.
    pub(super) fn kill(&mut self) -> Result<bool> {
        self.server.take().map_or(Ok(false), Server::kill)
    }

    /// Whether it ran.
    pub(super) fn freeze(&mut self) -> Result<bool> {
        let server = self.server()?;
        server.freeze()?;
        server.runs()
    }

    /// Lets it go on.
    pub(super) fn thaw(&mut self) -> Result<()> {
        self.server()?.thaw()
    }

    /// Asks it to stop, if it runs, and expects it to do so in order.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(server) = self.server.take() else { return Ok(()) };
        let status = server.stop()?;
        if status.success() {
            return Ok(());
        }
        let why = format!("a worker's stop ended with {status}: {}", self.tail());
        Err(Failure::Missed(why))
    }

    /// It, as it runs.
    pub(super) fn server(&mut self) -> Result<&mut Server> {
        self.server.as_mut().ok_or_else(|| Failure::Broken("a worker does not run".to_owned()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.setup.log).unwrap_or_default()
    }

    /// The last lines of its log.
    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
    }
}

/// Stops the workers in order and enters what all servers found when they took partitions over.
pub(super) fn end(scene: &mut Scene<'_>, workers: Vec<Worker>) -> Result<()> {
    let mut logs = vec![scene.log()];
    for mut worker in workers {
        worker.stop()?;
        logs.push(worker.log());
    }
    scene
        .tally
        .count(INHERITED, logs.iter().flat_map(|log| log.lines()).filter_map(inherited).sum());
    Ok(())
}

/// How many orders of a partition may have been sent, if a line of the log says so.
fn inherited(line: &str) -> Option<u64> {
    let (_, count) = line.split_once(TOOK)?;
    count.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_takeover_found_is_read_from_the_log() {
        let line = "INFO took a partition partition=3 epoch=7 may_be_sent=12 extra=1";
        assert_eq!([inherited(line), inherited("INFO gave a partition up")], [Some(12), None]);
    }
}
