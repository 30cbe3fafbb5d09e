//! What the database has: `find` and `list`.

use deadpool_postgres::{GenericClient, Object};
use forebay_order::Fingerprint;
use hashbrown::HashMap;
use tokio_postgres::{Error, Row};

use super::fault::not_done;
use crate::oms::words::summary_id;
use crate::oms::{CallFailure, Found, Identity, Listed};

const FIND: &str = "SELECT external_reference_identifier, id, fingerprint, fingerprint_version \
                    FROM order_summary WHERE external_reference_identifier = ANY($1)";

const LIST: &str = "SELECT external_reference_identifier, id, fingerprint, fingerprint_version, \
                    committed_at_us, grand_total_amount::text, currency_iso_code \
                    FROM order_summary WHERE id > $1 ORDER BY id LIMIT $2";

/// The rows of these identities.
pub(super) async fn existing(
    client: &impl GenericClient,
    identities: &[&str],
) -> Result<HashMap<String, Found>, Error> {
    let statement = client.prepare_cached(FIND).await?;
    let rows = client.query(&statement, &[&identities]).await?;
    rows.iter().map(found).collect()
}

pub(super) async fn find(
    client: &Object,
    identities: &[Identity],
) -> Result<Vec<Option<Found>>, CallFailure> {
    let asked: Vec<_> = identities.iter().map(String::as_str).collect();
    let found = existing(client, &asked).await.map_err(|error| not_done(&error))?;
    Ok(identities.iter().map(|identity| found.get(identity).cloned()).collect())
}

/// In the order of their numbers. That is the order of commits for whoever reads on from where he was: the lock waits for those that are
/// being committed, and whoever comes after it gets larger numbers.
pub(super) async fn list(
    client: &mut Object,
    after: u64,
    limit: usize,
) -> Result<Vec<Listed>, CallFailure> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let all = async {
        let transaction = client.transaction().await?;
        transaction.batch_execute("LOCK TABLE order_summary IN SHARE MODE").await?;
        let statement = transaction.prepare_cached(LIST).await?;
        let rows = transaction.query(&statement, &[&after, &limit]).await?;
        transaction.commit().await?;
        rows.iter().map(listed).collect::<Result<Vec<_>, Error>>()
    };
    all.await.map_err(|error| not_done(&error))
}

fn found(row: &Row) -> Result<(String, Found), Error> {
    Ok((row.try_get(0)?, Found { id: summary_id(row.try_get(1)?), fingerprint: fingerprint(row)? }))
}

fn listed(row: &Row) -> Result<Listed, Error> {
    let id: i64 = row.try_get(1)?;
    Ok(Listed {
        cursor: u64::try_from(id).unwrap_or_default(),
        identity: row.try_get(0)?,
        summary_id: summary_id(id),
        fingerprint: fingerprint(row)?,
        committed_at_us: row.try_get(4)?,
        grand_total: row.try_get(5)?,
        currency: row.try_get(6)?,
        creates: 1,
    })
}

/// `None` for one made by another version's rule, which cannot be compared.
fn fingerprint(row: &Row) -> Result<Option<Fingerprint>, Error> {
    let (bytes, version): (&[u8], i16) = (row.try_get(2)?, row.try_get(3)?);
    let own = version == i16::from(Fingerprint::VERSION);
    Ok(bytes.try_into().ok().filter(|_| own).map(Fingerprint))
}
