//! Promises that a control build breaks on purpose, so that the tests of them can be seen to fail.
//!
//! Only a build with `--cfg forebay_control` can break any, one at a time, chosen by `choose` when the process
//! starts. In every other build `Control::is_on` is false when it is compiled, and nothing of it is in the
//! binary. To add one: a variant, its name, and the place that asks.

/// A promise to be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Syncs do nothing: what a receipt speaks of may be in the page cache only.
    NoSync,
    /// Writes to a slot are gathered in memory, and nothing is synced: a receipt may run ahead of the write.
    LateWrite,
    /// A failed write or sync counts as done.
    NoFailedState,
    /// Orders may take the slots, or the room on NATS, that settles and carry-forward need.
    NoReserve,
    /// Checksums of orders' bytes are not compared.
    NoChecksum,
    /// Ended orders that only the journal knows are not carried forward.
    ForgottenDiscards,
    /// Deaths of the process are not counted.
    NoDeaths,
    /// After damage or a lost index orders are sent without a look whether the OMS has them.
    NoLookUp,
    /// On NATS: a write whose answer was lost counts as done.
    LostIsDone,
    /// Whoever takes a partition over on NATS, or starts on a disk, forgets what was lent.
    ForgottenLoans,
    /// Each process of a fleet on NATS takes the whole ceiling.
    WholeCeiling,
    /// Of the orders that are moved to another store, every other one stays behind.
    HalfHandedOver,
}

#[cfg(not(forebay_control))]
impl Control {
    /// Whether this process breaks it.
    #[inline(always)]
    pub(crate) const fn is_on(self) -> bool {
        false
    }
}

#[cfg(forebay_control)]
pub use build::choose;

#[cfg(forebay_control)]
mod build {
    use std::sync::OnceLock;

    use super::Control;

    static CHOSEN: OnceLock<Control> = OnceLock::new();

    impl Control {
        const ALL: [Self; 12] = [
            Self::NoSync,
            Self::LateWrite,
            Self::NoFailedState,
            Self::NoReserve,
            Self::NoChecksum,
            Self::ForgottenDiscards,
            Self::NoDeaths,
            Self::NoLookUp,
            Self::LostIsDone,
            Self::ForgottenLoans,
            Self::WholeCeiling,
            Self::HalfHandedOver,
        ];

        fn name(self) -> &'static str {
            match self {
                Self::NoSync => "no-sync",
                Self::LateWrite => "late-write",
                Self::NoFailedState => "no-failed-state",
                Self::NoReserve => "no-reserve",
                Self::NoChecksum => "no-checksum",
                Self::ForgottenDiscards => "forgotten-discards",
                Self::NoDeaths => "no-deaths",
                Self::NoLookUp => "no-look-up",
                Self::LostIsDone => "lost-is-done",
                Self::ForgottenLoans => "forgotten-loans",
                Self::WholeCeiling => "whole-ceiling",
                Self::HalfHandedOver => "half-handed-over",
            }
        }

        /// Whether this process breaks it.
        pub(crate) fn is_on(self) -> bool {
            CHOSEN.get() == Some(&self)
        }
    }

    /// Breaks the promise of that name from now on; once for a process.
    ///
    /// # Errors
    /// In words: there is no such promise, or one was chosen before.
    pub fn choose(name: &str) -> Result<(), String> {
        let named = Control::ALL.into_iter().find(|control| control.name() == name);
        let control = named.ok_or_else(|| {
            let names = Control::ALL.map(Control::name).join(", ");
            format!("there is no control {name:?}, only {names}")
        })?;
        CHOSEN.set(control).map_err(|chosen| format!("{} is chosen already", chosen.name()))
    }
}
