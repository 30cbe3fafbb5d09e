//! From a disk to NATS servers and back, while storefronts go on: the same answers as if nothing had moved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::migrate::{Directory, Migrating, Sealed, embedded_to_nats, nats_to_embedded};
use forebay_buffer::nats::{Login, Nats, NatsConfig};
use forebay_buffer::{
    Act, ActError, ActReceipt, Admission, Answer, AppendError, Buffer, BufferError, Clock,
    Durability, Effect, Embedded, EmbeddedConfig, Envelope, ExceptionCategory, ExceptionRow,
    FeedCursor, FeedError, FeedPage, Lease, OrderState, OrderView, Pace, Permit, Receipt, Status,
    SummarisedPage, Telling, Verdict,
};
use forebay_order::{OrderKey, Readiness};
use proptest::collection::vec;
use proptest::strategy::{Just, Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use crate::commands::{Command, Store, command, run};
use crate::nodes::{key, summarised, until};
use crate::servers::{DEADLINE, Servers};
use crate::support::{HandClock, NOW, answer, delivery, lend, none_to_lend, post, with};

/// Of the cases proptest is set to (256, or PROPTEST_CASES), so many to one of these.
const FEWER: u32 = 20;
/// Cases at once: most of the time of each is a wait for what a sealed stream still stores.
const AT_ONCE: usize = 6;
const LEASE: Duration = Duration::from_millis(300);
/// Tiny, so that segments retire and outcomes go to the index all the time.
const SLOT: u64 = 32 << 10;

/// A buffer of either kind, or on its way.
#[derive(Clone)]
enum Either {
    Disk(Embedded),
    Servers(Nats),
    ToServers(Migrating<Directory, Nats>),
    ToDisk(Migrating<Sealed, Embedded>),
}

macro_rules! each {
    ($of:expr, $buffer:ident => $do:expr) => {
        match $of {
            Either::Disk($buffer) => $do,
            Either::Servers($buffer) => $do,
            Either::ToServers($buffer) => $do,
            Either::ToDisk($buffer) => $do,
        }
    };
}

impl Either {
    async fn hand_over(&self) {
        match self {
            Self::ToServers(buffer) => buffer.hand_over().await,
            Self::ToDisk(buffer) => buffer.hand_over().await,
            Self::Disk(_) | Self::Servers(_) => {}
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::ToServers(buffer) => buffer.progress().done,
            Self::ToDisk(buffer) => buffer.progress().done,
            Self::Disk(_) | Self::Servers(_) => true,
        }
    }
}

type Appended = Result<Receipt, AppendError>;

impl Buffer for Either {
    fn admission(&self) -> &Admission {
        each!(self, buffer => buffer.admission())
    }

    fn append(&self, envelope: Envelope, permit: Permit) -> impl Future<Output = Appended> {
        // Handed in by the call, not by the first poll.
        each!(self, buffer => Box::pin(buffer.append(envelope, permit)) as std::pin::Pin<Box<dyn Future<Output = Appended> + '_>>)
    }

    async fn lease(&self, limit: usize, wait: Duration) -> Result<Vec<Lease>, BufferError> {
        each!(self, buffer => buffer.lease(limit, wait).await)
    }

    async fn lease_ticketed(
        &self,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Lease>, BufferError> {
        each!(self, buffer => buffer.lease_ticketed(limit, wait).await)
    }

    async fn tell(&self, telling: Telling) -> Result<Effect, BufferError> {
        each!(self, buffer => buffer.tell(telling).await)
    }

    fn outstanding(&self) -> u64 {
        each!(self, buffer => buffer.outstanding())
    }

    async fn submitting(&self, leases: &[Lease], synced: bool) -> Result<Vec<bool>, BufferError> {
        each!(self, buffer => buffer.submitting(leases, synced).await)
    }

    async fn order(&self, key: &OrderKey) -> Result<Option<OrderView>, BufferError> {
        each!(self, buffer => buffer.order(key).await)
    }

    async fn body(&self, sequence: u64) -> Result<Option<Bytes>, BufferError> {
        each!(self, buffer => buffer.body(sequence).await)
    }

    async fn exceptions(&self, after: u64, limit: usize) -> Result<Vec<ExceptionRow>, BufferError> {
        each!(self, buffer => buffer.exceptions(after, limit).await)
    }

    async fn act(&self, exception: u64, act: Act) -> Result<ActReceipt, ActError> {
        each!(self, buffer => buffer.act(exception, act).await)
    }

    async fn summarised_since(
        &self,
        since_ms: i64,
        from: u64,
        limit: usize,
    ) -> Result<SummarisedPage, BufferError> {
        each!(self, buffer => buffer.summarised_since(since_ms, from, limit).await)
    }

    async fn send_again(&self, key: &OrderKey) -> Result<bool, BufferError> {
        each!(self, buffer => buffer.send_again(key).await)
    }

    async fn feed(
        &self,
        after: &FeedCursor,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        each!(self, buffer => buffer.feed(after, limit, wait).await)
    }

    async fn status(&self) -> Result<Status, BufferError> {
        each!(self, buffer => buffer.status().await)
    }

    fn health(&self) -> Result<(), String> {
        each!(self, buffer => buffer.health())
    }

    fn durability(&self) -> Durability {
        each!(self, buffer => buffer.durability())
    }

    fn pace(&self) -> Pace {
        each!(self, buffer => buffer.pace())
    }

    fn share(&self) -> f64 {
        each!(self, buffer => buffer.share())
    }

    async fn close(&self) {
        each!(self, buffer => buffer.close().await);
    }
}

/// What moves, each time to a new place.
struct Moving {
    place: tempfile::TempDir,
    nats: NatsConfig,
    clock: Arc<HandClock>,
    /// How often it has moved; at even ones it is on a disk.
    moves: u32,
    random: fastrand::Rng,
    moved: bool,
    /// What the process runs on.
    process: Option<(Runtime, Either)>,
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.die();
    }
}

impl Moving {
    fn new(nats: NatsConfig, clock: &Arc<HandClock>) -> Self {
        Self {
            place: tempfile::tempdir().unwrap(),
            nats,
            clock: Arc::clone(clock),
            moves: 0,
            random: fastrand::Rng::with_seed(7),
            moved: false,
            process: None,
        }
    }

    /// All of its tasks end where they are.
    fn die(&mut self) {
        if let Some((process, buffer)) = self.process.take() {
            process.shutdown_background();
            drop(buffer);
        }
    }

    fn disk(&self, moves: u32) -> EmbeddedConfig {
        let dir: PathBuf = self.place.path().join(format!("{}", moves / 2));
        crate::support::config(&dir, SLOT)
    }

    fn servers(&self, moves: u32) -> NatsConfig {
        NatsConfig { stream: format!("{}-{}", self.nats.stream, moves / 2), ..self.nats.clone() }
    }

    /// Opens it where it is now; `from_before`: on its way there.
    async fn open(&mut self, on_its_way: bool) {
        let process = tokio::runtime::Builder::new_multi_thread();
        let process = { process }.worker_threads(1).enable_all().build().unwrap();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let failed = Box::new(|reason| panic!("the buffer failed: {reason}"));
        let (disk, servers) = (self.disk(self.moves), self.servers(self.moves));
        let before = self.moves.wrapping_sub(1);
        let (old_disk, old_servers) = (self.disk(before), self.servers(before));
        let to_disk = self.moves.is_multiple_of(2);
        let opening = process.spawn(async move {
            // What was aborted lets go of its directory when its last thread does.
            let deadline = Instant::now() + DEADLINE;
            loop {
                let again = match (on_its_way, to_disk) {
                    (false, true) => {
                        let opened =
                            Embedded::open(disk.clone(), Arc::clone(&clock), failed.clone());
                        opened.map(Either::Disk).map_err(|error| error.to_string())
                    }
                    (false, false) => {
                        let opened = Nats::open(servers.clone(), Arc::clone(&clock)).await;
                        opened.map(Either::Servers).map_err(|error| error.to_string())
                    }
                    (true, true) => {
                        let clock = Arc::clone(&clock);
                        let opened =
                            nats_to_embedded(&old_servers, disk.clone(), clock, failed.clone())
                                .await;
                        opened
                            .map(|(buffer, _)| Either::ToDisk(buffer))
                            .map_err(|error| error.to_string())
                    }
                    (true, false) => {
                        let clock = Arc::clone(&clock);
                        let opened =
                            embedded_to_nats(&old_disk, servers.clone(), [7; 32], clock).await;
                        opened.map(Either::ToServers).map_err(|error| error.to_string())
                    }
                };
                match again {
                    Ok(buffer) => return buffer,
                    Err(error) if Instant::now() >= deadline => panic!("{error}"),
                    Err(error) => assert!(
                        error.contains("in use") || error.contains("another process"),
                        "{error}"
                    ),
                }
                sleep(LEASE / 20).await;
            }
        });
        let buffer = opening.await.unwrap();
        self.process = Some((process, buffer));
        let deadline = Instant::now() + DEADLINE;
        while self.buffer().share() == 0.0 {
            self.pass_lease();
            assert!(Instant::now() < deadline, "the partitions are not taken over");
            sleep(LEASE / 10).await;
        }
        // For whoever must wait until those before have noticed.
        self.pass_lease();
        self.jumped().await;
    }

    /// Only for whoever waits for the end of a lease; the wall clock stands.
    fn pass_lease(&self) {
        let ms = i64::try_from(LEASE.as_millis()).unwrap();
        self.clock.advance(ms);
        self.clock.set_wall(-ms);
    }
}

impl Store for Moving {
    type Buffer = Either;
    const KEPT: bool = true;
    const ONE_LINE: bool = false;
    // Of what moved on meanwhile only the present state is told.
    const TELLS_ALL: bool = false;
    const COUNTS_ENDED: bool = false;
    const FORGETS_BYTES: bool = true;

    fn buffer(&self) -> &Either {
        &self.process.as_ref().unwrap().1
    }

    /// What was leased may be leased no more, until that is renewed.
    async fn jumped(&self) {
        let deadline = Instant::now() + DEADLINE;
        while self.buffer().share() < 1.0 {
            assert!(Instant::now() < deadline, "the partition is not held");
            sleep(LEASE / 10).await;
        }
    }

    fn forgot_deaths(&self) -> bool {
        self.moved
    }

    /// Where it was, on with a move that was begun, or off to another place.
    async fn reopen(&mut self) {
        let done = self.process.is_none() || self.buffer().is_done();
        self.die();
        self.moved = !done;
        let goes = done && self.random.u8(..) < 160;
        if goes {
            self.moves += 1;
            self.moved = true;
        }
        self.open(self.moved).await;
        // Otherwise each thing is fetched as it is asked for.
        if self.random.bool() {
            self.buffer().hand_over().await;
            assert!(self.buffer().is_done());
        }
    }
}

/// An order is changed while it is being sent, and then the process ends, in order or not.
fn changed_while_sent() -> impl Strategy<Value = Vec<Command>> {
    let post = |content: u8| Command::Post {
        key: 0,
        content,
        version: Some(content.into()),
        readiness: Readiness::Pending,
        amend: true,
    };
    let ends = proptest::prop_oneof![Just(Command::Close), Just(Command::Crash)];
    ends.prop_map(move |end| {
        vec![post(1), Command::Lease, Command::Sending { nth: 0 }, post(2), end, Command::Lease]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_does_as_the_model_does() {
    tokio::task::LocalSet::new().run_until(Box::pin(moves())).await;
}

async fn moves() {
    let Some(servers) = Servers::start(1).await else { return };
    let config = Config::default();
    let cases = config.cases / FEWER;
    let mut runner = TestRunner::new(config);
    let mut running = tokio::task::JoinSet::new();
    for case in 0..cases {
        // A move for every few commands.
        let command = proptest::prop_oneof![
            6 => command(),
            1 => Just(Command::Close),
            1 => Just(Command::Crash),
        ];
        let begin = proptest::prop_oneof![changed_while_sent(), Just(Vec::new())];
        let commands =
            (begin, vec(command, 1..50)).prop_map(|(begin, go_on)| [begin, go_on].concat());
        let commands = commands.new_tree(&mut runner).unwrap().current();
        println!("{case}: {commands:?}");
        let stream = format!("MOVES-{case}");
        let nats = NatsConfig { stream, partitions: 1, lease: LEASE, ..servers.config() };
        let clock = Arc::new(HandClock::default());
        if running.len() == AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn_local(async move {
            let mut store = Moving::new(nats, &clock);
            store.open(false).await;
            run(store, clock).all(commands).await;
            println!("{case}: done");
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

/// A disk on which orders ended in every way, some so long ago that only their outcome is left, and its clock.
async fn old_disk(dir: &Path, clock: &Arc<HandClock>) -> EmbeddedConfig {
    let config = crate::support::config(dir, SLOT);
    let disk = crate::support::open(config.clone(), clock);
    let early = (0..200).map(|n| format!("early-{n}"));
    for id in early {
        let envelope = Envelope { body: vec![b'e'; 700].into(), ..delivery(&id, 1, Some(1)) };
        assert_eq!(answer(&disk, envelope).await, Answer::Accepted);
        let lease = lend(&disk).await;
        lease.settle(summarised(&format!("OMS-{id}")));
    }
    until("outcomes are all that is left", async || {
        disk.status().await.unwrap().outcomes.outcomes > 100
    })
    .await;
    // A change that came too late for an order of which only the outcome is left.
    assert_eq!(answer(&disk, delivery("early-0", 9, Some(9))).await, Answer::ChangeAfterSummary);
    for id in ["rejected", "discarded", "cancelled", "waits"] {
        assert_eq!(answer(&disk, delivery(id, 1, Some(1))).await, Answer::Accepted);
    }
    for lease in disk.lease(2, NOW).await.unwrap() {
        let reason = "no such product".to_owned();
        lease.settle(Verdict::Exception { category: ExceptionCategory::Rejected, reason });
    }
    let cancel = with(Readiness::Cancelled, delivery("cancelled", 2, Some(2)));
    assert_eq!(answer(&disk, cancel).await, Answer::Cancelled);
    let rows = disk.exceptions(0, 10).await.unwrap();
    let discarded = rows.iter().find(|row| row.key.id == "discarded").unwrap();
    disk.act(discarded.id, Act::Discard).await.unwrap();
    assert_eq!(answer(&disk, delivery("waits", 3, None)).await, Answer::Conflict);
    let unreadable = with(Readiness::Unreadable, delivery("", 5, None));
    assert_eq!(answer(&disk, unreadable).await, Answer::Exception);
    disk.close().await;
    config
}

/// What is asked and answered, the same wherever the orders are.
async fn is_as_it_was<B: Buffer>(buffer: &B) {
    for n in [0, 1, 42, 199] {
        let id = format!("early-{n}");
        let again = post(buffer, delivery(&id, 1, Some(1))).await;
        assert_eq!(again.answer(), Answer::Duplicate, "{id}");
        assert_eq!(again.first().summary_id, Some(format!("OMS-{id}")));
        assert_eq!(
            again.first().sequence,
            buffer.order(&key(&id)).await.unwrap().unwrap().sequence
        );
    }
    let late = answer(buffer, delivery("early-0", 9, Some(9))).await;
    assert_eq!(late, Answer::Duplicate, "a late change is known");
    for (id, state) in [
        ("rejected", OrderState::Exception),
        ("discarded", OrderState::Discarded),
        ("cancelled", OrderState::Cancelled),
        ("waits", OrderState::Pending),
    ] {
        assert_eq!(buffer.order(&key(id)).await.unwrap().unwrap().state, state, "{id}");
        assert_eq!(answer(buffer, delivery(id, 1, Some(1))).await, Answer::Duplicate, "{id}");
    }
    assert_eq!(answer(buffer, delivery("waits", 3, None)).await, Answer::Conflict);
}

/// Key and category of each open exception, and its bytes.
async fn exceptions<B: Buffer>(buffer: &B) -> Vec<(u64, String, &'static str, Option<Bytes>)> {
    let mut all = Vec::new();
    for row in buffer.exceptions(0, 100).await.unwrap() {
        let body = buffer.body(row.id).await.unwrap();
        all.push((row.id, row.key.to_string(), row.category.word(), body));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_outcomes_and_exceptions_go_to_the_servers_and_back() {
    let Some(servers) = Servers::start(1).await else { return };
    let place = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let wall = Arc::clone(&clock) as Arc<dyn Clock>;
    let disk = old_disk(&place.path().join("old"), &clock).await;
    let before = crate::support::open(disk.clone(), &clock);
    is_as_it_was(&before).await;
    let rows = exceptions(&before).await;
    assert_eq!(rows.len(), 4, "{rows:?}");
    before.close().await;

    let stream = "MOVED".to_owned();
    let nats = NatsConfig { stream, partitions: 4, lease: LEASE, ..servers.config() };
    let to = embedded_to_nats(&disk, nats.clone(), [7; 32], Arc::clone(&wall)).await.unwrap();
    assert_eq!(to.new_store().lookup_key(), [7; 32]);
    is_as_it_was(&to).await;
    assert!(!to.progress().done);
    to.hand_over().await;
    is_as_it_was(&to).await;
    until("it has all partitions", async || to.share() == 1.0).await;
    assert_eq!(exceptions(&to).await, rows);
    let progress = to.progress();
    assert!(progress.done && progress.handed_over >= 204, "{progress:?}");
    to.close().await;
    drop(to);
    let on_servers = Nats::open(nats.clone(), Arc::clone(&wall)).await.unwrap();
    until("it has all partitions", async || on_servers.share() == 1.0).await;
    is_as_it_was(&on_servers).await;
    assert_eq!(exceptions(&on_servers).await, rows);
    assert_eq!(on_servers.lookup_key(), [7; 32]);
    let new = post(&on_servers, delivery("new", 1, Some(1))).await;
    assert!(new.sequence() > rows.iter().map(|row| row.0).max().unwrap());
    let again = embedded_to_nats(&disk, nats.clone(), [7; 32], Arc::clone(&wall)).await.unwrap();
    assert!(again.progress().done, "all is there already");
    again.close().await;
    on_servers.close().await;

    let back = crate::support::config(&place.path().join("back"), SLOT);
    let failed = || Box::new(|reason| panic!("the buffer failed: {reason}"));
    let opened = nats_to_embedded(&nats, back.clone(), Arc::clone(&wall), failed()).await;
    let (to, lookup_key) = opened.unwrap();
    assert_eq!(lookup_key, [7; 32]);
    is_as_it_was(&to).await;
    to.hand_over().await;
    is_as_it_was(&to).await;
    assert_eq!(exceptions(&to).await, rows);
    to.close().await;
    drop(to);
    let on_disk = crate::support::open(back, &clock);
    is_as_it_was(&on_disk).await;
    assert_eq!(exceptions(&on_disk).await, rows);
    assert_eq!(answer(&on_disk, delivery("new", 1, Some(1))).await, Answer::Duplicate);
    let newer = post(&on_disk, delivery("newer", 1, Some(1))).await;
    assert!(newer.sequence() > new.sequence());
    on_disk.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_serves_from_a_store_that_is_left_or_not_whole() {
    let Some(servers) = Servers::start(1).await else { return };
    let place = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let wall = || Arc::clone(&clock) as Arc<dyn Clock>;
    let failed = || Box::new(|reason| panic!("the buffer failed: {reason}"));
    let disk = old_disk(&place.path().join("old"), &clock).await;
    let stream = "MOVED".to_owned();
    let nats = NatsConfig { stream, partitions: 4, lease: LEASE, ..servers.config() };
    let says = |said: &str, error: &dyn std::fmt::Display| {
        let error = error.to_string();
        assert!(error.contains(said), "{said}: {error}");
    };

    // Orders of its own.
    let own = NatsConfig { stream: "OWN".to_owned(), ..nats.clone() };
    Nats::open(own.clone(), wall()).await.unwrap().close().await;
    let refused = embedded_to_nats(&disk, own, [7; 32], wall()).await;
    says("holds orders already", &refused.unwrap_err());
    crate::support::open(disk.clone(), &clock).close().await;

    let to = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await.unwrap();
    let refused = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await;
    says("another process", &refused.unwrap_err());
    says("forebay migrate", &Nats::open(nats.clone(), wall()).await.unwrap_err());
    to.close().await;
    drop(to);
    // It died in the middle.
    says("handed over to the stream", &Embedded::open(disk.clone(), wall(), failed()).unwrap_err());
    says("forebay migrate", &Nats::open(nats.clone(), wall()).await.unwrap_err());
    let back = crate::support::config(&place.path().join("back"), SLOT);
    let refused = nats_to_embedded(&nats, back.clone(), wall(), failed()).await;
    says("forebay migrate", &refused.unwrap_err());
    let other = old_disk(&place.path().join("other"), &clock).await;
    let refused = embedded_to_nats(&other, nats.clone(), [7; 32], wall()).await;
    says("another disk", &refused.unwrap_err());
    let to = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await.unwrap();
    to.hand_over().await;
    to.close().await;
    drop(to);

    let node = Nats::open(nats.clone(), wall()).await.unwrap();
    let refused = nats_to_embedded(&nats, disk, wall(), failed()).await;
    says("holds a buffer already", &refused.unwrap_err());
    assert_eq!(answer(&node, delivery("before", 1, None)).await, Answer::Accepted);
    let (to, _) = nats_to_embedded(&nats, back.clone(), wall(), failed()).await.unwrap();
    let envelope = delivery("after", 1, None);
    let permit = node.admission().admit(envelope.body.len()).unwrap();
    says("sealed", &node.append(envelope, permit).await.unwrap_err());
    says("sealed", &node.health().unwrap_err());
    node.close().await;
    assert_eq!(answer(&to, delivery("before", 1, None)).await, Answer::Duplicate);
    none_to_lend(&to).await;
    clock.advance(i64::try_from(LEASE.as_millis()).unwrap());
    assert!(!to.lease(10, NOW).await.unwrap().is_empty(), "who was cut off has noticed by now");
    to.close().await;
    drop(to);
    says("sealed", &Nats::open(nats.clone(), wall()).await.unwrap_err());
    says("forebay migrate", &Embedded::open(back.clone(), wall(), failed()).unwrap_err());
    let (to, _) = nats_to_embedded(&nats, back.clone(), wall(), failed()).await.unwrap();
    to.hand_over().await;
    to.close().await;
    drop(to);
    crate::support::open(back.clone(), &clock).close().await;
    let (again, _) = nats_to_embedded(&nats, back, wall(), failed()).await.unwrap();
    assert!(again.progress().done, "all is there already");
    again.close().await;
}

/// Has the disk take so many orders more, of names that begin like this.
async fn disk_takes_more(disk: &EmbeddedConfig, clock: &Arc<HandClock>, name: &str, count: u32) {
    let on_disk = crate::support::open(disk.clone(), clock);
    for n in 0..count {
        let envelope = delivery(&format!("{name}-{n}"), 1, Some(1));
        assert_eq!(answer(&on_disk, envelope).await, Answer::Accepted);
    }
    on_disk.close().await;
}

/// Every order of the disk is there, and no sequence stands twice.
async fn all_are_there_once<B: Buffer>(buffer: &B, names: &[(&str, u32)]) {
    is_as_it_was(buffer).await;
    let mut seen = BTreeMap::new();
    let ids =
        names.iter().flat_map(|(name, count)| (0..*count).map(move |n| format!("{name}-{n}")));
    for id in ids {
        let again = post(buffer, delivery(&id, 1, Some(1))).await;
        let new = id.starts_with("new");
        assert_eq!(again.answer(), if new { Answer::Accepted } else { Answer::Duplicate }, "{id}");
        let sequence = buffer.order(&key(&id)).await.unwrap().unwrap().sequence;
        assert_eq!(seen.insert(sequence, id.clone()), None, "{id}: {sequence}");
    }
    for (sequence, id) in seen {
        let body = buffer.body(sequence).await.unwrap();
        assert_eq!(body, Some(delivery(&id, 1, Some(1)).body), "{id}: {sequence}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_took_orders_after_a_move_was_begun_and_left_gives_none_of_their_sequences_again()
 {
    let Some(servers) = Servers::start(1).await else { return };
    let place = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let wall = || Arc::clone(&clock) as Arc<dyn Clock>;
    let disk = old_disk(&place.path().join("old"), &clock).await;
    let stream = "MOVED".to_owned();
    let lease = Duration::from_secs(10);
    let nats = NatsConfig { stream, partitions: 4, lease, ..servers.config() };
    let to = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await.unwrap();
    to.close().await;
    drop(to);
    // As if it had ended before it noted on the disk where the orders go, so that this one is served from again.
    std::fs::write(disk.dir.join("handed-over"), "").unwrap();
    disk_takes_more(&disk, &clock, "between", 200).await;

    let refused = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await;
    let refused = refused.map(drop).unwrap_err().to_string();
    assert!(refused.contains("has taken orders since"), "{refused}");
    assert!(
        refused.contains("holds no order yet: remove it (`nats stream rm MOVED`)"),
        "{refused}"
    );
    // It goes on being served from meanwhile.
    disk_takes_more(&disk, &clock, "later", 10).await;
    let client = async_nats::connect(&servers.config().servers[0]).await.unwrap();
    async_nats::jetstream::new(client).delete_stream("MOVED").await.unwrap();

    let to = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await.unwrap();
    // Begun again in the middle, which is no other case.
    to.close().await;
    drop(to);
    let to = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await.unwrap();
    until("it has all partitions", async || to.share() == 1.0).await;
    let names = [("new", 300), ("between", 200), ("later", 10)];
    to.hand_over().await;
    all_are_there_once(&to, &names).await;
    to.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_was_served_from_beside_its_stream_is_not_told_to_remove_that() {
    let Some(servers) = Servers::start(1).await else { return };
    let place = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let wall = || Arc::clone(&clock) as Arc<dyn Clock>;
    let disk = old_disk(&place.path().join("old"), &clock).await;
    let stream = "MOVED".to_owned();
    let lease = Duration::from_secs(10);
    let nats = NatsConfig { stream, partitions: 4, lease, ..servers.config() };
    let to = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await.unwrap();
    assert_eq!(answer(&to, delivery("new", 1, Some(1))).await, Answer::Accepted);
    to.close().await;
    drop(to);
    // By hand.
    std::fs::write(disk.dir.join("handed-over"), "").unwrap();
    disk_takes_more(&disk, &clock, "beside", 200).await;
    let refused = embedded_to_nats(&disk, nats, [7; 32], wall()).await;
    let refused = refused.map(drop).unwrap_err().to_string();
    assert!(refused.contains("has taken orders since"), "{refused}");
    assert!(refused.contains("serve from one of the two"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_refuses_a_move_does_so_before_it_is_begun() {
    let Some(mut servers) = Servers::start_synced(1, false).await else { return };
    let place = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let wall = || Arc::clone(&clock) as Arc<dyn Clock>;
    let disk = old_disk(&place.path().join("old"), &clock).await;
    let sys = || "sys".to_owned();
    let system = Some(Login::User { name: sys(), password: sys() });
    let seen = place.path().join("nats.seen");
    let nats = NatsConfig {
        stream: "MOVED".to_owned(),
        partitions: 4,
        lease: LEASE,
        system,
        seen: Some(seen.clone()),
        ..servers.config()
    };
    let refused = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await;
    let refused = refused.map(drop).unwrap_err().to_string();
    assert!(refused.contains("sync_interval: always"), "{refused}");
    disk_takes_more(&disk, &clock, "between", 100).await;
    servers.kill(0);
    servers.set_synced(true);
    servers.run(0);
    drop(servers.table(|_| {}).await);

    // What was seen is of another store, and nothing is begun by what says so.
    std::fs::write(&seen, "store 0123456789abcdef\nsequence 5\n").unwrap();
    let refused = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await;
    let refused = refused.map(drop).unwrap_err().to_string();
    assert!(refused.contains("another one than this process knew"), "{refused}");
    let table = servers.table(|config| config.stream = "MOVED".to_owned()).await;
    assert_eq!(table.read("MOVED.origin").await.unwrap(), None);
    std::fs::remove_file(&seen).unwrap();
    let to = embedded_to_nats(&disk, nats, [7; 32], wall()).await.unwrap();
    to.hand_over().await;
    until("it has all partitions", async || to.share() == 1.0).await;
    all_are_there_once(&to, &[("new", 50), ("between", 100)]).await;
    to.close().await;
}

/// Lends the order as one that may have been sent, and finds that it was not; its content then, and after that.
async fn was_not_sent<B: Buffer>(buffer: &B) -> (Bytes, Bytes) {
    let mut lease = lend(buffer).await;
    assert!(lease.sent_before);
    let before = lease.body.clone();
    // It was looked for: it is not there, and the change comes first.
    lease.sent_before = false;
    assert_eq!(buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap(), [false]);
    let reason = "it is not there".to_owned();
    lease.settle(Verdict::Retry { after: NOW, counts: false, sent: false, reason });
    let lease = lend(buffer).await;
    assert!(!lease.sent_before);
    (before, lease.body.clone())
}

/// Begins to send the order, and changes it meanwhile.
async fn is_changed_while_it_is_sent<B: Buffer>(buffer: &B, content: u8) {
    let lease = lend(buffer).await;
    assert_eq!(buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap(), [true]);
    let change = delivery("1", content, Some(content.into()));
    assert_eq!(answer(buffer, change).await, Answer::Parked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_waits_for_a_loan_to_end_goes_along() {
    let Some(servers) = Servers::start(1).await else { return };
    let place = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let wall = || Arc::clone(&clock) as Arc<dyn Clock>;
    let stream = "MOVED".to_owned();
    let nats = NatsConfig { stream, partitions: 1, lease: LEASE, ..servers.config() };
    let disk = crate::support::config(&place.path().join("old"), SLOT);
    let on_disk = crate::support::open(disk.clone(), &clock);
    assert_eq!(answer(&on_disk, delivery("1", 1, Some(1))).await, Answer::Accepted);
    is_changed_while_it_is_sent(&on_disk, 2).await;
    on_disk.close().await;
    drop(on_disk);

    let to = embedded_to_nats(&disk, nats.clone(), [7; 32], wall()).await.unwrap();
    to.hand_over().await;
    let contents = was_not_sent(&to).await;
    assert_eq!(contents, (Bytes::from("body 1 1"), Bytes::from("body 1 2")));
    is_changed_while_it_is_sent(&to, 3).await;
    to.close().await;
    drop(to);

    let back = crate::support::config(&place.path().join("back"), SLOT);
    let failed = Box::new(|reason| panic!("the buffer failed: {reason}"));
    let (to, _) = nats_to_embedded(&nats, back, wall(), failed).await.unwrap();
    to.hand_over().await;
    let contents = was_not_sent(&to).await;
    assert_eq!(contents, (Bytes::from("body 1 2"), Bytes::from("body 1 3")));
    to.close().await;
}
