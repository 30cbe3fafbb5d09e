//! `forebay oms verify`: what the configured OMS does with a create, a repeat, a line that is cut and a rising rate of calls. It creates a
//! few orders, so it goes to a sandbox only (`oms.test`).
//!
//! ```text
//! look up nobody -> create -> look it up until it is there -> the same again -> another, the line cut once it left,
//! looked up until it is there or would be -> look-ups, faster and faster, until it speaks of a limit (`verify/limit.rs`)
//! ```
//! What it finds is held against what the configuration says. A person reads the rest and decides.

mod limit;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use forebay_buffer::{Clock, SystemClock};
use forebay_order::{Fingerprint, Format, OrderKey, OrderSummary, summarise};
use forebay_processor::oms::http::Http;
use forebay_processor::{CallFailure, OrderManagement, Outcome};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::check::{Check, Level};
use super::super::{EXIT_MET, EXIT_MISSED, EXIT_USAGE, fail, print};
use crate::config::{self, Config, Flags, OmsKind};
use crate::wiring;

/// What is not found by then is not found.
const FOUND_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks for one order.
const LOOK: Duration = Duration::from_millis(100);
/// Lines that are cut, until one was not answered before.
const CUTS: u32 = 5;

/// Arguments of `oms verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Configuration file (TOML), with the OMS as `[oms]` has it
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The OMS as `[targets.NAME]` has it, laid over `[oms]`
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit 0 unless a line says fail.
pub(super) fn run(args: &VerifyArgs) -> ExitCode {
    let flags = Flags { config: Some(args.config.clone()), ..Flags::default() };
    let config = match config::load(&flags) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error.to_string()),
    };
    let aimed = config::check(&config).map_err(|faults| faults.join("\nforebay: "));
    let aimed = aimed.and_then(|_| match &args.target {
        Some(name) => config.aimed_at(name),
        None => Ok(config),
    });
    let config = match aimed {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let verified = sandbox(&config).and_then(|oms| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok(runtime.block_on(Verifying::new(&config, oms).all()))
    });
    let checks = match verified {
        Ok(checks) => checks,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let worst = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    if args.json {
        let document = json!({ "ok": worst < Level::Fail, "level": worst, "target": args.target, "oms": config.oms.url, "checks": checks });
        print(&document.to_string());
    } else {
        checks.iter().for_each(|check| print(&check.line()));
    }
    ExitCode::from(if worst < Level::Fail { EXIT_MET } else { EXIT_MISSED })
}

/// The OMS, if it may be tried.
fn sandbox(config: &Config) -> Result<Http, String> {
    if config.oms.kind != OmsKind::Http {
        return Err("oms.kind: only an OMS over HTTP (\"http\") is verified".to_owned());
    }
    if !config.oms.test {
        return Err(
            "oms.test: orders are created, so name a sandbox and set this to true".to_owned()
        );
    }
    Http::open(wiring::http(config)?).map_err(|error| error.to_string())
}

struct Verifying<'a> {
    config: &'a Config,
    oms: Http,
    /// What tells this run's orders from others'.
    run: String,
    orders: u32,
    checks: Vec<Check>,
}

/// There is no use in going on.
struct Stop;

impl<'a> Verifying<'a> {
    fn new(config: &'a Config, oms: Http) -> Self {
        let run = format!("verify-{}-{}", SystemClock.wall_ms(), std::process::id());
        Self { config, oms, run, orders: 0, checks: Vec::new() }
    }

    async fn all(mut self) -> Vec<Check> {
        // What stops it is in the checks.
        drop(self.try_all().await);
        self.told();
        self.checks
    }

    async fn try_all(&mut self) -> Result<(), Stop> {
        let words = self.oms.guarantee().words();
        self.checks.push(Check::ok("guarantee", format!("as configured: {words}")));
        self.nobody().await?;
        let (order, id) = self.create().await?;
        self.repeat(&order, &id).await;
        self.cut().await;
        self.limit().await;
        Ok(())
    }

    /// An order of this run.
    fn order(&mut self) -> Result<Arc<OrderSummary>, Stop> {
        self.orders += 1;
        let id = format!("{}-{}", self.run, self.orders);
        let body = json!({
            "id": id, "currency": "EUR", "placed_at": "2026-01-01T00:00:00Z",
            "shopper": { "email": "forebay-verify@example.com" },
            "lines": [{ "sku": "VERIFY", "name": "Verification", "quantity": 1, "unit_price": "1.00", "amount": "1.00" }],
            "totals": { "grand": "1.00" },
        });
        let key = OrderKey::new("forebay", "verify", id);
        let summary =
            summarise(Format::Forebay, key, Fingerprint([7; 16]), body.to_string().as_bytes());
        summary.map(Arc::new).map_err(|error| {
            self.stop("order", format!("{}: {}", error.code, error.reason), "report this")
        })
    }

