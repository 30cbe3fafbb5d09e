//! `forebay demo`: the main job in one command, and the proof that it was done.
//!
//! Starts this binary's own `serve` on a fresh directory and a reference OMS for it to drain to, plays a flash sale over real HTTP, waits
//! for the drain, and accounts for every delivery. Both are processes of their own: nothing is shared with them but ports. The OMS
//! keeps books too, and what it says must be the same.

mod oms;
mod process;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use forebay_loadtest::{Books, Ledger, Mix, Progress, Sale, Target, play, reconcile};
use serde::Deserialize;
use tokio::process::Child;

use crate::cli::{EXIT_MET, EXIT_MISSED, EXIT_USAGE, fail, print};
use oms::{Judgement, ReferenceOms};

/// What the service promises that any second may see above the ceiling, as so much time of it; at least one order.
const BURST_S: f64 = 0.075;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Orders of the sale; re-sent, amended, cancelled and other deliveries come on top
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    orders: u32,
    /// Deliveries a second, on average
    #[arg(long, value_name = "R", default_value_t = 10_000.0)]
    rate: f64,
    /// The drain's ceiling in orders a second
    #[arg(long, value_name = "R", default_value_t = 1_000.0)]
    drain_rate: f64,
    /// Drain without a ceiling
    #[arg(long)]
    no_governor: bool,
    /// Where the orders go: a reference OMS over HTTP, or the embedded tables
    #[arg(long, value_enum, value_name = "KIND", default_value_t = OmsKind::Reference)]
    oms: OmsKind,
    /// What everything random follows from
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Keep the directory and say where it is
    #[arg(long)]
    keep: bool,
    /// Print the books as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Where the orders go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OmsKind {
    /// In a process of its own, over HTTP, with books of its own.
    Reference,
    /// In the service's own process.
    Sqlite,
}

/// Exit 0 only when the books balance and nothing was lost or doubled.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    let positive = |rate: f64| rate.is_finite() && rate > 0.0;
    if args.orders == 0 || !positive(args.rate) || !positive(args.drain_rate) {
        return fail(EXIT_USAGE, "--orders, --rate and --drain-rate must be above 0");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(demo(args)),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(books) => {
            print(&if args.json { books.json() } else { books.to_string() });
            ExitCode::from(if books.kept() { EXIT_MET } else { EXIT_MISSED })
        }
        Err(error) => fail(EXIT_MISSED, &error),
    }
}

async fn demo(args: &DemoArgs) -> Result<Books, String> {
    let directory = Directory::fresh(args.keep)?;
    let mut screen = Screen::new(args.json);
    screen.say(&format!("preparing {} orders (seed {})", args.orders, args.seed));
    let sale = Sale { orders: args.orders, rate: args.rate, seed: args.seed, ..Sale::default() };
    let mut ledger = Ledger::new(Mix::new(&sale));
    let mut oms = match args.oms {
        OmsKind::Reference => Some(ReferenceOms::start(&directory.path).await?),
        OmsKind::Sqlite => None,
    };
    let mut service = Service::start(&directory.path, args, oms.as_ref()).await?;
    screen.say(&format!("the sale begins; the service is process {}", service.pid));
    let target = service.target;
    let books = tokio::select! {
        books = sale_and_drain(args, &target, &mut ledger, &mut screen) => books,
        ended = service.child.wait() => Err(format!("the service ended in the middle of the sale: {ended:?}")),
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
    };
    screen.end();
    let stopped = service.stop().await;
    let books = books.map_err(|error| service.with_log(&error, &directory))?;
    stopped.map_err(|error| service.with_log(&error, &directory))?;
    if let Some(oms) = &mut oms {
        let judgement = oms.judge().await?;
        screen.say(&judgement.line());
        oms.stop().await?;
        agree(&books, &judgement, (!args.no_governor).then_some(args.drain_rate))?;
    }
    if args.keep {
        screen.say(&format!("kept in {}", directory.path.display()));
    }
    Ok(books)
}

/// Whether the OMS's books say what ours say, and that it was never sent more than the ceiling and a burst.
fn agree(books: &Books, judgement: &Judgement, ceiling: Option<f64>) -> Result<(), String> {
    if judgement.doubles != 0 || judgement.creates != books.summarised {
        return Err(format!(
            "the books say that {} orders were summarised, once each; {}",
            books.summarised,
            judgement.line()
        ));
    }
    match ceiling.map(|rate| rate + (BURST_S * rate).max(1.0)) {
        Some(most) if f64::from(judgement.peak_orders_per_s) > most => Err(format!(
            "the OMS is to be sent at most {most} orders in any one second, a burst included; {}",
            judgement.line()
        )),
        _ => Ok(()),
    }
}

