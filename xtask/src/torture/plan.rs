//! What is to be run, and how its runs are shared out.

use std::path::PathBuf;

use clap::ValueEnum;

use super::kind::{Fault, Torture};

/// Deliveries a second where nobody says how many.
pub(super) const RATE: f64 = 2000.0;

/// How groups reach the disk (`buffer.write_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriteMode {
    /// Past the page cache, each write synchronous.
    Direct,
    /// Into the page cache, then a sync.
    Buffered,
    /// As the NATS servers do it.
    #[value(skip)]
    Replicated,
}

impl WriteMode {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Direct, Self::Buffered];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Buffered => "buffered",
            Self::Replicated => "replicated",
        }
    }
}

/// The order management system the server drains into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oms {
    /// The embedded default, whose unique key refuses a second create.
    Sqlite,
    /// Append-only, and it cuts answers after the commit: a second create is possible and counted.
    Ledger,
    /// A PostgreSQL server of its own.
    Postgres,
    /// The reference OMS, over HTTP.
    Http,
}

impl Oms {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Ledger => "ledger",
            Self::Postgres => "postgres",
            Self::Http => "http",
        }
    }
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What happens to the server.
    pub fault: Fault,
    /// How often, shared out among the OMSs.
    pub runs: u32,
    /// Take the promise away; then the runs must show it.
    pub control: bool,
    /// The OMSs, each with a store of its own.
    pub oms: Vec<Oms>,
    /// Deliveries a second.
    pub rate: f64,
    /// What everything random follows from.
    pub seed: u64,
    /// The one write mode to play in; otherwise all of the kind's, in parts of the runs.
    pub write_mode: Option<WriteMode>,
    /// A server to strike instead of one built for it; with `control` a control build.
    pub binary: Option<PathBuf>,
    /// What is started in place of what was stopped, as in an upgrade; otherwise the same. With `oms-kill` the control build that
    /// ends itself.
    pub next_binary: Option<PathBuf>,
}

impl Plan {
    /// The kind's own number of runs at its own rate, on all OMSs that it is for.
    pub fn new(fault: Fault) -> Self {
        let all = [Oms::Sqlite, Oms::Ledger, Oms::Postgres, Oms::Http].into_iter();
        let oms = all.filter(|oms| fault.is_for(*oms)).collect();
        let Torture { runs, cluster, .. } = *fault.torture();
        Self {
            fault,
            runs,
            control: false,
            oms,
            rate: cluster.map_or(RATE, |cluster| cluster.rate),
            seed: 1,
            write_mode: None,
            binary: None,
            next_binary: None,
        }
    }

    pub(super) fn modes(&self) -> &[WriteMode] {
        self.write_mode.as_ref().map_or(self.fault.torture().modes, std::slice::from_ref)
    }

    pub(super) fn mode(&self) -> String {
        match self.control {
            false => "synced".to_owned(),
            true => {
                let controls = |oms: &Oms| self.fault.torture().controls(*oms);
                let mut controls: Vec<_> = self.oms.iter().flat_map(controls).collect();
                controls.dedup();
                format!("control: {}", controls.join(", "))
            }
        }
    }
}

/// The shares that are judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) mode: WriteMode,
    /// `None`: all of them.
    pub(super) oms: Option<Oms>,
}

impl Part {
    pub(super) fn of(plan: &Plan, share: Share) -> Self {
        let oms = plan.fault.judges_each_oms().then_some(share.oms);
        Self { mode: share.mode, oms }
    }

    pub(super) fn name(self) -> String {
        let writes = format!("{} writes", self.mode.name());
        self.oms.map_or(writes.clone(), |oms| format!("{}, {writes}", oms.name()))
    }
}

/// A part of the runs, on a store of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) oms: Oms,
    pub(super) mode: WriteMode,
    /// The promise that is broken, in a control.
    pub(super) control: Option<&'static str>,
    /// Runs of it.
    pub(super) runs: u32,
    /// Its number, and how many there are.
    pub(super) place: (u32, u32),
    pub(super) seed: u64,
}

impl Share {
    /// The number of one of its runs among those of all shares, from 1.
    pub(super) fn nth(&self, run: u32) -> u32 {
        run * self.place.1 + self.place.0 + 1
    }
}

/// Shares the runs out over the OMSs, write modes and, of a control, the promises it breaks: as even as can be, the first ones with another OMS and
/// another mode each, and none gets none.
pub(super) fn shares(plan: &Plan) -> Vec<Share> {
    let (omss, modes) = (plan.oms.len().max(1), plan.modes().len().max(1));
    let crossed = (0..modes).flat_map(|turn| (0..omss).map(move |at| (at, (at + turn) % modes)));
    let of = |(oms, mode): (usize, usize)| Some((*plan.oms.get(oms)?, *plan.modes().get(mode)?));
    let controls = |(oms, mode): (Oms, WriteMode)| {
        let broken = plan.control.then(|| plan.fault.torture().controls(oms).map(Some));
        let none = (!plan.control).then_some(None);
        broken.into_iter().flatten().chain(none).map(move |control| (oms, mode, control))
    };
    let all: Vec<_> = crossed.filter_map(of).flat_map(controls).collect();
    let count = u32::try_from(all.len()).unwrap_or(1).clamp(1, plan.runs.max(1));
    (0..count)
        .zip(all)
        .map(|(at, (oms, mode, control))| Share {
            oms,
            mode,
            control,
            runs: plan.runs / count + u32::from(at < plan.runs % count),
            place: (at, count),
            seed: plan.seed.wrapping_add(u64::from(at)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_shared_out_evenly_over_omss_and_write_modes() {
        let of = |runs| {
            let plan = Plan { runs, ..Plan::new(Fault::PowerCut) };
            shares(&plan)
                .iter()
                .map(|share| (share.oms, share.mode, share.runs))
                .collect::<Vec<_>>()
        };
        let (sqlite, ledger) = (Oms::Sqlite, Oms::Ledger);
        let (direct, buffered) = (WriteMode::Direct, WriteMode::Buffered);
        assert_eq!(of(2), [(sqlite, direct, 1), (ledger, buffered, 1)]);
        let all = [(sqlite, direct, 2), (ledger, buffered, 1)];
        assert_eq!(of(5), [all[0], all[1], (sqlite, buffered, 1), (ledger, direct, 1)]);
        assert_eq!(of(1), [(sqlite, direct, 1)]);
    }

    #[test]
    fn a_control_of_the_ceiling_has_half_of_the_runs() {
        let of = |control| {
            let plan = Plan { runs: 5, control, ..Plan::new(Fault::Fleet) };
            shares(&plan).iter().map(|share| (share.control, share.runs)).collect::<Vec<_>>()
        };
        assert_eq!(of(false), [(None, 5)]);
        assert_eq!(of(true), [(Some("forgotten-loans"), 3), (Some("whole-ceiling"), 2)]);
    }

    #[test]
    fn every_run_has_its_own_number() {
        let plan = Plan { runs: 10, ..Plan::new(Fault::SyncError) };
        let mut numbers: Vec<u32> = shares(&plan)
            .iter()
            .flat_map(|share| (0..share.runs).map(|run| share.nth(run)).collect::<Vec<_>>())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    }
}
