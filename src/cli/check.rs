//! One line of an examination: what was found, and what to do.

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// A promise holds less well, or nobody can tell.
    Warn,
    /// It cannot run like this, or a promise is broken.
    Fail,
}

/// One line of the examination.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    name: &'static str,
    pub(super) level: Level,
    /// What was found, and what it means.
    pub(super) finding: String,
    /// What to do; empty where nothing needs doing.
    pub(super) advice: String,
}

impl Check {
    pub(super) fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, finding: finding.into(), advice: String::new() }
    }

    pub(super) fn warn(
        name: &'static str,
        finding: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { name, level: Level::Warn, finding: finding.into(), advice: advice.into() }
    }

    pub(super) fn fail(
        name: &'static str,
        finding: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { name, level: Level::Fail, finding: finding.into(), advice: advice.into() }
    }

    pub(super) fn line(&self) -> String {
        let word = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        let mut line = format!("{word:<5} {:<16} {}", self.name, self.finding);
        if !self.advice.is_empty() {
            line.push_str(" -> ");
            line.push_str(&self.advice);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_to_do_where_something_is_to_be_done() {
        let ok = Check::ok("clock", "2026");
        assert_eq!(ok.line(), "ok    clock            2026");
        let warn = Check::warn("clock", "1970", "set it");
        assert_eq!(warn.line(), "warn  clock            1970 -> set it");
    }
}
