//! The OMS that a scene's summaries are in, where it is no file: a PostgreSQL server, or the reference OMS.

use std::path::Path;

use super::super::reference::ReferenceOms;
use super::Scene;
use crate::failure::{Failure, Result};
use crate::postgres::PostgresServer;

/// How an OMS is reached that is no file.
pub(super) fn reached(
    database: &Option<PostgresServer>,
    reference: &Option<ReferenceOms>,
    place: &Path,
) -> Option<String> {
    match (database, reference) {
        (Some(database), _) => {
            Some(format!("kind = \"postgres\"\nurl = {:?}", database.url("postgres")))
        }
        (None, Some(reference)) => Some(reference.configuration(place)),
        (None, None) => None,
    }
}

impl Scene<'_> {
    /// The PostgreSQL server that the summaries are in.
    pub(in super::super) fn database(&self) -> Result<&PostgresServer> {
        let none = || Failure::Broken("there is no PostgreSQL server".to_owned());
        self.database.as_ref().ok_or_else(none)
    }

    /// The reference OMS that the summaries are in.
    pub(in super::super) fn reference(&self) -> Result<&ReferenceOms> {
        let none = || Failure::Broken("there is no reference OMS".to_owned());
        self.reference.as_ref().ok_or_else(none)
    }
}
