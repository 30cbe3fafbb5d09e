//! What is opened for a migration, and closed to everybody else.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Migrating;
use crate::embedded::hand_over::{Directory, HandOverError};
use crate::embedded::{self, take_in};
use crate::nats::hand_over::Sealed;
use crate::nats::take_in::TakingIn;
use crate::nats::{self, Nats, NatsConfig, Origin};
use crate::{Clock, Embedded, EmbeddedConfig};

const EMBEDDED: &str = "embedded";
const NATS: &str = "nats";

/// Why a migration was not begun, or not gone on with. No order is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The directory that is to be left.
    #[error("{0}")]
    Old(String),
    /// The directory that is to be served from.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    /// The stream, on either side.
    #[error(transparent)]
    Nats(#[from] nats::OpenError),
}

impl From<HandOverError> for MigrateError {
    fn from(error: HandOverError) -> Self {
        Self::Old(error.to_string())
    }
}

/// Serves on a stream from now on, and takes in what is in a directory. No service begins on the directory any more. `lookup_key` is what
/// e-mail addresses were hashed with there.
///
/// # Errors
/// [`MigrateError`]. Nothing was changed, unless it was begun before.
pub async fn embedded_to_nats(
    from: &EmbeddedConfig,
    to: NatsConfig,
    lookup_key: [u8; 32],
    clock: Arc<dyn Clock>,
) -> Result<Migrating<Directory, Nats>, MigrateError> {
    let horizon_ms = i64::try_from(from.dedup_horizon.as_millis()).unwrap_or(i64::MAX / 2);
    let old = Directory::open(&from.dir, horizon_ms, &*clock)?;
    let (secret, next_sequence) = old.ends_with();
    let look_first_until_ms = old.look_first_until_ms();
    let origin = Origin { whole: false, look_first_until_ms, lookup_key };
    let place = format!("the stream {} at {}", to.stream, to.shown_servers());
    let taking_in = TakingIn { secret, next_sequence, origin };
    let new = Nats::open_taking_in(to, taking_in, Arc::clone(&clock)).await?;
    let noted = old.goes_to(&place);
    noted.map_err(|error| MigrateError::Old(not_noted(&from.dir, &error)))?;
    let is_whole = new.is_whole_already();
    Ok(Migrating::new((old, new), (EMBEDDED, NATS), Duration::ZERO, is_whole, clock))
}

fn not_noted(dir: &Path, error: &io::Error) -> String {
    format!("it cannot be noted in {} where its orders go: {error}", dir.display())
}

/// Serves on a directory from now on, and takes in what is in a stream, which is sealed for good.
///
/// # Errors
/// [`MigrateError`]. The stream may be sealed then, and no order is lost by that.
pub async fn nats_to_embedded(
    from: &NatsConfig,
    to: EmbeddedConfig,
    clock: Arc<dyn Clock>,
    on_failure: Box<dyn FnOnce(String) + Send>,
) -> Result<(Migrating<Sealed, Embedded>, [u8; 32]), MigrateError> {
    take_in::is_free(&to.dir).map_err(MigrateError::Old)?;
    let old = Sealed::open(from, &*clock).await?;
    let (secret, next_sequence) = old.ends_with();
    let place = format!("the stream {} (store {})", from.stream, old.id());
    let taking_in = take_in::TakingIn::new(place, secret, next_sequence, old.look_first_until_ms());
    let new = Embedded::open_taking_in(to, &taking_in, Arc::clone(&clock), on_failure)?;
    let (quiet, lookup_key) = (old.quiet(), old.lookup_key());
    let is_whole = new.is_whole_already();
    Ok((Migrating::new((old, new), (NATS, EMBEDDED), quiet, is_whole, clock), lookup_key))
}
