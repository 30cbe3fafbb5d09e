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
