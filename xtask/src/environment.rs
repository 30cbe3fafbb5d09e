//! The one place of this crate that reads the environment.

/// Whether this is a continuous integration run, where a missing means is a failure and no reason to
/// skip.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// The compiler flags the caller set, to be kept where more are added.
pub fn rust_flags() -> String {
    std::env::var_os("RUSTFLAGS").unwrap_or_default().to_string_lossy().into_owned()
}
