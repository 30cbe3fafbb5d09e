//! The one place of this crate that reads the environment.

use std::path::PathBuf;

/// Where [`tested_server`] is said. Not under the prefix that the server takes for its configuration.
pub(crate) const TESTED_SERVER: &str = "XTASK_TESTED_SERVER";

/// The server that the `cargo test` of the whole workspace has built, if this is one that says so: another build of it, with the features
/// of its own manifest only, would be one of nearly everything.
pub fn tested_server() -> Option<PathBuf> {
    std::env::var_os(TESTED_SERVER).map(PathBuf::from)
}

/// Whether this is a continuous integration run, where a missing means is a failure and no reason to
/// skip.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}
