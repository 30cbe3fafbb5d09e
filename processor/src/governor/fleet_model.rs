//! A fleet under one ceiling, simulated: processes that join, die, stand still, are cut off, with clocks of their own pace, each
//! with a real bucket, and some with a smaller ceiling than the others. The leases are as `docs/fleet.md` has them. What the order
//! management system sees is never more than the ceiling and one burst, over any second: the smallest ceiling that was announced for
//! as long as somebody may count on what he heard before.

use std::time::Duration;

use super::allowance::{units_of, whole};
use super::bucket::Bucket;

const SEEDS: u64 = 1_000;
const PARTITIONS: usize = 8;
const NODES: usize = 4;
const LEASE_MS: f64 = 3_000.0;
/// What an owner counts on, of a lease.
const GOOD: f64 = 0.9;
/// Shares are looked at so often.
const LOOK_MS: f64 = 100.0;
const TICK_MS: u64 = 10;
const LASTING_MS: u64 = 40_000;
const CEILING: f64 = 400.0;
/// Of some processes.
const SMALLER: f64 = 200.0;
/// A call lasts so long at most.
const CALL_MS: u64 = 80;
/// How long a message among the nodes' stands.
const ANNOUNCED_MS: u64 = 5_000;
/// The slowest clock's pace.
const SLOWEST: f64 = 0.97;
const BURST_S: f64 = 0.075;

/// A partition's message: who replaced it last, and how often it was.
#[derive(Clone, Copy, Default)]
struct Row {
    owner: Option<usize>,
    version: u64,
}

/// A message among the nodes'.
struct Announced {
    id: u64,
    ceiling: f64,
    /// By true time.
    since: u64,
    until: u64,
}

struct Node {
    alive: bool,
    /// Another one after each start.
    id: u64,
    /// Its own.
    ceiling: f64,
    /// The smallest it heard of, and until when it counts on that, by its clock.
    heard: f64,
    heard_until: f64,
    /// Until when it cannot hear the others, by true time.
    deaf_until: u64,
    /// Until when it stands still, or reaches nobody, by true time.
    still_until: u64,
    cut_until: u64,
    /// Its clock's pace.
    pace: f64,
    /// By its clock: until when it counts a partition as its own.
    good_until: [f64; PARTITIONS],
    /// What it saw of the others' messages, and since when.
    seen: [(u64, f64); PARTITIONS],
    round_at: f64,
    look_at: f64,
    bucket: Bucket,
    /// Its share of the ceiling it keeps to.
    share: f64,
    rate: f64,
    /// Calls under way: orders, and when they are over by true time.
    calls: Vec<(usize, u64)>,
}

struct Fleet {
    random: fastrand::Rng,
    rows: [Row; PARTITIONS],
    nodes: Vec<Node>,
    announced: Vec<Announced>,
    /// For each tick, whether the smaller ceiling held throughout the second before.
    smaller: Vec<bool>,
    /// When each order came to the order management system.
    sent: Vec<u64>,
    /// The same of batches that had passed the last look when their process stood still.
    late: Vec<u64>,
    takeovers: u64,
}

fn nanos(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1e3)
}

impl Node {
    fn new(random: &mut fastrand::Rng) -> Self {
        Self {
            alive: random.bool(),
            id: random.u64(..),
            ceiling: if random.u8(..) < 64 { SMALLER } else { CEILING },
            heard: CEILING,
            heard_until: 0.0,
            deaf_until: 0,
            still_until: 0,
            cut_until: 0,
            pace: SLOWEST + 0.06 * random.f64(),
            good_until: [0.0; PARTITIONS],
            seen: [(u64::MAX, 0.0); PARTITIONS],
            round_at: 0.0,
            look_at: 0.0,
            bucket: Bucket::new(0, 0, 0, 0, Duration::ZERO),
            share: 0.0,
            rate: 0.0,
            calls: Vec::new(),
        }
    }

    fn owned(&self, now: f64) -> usize {
        self.good_until.iter().filter(|until| now < **until).count()
    }

