//! Every check of the project in one command, the same on a laptop and in continuous integration.

mod books;
mod steps;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cargo::Workspace;
use crate::environment::TESTED_SERVER;
use crate::failure::{Failure, Result, While as _};
use crate::say::say;
use crate::torture::{self, Fault, Plan};
use crate::{tidy, tools};
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
    steps.run("tools", || tools::for_tests(&workspace.target))?;
    steps.run("tests", || tests(&workspace, &["--lib", "--bins", "--tests"], &mut summaries))?;
    steps.run("doc tests", || tests(&workspace, &["--doc"], &mut summaries))?;
    let docs = ["doc", "--workspace", "--no-deps"];
    steps.run("docs", || cargo(root, &docs, &[("RUSTDOCFLAGS", "-D warnings")]))?;
    steps.run("demo", || books::demo(&workspace.release_binary()?))?;
    steps.run("controls", || controls(&workspace))?;
    for (name, plan) in tortures() {
        steps.run(&name, || torture::run(&plan))?;
    }
    steps.close(&summaries);
    Ok(())
}

/// Short tortures, each with the control that must fail.
fn tortures() -> Vec<(String, Plan)> {
    let short = [
        (Fault::Kill, 2, 2),
        (Fault::PowerCut, 2, 4),
        (Fault::SyncError, 8, 2),
        (Fault::Stall, 2, 4),
        (Fault::DiskFull, 1, 1),
        (Fault::BitFlip, 40, 40),
        (Fault::IndexLoss, 2, 2),
        (Fault::AbortPoison, 2, 2),
        (Fault::NatsKill, 2, 2),
        (Fault::NatsPause, 1, 1),
        (Fault::NatsPartition, 2, 2),
        (Fault::NatsFull, 2, 1),
        (Fault::Fleet, 3, 9),
        (Fault::NatsPowerCut, 2, 1),
        (Fault::Rolling, 6, 4),
        (Fault::Migrate, 2, 1),
        (Fault::OmsKill, torture::EVERY_STEP, 12),
    ];
    let both = |(fault, runs, control_runs): (Fault, u32, u32)| {
        [(false, runs), (true, control_runs)].map(|(control, runs)| {
            let name =
                format!("torture {}{}", fault.name(), if control { ", control" } else { "" });
            (name, Plan { runs, control, ..Plan::new(fault) })
        })
    };
    short.into_iter().flat_map(both).collect()
}

/// What only a control build may hold.
const CONTROL_MARK: &[u8] = b"CONTROL BUILD";

/// Nothing that breaks a promise is in the server as it is released, and a control build says that it is one.
fn controls(workspace: &Workspace) -> Result<()> {
    let marked = |binary: &Path| {
        let bytes = std::fs::read(binary).when("reading the server")?;
        Ok::<_, Failure>(bytes.windows(CONTROL_MARK.len()).any(|window| window == CONTROL_MARK))
    };
    if marked(&workspace.release_binary()?)? {
        return Err(Failure::Missed("the released server is a control build".to_owned()));
    }
    if !marked(&workspace.control_binary()?)? {
        return Err(Failure::Missed("a control build does not say that it is one".to_owned()));
    }
    Ok(())
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
fn tests(workspace: &Workspace, which: &[&str], summaries: &mut Vec<String>) -> Result<()> {
    let mut child = Command::new("cargo")
        .args(["test", "--workspace"])
        .args(which)
        .env(TESTED_SERVER, workspace.target.join("debug/forebay"))
        .current_dir(&workspace.root)
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
