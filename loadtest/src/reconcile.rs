//! After the sale: every delivery into one bucket of the books, every key found or not.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rust_decimal::Decimal;
use tokio::time::MissedTickBehavior;

use crate::answer::{Answer, Outcome};
use crate::books::Books;
use crate::client::{CallError, Connection};
use crate::clock::now;
use crate::drain::Drain;
use crate::evidence::{Evidence, Keys, State};
use crate::ledger::{Entry, Ledger};
use crate::mix::{Delivery, Kind, Mix};
use crate::play::LOOK_EVERY;
use crate::watch::Watch;
use crate::{Progress, Target};

/// Waits until the drain is done (nothing pending, leased or submitted) or the deadline has passed, then
/// asks the server for every order of the ledger and makes the books.
///
/// `progress` is called about every 200 ms while the drain is waited for.
///
/// # Errors
/// The ops listener does not answer: without its evidence there are no books.
pub async fn reconcile(
    ledger: &Ledger,
    target: &Target,
    deadline: Duration,
    progress: impl FnMut(Progress),
) -> Result<Books, CallError> {
    drained(ledger, target, deadline, progress).await?;
    let elapsed = ledger.book().started.map_or(Duration::ZERO, |started| started.elapsed());
    let mix = ledger.mix();
    let entries = ledger.entries();
    let evidence = gather(mix, &entries, target).await?;
    let mut books = Tally::new(mix, &entries, &evidence).books();
    let drain = Drain::of(evidence.commits);
    let book = ledger.book();
    books.offered = book.offered;
    books.offered_per_s = tenths(book.offered_per_s());
    books.backlog_peak = book.backlog_peak;
    books.drain_peak_per_s = tenths(drain.peak_per_s);
    books.drain_mean_per_s = tenths(drain.mean_per_s);
    books.drain_ceiling_per_s = book.seen.ceiling_per_s;
    drop(book);
    books.accept_p50_ms = ledger.latency(0.5).as_secs_f64() * 1e3;
    books.accept_p99_ms = ledger.latency(0.99).as_secs_f64() * 1e3;
    books.seed = mix.sale.seed;
    books.elapsed_s = tenths(elapsed.as_secs_f64());
    books.balanced = books.balanced();
    Ok(books)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Waits for the drain. Twice in a row nothing under way, so that no order between two states is missed.
async fn drained(
    ledger: &Ledger,
    target: &Target,
    deadline: Duration,
    mut progress: impl FnMut(Progress),
) -> Result<(), CallError> {
    let start = now();
    let began = ledger.book().started.unwrap_or(start);
    let mut watch = Watch::new(target.ops);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle = 0;
    loop {
        tick.tick().await;
        let late = start.elapsed() >= deadline;
        match watch.look().await {
            Ok(seen) => {
                idle = if seen.under_way() == 0 { idle + 1 } else { 0 };
                let mut book = ledger.book();
                book.saw(seen);
                progress(Progress::new(began.elapsed(), &book));
            }
            Err(error) if late => return Err(error),
            Err(_) => idle = 0,
        }
        if idle >= 2 || late {
            return Ok(());
        }
    }
}

/// Reads the OMS's list, then asks for what it does not have.
async fn gather(mix: &Mix, entries: &[Entry], target: &Target) -> Result<Evidence, CallError> {
    let mut ops = Connection::new(target.ops);
    let keys = Keys::of(mix);
    let mut evidence = Evidence::default();
    evidence.read_oms(&mut ops, &keys).await?;
    evidence.read_exceptions(&mut ops).await?;
    let mut moved = false;
    for key in keys_to_ask(mix, entries) {
        if !evidence.rows.contains_key(&key) {
            let state = evidence.ask(&mut ops, mix, key).await?;
            moved |= state == Some(State::Summarised);
        }
    }
    if moved {
        // Summarised since the list was read, or nowhere: the end of the list tells.
        evidence.read_oms(&mut ops, &keys).await?;
    }
    Ok(evidence)
}

/// Keys that were sent at all, except those the server said are no orders.
fn keys_to_ask(mix: &Mix, entries: &[Entry]) -> Vec<u32> {
    let mut asked = HashSet::new();
    let sent = mix.deliveries.iter().zip(entries).filter(|(_, entry)| entry.tries > 0);
    let orders = sent.filter(|(_, entry)| {
        !matches!(entry.answer, Answer::Acknowledged { outcome: Outcome::Recorded, .. })
    });
    orders.filter_map(|(d, _)| d.key).filter(|key| asked.insert(*key)).collect()
}

/// What the deliveries of one key say together.
#[derive(Default)]
struct OfKey {
    sent: bool,
    acknowledged: bool,
    first_accepted: u64,
    cancelled: bool,
    held: bool,
    released: bool,
    /// Total of the newest version the server surely has as content.
    certain: Option<(u32, Decimal)>,
    /// Totals that may have taken effect as well.
    possible: Vec<Decimal>,
}

impl OfKey {
    fn add(&mut self, delivery: &Delivery, entry: Entry) {
        self.sent |= entry.tries > 0;
        self.released |= delivery.kind == Kind::Release && entry.tries > 0;
        let outcome = match entry.answer {
            Answer::Acknowledged { outcome, .. } => outcome,
            // A definite refusal; after trouble of the server's, or an earlier try, it may be there.
            Answer::Refused { status } if status < 500 && entry.tries <= 1 => return,
            Answer::Refused { .. } | Answer::None => {
                if entry.tries > 0 {
                    self.possible.push(delivery.total);
                }
                return;
            }
        };
        // A body that is no order, sent again, is a duplicate, and still no order.
        self.acknowledged |= outcome.has_order() && delivery.kind != Kind::NotAnOrder;
        self.first_accepted += u64::from(outcome.is_first());
        self.cancelled |= outcome == Outcome::Cancelled;
        self.held |= outcome == Outcome::Held;
        match outcome {
            Outcome::Accepted | Outcome::Held | Outcome::Amended | Outcome::Duplicate
                if entry.tries == 1 || outcome != Outcome::Duplicate =>
            {
                let newer = self.certain.is_none_or(|(version, _)| version <= delivery.version);
                if newer {
                    self.certain = Some((delivery.version, delivery.total));
                }
            }
            Outcome::Duplicate | Outcome::Parked => self.possible.push(delivery.total),
            _ => {}
        }
    }

    /// Whether that total in the OMS is what was sent.
    fn allows(&self, total: Decimal) -> bool {
        self.certain.is_some_and(|(_, certain)| certain == total) || self.possible.contains(&total)
    }
}

/// The fate of an order at the end.
#[derive(Clone, Copy)]
enum Fate {
    Held,
    Cancelled,
    Pending,
    Submitted,
    Summarised,
    Exception,
}

/// The evidence laid beside the ledger.
struct Tally<'a> {
    mix: &'a Mix,
    entries: &'a [Entry],
    evidence: &'a Evidence,
    books: Books,
}

