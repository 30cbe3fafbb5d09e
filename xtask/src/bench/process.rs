//! What the kernel counts of a process.

use std::fs;
use std::time::Duration;

use crate::failure::{Failure, Result, While as _};
use crate::time::{Stopwatch, poll_until};

/// A process that has written next to nothing for this long has nothing left to do.
const QUIET: Duration = Duration::from_millis(400);
const QUIET_LIMIT: Duration = Duration::from_secs(60);
/// An idle writer closes its group with one block.
const NEXT_TO_NOTHING: u64 = 64 << 10;

/// CPU time of all its threads, ended ones too; exact to two ticks of the kernel's (10 ms each).
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).when("a process's times")?;
    let ticks = ticks(&stat).ok_or_else(|| Failure::Broken(format!("{stat:?} has no times")))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// `utime` + `stime`, the 14th and 15th field; the second, its name, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

/// Bytes of memory it occupies.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).when("a process's memory")?;
    Ok(count(&status, "VmRSS:")? * 1024)
}

/// Bytes it has caused to be written to a disk.
pub(super) fn written(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).when("a process's writes")?;
    count(&io, "write_bytes:")
}

/// Waits until it writes no more, as when it fills slots ahead.
pub(super) fn quiet(pid: u32) -> Result<()> {
    let mut last = written(pid)?;
    let mut since = Stopwatch::start();
    let quiet = poll_until(QUIET_LIMIT, || {
        let now = written(pid).unwrap_or_default();
        if now > last + NEXT_TO_NOTHING {
            (last, since) = (now, Stopwatch::start());
        }
        since.elapsed() >= QUIET
    });
    if quiet { Ok(()) } else { Err(Failure::Broken(format!("process {pid} does not rest"))) }
}

fn count(text: &str, name: &str) -> Result<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let number = rest.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Failure::Broken(format!("no {name} in {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_stand_after_a_name_with_spaces_and_brackets() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 123 45 6 7 20 0 1 0 9 8 7";
        assert_eq!(ticks(stat), Some(168));
        assert_eq!(ticks("7 (x) S 1"), None);
    }

    #[test]
    fn this_process_has_figures() {
        let pid = std::process::id();
        assert!(resident(pid).unwrap() > 100_000);
        cpu(pid).unwrap();
        assert_eq!(count("rchar: 1\nwrite_bytes: 4096\n", "write_bytes:").unwrap(), 4096);
    }
}
