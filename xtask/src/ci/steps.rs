//! Runs steps one after another, says how each went, and stops at the first that fails.

use std::time::Duration;

use crate::environment::in_ci;
use crate::failure::{Failure, Result};
use crate::say::say;
use crate::time::Stopwatch;

/// How the steps went so far.
#[derive(Debug)]
pub(super) struct Steps {
    done: Vec<(String, Duration)>,
    skipped: Vec<(String, String)>,
    in_ci: bool,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { done: Vec::new(), skipped: Vec::new(), in_ci: in_ci() }
    }

    /// Runs one step. A step that lacks its means is skipped, except in CI, where it fails.
    pub(super) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        say(format_args!("== {name}"));
        let watch = Stopwatch::start();
        let result = step();
        let took = watch.elapsed();
        match result {
            Ok(()) => {
                say(format_args!("ok      {name} ({:.1} s)", took.as_secs_f64()));
                self.done.push((name.to_owned(), took));
                Ok(())
            }
            Err(Failure::Skipped(why)) if !self.in_ci => {
                say(format_args!("skipped: {name}: {why}"));
                self.skipped.push((name.to_owned(), why));
                Ok(())
            }
            Err(failure) => {
                say(format_args!("FAILED  {name} ({:.1} s): {failure}", took.as_secs_f64()));
                say(format_args!("{} passed, 1 failed", self.done.len()));
                Err(Failure::Missed(format!("step {name}")))
            }
        }
    }

    /// Prints the table of steps, the test runners' own lines, and the count.
    pub(super) fn close(&self, summaries: &[String]) {
        say("== summary");
        for (name, took) in &self.done {
            say(format_args!("ok      {:>7.1} s  {name}", took.as_secs_f64()));
        }
        for (name, why) in &self.skipped {
            say(format_args!("skipped            {name}: {why}"));
        }
        for line in summaries {
            say(line);
        }
        say(format_args!("{} passed, 0 failed", self.done.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(in_ci: bool) -> Steps {
        Steps { done: Vec::new(), skipped: Vec::new(), in_ci }
    }

    #[test]
    fn a_missing_means_skips_on_a_laptop_and_fails_in_ci() {
        let skip = || Err(Failure::Skipped("no disk".to_owned()));
        let mut laptop = steps(false);
        laptop.run("a", skip).unwrap();
        assert_eq!((laptop.done.len(), laptop.skipped.len()), (0, 1));
        assert!(steps(true).run("a", skip).is_err());
    }

    #[test]
    fn a_step_that_missed_ends_the_run() {
        for in_ci in [true, false] {
            let mut steps = steps(in_ci);
            steps.run("good", || Ok(())).unwrap();
            assert!(steps.run("bad", || Err(Failure::Missed("x".to_owned()))).is_err());
            assert_eq!(steps.done.len(), 1);
        }
    }
}