impl<'a> Tally<'a> {
    fn new(mix: &'a Mix, entries: &'a [Entry], evidence: &'a Evidence) -> Self {
        Self { mix, entries, evidence, books: Books::default() }
    }

    fn books(mut self) -> Books {
        let mut keys: HashMap<u32, OfKey> = HashMap::with_capacity(self.mix.keys.len());
        for (delivery, entry) in self.mix.deliveries.iter().zip(self.entries) {
            self.delivery(delivery, *entry);
            if let Some(key) = delivery.key {
                keys.entry(key).or_default().add(delivery, *entry);
            }
        }
        for (key, of) in &keys {
            self.key(*key, of);
        }
        self.books
    }

    /// Puts one delivery into its bucket.
    fn delivery(&mut self, delivery: &Delivery, entry: Entry) {
        let books = &mut self.books;
        let (outcome, sequence) = match entry.answer {
            Answer::Acknowledged { outcome, sequence } => (outcome, sequence),
            Answer::Refused { .. } => {
                books.refused += 1;
                return;
            }
            Answer::None => {
                books.unknown += u64::from(entry.tries > 0);
                return;
            }
        };
        books.acknowledged += 1;
        let cancel = delivery.kind == Kind::Cancel;
        match outcome {
            Outcome::Duplicate => books.duplicates += 1,
            Outcome::ChangeAfterSummary if cancel => books.cancels += 1,
            Outcome::Amended | Outcome::Parked | Outcome::ChangeAfterSummary => books.amended += 1,
            Outcome::Stale => books.stale += 1,
            Outcome::Cancelled | Outcome::Tombstone => books.cancels += 1,
            Outcome::Conflict | Outcome::ConflictRecorded => books.conflicts += 1,
            Outcome::Recorded => books.recorded += 1,
            Outcome::Exception if self.evidence.exceptions.contains(&sequence) => {
                books.exceptions += 1;
            }
            Outcome::Accepted | Outcome::Held | Outcome::Exception => {
                let fate = delivery.key.and_then(|key| self.fate(key));
                self.first_accepted(fate, delivery.key.is_none());
            }
        }
    }

