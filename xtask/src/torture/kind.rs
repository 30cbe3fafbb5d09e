//! The kinds of torture, and what each says of itself.

use clap::ValueEnum;

use super::plan::{Oms, WriteMode};
use super::report::Tally;
use super::scene::Scene;
use super::{
    abort_poison, bit_flip, configuration, disk_full, fleet, index_loss, kill, migrate, nats_full,
    nats_kill, nats_partition, nats_pause, nats_power_cut, oms_kill, power_cut, rolling, stall,
    sync_error, tamper,
};
use crate::failure::Result;
use crate::volatile_disk;

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// `kill -9`: what reached the kernel stays.
    Kill,
    /// The power of its disk is cut: what was not synced is gone or torn (root, Linux).
    PowerCut,
    /// The n-th write or sync fails: an error, a short write, an error with the data dropped (root, strace).
    SyncError,
    /// The disk is full to the last byte (root, Linux).
    DiskFull,
    /// The disk hangs for seconds (root, Linux).
    Stall,
    /// Bits flip, slots are truncated, zeroed, swapped, stale, headers damaged, the index too.
    BitFlip,
    /// The outcome index is deleted.
    IndexLoss,
    /// An order kills the process inside the OMS call.
    AbortPoison,
    /// The NATS servers' leader is killed (`kill -9`) every few seconds, and comes back.
    NatsKill,
    /// The NATS servers' leader is stopped for seconds, and goes on.
    NatsPause,
    /// The network fails for seconds: a NATS server loses its peers, or a server of ours all of them, wholly or one way.
    NatsPartition,
    /// The stream on the NATS servers is filled to its limit under load, and drains.
    NatsFull,
    /// Of several servers on one NATS cluster some are killed or stopped for longer than a lease.
    Fleet,
    /// The power of all NATS servers' disks is cut, or of one's (root, Linux).
    NatsPowerCut,
    /// The servers of a fleet and the NATS servers are stopped in order and started again, by turns.
    Rolling,
    /// A store moves from its disk to the NATS servers and back, and what moves it is killed in the middle.
    Migrate,
    /// The server dies between the OMS's commit and the durable settle, by `kill -9` and at each step there; the PostgreSQL
    /// server crashes, too.
    OmsKill,
}

impl Fault {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        self.torture().name
    }

    pub(super) fn torture(self) -> &'static Torture {
        match self {
            Self::Kill => &kill::TORTURE,
            Self::PowerCut => &power_cut::TORTURE,
            Self::SyncError => &sync_error::TORTURE,
            Self::DiskFull => &disk_full::TORTURE,
            Self::Stall => &stall::TORTURE,
            Self::BitFlip => &bit_flip::TORTURE,
            Self::IndexLoss => &index_loss::TORTURE,
            Self::AbortPoison => &abort_poison::TORTURE,
            Self::NatsKill => &nats_kill::TORTURE,
            Self::NatsPause => &nats_pause::TORTURE,
            Self::NatsPartition => &nats_partition::TORTURE,
            Self::NatsFull => &nats_full::TORTURE,
            Self::Fleet => &fleet::TORTURE,
            Self::NatsPowerCut => &nats_power_cut::TORTURE,
            Self::Rolling => &rolling::TORTURE,
            Self::Migrate => &migrate::TORTURE,
            Self::OmsKill => &oms_kill::TORTURE,
        }
    }

    /// Whether it can be played on an OMS.
    pub(super) fn is_for(self, oms: Oms) -> bool {
        match self {
            Self::OmsKill => true,
            _ if matches!(oms, Oms::Postgres | Oms::Http) => false,
            // Only that OMS ends the process, and only there doubles show.
            Self::AbortPoison
            | Self::BitFlip
            | Self::NatsPartition
            | Self::NatsFull
            | Self::Fleet
            | Self::Rolling
            | Self::Migrate => oms == Oms::Ledger,
            _ => true,
        }
    }

    /// Whether each OMS is judged by itself, for it is about what each of them does.
    pub(super) fn judges_each_oms(self) -> bool {
        self == Self::OmsKill
    }

    /// Says why it cannot strike here, if so.
    pub fn missing_means(self) -> Option<String> {
        let disk = self.torture().disk.and_then(|_| volatile_disk::missing_means());
        disk.or_else(|| if self == Self::SyncError { tamper::missing_means() } else { None })
    }
}

