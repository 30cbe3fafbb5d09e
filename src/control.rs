//! What a control build says of itself, everywhere it can: it breaks promises on purpose. In every other build
//! this is the version and nothing else.

/// The version, as the command line and `status` give it.
pub(crate) const VERSION: &str = if cfg!(forebay_control) {
    concat!(env!("CARGO_PKG_VERSION"), " CONTROL BUILD: breaks promises on purpose, for tests only")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Breaks the promise that `FOREBAY_CONTROL` names, and ends the process where `FOREBAY_ENDS_AT` says.
///
/// # Errors
/// In words: there is no such promise, or no such step.
#[cfg(forebay_control)]
pub(crate) fn begin() -> Result<(), String> {
    let name = crate::config::control();
    tracing::warn!(
        promise = name.as_deref().unwrap_or("none"),
        "CONTROL BUILD: it breaks promises on purpose"
    );
    name.map_or(Ok(()), |name| forebay_buffer::control::choose(&name))?;
    crate::config::ends_at().map_or(Ok(()), |step| forebay_buffer::step::choose(&step))
}
