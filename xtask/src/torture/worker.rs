//! A server of a fleet beside the scene's own, on a data directory of its own.

use std::time::Duration;

use forebay_loadtest::Target;

use super::interrupt::Interrupt;
use super::scene::Scene;
use super::server::{Server, Setup, Start};
use crate::failure::{Failure, Result, While as _};
use crate::time::Stopwatch;

/// How long it may take until a worker commits.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// One server.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) setup: Setup,
    running: Option<(Server, Target)>,
}

impl Worker {
    /// One that is set up as the scene's server is, and does not run yet.
    pub(super) fn beside(scene: &mut Scene<'_>, name: &str) -> Self {
        let (data_dir, log) = (scene.beside(name), scene.beside(&format!("{name}.log")));
        let setup = Setup { data_dir, log, ..scene.setup().clone() };
        Self { setup, running: None }
    }

    /// The same, in another role.
    pub(super) fn in_role(scene: &mut Scene<'_>, role: &str) -> Result<Self> {
        let mut worker = Self::beside(scene, role);
        let config = scene.beside(&format!("{role}.toml"));
        let text = std::fs::read_to_string(&worker.setup.config).when("reading forebay.toml")?;
        std::fs::write(&config, format!("role = {role:?}\n{text}")).when(config.display())?;
        worker.setup.config = config;
        Ok(worker)
    }

    /// Starts it and waits until it is ready.
    pub(super) fn start(&mut self, interrupt: &Interrupt) -> Result<()> {
        let mut server = self.setup.spawn(&[])?;
        match server.ready(interrupt)? {
            Start::Ready(target, _) => self.running = Some((server, target)),
            Start::Failed(why) => {
                let why = format!("a worker did not start: {why}: {}", self.log_tail());
                return Err(Failure::Missed(why));
            }
        }
        Ok(())
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

    /// Asks it to stop, if it runs, and expects it to do so in order.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some((server, _)) = self.running.take() else { return Ok(()) };
        let status = server.stop()?;
        if status.success() {
            return Ok(());
        }
        let log = self.log_tail();
        Err(Failure::Missed(format!("a worker's stop ended with {status}: {log}")))
    }

    /// Whether it was this that ended it.
    pub(super) fn kill(&mut self) -> Result<bool> {
        self.running.take().map_or(Ok(false), |(server, _)| server.kill())
    }

    /// Whether it ran.
    pub(super) fn freeze(&mut self) -> Result<bool> {
        let server = self.server()?;
        server.freeze()?;
        server.runs()
    }

    /// It, as it runs.
    pub(super) fn server(&mut self) -> Result<&mut Server> {
        let running = self.running.as_mut().map(|(server, _)| server);
        running.ok_or_else(|| Failure::Broken("a worker does not run".to_owned()))
    }

    /// Where it answers.
    pub(super) fn target(&self) -> Result<Target> {
        let running = self.running.as_ref().map(|(_, target)| *target);
        running.ok_or_else(|| Failure::Broken("a worker does not run".to_owned()))
    }

    /// What it has logged so far.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.setup.log).unwrap_or_default()
    }

    /// The last lines of that.
    pub(super) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
    }
}