    /// Its governor keeps to its share.
    fn look(&mut self, now: f64) {
        let owned = if now < self.heard_until { self.owned(now) } else { 0 };
        let share = owned as f64 / PARTITIONS as f64;
        let rate = self.ceiling.min(self.heard) * share;
        if rate.total_cmp(&self.rate).is_ne() {
            (self.share, self.rate) = (share, rate);
            let batch = (rate / 40.0).floor().max(1.0);
            let burst = (rate * BURST_S).max(batch);
            match share > 0.0 {
                true => {
                    self.bucket.set(units_of(rate), units_of(burst), units_of(batch), nanos(now))
                }
                false => self.bucket.set(0, 0, 0, nanos(now)),
            }
        }
    }
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let nodes = (0..NODES).map(|_| Node::new(&mut random)).collect();
        let rows = [Row::default(); PARTITIONS];
        let (announced, smaller, sent, late) = Default::default();
        Self { random, rows, nodes, announced, smaller, sent, late, takeovers: 0 }
    }

    fn run(mut self) -> Self {
        let mut smaller_since = None;
        for t in (0..LASTING_MS).step_by(TICK_MS.try_into().unwrap()) {
            self.announced.retain(|one| t < one.until);
            let smaller = self.announced.iter().any(|one| one.ceiling < CEILING && one.holds(t));
            smaller_since = smaller.then(|| smaller_since.unwrap_or(t));
            self.smaller.push(smaller_since.is_some_and(|since| since + 1_000 <= t));
            for n in 0..NODES {
                self.trouble(n, t);
                if self.nodes[n].alive && self.nodes[n].still_until <= t {
                    self.act(n, t);
                }
            }
        }
        self
    }

    /// Now and then a process dies, comes anew, stands still or is cut off.
    fn trouble(&mut self, n: usize, t: u64) {
        let lasting = t + self.random.u64(200..9_000);
        let node = &mut self.nodes[n];
        match self.random.u32(0..4_000) {
            0 => {
                let (alive, pace) = (!node.alive, node.pace);
                *node = Node::new(&mut self.random);
                (node.alive, node.pace) = (alive, pace);
            }
            1 => node.cut_until = lasting,
            3 => node.deaf_until = lasting,
            2 if node.alive && node.still_until <= t => {
                node.still_until = lasting;
                // It may have been about to send one batch.
                let batch = (node.rate / 40.0).floor();
                if let Ok(orders) =
                    node.bucket.take(whole(batch.max(1.0)), nanos(t as f64 * node.pace))
                {
                    self.late.extend(std::iter::repeat_n(lasting, orders));
                    node.calls.push((orders, lasting));
                }
            }
            _ => {}
        }
    }

    fn act(&mut self, n: usize, t: u64) {
        let now = t as f64 * self.nodes[n].pace;
        if now >= self.nodes[n].round_at {
            self.nodes[n].round_at = now + LEASE_MS / 3.0;
            if self.nodes[n].cut_until <= t {
                self.announce(n, t, now);
                self.round(n, now);
            }
        }
        let node = &mut self.nodes[n];
        if now >= node.look_at {
            node.look_at = now + LOOK_MS;
            node.look(now);
        }
        let (over, under_way) = node.calls.drain(..).partition(|(_, over)| *over <= t);
        node.calls = under_way;
        let over: Vec<(usize, u64)> = over;
        over.into_iter().for_each(|(orders, _)| node.bucket.spend(orders, nanos(now)));
        let batch = whole(node.rate / 40.0).max(1);
        // The last look before a send is at the partitions themselves.
        while node.share > 0.0
            && node.owned(now) > 0
            && let Ok(orders) = node.bucket.take(batch, nanos(now))
        {
            let lasting = self.random.u64(5..CALL_MS);
            node.calls.push((orders, t + lasting));
            let at = t + self.random.u64(0..lasting);
            self.sent.extend(std::iter::repeat_n(at, orders));
        }
    }

    /// Says that it is there, and hears who is.
    fn announce(&mut self, n: usize, t: u64, now: f64) {
        let node = &mut self.nodes[n];
        let Node { id, ceiling, .. } = *node;
        match self.announced.iter_mut().find(|one| one.id == id) {
            Some(one) => one.until = t + ANNOUNCED_MS,
            None => {
                let until = t + ANNOUNCED_MS;
                self.announced.push(Announced { id, ceiling, since: t, until });
            }
        }
        if node.deaf_until <= t {
            node.heard = self.announced.iter().map(|one| one.ceiling).fold(CEILING, f64::min);
            node.heard_until = now + GOOD * LEASE_MS;
        }
    }

    /// Replaces its messages, and takes what is free.
    fn round(&mut self, n: usize, now: f64) {
        let live = self.nodes.iter().filter(|node| node.alive).count();
        let fair = PARTITIONS.div_ceil(live.max(1));
        let node = &mut self.nodes[n];
        let mut mine = self.rows.iter().filter(|row| row.owner == Some(n)).count();
        for (p, row) in self.rows.iter_mut().enumerate() {
            let (version, since) = &mut node.seen[p];
            if *version != row.version {
                (*version, *since) = (row.version, now);
            }
            let ours = row.owner == Some(n) && node.good_until[p] > 0.0;
            let free = row.owner.is_none() || now - *since >= LEASE_MS;
            if ours && mine > fair && now < node.good_until[p] {
                // Given up in order: it counts on it no more before anybody can have it.
                (row.owner, mine) = (None, mine - 1);
                node.good_until[p] = 0.0;
                row.version += 1;
            } else if ours || (free && mine < fair) {
                self.takeovers += u64::from(!ours);
                mine += usize::from(!ours);
                (row.owner, row.version) = (Some(n), row.version + 1);
                node.good_until[p] = now + GOOD * LEASE_MS;
            } else {
                node.good_until[p] = 0.0;
            }
        }
        // As with the real one, a share that has shrunk is seen before the partition is another's.
        node.look(now);
    }

    /// The most above what one second may see.
    fn most_over(&mut self) -> f64 {
        self.sent.sort_unstable();
        let mut most = f64::MIN;
        let mut first = 0;
        for (last, at) in self.sent.iter().enumerate() {
            while self.sent[first] + 1_000 <= *at {
                first += 1;
            }
            let smaller = self.smaller.get(usize::try_from(at / TICK_MS).unwrap());
            let ceiling = if smaller == Some(&true) { SMALLER } else { CEILING };
            let allowed = ceiling + ceiling * BURST_S + NODES as f64;
            most = most.max((last - first + 1) as f64 - allowed);
        }
        most
    }
}

