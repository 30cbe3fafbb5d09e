//! The one place of this crate that writes to the terminal.

use std::fmt;
use std::io::Write as _;

/// A line of data or progress on stdout.
pub fn say(line: impl fmt::Display) {
    // A reader that went away ends nothing: the exit code still says how it went.
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

/// A line for people on stderr.
pub fn complain(line: impl fmt::Display) {
    writeln!(std::io::stderr().lock(), "{line}").ok();
}
