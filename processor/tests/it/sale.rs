//! A sale into the reference OMS over HTTP, with what goes wrong there; its own ledger is the judge. Each promise stands beside a
//! client that does not keep it, and is found out.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, ExceptionCategory, Memory};
use forebay_order::OrderSummary;
use forebay_processor::oms::http::{CallLimits, Http, HttpOptions};
use forebay_processor::{
    CallFailure, Drain, DrainConfig, Found, Guarantee, Identity, Limiter, Limits, Listed,
    OrderManagement, Outcome, RetryPolicy,
};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::reference::Reference;
use crate::support::{Delivery, buffer, clock, in_time, until};

const ORDERS: u64 = 300;

fn config() -> DrainConfig {
    let retry = RetryPolicy { base: Duration::from_millis(5), max: Duration::from_millis(50) };
    let ramp = Duration::from_millis(50);
    let limits = Limits { batch: Some(10), ramp, ..Limits::default() };
    let lease_wait = Duration::from_millis(200);
    let remembered = Duration::from_secs(1_000 * 365 * 86_400);
    DrainConfig { limits, retry, lease_wait, remembered, ..DrainConfig::default() }
}

/// Orders on their way into a reference OMS.
struct Sale {
    oms: Reference,
    buffer: Memory,
    _directory: TempDir,
}

impl Sale {
    async fn of(faults: Value) -> Self {
        let directory = tempdir().unwrap();
        let oms = Reference::of(directory.path(), &faults);
        let buffer = buffer(clock());
        for n in 0..ORDERS {
            Delivery::new(&n.to_string()).append(&buffer).await;
        }
        Self { oms, buffer, _directory: directory }
    }

    fn drain(&self, oms: impl OrderManagement) -> Drain {
        Drain::start(config(), self.buffer.clone(), Arc::new(oms), clock()).unwrap()
    }

    async fn ended(&self, state: &str) -> u64 {
        let status = self.buffer.status().await.unwrap();
        status.ended.get(state).copied().unwrap_or_default()
    }

    async fn exceptions(&self) -> Vec<ExceptionCategory> {
        let rows = self.buffer.exceptions(0, 10_000).await.unwrap();
        rows.into_iter().map(|row| row.category).collect()
    }

    /// Drains until each order is in the OMS or waits for a person, then asks the judge.
    async fn drained(&self, drain: Drain) -> Value {
        let over = async || {
            let waiting = self.exceptions().await.len() as u64;
            self.ended("summarised").await + waiting == ORDERS
        };
        in_time("drained", until(over)).await;
        in_time("stopped", drain.stop(Duration::from_secs(30))).await;
        self.oms.judge().await
    }

    /// All of them are in the OMS, once, and nobody has to look.
    async fn all_is_well(&self, drain: Drain) -> Value {
        let judged = self.drained(drain).await;
        assert_eq!(self.exceptions().await, []);
        assert_eq!(judged["distinct_identities"], ORDERS, "{judged}");
        assert_eq!((&judged["doubles"], &judged["creates"]), (&json!(0), &json!(ORDERS)));
        judged
    }
}

/// Asks for one order, and lists nothing, as an OMS that refuses no second create.
fn looked_up(oms: &Reference) -> HttpOptions {
    let mut options = oms.options();
    options.create.refuses_second = false;
    options
}

/// A client that does one thing wrong.
struct Careless {
    oms: Http,
    flaw: Flaw,
}

#[derive(PartialEq)]
enum Flaw {
    /// It says of every order that it is absent.
    Blind,
    /// It takes a ticket for no answer.
    Ticketless,
}

impl OrderManagement for Careless {
    fn guarantee(&self) -> Guarantee {
        self.oms.guarantee()
    }

    fn is_test(&self) -> bool {
        true
    }

    fn identity_max(&self) -> usize {
        self.oms.identity_max()
    }

    fn batch_max(&self) -> usize {
        self.oms.batch_max()
    }

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        let outcomes = self.oms.submit(batch).await?;
        let heard = |outcome| match outcome {
            Outcome::Accepted { .. } if self.flaw == Flaw::Ticketless => Outcome::Unknown,
            other => other,
        };
        Ok(outcomes.into_iter().map(heard).collect())
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        match self.flaw {
            Flaw::Blind => Ok(identities.iter().map(|_| None).collect()),
            Flaw::Ticketless => self.oms.find(identities).await,
        }
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        self.oms.list(after, limit).await
    }
}