impl Announced {
    /// Whether everyone keeps to it: he heard it, or counts on nothing he heard before, and what he sent before has come.
    fn holds(&self, t: u64) -> bool {
        let heard = (GOOD * LEASE_MS + LOOK_MS) / SLOWEST;
        t >= self.since + CALL_MS + TICK_MS + u64::try_from(nanos(heard).as_millis()).unwrap()
    }
}

#[test]
fn a_fleet_keeps_to_one_ceiling_whatever_becomes_of_its_processes() {
    let (mut sent, mut takeovers, mut late, mut smaller) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut fleet = Fleet::new(seed).run();
        let over = fleet.most_over();
        assert!(
            over <= 0.0,
            "seed {seed}: {over} orders above the ceiling and a burst in one second"
        );
        sent += fleet.sent.len();
        takeovers += fleet.takeovers;
        late += fleet.late.len();
        smaller += fleet.smaller.iter().filter(|smaller| **smaller).count();
    }
    // Else it shows nothing.
    assert!(sent as f64 > 0.3 * CEILING * (LASTING_MS * SEEDS) as f64 / 1e3, "{sent}");
    assert!(takeovers > 10 * SEEDS && late > 0, "{takeovers}, {late}");
    let ticks = usize::try_from(LASTING_MS * SEEDS / TICK_MS).unwrap();
    assert!(smaller > ticks / 5 && smaller < ticks * 4 / 5, "{smaller} of {ticks}");
}
