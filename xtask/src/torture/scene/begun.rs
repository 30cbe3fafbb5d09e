//! Posts that are begun before a fault and finished after it: they are surely sent after it, and until then the door cannot close, so
//! that there is time to look at a server that ends by itself.

use std::time::Duration;

use super::super::probe::{Begun, Reply};
use super::Scene;
use crate::failure::{Result, While as _};

/// How long each answer may take. A server that ends cuts them off sooner.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl Scene<'_> {
    /// Begins so many posts beside the load.
    pub(in super::super) fn begin_probes(&mut self, count: u32) -> Result<Vec<Begun>> {
        let orders = self.target()?.orders;
        (0..count)
            .map(|_| {
                self.probes.1 += 1;
                let id = format!("probe-{}", self.probes.1);
                Begun::new(orders, id, ANSWER_LIMIT).when("beginning a post")
            })
            .collect()
    }

    /// Finishes them all; how many were still to be sent, and how many of those are acknowledged, which are looked for in the account.
    pub(in super::super) fn finish_probes(&mut self, mut begun: Vec<Begun>) -> (u64, u64) {
        // Where the server has hung up there is no answer, which is what the fault is about.
        begun.retain_mut(|begun| begun.finish().is_ok());
        let (sent, mut acknowledged) = (begun.len() as u64, 0);
        for begun in begun {
            let id = begun.id.clone();
            if begun.answer().is_ok_and(|reply: Reply| reply.is_durable()) {
                acknowledged += 1;
                self.probes.0.push(id);
            }
        }
        (sent, acknowledged)
    }
}