async fn sale_and_drain(
    args: &DemoArgs,
    target: &Target,
    ledger: &mut Ledger,
    screen: &mut Screen,
) -> Result<Books, String> {
    let never = std::future::pending::<()>();
    play(target, ledger, never, |now| screen.show("sale ", now))
        .await
        .map_err(|e| e.to_string())?;
    // Twice the time the ceiling asks for, and a minute: a drain that takes longer is itself a fault.
    let deadline = Duration::from_secs_f64(60.0 + 2.0 * f64::from(args.orders) / args.drain_rate);
    reconcile(ledger, target, deadline, |now| screen.show("drain", now))
        .await
        .map_err(|error| format!("the books cannot be made: {error}"))
}

/// The service under the sale.
struct Service {
    child: Child,
    pid: u32,
    target: Target,
}

/// The line `serve --json` prints when it is ready.
#[derive(Deserialize)]
struct Ready {
    orders: SocketAddr,
    ops: SocketAddr,
    pid: u32,
}

impl Service {
    async fn start(
        directory: &Path,
        args: &DemoArgs,
        oms: Option<&ReferenceOms>,
    ) -> Result<Self, String> {
        // The sale's orders are marked synthetic, and reach only an OMS that is marked as a test one.
        let config = match oms {
            Some(oms) => oms.configuration(directory),
            None => "[oms]\ntest = true\n".to_owned(),
        };
        let file = directory.join("forebay.toml");
        std::fs::write(&file, config).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut command = process::this_binary()?;
        command
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(file)
            .arg("--data-dir")
            .arg(directory.join("data"))
            .args(["--drain-rate", &args.drain_rate.to_string()]);
        if args.no_governor {
            command.arg("--no-governor");
        }
        let log = directory.join("serve.log");
        let (child, ready) = process::start::<Ready>(command, &log, "the service").await?;
        Ok(Self { child, pid: ready.pid, target: Target { orders: ready.orders, ops: ready.ops } })
    }

    /// Asks it to stop, and waits.
    async fn stop(&mut self) -> Result<(), String> {
        process::stop(&mut self.child, "the service").await
    }

    /// The error, with the end of the service's log.
    fn with_log(&self, error: &str, directory: &Directory) -> String {
        let log = std::fs::read_to_string(directory.path.join("serve.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>();
        format!("{error}\nthe service's last words:\n{}", tail.join("\n"))
    }
}

/// A fresh directory, removed at the end unless it is to be kept.
struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    fn fresh(keep: bool) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("forebay-demo-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| {
            format!("cannot make the fresh directory {}: {error}", path.display())
        })?;
        Ok(Self { path, keep })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep {
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

/// Live progress on stderr: one line rewritten on a terminal, a line every two seconds elsewhere.
struct Screen {
    live: bool,
    quiet: bool,
    last: Duration,
}

impl Screen {
    fn new(quiet: bool) -> Self {
        let live = std::io::stderr().is_terminal();
        Self { live, quiet: quiet && !live, last: Duration::ZERO }
    }

    fn say(&mut self, line: &str) {
        if !self.quiet {
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    }

    fn show(&mut self, stage: &str, now: Progress) {
        let line = format!(
            "{stage} {:>5.1} s  in {:>7}  acknowledged {:>7}  refused {:>4}  backlog {:>7}  out {:>7}  oldest {:>5.1} s",
            now.elapsed.as_secs_f64(),
            now.offered,
            now.acknowledged,
            now.refused,
            now.backlog,
            now.summarised,
            now.oldest.unwrap_or_default().as_secs_f64(),
        );
        if self.live {
            drop(write!(std::io::stderr(), "\r{line}\x1b[K"));
        } else if now.elapsed.saturating_sub(self.last) >= Duration::from_secs(2) {
            self.last = now.elapsed;
            self.say(&line);
        }
    }

    fn end(&mut self) {
        if self.live {
            drop(writeln!(std::io::stderr()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(creates: u64, doubles: u64, peak_orders_per_s: u32) -> Judgement {
        Judgement { creates, doubles, peak_orders_per_s, peak_calls_per_s: 9, tokens_issued: 1 }
    }

    #[test]
    fn the_oms_s_books_must_agree_in_number_and_in_pace() {
        let books = Books { summarised: 100, ..Books::default() };
        assert_eq!(agree(&books, &judged(100, 0, 43), Some(40.0)), Ok(()));
        assert_eq!(agree(&books, &judged(100, 0, 2), Some(1.0)), Ok(()), "a burst is one at least");
        assert_eq!(agree(&books, &judged(100, 0, 400), None), Ok(()), "no ceiling is kept");
        for (judgement, why) in [
            (judged(99, 0, 40), "100 orders were summarised"),
            (judged(100, 1, 40), "100 orders were summarised"),
            (judged(100, 0, 44), "at most 43 orders in any one second"),
            (judged(100, 0, 400), "at most 43 orders in any one second"),
        ] {
            let error = agree(&books, &judgement, Some(40.0)).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