    fn stop(&mut self, name: &'static str, finding: String, advice: &str) -> Stop {
        self.checks.push(Check::fail(name, finding, advice));
        Stop
    }

    /// It answers, takes us for whom we are, and finds no order that nobody sent.
    async fn nobody(&mut self) -> Result<(), Stop> {
        if !self.oms.can_find() {
            let finding = "it cannot be asked (oms.find), so what was not told is not known";
            self.checks.push(Check::warn(
                "look-up",
                finding,
                "configure oms.find if the OMS has it",
            ));
            return Ok(());
        }
        let nobody = OrderKey::new("forebay", "verify", format!("{}-nobody", self.run)).identity();
        let began = Instant::now();
        match self.oms.find(&[nobody]).await.as_deref() {
            Ok([None]) => {
                let took = began.elapsed();
                let finding = format!(
                    "an order nobody sent is absent; answered in {took:.0?}, a token included"
                );
                self.checks.push(Check::ok("look-up", finding));
                Ok(())
            }
            Ok(_) => {
                let finding = "an order that nobody sent is found".to_owned();
                Err(self.stop(
                    "look-up",
                    finding,
                    "mend oms.find: orders would be taken for created",
                ))
            }
            Err(failure @ CallFailure::Unauthenticated) => {
                Err(self.stop("look-up", failure.to_string(), "renew the secrets of [oms.auth]"))
            }
            Err(failure) => Err(self.stop(
                "look-up",
                failure.to_string(),
                "mend oms.url, [oms.find] or the OMS",
            )),
        }
    }

    /// One order, until it is found.
    async fn create(&mut self) -> Result<(Arc<OrderSummary>, String), Stop> {
        let order = self.order()?;
        let began = Instant::now();
        let outcome = self.oms.submit(std::slice::from_ref(&order)).await;
        let took = began.elapsed();
        let advice = "mend [oms.create], its answers and [[oms.outcome]]";
        let id = match outcome.as_deref() {
            Ok([Outcome::Created { id }]) => {
                self.checks.push(Check::ok("create", format!("created as {id} in {took:.0?}")));
                Some(id.clone())
            }
            Ok([Outcome::Accepted { ticket }]) => {
                self.checks.push(Check::ok(
                    "create",
                    format!("taken under ticket {ticket} in {took:.0?}"),
                ));
                None
            }
            Ok(other) => {
                return Err(self.stop("create", format!("a new order came to {other:?}"), advice));
            }
            Err(failure) => return Err(self.stop("create", failure.to_string(), advice)),
        };
        if !self.oms.can_find() {
            return Ok((order, id.unwrap_or_default()));
        }
        let visible_after = self.oms.visible_after();
        let Some((found, after)) = self.appears(&order).await else {
            let finding = format!("it is not found within {FOUND_LIMIT:?}");
            return Err(self.stop(
                "visible",
                finding,
                "mend oms.find: every unknown outcome would be sent again, and double",
            ));
        };
        if id.as_ref().is_some_and(|id| *id != found) {
            let finding = format!("created as {}, found as {found}", id.unwrap_or_default());
            return Err(self.stop("visible", finding, "mend oms.create.answers.id or oms.find.id"));
        }
        // A ticket is waited for however long it takes.
        self.checks.push(if id.is_some() && after > visible_after {
            let finding = format!(
                "found only after {after:.0?}; oms.find.visible_after is {visible_after:?}"
            );
            Check::fail(
                "visible",
                finding,
                "raise oms.find.visible_after well above that, or orders double",
            )
        } else {
            Check::ok(
                "visible",
                format!("found after {after:.0?} (oms.find.visible_after: {visible_after:?})"),
            )
        });
        Ok((order, found))
    }

    /// The OMS's id of an order, once it is found, and how long it was absent.
    async fn appears(&self, order: &Arc<OrderSummary>) -> Option<(String, Duration)> {
        let began = Instant::now();
        let identity = [order.key.identity()];
        let mut absent = Duration::ZERO;
        while absent < FOUND_LIMIT {
            if let Ok([Some(found)]) = self.oms.find(&identity).await.as_deref() {
                return Some((found.id.clone(), absent));
            }
            sleep(LOOK).await;
            absent = began.elapsed();
        }
        None
    }

