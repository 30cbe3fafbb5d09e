//! What is left of a store once it was struck: drained, and every order accounted for.

use std::time::Duration;

use forebay_loadtest::Target;
use serde_json::Value;

use super::super::copy::replace;
use super::super::probe;
use super::super::server::{ANSWER_LIMIT, get};
use super::Scene;
use crate::failure::{Failure, Result, While as _};
use crate::say::complain;
use crate::time::Stopwatch;

/// How long the backlog may stand still while it drains.
const STILL_LIMIT: Duration = Duration::from_secs(60);

impl Scene<'_> {
    /// The rest of the sale, a graceful stop, the backlog drained at full speed, and the account.
    pub(super) fn account(&mut self, target: Target) -> Result<()> {
        self.load()?.start(target)?;
        while !self.load()?.is_over() {
            self.wait(Duration::from_millis(50))?;
        }
        self.load()?.stop()?;
        self.stop()?;
        if !self.start(&["--no-governor"])? {
            return Ok(());
        }
        let target = self.target()?;
        let drained = self.drained(target);
        if self.control() && self.plan.fault.torture().breaks_the_servers() {
            // Copies that lost different things disagree about what there is to drain.
            self.tally.count("not_drained", u64::from(drained.is_err()));
        } else {
            drained?;
        }
        if self.servers.is_some() {
            self.count_set_aside(target)?;
        }
        let interrupt = self.interrupt;
        let books = self.load()?.books(target, interrupt)?;
        self.count_given_up()?;
        self.tally.enter(&books);
        if let Some(witness) = &self.witness {
            witness.testify()?.enter(&mut self.tally, books.summarised);
        }
        self.enter_probes(target)?;
        let kept = books.kept() && self.tally.doubled == 0 && self.tally.broken.is_empty();
        if !self.plan.control && !kept {
            self.keep_evidence()?;
        }
        self.take_server()?.stop().map(drop)
    }

    /// Keeps the ledger, the log and a copy of the store of a run that broke a promise.
    fn keep_evidence(&mut self) -> Result<()> {
        if self.servers.is_none() {
            replace(&self.setup.data_dir, &self.place.path().join("store-as-found"))?;
        }
        self.place.disable_cleanup(true);
        complain(format_args!("the evidence is kept in {}", self.place.path().display()));
        Ok(())
    }

    /// Waits until nothing is on its way to the OMS any more.
    pub(in super::super) fn drained(&self, target: Target) -> Result<()> {
        let mut least = u64::MAX;
        let mut still = Stopwatch::start();
        loop {
            let status = get(target.ops, "/v1/status")?;
            let live = |state: &str| {
                status.pointer(&format!("/buffer/live/{state}")).and_then(Value::as_u64)
            };
            let under_way: u64 =
                ["pending", "leased", "submitted"].iter().filter_map(|state| live(state)).sum();
            // What others own, or had owned, is not seen here.
            let whole = status.pointer("/drain/share").and_then(Value::as_f64) >= Some(1.0);
            if under_way == 0 && whole {
                return Ok(());
            }
            if under_way < least {
                (least, still) = (under_way, Stopwatch::start());
            }
            if still.left_of(STILL_LIMIT).is_zero() {
                let why = format!("{under_way} orders do not drain: {status}");
                return Err(Failure::Missed(why));
            }
            self.interrupt.wait(Duration::from_millis(100))?;
        }
    }

    /// Counts what recovery found damaged; a torn tail was never acknowledged and is no damage.
    pub(super) fn count_damaged(&mut self, target: Target) -> Result<()> {
        let status = get(target.ops, "/v1/status")?;
        let notes = status.pointer("/buffer/recovery").and_then(Value::as_array);
        let notes = notes.into_iter().flatten().filter_map(Value::as_str);
        self.tally.damaged_listed += notes.filter(|note| note.contains("damaged")).count() as u64;
        Ok(())
    }

    /// Looks for the probes' own orders.
    fn enter_probes(&mut self, target: Target) -> Result<()> {
        for id in std::mem::take(&mut self.probes.0) {
            self.tally.acknowledged += 1;
            let path = format!("/v1/orders/forebay/probe/{id}");
            match probe::get(target.ops, &path, ANSWER_LIMIT).when(&path)?.status {
                200 => self.tally.found += 1,
                _ => self.tally.lost += 1,
            }
        }
        Ok(())
    }
}
