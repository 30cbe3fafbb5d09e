//! Steps between the commit of an order in the OMS and its durable settle, at each of which the process may die.
//!
//! A build with `--cfg forebay_control` can be told to end itself at one of them (`FOREBAY_ENDS_AT`), so that a test surely
//! meets it. In every other build to reach one is nothing, and nothing of it is in the binary.

/// A step, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The OMS has committed orders; its answer has not come to the worker.
    Committed,
    /// The worker has the answer; nothing of it is settled.
    Answered,
    /// Summarised orders were handed in and stand in a group; it is not written.
    Settling,
    /// That group is durable; nothing of it has taken effect, and nobody was told.
    Settled,
    /// At a later start: orders that may have been sent are about to be looked up.
    LookUp,
    /// Some of them were found; nothing of that is settled.
    Found,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Committed, Self::Answered, Self::Settling, Self::Settled, Self::LookUp, Self::Found];

    /// Its name in `FOREBAY_ENDS_AT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Answered => "answered",
            Self::Settling => "settling",
            Self::Settled => "settled",
            Self::LookUp => "look-up",
            Self::Found => "found",
        }
    }
}

#[cfg(not(forebay_control))]
impl Step {
    /// The process is there, if that is so.
    #[inline(always)]
    pub fn reached(self, _is_so: impl FnOnce() -> bool) {}
}

#[cfg(forebay_control)]
pub use build::choose;

#[cfg(forebay_control)]
mod build {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Step;

    /// Where this process ends, and how often it is there before.
    static END: OnceLock<(Step, AtomicU32)> = OnceLock::new();

    impl Step {
        /// The process is there, if that is so, and ends if it was told to.
        pub fn reached(self, is_so: impl FnOnce() -> bool) {
            let Some((step, before)) = END.get().filter(|(step, _)| *step == self) else { return };
            let last = || before.fetch_sub(1, Ordering::AcqRel) == 0;
            if is_so() && last() {
                tracing::error!(
                    step = step.name(),
                    "CONTROL BUILD: it ends itself, as it was told"
                );
                std::process::abort();
            }
        }
    }

    /// Ends the process at a step, by its name and how often it is to be there before: `committed:3`. Once for a process.
    ///
    /// # Errors
    /// In words: there is no such step, or one was chosen before.
    pub fn choose(text: &str) -> Result<(), String> {
        let chosen = text.split_once(':').and_then(|(name, before)| {
            let step = Step::ALL.into_iter().find(|step| step.name() == name)?;
            Some((step, AtomicU32::new(before.parse().ok()?)))
        });
        let chosen = chosen.ok_or_else(|| {
            let names = Step::ALL.map(Step::name).join(", ");
            format!("there is no step {text:?}; write one of {names}, a colon and how often before, as in committed:0")
        })?;
        END.set(chosen).map_err(|(step, _)| format!("a step was chosen before {}", step.name()))
    }
}
