//! Who is cut off in which run, how, and for how long.

use std::time::Duration;

use super::super::acceptance::LONGEST_REFUSAL;
use super::super::network::Lost;

/// Somebody who is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The stream's leader, from the other servers.
    Leader,
    /// Another server, from the other servers.
    Follower,
    /// The server that the door has its connection to, from the other servers.
    DoorsServer,
    /// The process the load goes to, from all servers.
    Door,
    /// Another process, from all servers.
    Worker,
}

/// One failure of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strike {
    pub(super) who: Who,
    pub(super) lost: Lost,
    pub(super) lasts: Duration,
    /// Longer than a lease, and long enough that everybody concerned finds out.
    pub(super) long: bool,
    /// What was sent meanwhile arrives when it heals; otherwise never.
    pub(super) comes_late: bool,
}

/// In turn; the first ones so that few runs show much.
const TURNS: [(Who, Lost); 13] = [
    (Who::Leader, Lost::All),
    (Who::Door, Lost::All),
    (Who::Worker, Lost::Heard),
    (Who::DoorsServer, Lost::All),
    (Who::Leader, Lost::Said),
    (Who::Follower, Lost::All),
    (Who::Door, Lost::Said),
    (Who::Worker, Lost::All),
    (Who::Leader, Lost::Heard),
    (Who::Door, Lost::Heard),
    (Who::Follower, Lost::Said),
    (Who::Worker, Lost::Said),
    (Who::Follower, Lost::Heard),
];

/// How long they last: well below a lease of three seconds, and well above it.
const SHORT_MILLIS: std::ops::Range<u64> = 500..2_500;
const LONG_MILLIS: std::ops::Range<u64> = 4_500..8_000;

impl Strike {
    /// The one of a run, from 0: each third is short, each second comes late, and another one in the next turn.
    pub(super) fn nth(run: usize, random: &mut fastrand::Rng) -> Self {
        let (turn, at) = (run / TURNS.len(), run % TURNS.len());
        let (who, lost) = TURNS.get(at).copied().unwrap_or((Who::Leader, Lost::All));
        let long = (at + turn) % 3 != 2;
        let millis = random.u64(if long { LONG_MILLIS } else { SHORT_MILLIS });
        let comes_late = (at + turn).is_multiple_of(2);
        Self { who, lost, lasts: Duration::from_millis(millis), long, comes_late }
    }

    /// Whether the other servers must choose another leader meanwhile: they do as soon as they do not hear theirs. One that
    /// is heard and does not hear says for a while that it leads.
    pub(super) fn deposes(&self) -> bool {
        self.who == Who::Leader && self.long && self.lost != Lost::Heard
    }
}

impl Who {
    /// What the report calls its strikes.
    pub(super) fn counted_as(self) -> &'static str {
        match self {
            Self::Leader => "leaders_cut_off",
            Self::Follower => "followers_cut_off",
            Self::DoorsServer => "doors_servers_cut_off",
            Self::Door => "doors_cut_off",
            Self::Worker => "workers_cut_off",
        }
    }

    /// What it calls the longest time without an acceptance meanwhile.
    pub(super) fn lull(self) -> &'static str {
        match self {
            Self::Leader => LONGEST_REFUSAL,
            Self::Follower => "longest_refusal_follower_s",
            Self::DoorsServer => "longest_refusal_doors_server_s",
            Self::Door => "longest_refusal_door_s",
            Self::Worker => "longest_refusal_worker_s",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_turns_cut_everybody_off_in_every_way_for_long_and_for_short() {
        let mut random = fastrand::Rng::with_seed(1);
        let strikes: Vec<_> =
            (0..3 * TURNS.len()).map(|run| Strike::nth(run, &mut random)).collect();
        for turn in TURNS {
            let of = |strike: &&Strike| (strike.who, strike.lost) == turn;
            let mut of = strikes.iter().filter(of).map(|s| s.long).collect::<Vec<_>>();
            of.sort_unstable();
            assert_eq!(of, [false, true, true], "{turn:?}");
        }
        assert!(strikes.iter().all(|s| s.long == (s.lasts > Duration::from_secs(3))));
    }

    #[test]
    fn the_first_runs_have_a_deposed_leader_and_a_door_whose_bytes_are_lost() {
        let mut random = fastrand::Rng::with_seed(1);
        let [first, second] = [0, 1].map(|run| Strike::nth(run, &mut random));
        assert!(first.deposes() && first.comes_late);
        assert!(second.who == Who::Door && second.long && !second.comes_late);
    }
}
