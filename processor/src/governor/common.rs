//! The limits that all processes of a fleet must have in common: which they are, and what is kept to while they differ.

use std::collections::BTreeMap;

use forebay_buffer::Common;

use super::allowance::whole;
use super::limits::Limits;

const CEILING: &str = "drain.ceiling_per_s";
const BURST: &str = "drain.burst";
const BATCH: &str = "drain.batch";
const IN_FLIGHT: &str = "drain.in_flight";
const OUTSTANDING: &str = "oms.limits.outstanding";

impl Limits {
    /// Those of them that must be the same in all processes that drain the same orders, by their knobs.
    pub fn common(&self) -> BTreeMap<String, Option<f64>> {
        let count = |orders: Option<usize>| orders.map(|orders| orders as f64);
        let all = [
            (CEILING, self.ceiling_per_s),
            (BURST, count(self.burst)),
            (BATCH, count(self.batch)),
            (IN_FLIGHT, count(Some(self.in_flight.max(1)))),
            (OUTSTANDING, self.outstanding.map(|orders| orders as f64)),
        ];
        all.into_iter().map(|(knob, value)| (knob.to_owned(), value)).collect()
    }

    /// These, or the smaller one that another process has. A burst and a batch that are not set here are a part of the ceiling that
    /// holds.
    pub(super) fn at_most(&self, common: &Common) -> Self {
        let of_own = |own: Option<usize>, knob| {
            own.map(|own| own.min(common.smallest(knob).map_or(own, whole)))
        };
        Self {
            ceiling_per_s: common.at_most(self.ceiling_per_s, CEILING),
            burst: of_own(self.burst, BURST),
            batch: of_own(self.batch, BATCH),
            in_flight: of_own(Some(self.in_flight), IN_FLIGHT).unwrap_or(self.in_flight).max(1),
            outstanding: common
                .at_most(self.outstanding.map(|most| most as f64), OUTSTANDING)
                .map(|most| whole(most) as u64),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::Announcement;

    use super::*;

    #[test]
    fn of_each_limit_the_smallest_is_kept_to() {
        let own = Limits {
            ceiling_per_s: Some(400.0),
            burst: Some(9),
            in_flight: 4,
            outstanding: Some(70),
            ..Limits::default()
        };
        let other = Limits {
            ceiling_per_s: Some(200.5),
            burst: Some(11),
            batch: Some(3),
            in_flight: 2,
            ..Limits::default()
        };
        let announced =
            |limits: &Limits| Announcement { limits: limits.common(), ..Announcement::default() };
        let common = Common::of([&announced(&own), &announced(&other)].map(Some));
        let kept = |limits: Limits| limits.at_most(&common);
        let both =
            Limits { ceiling_per_s: Some(200.5), in_flight: 2, outstanding: Some(70), ..own };
        assert_eq!(kept(own), both);
        assert_eq!(kept(other), Limits { burst: Some(9), outstanding: Some(70), ..other });
        let none = Limits { in_flight: 9, ..Limits::default() };
        assert_eq!(kept(none).ceiling_per_s, Some(200.5), "one without a ceiling keeps to it too");
        assert_eq!(own.at_most(&Common::default()), own);
        for knob in ["ceiling_per_s", "burst", "batch", "in_flight", "limits.outstanding"] {
            let said = common.differs.as_ref().unwrap();
            assert!(said.contains(knob), "{knob}: {said}");
        }
    }
}
