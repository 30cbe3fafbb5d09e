//! Whose orders are drained to this database.

use deadpool_postgres::Object;
use tokio_postgres::Error;

use super::fault::not_done;
use crate::oms::{CallFailure, Claim};

/// Made here and not with the other tables, for there are databases without it.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS forebay_drained_by (
    one integer PRIMARY KEY CHECK (one = 1),
    fleet text NOT NULL,
    since_ms bigint NOT NULL,
    taken boolean NOT NULL
)";
const THERE: &str = "SELECT to_regclass('forebay_drained_by') IS NOT NULL";
const ENTER: &str =
    "INSERT INTO forebay_drained_by VALUES (1, $1, $2, false) ON CONFLICT DO NOTHING";
const TAKE: &str =
    "UPDATE forebay_drained_by SET fleet = $1, since_ms = $2, taken = true WHERE fleet <> $1";
const WHOSE: &str = "SELECT fleet, since_ms, taken FROM forebay_drained_by";

pub(super) async fn claim(
    client: &mut Object,
    fleet: &str,
    take: bool,
    now_ms: i64,
) -> Result<Claim, CallFailure> {
    let whose = async {
        if !client.query_one(THERE, &[]).await?.try_get::<_, bool>(0)? {
            client.batch_execute(TABLE).await?;
        }
        if take {
            client.execute(TAKE, &[&fleet, &now_ms]).await?;
        }
        client.execute(ENTER, &[&fleet, &now_ms]).await?;
        let row = client.query_one(WHOSE, &[]).await?;
        Ok(Claim::of(fleet, row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    };
    whose.await.map_err(|error: Error| not_done(&error))
}
