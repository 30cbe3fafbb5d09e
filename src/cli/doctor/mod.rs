//! `forebay doctor`: whether this machine and directory can keep what Forebay promises.
//!
//! Measures and looks; changes nothing. It works beside a running server: its one file is unlinked before
//! the first measurement, so nothing is left even where it is killed.

mod clock;
mod device;
mod http;
mod machine;
mod nats;
mod postgres;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::check::{Check, Level};
use super::{EXIT_MET, EXIT_MISSED, EXIT_USAGE, fail, print};
use crate::config::{self, Config, Flags};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Directory of everything Forebay keeps; it need not exist yet
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit 0 unless a line says fail.
pub(crate) fn run(args: &DoctorArgs) -> ExitCode {
    let flags =
        Flags { data_dir: args.data_dir.clone(), config: args.config.clone(), ..Flags::default() };
    let config = match config::load(&flags) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error.to_string()),
    };
    let checks = examine(&config);
    let worst = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    if args.json {
        let data_dir = config.data_dir.display().to_string();
        let document = json!({ "ok": worst < Level::Fail, "level": worst, "data_dir": data_dir, "checks": checks });
        print(&document.to_string());
    } else {
        checks.iter().for_each(|check| print(&check.line()));
    }
    ExitCode::from(if worst < Level::Fail { EXIT_MET } else { EXIT_MISSED })
}

fn examine(config: &Config) -> Vec<Check> {
    let mut checks = vec![configuration(config)];
    if config.buffer.backend == config::Backend::Nats {
        checks.extend(nats::checks(config));
    }
    if config.oms.kind == config::OmsKind::Postgres {
        checks.extend(postgres::checks(config));
    }
    if config.oms.kind == config::OmsKind::Http {
        checks.extend(http::checks(config));
    }
    let store = config.data_dir.join("buffer");
    let place = there(&store);
    checks.push(directory(config, place));
    checks.push(machine::file_system("file system", place));
    if let Some(oms) = config.oms_path() {
        let oms_place = there(oms.parent().unwrap_or(Path::new(".")));
        if machine::device_of(oms_place) != machine::device_of(place) {
            checks.push(machine::file_system("oms file system", oms_place));
        }
    }
    checks.extend(device::syncs(place));
    checks.extend(machine::write_cache(place));
    checks.push(machine::space(config, &store, place));
    checks.push(machine::open_files(config));
    checks.extend(machine::accept_queue());
    checks.extend(clock::checks(&store.join("journal")));
    checks
}

fn configuration(config: &Config) -> Check {
    match config::check(config) {
        Ok(checked) if checked.warnings.is_empty() => Check::ok("configuration", "it can run"),
        Ok(checked) => {
            Check::warn("configuration", checked.warnings.join("; "), "see config/forebay.toml")
        }
        Err(faults) => Check::fail("configuration", faults.join("; "), "mend it"),
    }
}

/// The directory itself, or the nearest one above it that exists.
fn there(dir: &Path) -> &Path {
    let nearest = dir.ancestors().find(|dir| dir.is_dir());
    nearest.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn directory(config: &Config, place: &Path) -> Check {
    let data_dir = &config.data_dir;
    let name = "directory";
    if data_dir.exists() && !data_dir.is_dir() {
        let finding = format!("{} is no directory", data_dir.display());
        return Check::fail(name, finding, "name another as data_dir");
    }
    if !data_dir.exists() {
        let finding = format!(
            "{} does not exist yet; everything below is of {}",
            data_dir.display(),
            place.display()
        );
        return Check::ok(name, finding);
    }
    Check::ok(name, format!("{}", data_dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_directory_that_exists_is_examined() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(there(dir.path()), dir.path());
        assert_eq!(there(&dir.path().join("a/b/c")), dir.path());
        assert_eq!(there(Path::new("no-such/at-all")), Path::new("."));
    }
}