    fn first_accepted(&mut self, fate: Option<Fate>, keyless: bool) {
        let books = &mut self.books;
        match fate {
            Some(Fate::Held) => books.held += 1,
            Some(Fate::Cancelled) => books.cancelled += 1,
            Some(Fate::Pending) => books.pending += 1,
            Some(Fate::Submitted) => books.submitted += 1,
            Some(Fate::Summarised) => books.summarised += 1,
            Some(Fate::Exception) => books.exceptions += 1,
            // A lost order is counted by its key; a lost body has none.
            None => books.lost += u64::from(keyless),
        }
    }

    /// Where an order is; `None` where it is nowhere.
    fn fate(&self, key: u32) -> Option<Fate> {
        if self.evidence.rows.contains_key(&key) {
            return Some(Fate::Summarised);
        }
        match self.evidence.states.get(&key)? {
            State::Held => Some(Fate::Held),
            State::Pending | State::Leased => Some(Fate::Pending),
            State::Submitted => Some(Fate::Submitted),
            State::Exception | State::Discarded => Some(Fate::Exception),
            State::Cancelled => Some(Fate::Cancelled),
            // The buffer says the OMS has it, and the OMS has not.
            State::Summarised | State::Recorded => None,
        }
    }

    /// Judges one key by all its deliveries.
    fn key(&mut self, key: u32, of: &OfKey) {
        let found = self.fate(key).is_some();
        let books = &mut self.books;
        books.lost += u64::from(of.acknowledged && !found);
        books.found_unacknowledged += u64::from(!of.acknowledged && found);
        books.accepted_twice += u64::from(of.first_accepted > 1);
        let Some(row) = self.evidence.rows.get(&key) else { return };
        books.doubled += u64::from(row.creates > 1);
        books.unwanted += u64::from(of.cancelled || (of.held && !of.released));
        let right = row.total.is_some_and(|total| of.allows(total));
        books.wrong_total += u64::from(of.acknowledged && !right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sale;
    use crate::evidence::Row;
    use crate::mix::{Channel, Key};

    fn mix(deliveries: Vec<Delivery>) -> Mix {
        let key = |n: u32| Key {
            channel: Channel::Forebay,
            source: "demo".into(),
            id: format!("order {n}"),
        };
        let keys = deliveries.iter().filter_map(|d| d.key).max().map_or(0, |most| most + 1);
        let sale = Sale::default();
        Mix { sale, requests: Vec::new(), deliveries, keys: (0..keys).map(key).collect() }
    }

    fn delivery(kind: Kind, key: u32, version: u32, total: i64) -> Delivery {
        Delivery { kind, key: Some(key), version, total: Decimal::from(total) }
    }

    fn said(outcome: Outcome) -> Entry {
        Entry { answer: Answer::Acknowledged { outcome, sequence: 7 }, tries: 1 }
    }

    fn books(deliveries: Vec<Delivery>, entries: &[Entry], evidence: &Evidence) -> Books {
        Tally::new(&mix(deliveries), entries, evidence).books()
    }

    fn row(total: i64, creates: u64) -> Row {
        Row { total: Some(Decimal::from(total)), creates }
    }

    /// One delivery of a pending order that the OMS has, and one more of its key, answered so.
    fn second(kind: Kind, outcome: Outcome) -> Books {
        let deliveries = vec![delivery(Kind::Plain, 0, 0, 5), delivery(kind, 0, 1, 5)];
        let mut evidence = Evidence::default();
        evidence.rows.insert(0, row(5, 1));
        books(deliveries, &[said(Outcome::Accepted), said(outcome)], &evidence)
    }

    fn bucket(books: &Books, name: &str) -> u64 {
        books.twelve().into_iter().find(|(other, _)| *other == name).unwrap().1
    }

    #[test]
    fn later_deliveries_of_every_outcome_have_one_bucket_and_the_books_balance() {
        for (kind, outcome, name) in [
            (Kind::Resent, Outcome::Duplicate, "duplicates"),
            (Kind::Amended, Outcome::Amended, "amended"),
            (Kind::Amended, Outcome::Parked, "amended"),
            (Kind::Cancel, Outcome::Parked, "amended"),
            (Kind::Amended, Outcome::ChangeAfterSummary, "amended"),
            (Kind::Cancel, Outcome::ChangeAfterSummary, "cancels"),
            (Kind::Cancel, Outcome::Tombstone, "cancels"),
            (Kind::Amended, Outcome::Stale, "stale"),
            (Kind::Conflicting, Outcome::Conflict, "conflicts"),
            (Kind::Conflicting, Outcome::ConflictRecorded, "conflicts"),
            (Kind::NotAnOrder, Outcome::Recorded, "recorded"),
        ] {
            let books = second(kind, outcome);
            assert_eq!(bucket(&books, name), 1, "{kind:?} {outcome:?} {books}");
            assert_eq!((books.acknowledged, books.summarised), (2, 1));
            assert!(books.kept(), "{kind:?} {outcome:?} {books}");
        }
    }

    #[test]
    fn a_first_delivery_counts_by_the_fate_of_its_order() {
        for (state, name) in [
            (State::Held, "held"),
            (State::Pending, "pending"),
            (State::Leased, "pending"),
            (State::Submitted, "submitted"),
            (State::Exception, "exceptions"),
            (State::Discarded, "exceptions"),
            (State::Cancelled, "cancelled"),
        ] {
            let mut evidence = Evidence::default();
            evidence.states.insert(0, state);
            let books =
                books(vec![delivery(Kind::Plain, 0, 0, 5)], &[said(Outcome::Accepted)], &evidence);
            assert_eq!((bucket(&books, name), books.lost), (1, 0), "{state:?}");
            assert!(books.balanced());
        }
    }

    #[test]
    fn an_order_the_oms_should_have_and_has_not_is_lost() {
        for state in [None, Some(State::Summarised), Some(State::Recorded)] {
            let mut evidence = Evidence::default();
            evidence.states.extend(state.map(|state| (0, state)));
            let deliveries = vec![delivery(Kind::Plain, 0, 0, 5)];
            let books = books(deliveries, &[said(Outcome::Accepted)], &evidence);
            assert_eq!(books.lost, 1, "{state:?}");
            assert!(!books.balanced());
        }
    }

    #[test]
    fn a_body_without_a_key_is_looked_for_among_the_exceptions() {
        let malformed = Delivery { kind: Kind::Malformed, key: None, version: 0, total: 1.into() };
        let mut evidence = Evidence::default();
        let lost = books(vec![malformed], &[said(Outcome::Exception)], &evidence);
        assert_eq!((lost.lost, lost.exceptions), (1, 0));
        evidence.exceptions.insert(7);
        let found = books(vec![malformed], &[said(Outcome::Exception)], &evidence);
        assert_eq!((found.lost, found.exceptions, found.balanced()), (0, 1, true));
    }

    #[test]
    fn no_answer_is_unknown_and_a_refusal_is_refused_whatever_is_found() {
        let deliveries = vec![delivery(Kind::Plain, 0, 0, 5), delivery(Kind::Plain, 1, 0, 5)];
        let entries = [
            Entry { answer: Answer::None, tries: 4 },
            Entry { answer: Answer::Refused { status: 503 }, tries: 4 },
        ];
        let mut evidence = Evidence::default();
        let absent = books(deliveries.clone(), &entries, &evidence);
        assert_eq!((absent.unknown, absent.refused, absent.found_unacknowledged), (1, 1, 0));
        evidence.rows.extend([(0, row(5, 1)), (1, row(5, 1))]);
        let there = books(deliveries, &entries, &evidence);
        assert_eq!((there.unknown, there.refused, there.found_unacknowledged), (1, 1, 2));
        assert!(absent.kept() && there.kept());
    }

    #[test]
    fn what_was_never_sent_is_nothing() {
        let entries = [Entry::default()];
        let books = books(vec![delivery(Kind::Plain, 0, 0, 5)], &entries, &Evidence::default());
        assert_eq!(books, Books::default());
    }

    #[test]
    fn doubles_by_the_counter_and_two_accepts_of_one_key() {
        let mut evidence = Evidence::default();
        evidence.rows.insert(0, row(5, 2));
        let deliveries = vec![delivery(Kind::Plain, 0, 0, 5), delivery(Kind::Resent, 0, 0, 5)];
        let entries = [said(Outcome::Accepted), said(Outcome::Accepted)];
        let books = books(deliveries, &entries, &evidence);
        assert_eq!((books.doubled, books.accepted_twice, books.kept()), (1, 1, false));
    }

    /// The OMS's total against what was sent: which totals are right.
    fn wrong(second: Entry, total: i64) -> bool {
        let deliveries = vec![delivery(Kind::Plain, 0, 0, 5), delivery(Kind::Amended, 0, 1, 6)];
        let mut evidence = Evidence::default();
        evidence.rows.insert(0, row(total, 1));
        books(deliveries, &[said(Outcome::Accepted), second], &evidence).wrong_total > 0
    }

    #[test]
    fn the_total_is_that_of_the_last_accepted_version() {
        assert!(!wrong(said(Outcome::Amended), 6));
        assert!(wrong(said(Outcome::Amended), 5));
        assert!(!wrong(said(Outcome::ChangeAfterSummary), 5));
        assert!(wrong(said(Outcome::ChangeAfterSummary), 6));
        assert!(wrong(said(Outcome::Conflict), 6));
        // Parked, or nobody knows: either is right, a third is not.
        let unknown = Entry { answer: Answer::None, tries: 4 };
        let late = Entry { answer: Answer::Refused { status: 503 }, tries: 4 };
        for open in [said(Outcome::Parked), unknown, late] {
            assert!(!wrong(open, 5) && !wrong(open, 6) && wrong(open, 7), "{open:?}");
        }
    }

    #[test]
    fn an_order_cancelled_in_time_or_held_must_not_be_in_the_oms() {
        let mut evidence = Evidence::default();
        evidence.rows.insert(0, row(5, 1));
        let order = |kind| vec![delivery(Kind::Plain, 0, 0, 5), delivery(kind, 0, 1, 5)];
        let cancelled = [said(Outcome::Accepted), said(Outcome::Cancelled)];
        assert_eq!(books(order(Kind::Cancel), &cancelled, &evidence).unwanted, 1);
        let held = [said(Outcome::Held), said(Outcome::Amended)];
        assert_eq!(books(order(Kind::Release), &held, &evidence).unwanted, 0);
        let still = [said(Outcome::Held), said(Outcome::Duplicate)];
        assert_eq!(books(order(Kind::Resent), &still, &evidence).unwanted, 1);
    }
}
