//! Moments of a server's life that a power cut aims at, told by what it writes (`docs/format-1.md`): the disk hangs
//! at that write, so that the cut meets it, its sync, or what comes right after.

use crate::volatile_disk::Mark;

/// What a cut aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// The last group of a full segment; the next one goes to another slot.
    SegmentChange,
    /// The checkpoint that lets a segment go; in front of it stands how far the feed was told, a policy.
    Retirement,
    /// A group that begins with what became of orders.
    Drain,
    /// The copies that a start begins with.
    Recovery,
}

/// Where a group says what it is for, and what kind its first record is of.
const FLAGS: usize = 60;
const FIRST_KIND: usize = 80 + 16;
const COPIES: u8 = 1;
const SEAL: u8 = 2;
const SETTLE: u8 = 14;
const POLICY: u8 = 20;

impl Aim {
    /// The write that tells it.
    pub(super) fn mark(self) -> Mark {
        let (at, mask, bits) = match self {
            Self::SegmentChange => (FLAGS, SEAL, SEAL),
            Self::Retirement => (FIRST_KIND, u8::MAX, POLICY),
            Self::Drain => (FIRST_KIND, u8::MAX, SETTLE),
            Self::Recovery => (FLAGS, COPIES, COPIES),
        };
        Mark { magic: *b"FBG1", at, mask, bits }
    }

    /// The name under which cuts that met it are counted.
    pub(super) fn counted_as(self) -> &'static str {
        match self {
            Self::SegmentChange => "cuts_at_segment_change",
            Self::Retirement => "cuts_at_retirement",
            Self::Drain => "cuts_at_settle",
            Self::Recovery => "cuts_in_recovery",
        }
    }
}

/// Cuts whose aim did not come within the time given.
pub(super) const MISSED: &str = "aims_missed";
