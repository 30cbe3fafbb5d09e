//! Whether the wall clock can be believed.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use forebay_buffer::{Clock as _, SystemClock};

use super::super::check::Check;

/// 2026-01-01 and 2100-01-01, ms since 1970.
const PLAUSIBLE: std::ops::Range<i64> = 1_767_225_600_000..4_102_444_800_000;
/// What a file's time may be ahead without meaning anything.
const SLACK_MS: i64 = 2_000;
/// How long a tool that knows about the clock may take.
const TOOL_MAX: Duration = Duration::from_secs(2);

/// The clock against the calendar, the store's last write, and the network's time.
pub(super) fn checks(journal: &Path) -> Vec<Check> {
    let now_ms = SystemClock.wall_ms();
    vec![judge(now_ms, last_write_ms(journal)), judge_synchronised(synchronised())]
}

fn judge(now_ms: i64, last_write_ms: Option<i64>) -> Check {
    if !PLAUSIBLE.contains(&now_ms) {
        return Check::fail(
            "clock",
            format!("it says {} s since 1970, which is no time to be in", now_ms / 1_000),
            "set it; every order is stamped with it",
        );
    }
    match last_write_ms.map(|last_ms| last_ms.saturating_sub(now_ms)) {
        Some(behind) if behind > SLACK_MS => Check::warn(
            "clock",
            format!(
                "it is {} s behind the store's last write; orders are stamped with that time until it is reached",
                behind / 1_000
            ),
            "set it; if it was wrong before, accepted-at of those orders is wrong",
        ),
        Some(_) => Check::ok("clock", "plausible, and not before the store's last write"),
        None => Check::ok("clock", "plausible"),
    }
}

/// When a slot was last written, as the file system has it: that works beside a server too.
fn last_write_ms(journal: &Path) -> Option<i64> {
    let entries = std::fs::read_dir(journal).ok()?;
    let modified = entries.flatten().filter_map(|entry| {
        let since = entry.metadata().ok()?.modified().ok()?;
        let since = since.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok()
    });
    modified.max()
}

fn judge_synchronised(synchronised: Option<bool>) -> Check {
    match synchronised {
        Some(true) => Check::ok("time service", "the clock follows the network's time"),
        Some(false) => Check::warn(
            "time service",
            "the clock is not synchronised; it drifts, and may be set while orders come in",
            "run chrony or systemd-timesyncd",
        ),
        None => Check::warn(
            "time service",
            "whether the clock is synchronised cannot be known here",
            "make sure that chrony, systemd-timesyncd or the host keeps it right",
        ),
    }
}

/// Whether a time service keeps the clock, by those that can be asked; `None` where none can.
fn synchronised() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    let chrony = ask("chronyc", &["-c", "tracking"]);
    if let Some(answer) = chrony.as_deref().and_then(|answer| answer.trim().rsplit(',').next()) {
        return Some(answer != "Not synchronised");
    }
    let kernel = ask("timedatectl", &["show", "--property=NTPSynchronized", "--value"])?;
    match kernel.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// What a tool says; `None` where it is missing, fails or takes too long.
fn ask(tool: &str, arguments: &[&str]) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let mut command = tokio::process::Command::new(tool);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(TOOL_MAX, command.output()).await.ok()?.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const NOW_MS: i64 = 1_795_770_000_000;

    #[test]
    fn a_clock_that_forgot_the_time_or_went_back_is_told() {
        assert_eq!(judge(1_000, None).level, Level::Fail);
        assert_eq!(judge(NOW_MS, None).level, Level::Ok);
        assert_eq!(judge(NOW_MS, Some(NOW_MS - 60_000)).level, Level::Ok);
        let behind = judge(NOW_MS, Some(NOW_MS + 3_600_000));
        assert_eq!(behind.level, Level::Warn);
        assert!(behind.finding.contains("3600 s behind"), "{behind:?}");
    }

    #[test]
    fn not_to_know_is_not_to_be_sure() {
        assert_eq!(judge_synchronised(Some(true)).level, Level::Ok);
        assert_eq!(judge_synchronised(Some(false)).level, Level::Warn);
        assert_eq!(judge_synchronised(None).level, Level::Warn);
    }

    #[test]
    fn a_tool_that_is_not_there_says_nothing() {
        assert_eq!(ask("no-such-tool-of-time", &[]), None);
    }
}
