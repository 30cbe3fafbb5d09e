//! The project's rules that no compiler and no linter knows, checked on its files.

mod arrows;
mod source;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result, While as _};
use crate::say::say;

/// Where a file is too long to be one room; it is reported, not refused.
const LONG: usize = 500;

/// Checks every file git knows or would take.
///
/// # Errors
/// [`Failure::Missed`] with every finding.
pub fn check(root: &Path) -> Result<()> {
    let mut findings = arrows::check(root)?;
    for path in files(root)? {
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        if path.extension().is_some_and(|extension| extension == "lock") {
            continue;
        }
        findings.extend(source::machine_paths(&path, &text));
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        findings.extend(source::unfinished(&path, &text));
        if source::is_test(&path) {
            continue;
        }
        let code = source::without_tests(&text);
        findings.extend(source::engines(&path, code));
        findings.extend(source::environment(&path, code));
        let lines = code.lines().count();
        if lines > LONG {
            say(format_args!("long: {} has {lines} lines without tests", path.display()));
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure::Missed(format!("{} findings\n{}", findings.len(), findings.join("\n"))))
}

/// The files of the project, relative to its root.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .when("asking git for the files")?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::broken("git ls-files", complaint.trim()));
    }
    let names = String::from_utf8(output.stdout).when("file names")?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}
