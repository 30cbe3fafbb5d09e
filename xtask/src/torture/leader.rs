//! The stream's leader is struck again and again under load, and is there again before the next time.

use std::time::Duration;

use super::acceptance::LONGEST_REFUSAL;
use super::report::{Tally, loss};
use super::scene::Scene;
use super::servers::Servers;
use crate::failure::Result;
use crate::say::complain;

/// What happens to it.
pub(super) struct Strike {
    /// Between two strikes, at least.
    pub(super) between: Duration,
    /// About how long it takes until all servers are there again.
    pub(super) back: Duration,
    /// Whether it hit.
    pub(super) hit: fn(&mut Servers, usize) -> Result<bool>,
    pub(super) end: fn(&mut Servers, usize) -> Result<()>,
}

/// Strikes it for each of these times.
pub(super) fn play(scene: &mut Scene<'_>, strike: &Strike, lasting: &[Duration]) -> Result<()> {
    let runs = scene.share.runs;
    scene.sell((strike.between + strike.back) * (runs + 1) + lasting.iter().sum::<Duration>())?;
    if !scene.start(&[])? {
        return Ok(());
    }
    scene.play_load()?;
    for (run, lasting) in lasting.iter().enumerate() {
        scene.wait(strike.between)?;
        let leader = scene.whole_servers()?;
        let hit = (strike.hit)(scene.servers()?, leader)?;
        scene.tally.injected += u64::from(hit);
        scene.wait(*lasting)?;
        (strike.end)(scene.servers()?, leader)?;
        scene.accepts_again()?;
        complain(format_args!("run {} of {runs}", run + 1));
    }
    scene.wait(strike.back)?;
    let leader = scene.whole_servers()?;
    complain(format_args!("server {leader} leads at the end"));
    scene.stop_load()
}

/// What is not as promised, or was not looked at.
pub(super) fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if tally.peaks.get(LONGEST_REFUSAL).is_none_or(|longest| *longest <= 0.0) {
        missed.push("nobody looked for how long nothing was accepted".to_owned());
    }
    missed
}