    /// The same order again.
    async fn repeat(&mut self, order: &Arc<OrderSummary>, id: &str) {
        let refuses = self.oms.guarantee().refuses_second();
        let outcome = self.oms.submit(std::slice::from_ref(order)).await;
        let in_doubt =
            matches!(outcome.as_deref(), Ok([Outcome::Unknown]) | Err(CallFailure::Unknown(_)));
        let found = match in_doubt {
            true => self.oms.find(&[order.key.identity()]).await,
            false => Ok(Vec::new()),
        };
        let check = match outcome.as_deref() {
            _ if matches!(found.as_deref(), Ok([Some(_)])) => Check::warn(
                "repeat",
                "a second create is answered without an id, and the look-up finds the first",
                "see that the OMS has no other",
            ),
            Ok([Outcome::Existing { same: Some(false), .. }]) => Check::fail(
                "repeat",
                "a second create is refused, and told to be of another order, which it is not",
                "mend oms.create.answers.fingerprint, or each repeat waits for a person",
            ),
            Ok([Outcome::Existing { id: existing, same }]) if existing == id || id.is_empty() => {
                let told = match same {
                    Some(_) => "and tells that it is the same",
                    None => "and cannot tell whether it is the same",
                };
                Check::ok("repeat", format!("a second create is refused, {told}"))
            }
            Ok([Outcome::Created { id: again }]) if again == id => {
                Check::ok("repeat", "a second create is answered as the first")
            }
            Ok([Outcome::Accepted { .. }]) => Check::warn(
                "repeat",
                "a second create is taken under a ticket",
                "see what became of it in the OMS",
            ),
            Ok([Outcome::Created { id: again }]) if refuses => Check::fail(
                "repeat",
                format!("a second create makes a double: {id} and {again}"),
                "set oms.create.refuses_second = false, leave the idempotency key out, and configure oms.find",
            ),
            Ok([Outcome::Created { id: again }]) => Check::ok(
                "repeat",
                format!(
                    "a second create makes a double ({id} and {again}); so each is looked up first"
                ),
            ),
            Ok([Outcome::Invalid { code, .. }]) => Check::fail(
                "repeat",
                format!("a second create is taken for a bad order ({code})"),
                "say in [[oms.outcome]] that this answer is \"existing\", or repeats become exceptions",
            ),
            Ok(other) => {
                let finding = format!("a second create came to {other:?}");
                Check::warn("repeat", finding, "say in [[oms.outcome]] what that answer means")
            }
            Err(failure) => Check::warn(
                "repeat",
                failure.to_string(),
                "say in [[oms.outcome]] what that answer means",
            ),
        };
        self.checks.push(check);
    }

    /// An order that left, and whose answer nobody waits for.
    async fn cut(&mut self) {
        let mut left = None;
        for _ in 0..CUTS {
            let Ok(order) = self.order() else { return };
            let Ok(impatient) = self.oms.impatient(Duration::ZERO) else { return };
            let outcome = impatient.submit(std::slice::from_ref(&order)).await;
            let unknown =
                matches!(outcome.as_deref(), Ok([Outcome::Unknown]) | Err(CallFailure::Unknown(_)));
            if unknown {
                left = Some(order);
                break;
            }
        }
        let Some(order) = left else {
            let finding = "it answered before the line could be cut";
            return self.checks.push(Check::warn("cut", finding, "try from further away"));
        };
        if !self.oms.can_find() {
            let finding = "an order whose line was cut cannot be looked up; it would wait for a person, or be sent again if the OMS refuses it";
            return self.checks.push(Check::ok("cut", finding));
        }
        let visible_after = self.oms.visible_after();
        sleep(visible_after).await;
        let identity = [order.key.identity()];
        let at_once = self.oms.find(&identity).await;
        let later = self.late(&order).await;
        self.checks.push(match (at_once.as_deref(), later) {
            (Ok([Some(_)]), _) => Check::ok("cut", "an order whose line was cut is found: it was created"),
            (Ok([None]), None) => Check::ok("cut", "an order whose line was cut is absent: it was not created"),
            (Ok(_), _) => Check::fail(
                "cut",
                format!("an order whose line was cut was absent after {visible_after:?}, and there later"),
                "raise oms.find.visible_after well above that, or orders double",
            ),
            (Err(failure), _) => Check::warn("cut", failure.to_string(), "look at the OMS"),
        });
    }

    /// Whether an order is found in the next seconds.
    async fn late(&self, order: &Arc<OrderSummary>) -> Option<String> {
        let identity = [order.key.identity()];
        for _ in 0..20 {
            if let Ok([Some(found)]) = self.oms.find(&identity).await.as_deref() {
                return Some(found.id.clone());
            }
            sleep(LOOK).await;
        }
        None
    }
}
