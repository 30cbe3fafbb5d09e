//! The longest time without an acceptance, while the load plays.

use std::time::Duration;

use super::scene::Scene;
use crate::failure::Result;
use crate::time::Stopwatch;

/// What the report calls it.
pub(super) const LONGEST: &str = "longest_refusal_s";
const LOOK: Duration = Duration::from_millis(10);

/// Looks at the load all the time.
#[derive(Debug)]
pub(super) struct Lull {
    acknowledged: u64,
    since: Stopwatch,
}

impl Lull {
    pub(super) fn begin(scene: &Scene<'_>) -> Self {
        Self { acknowledged: scene.acknowledged(), since: Stopwatch::start() }
    }

    /// Lets time pass, and enters what it sees.
    pub(super) fn wait(&mut self, scene: &mut Scene<'_>, duration: Duration) -> Result<()> {
        let watch = Stopwatch::start();
        self.until(scene, |_| Ok(watch.left_of(duration).is_zero()))
    }

    /// The same until something is so.
    pub(super) fn until(
        &mut self,
        scene: &mut Scene<'_>,
        mut so: impl FnMut(&mut Scene<'_>) -> Result<bool>,
    ) -> Result<()> {
        while !so(scene)? {
            scene.wait(LOOK)?;
            let acknowledged = scene.acknowledged();
            if acknowledged != self.acknowledged {
                (self.acknowledged, self.since) = (acknowledged, Stopwatch::start());
            }
            if !scene.load()?.is_over() {
                scene.tally.peak(LONGEST, self.since.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }

    /// Waits until one more is acknowledged.
    pub(super) fn ends(&mut self, scene: &mut Scene<'_>) -> Result<()> {
        let before = scene.acknowledged();
        let watch = Stopwatch::start();
        self.until(scene, |scene| {
            Ok(scene.acknowledged() > before || watch.left_of(LIMIT).is_zero())
        })
    }
}

/// Past this the load is over, or the account will find out why nothing is accepted.
const LIMIT: Duration = Duration::from_secs(60);