/// One kind of torture.
#[derive(Debug)]
pub(super) struct Torture {
    pub(super) name: &'static str,
    /// Runs where nobody says how many.
    pub(super) runs: u32,
    /// The promise the control build breaks (`FOREBAY_CONTROL`).
    pub(super) control: &'static str,
    /// The one it breaks on the ledger, where that is another.
    pub(super) ledger_control: Option<&'static str>,
    /// The promise it breaks for the other half of a control's runs, which must show that the ceiling was exceeded.
    pub(super) ceiling_control: Option<&'static str>,
    /// Bytes of the volatile disk the store is on, of each NATS server where there are some; without one it is in an ordinary
    /// directory.
    pub(super) disk: Option<u64>,
    /// The buffer is on three NATS servers; without it on this machine's disk.
    pub(super) cluster: Option<Cluster>,
    /// How groups are written, each in a part of the runs.
    pub(super) modes: &'static [WriteMode],
    /// The OMS's file is in the data directory, as by default, and so struck with it.
    pub(super) oms_inside: bool,
    /// The configuration's `[buffer]` section without its write mode, and other sections after it.
    pub(super) knobs: &'static str,
    /// Sells and strikes, all runs of the scene's share; leaves the server running for the account.
    pub(super) play: fn(&mut Scene<'_>) -> Result<()>,
    /// What is not as promised, or proves nothing; of a control, what it failed to show.
    pub(super) missed: fn(&Tally, control: bool) -> Vec<String>,
}

impl Torture {
    /// The promises its control breaks on an OMS, each on a store of its own.
    pub(super) fn controls(&self, oms: Oms) -> impl Iterator<Item = &'static str> {
        let ledger = self.ledger_control.filter(|_| oms == Oms::Ledger);
        std::iter::once(ledger.unwrap_or(self.control)).chain(self.ceiling_control)
    }

    /// The most the OMS is sent.
    pub(super) fn ceiling_per_s(&self) -> u32 {
        self.cluster.map_or(configuration::CEILING_PER_S, |cluster| cluster.ceiling_per_s)
    }

    /// Its control is in how the NATS servers are configured, not in a control build.
    pub(super) fn breaks_the_servers(&self) -> bool {
        self.cluster.is_some() && self.disk.is_some()
    }
}

/// What three NATS servers beside all else take on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cluster {
    /// Deliveries a second where nobody says how many.
    pub(super) rate: f64,
    /// The most the OMS is sent.
    pub(super) ceiling_per_s: u32,
    /// Processes of ours, where the network between them and the servers can be cut.
    pub(super) wired: usize,
    /// Bytes the stream may take on each server.
    pub(super) bytes_max: u64,
}

/// More than any sale takes: the default.
pub(super) const BYTES_MAX: u64 = 16 << 30;

/// The buffer on the scene's NATS servers. Outcomes are kept longer than the sale's orders are old: an OMS that refuses no second
/// create is else asked before anything is sent, and no order could be doubled by forgetting that it was lent.
pub(super) const NATS: &str =
    "backend = \"nats\"\n[nats]\nlease = \"3s\"\noutcome_ttl = \"3650d\"\n";

/// As many runs of `oms-kill` as it takes to meet every step once on every OMS.
pub const EVERY_STEP: u32 = 48;

/// Small slots, so that segments are filled, retired and used again within a run.
pub(super) const SMALL_SLOTS: &str = "slot_bytes = \"1MiB\"\nburst_reserve = 2\ndisk_max = \"1GiB\"\n\
                           [door]\nitem_bytes = \"512KiB\"\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_s_name_on_the_command_line_is_its_name_in_reports() {
        for fault in Fault::value_variants() {
            let value = fault.to_possible_value().unwrap();
            assert_eq!(value.get_name(), fault.name());
        }
    }
}
