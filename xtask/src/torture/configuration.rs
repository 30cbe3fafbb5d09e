//! The server's configuration under torture.

use std::path::Path;

use super::{Oms, Share, Torture, WriteMode};

/// The most the OMS is sent where the kind does not say, so that backlog and drain are both busy when a fault strikes.
pub(super) const CEILING_PER_S: u32 = 1000;

/// What the kind wants, and a busy drain; `servers` are where NATS is found, `reached` how an OMS that is no file is reached.
pub(super) fn configuration(
    torture: &Torture,
    share: Share,
    place: &Path,
    servers: Option<Vec<String>>,
    reached: Option<String>,
) -> String {
    let file = |name: &str| format!("path = {:?}", place.join(name).display().to_string());
    let oms = match share.oms {
        Oms::Sqlite if torture.oms_inside => "kind = \"sqlite\"".to_owned(),
        Oms::Sqlite => format!("kind = \"sqlite\"\n{}", file("oms.sqlite")),
        Oms::Postgres | Oms::Http => reached.unwrap_or_default(),
        // Beside the store, where no fault reaches it: it is the witness of what was created.
        Oms::Ledger => format!("kind = \"ledger\"\n{}\ncut_every = 13", file("oms.ledger")),
    };
    let mode = match share.mode {
        WriteMode::Direct | WriteMode::Buffered => {
            format!("write_mode = {:?}\n", share.mode.name())
        }
        WriteMode::Replicated => String::new(),
    };
    // The kind's knobs end with the section these belong to.
    let bytes_max = torture.cluster.map_or(0, |cluster| cluster.bytes_max);
    let servers =
        servers.map(|servers| format!("servers = {servers:?}\nbytes_max = \"{bytes_max}B\"\n"));
    let servers = servers.unwrap_or_default();
    let ceiling = torture.ceiling_per_s();
    format!(
        "[buffer]\n{mode}{}{servers}\
         [drain]\nceiling_per_s = {ceiling}.0\nretry_base = \"20ms\"\nretry_max = \"1s\"\n\
         [oms]\ntest = true\n{oms}\n",
        torture.knobs
    )
}
