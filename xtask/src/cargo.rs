//! The workspace as cargo sees it, and the binaries built from it.

use std::path::PathBuf;
use std::process::Command;

use crate::environment::rust_flags;
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
    /// directory, so that neither build discards the other, and lightly optimised: a control has no speed to
    /// prove.
    ///
    /// # Errors
    /// [`Failure::Missed`] if it does not build.
    pub fn control_binary(&self) -> Result<PathBuf> {
        let mut name = self.target.file_name().unwrap_or_default().to_owned();
        name.push("-control");
        let target = self.target.with_file_name(name);
        let flags = format!("{} --cfg forebay_control", rust_flags());
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--release", "--package", "forebay", "--bin", "forebay"])
            .args(["--config", "profile.release.opt-level=1"])
            .args(["--config", "profile.release.debug=false"])
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", flags.trim());
        build(cargo.current_dir(&self.root))?;
        Ok(target.join("release/forebay"))
    }
}

fn build(cargo: &mut Command) -> Result<()> {
    let status = cargo.status().when("running cargo build")?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Missed(format!("the build ended with {status}")))
}

/// This crate's own binary, for the processes it starts of itself. The link follows the running file
/// even after a build has put another one in its place.
pub fn own_binary() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