fn cuts() -> Value {
    json!({ "unique": false, "drop_before_commit_every": 11, "drop_after_commit_every": 4,
            "drop_mid_answer_every": 7 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_off_is_looked_up_and_sent_again_only_if_it_is_absent() {
    let sale = Sale::of(cuts()).await;
    let oms = Http::open(looked_up(&sale.oms)).unwrap();
    assert_eq!(oms.guarantee(), Guarantee::LookedUp);
    let judged = sale.all_is_well(sale.drain(oms)).await;
    for cut in ["before_commit", "after_commit", "mid_answer"] {
        assert!(judged["cut"][cut].as_u64().unwrap() > 0, "{cut}: {judged}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sends_again_without_a_look_doubles() {
    let sale = Sale::of(cuts()).await;
    let oms = Careless { oms: Http::open(looked_up(&sale.oms)).unwrap(), flaw: Flaw::Blind };
    let judged = sale.drained(sale.drain(oms)).await;
    assert!(judged["doubles"].as_u64().unwrap() > 0, "{judged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_cannot_be_found_yet_is_not_taken_for_absent() {
    for (visible_after, keeps) in [(Duration::from_millis(400), true), (Duration::ZERO, false)] {
        let faults =
            json!({ "unique": false, "drop_after_commit_every": 10, "visible_after_ms": 300 });
        let sale = Sale::of(faults).await;
        let mut options = looked_up(&sale.oms);
        options.find.as_mut().unwrap().visible_after = visible_after;
        let drain = sale.drain(Http::open(options).unwrap());
        if keeps {
            sale.all_is_well(drain).await;
        } else {
            let judged = sale.drained(drain).await;
            assert!(judged["doubles"].as_u64().unwrap() > 0, "{judged}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_look_up_an_idempotency_key_keeps_from_doubles() {
    let faults =
        json!({ "unique": false, "idempotency_keys": true, "drop_after_commit_every": 13 });
    let sale = Sale::of(faults).await;
    let mut options = looked_up(&sale.oms);
    options.find = None;
    options.create.batch = 1;
    options.create.idempotency_header = Some("Idempotency-Key".to_owned());
    let oms = Http::open(options).unwrap();
    assert_eq!(oms.guarantee(), Guarantee::IdempotencyKey);
    let judged = sale.all_is_well(sale.drain(oms)).await;
    assert!(judged["replayed"].as_u64().unwrap() > 0, "{judged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_can_tell_each_order_waits_for_a_person_and_none_is_doubled() {
    let sale = Sale::of(json!({ "unique": false, "drop_after_commit_every": 10 })).await;
    let mut options = looked_up(&sale.oms);
    options.find = None;
    let oms = Http::open(options).unwrap();
    assert_eq!(oms.guarantee(), Guarantee::AtLeastOnce);
    let judged = sale.drained(sale.drain(oms)).await;
    let exceptions = sale.exceptions().await;
    assert!(exceptions.len() >= 10, "{exceptions:?}");
    assert!(exceptions.iter().all(|category| *category == ExceptionCategory::OutcomeUnknown));
    assert_eq!(judged["doubles"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_every_kind_at_once_leave_only_the_bad_orders_behind() {
    let faults = json!({ "error_in_200": true, "invalid_every": 20, "try_later_every": 11, "try_later_s": 0,
                         "latency_ms": { "p50": 2, "p99": 20 } });
    let sale = Sale::of(faults).await;
    let judged = sale.drained(sale.drain(sale.oms.http())).await;
    let exceptions = sale.exceptions().await;
    // Each refused order was refused once, and none for being told to come again.
    assert!(!exceptions.is_empty(), "some are bad");
    assert_eq!(judged["orders_by_outcome"]["invalid"], exceptions.len(), "{judged}");
    assert!(exceptions.iter().all(|category| *category == ExceptionCategory::Rejected));
    assert_eq!(judged["creates"].as_u64().unwrap() + exceptions.len() as u64, ORDERS);
    assert_eq!(judged["doubles"], 0);
    assert!(judged["orders_by_outcome"]["try_later"].as_u64().unwrap() > 0, "{judged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_end_or_are_revoked_are_renewed_one_at_a_time() {
    let sale = Sale::of(json!({ "token_ttl_s": 1, "latency_ms": { "p50": 60, "p99": 90 } })).await;
    let drain = sale.drain(sale.oms.http());
    // Early, so that calls are left to be refused on a busy machine too.
    in_time("some of them", until(async || sale.ended("summarised").await > 0)).await;
    sale.oms.control(json!({ "revoke_tokens": true })).await;
    let judged = sale.all_is_well(drain).await;
    assert!(judged["refused_for_token"].as_u64().unwrap() >= 1, "{judged}");
    let (tokens, peak) = (&judged["tokens_issued"], &judged["peak_tokens_per_s"]);
    assert!((2..20).contains(&tokens.as_u64().unwrap()), "{judged}");
    assert!(peak.as_u64().unwrap() <= 3, "no storm: {judged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brown_out_in_mid_sale_doubles_and_burns_nothing() {
    let sale = Sale::of(json!({})).await;
    let mut options = sale.oms.options();
    options.answer_timeout = Duration::from_millis(150);
    let drain = sale.drain(Http::open(options).unwrap());
    in_time("some of them", until(async || sale.ended("summarised").await > 20)).await;
    // Many calls take longer than they are waited for, others are refused, and some come through.
    let browned = json!({ "latency_ms": { "p50": 120, "p99": 900 },
                          "overloaded": { "status": 503, "code": "BUSY", "every": 3 } });
    sale.oms.control(browned).await;
    let felt = async || drain.governor().state().limiter == Limiter::Oms;
    in_time("left alone for a while", until(felt)).await;
    let before = sale.ended("summarised").await;
    in_time("some all the same", until(async || sale.ended("summarised").await > before)).await;
    let asked = async || sale.oms.judge().await["calls_by_kind"]["find"].as_u64() > Some(0);
    in_time("one that was not answered in time is looked up", until(asked)).await;
    assert_eq!(sale.exceptions().await, []);
    sale.oms.control(json!({ "latency_ms": null, "overloaded": null })).await;
    let judged = sale.all_is_well(drain).await;
    assert!(judged["refused"]["overloaded"].as_u64().unwrap() > 0, "{judged}");
}

/// Trouble comes in mid-sale, the brake goes on, and all is well once the trouble is over.
async fn brakes_and_goes_on(trouble: Value, limiter: Limiter, over: Value) {
    let sale = Sale::of(json!({})).await;
    let drain = sale.drain(sale.oms.http());
    in_time("some of them", until(async || sale.ended("summarised").await > 20)).await;
    sale.oms.control(trouble).await;
    let braked = async || drain.governor().state().limiter == limiter;
    in_time("the brake", until(braked)).await;
    assert_eq!(sale.exceptions().await, []);
    sale.oms.control(over).await;
    sale.all_is_well(drain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_secret_in_mid_sale_burns_nothing() {
    let expired = json!({ "refuse_credentials": true, "revoke_tokens": true });
    let renewed = json!({ "refuse_credentials": false });
    brakes_and_goes_on(expired, Limiter::Auth, renewed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validation_rule_deployed_in_mid_sale_burns_nothing() {
    let deployed = json!({ "reject_all_with": "FIELD_CUSTOM_VALIDATION_EXCEPTION" });
    let mended = json!({ "reject_all_with": null });
    brakes_and_goes_on(deployed, Limiter::Rejected, mended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_told_as_a_bad_request_is_no_order_s_fault() {
    let limit = json!({ "overloaded": { "status": 400, "code": "SSS_REQUEST_LIMIT_EXCEEDED", "every": 3 } });
    let sale = Sale::of(limit).await;
    let judged = sale.all_is_well(sale.drain(sale.oms.http())).await;
    assert!(judged["refused"]["overloaded"].as_u64().unwrap() > 0, "{judged}");
    // A client without the rule takes it for the orders' fault: what its single orders come to are exceptions.
    let limit = json!({ "overloaded": { "status": 400, "code": "SSS_REQUEST_LIMIT_EXCEEDED", "every": 8 } });
    let sale = Sale::of(limit).await;
    let mut options = sale.oms.options();
    options.rules.clear();
    options.create.batch = 1;
    let drain = sale.drain(Http::open(options).unwrap());
    sale.drained(drain).await;
    assert!(sale.exceptions().await.len() > 10, "the control must be found out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_was_told_is_waited_and_a_rate_of_calls_is_kept() {
    let limit = json!({ "overloaded": { "status": 429, "code": "SLOW", "retry_after_s": 1, "growing": true, "every": 12 } });
    let sale = Sale::of(limit).await;
    let limits = CallLimits { calls_per_s: Some(20.0), ..CallLimits::default() };
    let oms = Http::open(HttpOptions { limits, ..sale.oms.options() }).unwrap();
    let judged = sale.all_is_well(sale.drain(oms)).await;
    assert!(judged["answers_by_status"]["429"].as_u64().unwrap() > 0, "{judged}");
    assert_eq!(judged["came_too_early_knowingly"], 0, "{judged}");
    assert!(judged["peak_calls_per_s"].as_u64().unwrap() <= 22, "{judged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_and_its_end() {
    let sale = Sale::of(json!({})).await;
    let drain = sale.drain(sale.oms.http());
    in_time("some of them", until(async || sale.ended("summarised").await > 20)).await;
    sale.oms.control(json!({ "unavailable": true })).await;
    let away = async || {
        let judged = sale.oms.judge().await;
        judged["refused"]["unavailable"].as_u64().unwrap_or_default() >= 5
    };
    in_time("calls into the outage", until(away)).await;
    assert_eq!(sale.exceptions().await, []);
    sale.oms.control(json!({ "unavailable": false })).await;
    sale.all_is_well(drain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_are_only_taken_at_first_are_looked_for_until_they_are_there() {
    // An OMS that refuses no second create: whoever sends again what is absent under its ticket doubles.
    let sale = Sale::of(json!({ "unique": false, "async_after_ms": 500 })).await;
    let judged = sale.all_is_well(sale.drain(Http::open(looked_up(&sale.oms)).unwrap())).await;
    assert_eq!(judged["orders_by_outcome"]["accepted"], ORDERS, "none was sent twice: {judged}");
    // In full calls, some seconds for all of them.
    assert!(judged["calls_by_kind"]["find"].as_u64().unwrap() < ORDERS / 3, "{judged}");
    let sale = Sale::of(json!({ "unique": false, "async_after_ms": 500 })).await;
    let oms = Careless { oms: Http::open(looked_up(&sale.oms)).unwrap(), flaw: Flaw::Ticketless };
    let judged = sale.drained(sale.drain(oms)).await;
    assert!(judged["doubles"].as_u64().unwrap() > 0, "the control must be found out: {judged}");
}
