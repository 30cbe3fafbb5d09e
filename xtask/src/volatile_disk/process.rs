//! The disk's own process: commands as lines on stdin, one JSON line on stdout for each.
//!
//! A process of its own, because a process that waits for its own file system cannot be ended.
//! It takes everything apart when stdin closes, so the disk goes even if its user was killed.

use std::io::{BufRead as _, Write as _};
use std::path::Path;

use super::sectors::{Fault, Mark};
use super::serve::Served;
use super::stack::Stack;
use crate::failure::{Failure, Result, While as _};

/// A command to the disk's process, one line of JSON.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Cut the power; each unsynced sector survives with this probability.
    Cut { survival: f64 },
    /// Take the dead machine apart, power the disk, mount what it holds.
    PowerOn,
    /// Fail one request of this kind, after so many more that succeed.
    Arm { fault: Fault, after: u32 },
    /// Say how many requests failed because they were to.
    Failed,
    /// Let every write and sync wait.
    Hold,
    /// Let them wait once a write that bears this mark, and so many more, are performed.
    HoldAt { mark: Mark, after: u32 },
    /// Say whether that came; perhaps it is not watched for any more.
    IsHit { end: bool },
    /// Perform what waits, and go on.
    LetGo,
}

/// The process's answer to a command, and its greeting.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// The file system is mounted.
    Mounted,
    /// The power is off.
    Cut(super::sectors::Cut),
    /// The power is on again and the file system mounted anew; so many sectors came after the cut.
    PoweredOn { late: u64 },
    /// It is done, or counts that much.
    Done(u64),
    /// The command failed.
    Failed(String),
}

/// Serves a disk of `size` bytes until stdin closes: its file system of one file under
/// `directory`/disk, its ext4 at `directory`/data.
///
/// # Errors
/// Where the disk cannot be set up, or stdin and stdout fail.
pub fn run(directory: &Path, size: u64, seed: u64) -> Result<()> {
    let (disk, data) = (directory.join("disk"), directory.join("data"));
    for place in [&disk, &data] {
        std::fs::create_dir_all(place).when("making the disk's directories")?;
    }
    let served = Served::mount(&disk, size)?;
    let mut stack = Some(Stack::attach(&served.image(), &data, true)?);
    let mut random = fastrand::Rng::with_seed(seed);
    tell(&Reply::Mounted)?;
    for line in std::io::stdin().lock().lines() {
        let order = serde_json::from_str(&line.when("reading a command")?).when("a command")?;
        let reply = match order {
            Order::Cut { survival } => {
                let cut = served.sectors().cut(survival, &mut random);
                // Whatever waited finds no power any more.
                served.let_go();
                Reply::Cut(cut)
            }
            Order::Arm { fault, after } => {
                served.sectors().arm(fault, after);
                Reply::Done(0)
            }
            Order::Failed => Reply::Done(served.sectors().failed()),
            Order::Hold => {
                served.hold();
                Reply::Done(0)
            }
            Order::HoldAt { mark, after } => {
                served.hold_at(mark, after);
                Reply::Done(0)
            }
            Order::IsHit { end } => Reply::Done(u64::from(served.is_hit(end))),
            Order::LetGo => Reply::Done(served.let_go()),
            Order::PowerOn => match power_on(&served, &mut stack, &data) {
                Ok(late) => Reply::PoweredOn { late },
                Err(error) => Reply::Failed(error.to_string()),
            },
        };
        tell(&reply)?;
    }
    // Nobody is left who will read it. A server whose keeper was killed learns by its next sync that the
    // disk is gone, ends, and lets go of the mount.
    served.sectors().cut(0.0, &mut random);
    served.let_go();
    match stack {
        Some(stack) => stack.detach(),
        None => Ok(()),
    }
}

fn power_on(served: &Served, stack: &mut Option<Stack>, data: &Path) -> Result<u64> {
    let Some(old) = stack.take() else {
        return Err(Failure::Broken("the disk has no file system any more".to_owned()));
    };
    old.detach()?;
    let late = served.sectors().power_on();
    *stack = Some(Stack::attach(&served.image(), data, false)?);
    Ok(late)
}

fn tell(reply: &Reply) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, reply).when("answering")?;
    out.write_all(b"\n").and_then(|()| out.flush()).when("answering")
}
