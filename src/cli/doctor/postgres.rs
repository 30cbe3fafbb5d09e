//! The PostgreSQL database that summaries are created in.

use forebay_processor::oms::postgres::Inspection;
use tokio::runtime::Builder;

use super::super::check::Check;
use crate::config::Config;
use crate::wiring;

/// What the server says, or why it says nothing.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let asked = wiring::postgres(config).and_then(|options| {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let found = runtime.block_on(Inspection::of(&options))?;
        Ok(examine(&found, options.connections))
    });
    asked.unwrap_or_else(|error| {
        let advice = "orders are taken in all the same, and wait; mend oms.url or the database";
        vec![Check::warn("postgres", error, advice)]
    })
}

fn examine(found: &Inspection, connections: usize) -> Vec<Check> {
    let tables = match found.tables {
        Some(version) => format!("tables of version {version}"),
        None => "no tables yet; the first call makes them".to_owned(),
    };
    let mut checks = vec![Check::ok("postgres", format!("{}, {tables}", found.version))];
    checks.push(match (found.fsync, found.synchronous_commit.as_str()) {
        (false, _) => Check::fail(
            "postgres sync",
            "fsync is off: a power cut destroys the database, settled orders with it",
            "set fsync = on",
        ),
        (true, "off") => Check::ok(
            "postgres sync",
            "synchronous_commit is off for others; for ours it is put on",
        ),
        (true, commit) => Check::ok("postgres sync", format!("synchronous_commit is {commit}")),
    });
    let max = found.connections_max;
    if i64::try_from(connections).unwrap_or(i64::MAX) * 2 > max {
        let finding = format!("{connections} connections of the {max} that the server takes");
        let advice = "raise max_connections, or lower drain.in_flight";
        checks.push(Check::warn("postgres connections", finding, advice));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_server_that_does_not_sync_fails_and_one_that_we_put_right_does_not() {
        let found = |fsync, commit: &str| Inspection {
            version: "PostgreSQL 15.0".to_owned(),
            tables: Some(1),
            synchronous_commit: commit.to_owned(),
            fsync,
            connections_max: 100,
        };
        let levels = |found: &Inspection, connections| -> Vec<Level> {
            examine(found, connections).iter().map(|check| check.level).collect()
        };
        assert_eq!(levels(&found(true, "on"), 3), [Level::Ok, Level::Ok]);
        assert_eq!(levels(&found(true, "off"), 3), [Level::Ok, Level::Ok]);
        assert_eq!(levels(&found(false, "on"), 3), [Level::Ok, Level::Fail]);
        assert_eq!(levels(&found(true, "on"), 60), [Level::Ok, Level::Ok, Level::Warn]);
    }
}
