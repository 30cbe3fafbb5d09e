//! The steps between a commit of the OMS and its durable settle (`buffer/src/step.rs`), at each of which a control build ends
//! itself when it is told to: which run ends at which.

use forebay_buffer::step::Step;

/// The one that a run ends at: every second one at a step, each in its turn. The others are struck from outside, at random.
pub(super) fn of_run(run: u32) -> Option<Step> {
    let turn = (run % 2 == 1).then_some(run / 2)?;
    Step::ALL.into_iter().cycle().nth(usize::try_from(turn).ok()?)
}

/// The name under which the deaths that met it are counted.
pub(super) fn counted_as(step: Step) -> &'static str {
    match step {
        Step::Committed => "deaths_committed",
        Step::Answered => "deaths_answered",
        Step::Settling => "deaths_settling",
        Step::Settled => "deaths_settled",
        Step::LookUp => "deaths_before_look_up",
        Step::Found => "deaths_found",
    }
}

/// Whether it is one of a start whose predecessor died after a commit.
pub(super) fn comes_after_a_death(step: Step) -> bool {
    matches!(step, Step::LookUp | Step::Found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_runs_are_struck_at_random_and_the_others_end_at_every_step_in_turn() {
        let of: Vec<_> = (0..24).map(of_run).collect();
        assert_eq!(of.iter().filter(|step| step.is_none()).count(), 12);
        for step in Step::ALL {
            let met = (0..12).zip(&of).filter(|(_, of)| **of == Some(step));
            assert_eq!(met.count(), 1, "{step:?} within twelve runs");
            assert_eq!(of.iter().filter(|of| **of == Some(step)).count(), 2, "{step:?}");
        }
    }
}
