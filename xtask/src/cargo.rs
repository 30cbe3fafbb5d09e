//! The workspace as cargo sees it, and the binaries built from it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Failure, Result, While as _};

/// The workspace's places. Honours `CARGO_TARGET_DIR` as cargo itself does.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Workspace {
    /// Its root directory.
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    /// Where cargo builds.
    #[serde(rename = "target_directory")]
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// [`Failure::Broken`] outside a workspace.
    pub fn find() -> Result<Self> {
        let output = Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .when("asking cargo for the workspace")?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failure::broken("cargo metadata", complaint.trim()));
        }
        serde_json::from_slice(&output.stdout).when("reading cargo's metadata")
    }

    /// Builds the server as it is released and gives its path.
    ///
    /// # Errors
    /// [`Failure::Missed`] if it does not build.
    pub fn release_binary(&self) -> Result<PathBuf> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--package", "forebay", "--bin", "forebay"]);
        build(cargo.current_dir(&self.root))?;
        Ok(self.target.join("release/forebay"))
    }

    /// Builds the server unoptimised, for runs in which its speed does not matter, and gives its path.
    ///
    /// # Errors
    /// [`Failure::Missed`] if it does not build.
    pub fn debug_binary(&self) -> Result<PathBuf> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--package", "forebay", "--bin", "forebay"]);
        build(cargo.current_dir(&self.root))?;
        Ok(self.target.join("debug/forebay"))
    }

    /// Builds the server as it is shipped (profile `dist`), which takes minutes, and gives its path.
    ///
    /// # Errors
    /// [`Failure::Missed`] if it does not build.
    pub fn shipped_binary(&self) -> Result<PathBuf> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--profile", "dist", "--package", "forebay", "--bin", "forebay"]);
        build(cargo.current_dir(&self.root))?;
        Ok(self.target.join("dist/forebay"))
    }

    /// Builds this crate as it is released, for what it measures with its own code, and gives its path.
    ///
    /// # Errors
    /// [`Failure::Missed`] if it does not build.
    pub fn release_xtask(&self) -> Result<PathBuf> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--package", "xtask", "--bin", "xtask"]);
        build(cargo.current_dir(&self.root))?;
        Ok(self.target.join("release/xtask"))
    }

    /// Builds the server with promises that can be broken (`--cfg forebay_control`), for runs that must show
    /// it; `FOREBAY_CONTROL` chooses one when it starts. One build for all of them, beside the target
    /// directory, so that it never stands where the released one does. Only the workspace's own crates are built for it: cargo
    /// applies the wrapper to no other, and takes those from the released build.
    ///
    /// # Errors
    /// [`Failure::Missed`] if it does not build.
    pub fn control_binary(&self) -> Result<PathBuf> {
        self.release_binary()?;
        let mut name = self.target.file_name().unwrap_or_default().to_owned();
        name.push("-control");
        let target = self.target.with_file_name(name);
        if !target.exists() {
            fs::create_dir_all(target.join("release")).when("making the control's directory")?;
            for built in ["deps", "build", ".fingerprint"] {
                let from = self.target.join("release").join(built);
                let mut copy = Command::new("cp");
                let copy = copy.args(["--archive", "--reflink=auto"]).arg(from);
                run(copy.arg(target.join("release")), "copying what is built")?;
            }
        }
        let wrapper = target.join("rustc-of-the-control");
        fs::write(&wrapper, "#!/bin/sh\nexec \"$@\" --cfg forebay_control\n")
            .and_then(|()| fs::set_permissions(&wrapper, Permissions::from_mode(0o755)))
            .when("writing the control's compiler")?;
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--release", "--package", "forebay", "--bin", "forebay"])
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTC_WORKSPACE_WRAPPER", wrapper);
        build(cargo.current_dir(&self.root))?;
        Ok(target.join("release/forebay"))
    }
}

fn build(cargo: &mut Command) -> Result<()> {
    run(cargo, "the build")
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().when(what)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Missed(format!("{what} ended with {status}")))
}

/// This crate's own binary, for the processes it starts of itself. The link follows the running file
/// even after a build has put another one in its place.
pub fn own_binary() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
