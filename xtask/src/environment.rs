//! The one place of this crate that reads the environment.

/// Whether this is a continuous integration run, where a missing means is a failure and no reason to
/// skip.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}
