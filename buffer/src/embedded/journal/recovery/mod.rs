//! From the bytes on disk to a journal that may be written to.
//!
//! First everything is read and judged, and nothing is touched ([`survey`], [`chain`]). Then a fresh segment is begun, the
//! last group, which nothing proves, and whatever verifies of a group that was under way are copied into it and synced,
//! the live slots and the directory are synced, and the journal is ready. Nothing else is written, so a crash
//! anywhere in between finds the same bytes again.

mod chain;
mod look;
mod progress;
mod replay;
mod sealed;
mod segment;
mod survey;
mod walk;
mod window;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::chain::Chain;
#[cfg(test)]
pub(super) use self::look::look_on;
pub use self::look::{Damage, DamageKind, SegmentSummary};
pub(crate) use self::look::{Look, LookError, look};
use self::progress::Progress;
pub(crate) use self::replay::Recovered;
use self::segment::{Live as LiveSegmentFound, all_records, decode, last_group, tail_range};
use self::survey::{Survey, place};
use self::walk::{Salvaged, salvage};
use super::files::{Aligned, Directory, RealDirectory};
use super::group::{COPIES_END, COPY, Entry, HEADER, Heading, assemble, descriptor_bytes};
use super::header::{Header, OPENED, Store, valid_slot_bytes};
use super::layout::{GROUPS_AT, group_max};
use super::reader::{Live, LiveSegment};
use super::seal::{Index, IndexEntry};
use super::slots::{Census, NoSlot, Purpose, RESERVED, Slot, Slots};
use super::types::{OpenError, Options, Segment};
use super::writer::{Chain as GroupChain, OpenSegment, Writer};
use crate::codec::len32;
use crate::codec::{self, kinds};

/// What the journal stands on; other than the machine's in tests.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) directory: Arc<dyn Directory>,
    /// Random bytes, for a new store's identity and secret.
    pub(super) random: fn() -> std::io::Result<[u8; 32]>,
    /// Whether a thread makes and prepares spare slots.
    pub(super) filler: bool,
    /// Where no slot could be made, that thread tries again after so long.
    pub(super) retry_pause: Duration,
}

/// Opens the journal in `dir`, making it if need be.
pub(super) fn open(dir: &Path, options: &Options) -> Result<(Writer, Recovered), OpenError> {
    let locked = RealDirectory::lock(dir)
        .map_err(|source| io(&format!("opening {}", dir.display()), source))?;
    let mut directory = locked.ok_or_else(|| OpenError::Locked(dir.to_owned()))?;
    let chosen = directory.choose(options.write_mode);
    if !chosen.map_err(|source| io("trying direct writes", source))? {
        return Err(OpenError::NoDirect(dir.to_owned()));
    }
    let ground = Ground {
        directory: Arc::new(directory),
        random,
        filler: true,
        retry_pause: Duration::from_secs(5),
    };
    open_on(ground, dir, options)
}

fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}

/// Opens the journal on `ground`; `dir` is for messages.
pub(super) fn open_on(
    ground: Ground,
    dir: &Path,
    options: &Options,
) -> Result<(Writer, Recovered), OpenError> {
    let mut survey = survey::survey(&*ground.directory)?;
    let store = survey.store.map_or_else(|| new_store(options, ground.random), Ok)?;
    let slots_max = options.disk_max / store.slot_bytes;
    if slots_max < u64::from(RESERVED) + 2 {
        return Err(OpenError::Options(format!(
            "disk_max of {} bytes holds {slots_max} slots of {} bytes; it must hold at least {}",
            options.disk_max,
            store.slot_bytes,
            RESERVED + 2
        )));
    }
    let mut progress = Progress::new(&*options.clock);
    let mut chain = chain::chain(&mut survey, &store, true, &mut progress)?;
    if let Some(from) = options.goes_on {
        chain.next_seq = chain.next_seq.max(from.next_sequence);
    }
    let carry = Carry::gather(&mut chain)?;
    if survey.max_epoch >= u64::from(u32::MAX) {
        return Err(OpenError::Options("the store has used up its epochs".to_owned()));
    }
    let start = Start { ground, dir, options, store };
    start.begin(survey, chain, carry)
}

fn io(what: &str, source: std::io::Error) -> OpenError {
    OpenError::Io { what: what.to_owned(), source }
}

fn new_store(
    options: &Options,
    random: fn() -> std::io::Result<[u8; 32]>,
) -> Result<Store, OpenError> {
    if !valid_slot_bytes(options.slot_bytes) {
        return Err(OpenError::Options(format!(
            "slot_bytes of {} is no multiple of 4096 from 32 KiB to 1 GiB",
            options.slot_bytes
        )));
    }
    let random = random().map_err(|source| io("reading random bytes for a new store", source))?;
    let (mut uuid, mut secret) = ([0; 16], [0; 16]);
    for (to, from) in uuid.iter_mut().chain(secret.iter_mut()).zip(random) {
        *to = from;
    }
    if let Some(from) = options.goes_on {
        secret = from.secret;
    }
    Ok(Store { uuid, secret, slot_bytes: options.slot_bytes })
}

/// What the fresh segment begins with: what nothing proves yet.
#[derive(Debug, Default)]
struct Carry {
    records: Vec<Salvaged>,
    first_seq: Option<u64>,
    next_group: u64,
    prev_crc: u32,
    prev_epoch: u64,
    /// The youngest segment holds nothing of its own: its slot is free once the copies are durable.
    voided: Option<LiveSegmentFound>,
}

impl Carry {
    fn gather(chain: &mut Chain) -> Result<Self, OpenError> {
        let mut carry = Self { next_group: 1, ..Self::default() };
        let (mut copied, mut torn) = (Vec::new(), Vec::new());
        let youngest = chain.segments.iter().rposition(|live| live.last.is_some());
        let tails = chain.segments.clone();
        let tails = tails.get(youngest.unwrap_or_default()..).unwrap_or_default();
        for live in tails {
            if let (Some((_, first)), Some((_, last))) = (live.first, live.last) {
                let again = live.candidate.opened && live.only_copies;
                copied = if again { all_records(live) } else { last_group(live) };
                carry.first_seq = Some(if again { first.first_seq } else { last.first_seq });
                (carry.next_group, carry.prev_crc) = (last.group_no + 1, last.crc);
            }
            if let Some(range) = tail_range(live) {
                torn.push((live, salvage(live.candidate.place, &live.candidate.slot.file, range)));
            }
        }
        carry.prev_epoch = tails.last().map_or(0, |live| live.candidate.place.epoch);
        let whole = torn.iter().all(|(_, found)| found.is_empty())
            && copied.iter().all(|record| record.body.is_some());
        if let [live] = tails
            && let (Some((_, first)), true) = (live.first, whole)
            && live.candidate.opened
            && live.only_copies
            && live.holes.is_empty()
        {
            (carry.next_group, carry.prev_crc) = (first.group_no, first.prev_crc);
            carry.prev_epoch = live.candidate.prev_epoch.unwrap_or_default();
            carry.voided = Some(live.clone());
        }
        for (live, found) in tails.first().map(|live| (live, copied)).into_iter().chain(torn) {
            carry.take(live, found, chain)?;
        }
        carry.records.sort_by_key(|record| record.descriptor.sequence);
        carry.records.dedup_by_key(|record| record.descriptor.sequence);
        if carry.voided.is_some() {
            chain.segments.pop();
        }
        Ok(carry)
    }

    fn take(
        &mut self,
        live: &LiveSegmentFound,
        found: Vec<Salvaged>,
        chain: &mut Chain,
    ) -> Result<(), OpenError> {
        for salvaged in found {
            chain.next_seq = chain.next_seq.max(salvaged.descriptor.sequence.saturating_add(1));
            chain.note_damaged(live, &salvaged, false)?;
            if salvaged.body.is_some() && salvaged.descriptor.kind != kinds::SEAL {
                self.records.push(salvaged);
            }
        }
        Ok(())
    }
}

/// What it takes to begin writing.
struct Start<'a> {
    ground: Ground,
    dir: &'a Path,
    options: &'a Options,
    store: Store,
}

impl Start<'_> {
    fn begin(
        self,
        survey: Survey,
        chain: Chain,
        carry: Carry,
    ) -> Result<(Writer, Recovered), OpenError> {
        let (spare, misfits): (Vec<Slot>, Vec<Slot>) =
            survey.spare.into_iter().chain(chain.spare.iter().cloned()).partition(|slot| {
                slot.file.bytes().is_ok_and(|bytes| bytes == self.store.slot_bytes)
            });
        let census = Census {
            total: survey.total,
            quarantined: survey.quarantined + chain.quarantined,
            next_number: survey.next_number,
            spare,
        };
        let slots = Slots::new(
            Arc::clone(&self.ground.directory),
            self.store,
            self.options.burst_reserve,
            self.options.disk_max,
            self.ground.retry_pause,
            census,
        );
        let header = Header {
            store: self.store,
            flags: OPENED,
            epoch: survey.max_epoch + 1,
            slot: 0,
            prev_epoch: carry.prev_epoch,
            retired_below: chain.retired_below,
            wall_ms: self.options.clock.wall_ms(),
        };
        let slot = slots.take(header, Purpose::Opening).map_err(|no_slot| self.no_room(no_slot))?;
        let mut writer = self.writer(slots, &chain, &carry, header, slot);
        self.write_copies(&mut writer, &carry)?;
        for live in &chain.segments {
            let synced = live.candidate.slot.file.sync();
            synced.map_err(|source| io("syncing a live slot", source))?;
        }
        self.ground.directory.sync().map_err(|source| io("syncing the directory", source))?;
        writer.slots.discard(misfits);
        writer.slots.give_back(carry.voided.map(|live| live.candidate.slot));
        if self.ground.filler {
            let started = writer.slots.start();
            started.map_err(|source| io("starting the thread for spare slots", source))?;
        }
        writer.prepare_next();
        let mut report = survey.report;
        report.extend(chain.report);
        let recovered = Recovered::new(chain.segments, &writer.open, chain.damaged, report);
        Ok((writer, recovered))
    }

    fn no_room(&self, no_slot: NoSlot) -> OpenError {
        match no_slot {
            NoSlot::Full(reason) => OpenError::NoRoom { dir: self.dir.to_owned(), reason },
            NoSlot::Failed(failed) => {
                io("beginning a fresh segment", std::io::Error::other(failed.to_string()))
            }
        }
    }

    fn writer(
        &self,
        slots: Slots,
        chain: &Chain,
        carry: &Carry,
        header: Header,
        slot: Slot,
    ) -> Writer {
        let live = Arc::new(Live::default());
        let mut segments = std::collections::VecDeque::new();
        for found in &chain.segments {
            let place = found.candidate.place;
            live.add(LiveSegment { place, slot: found.candidate.slot.clone() });
            let bytes = found.last.map_or(GROUPS_AT, |(offset, header)| offset + header.bytes());
            segments.push_back(Segment { epoch: place.epoch, bytes, records: found.records });
        }
        let place = place(&self.store, header.epoch, slot.number);
        live.add(LiveSegment { place, slot: slot.clone() });
        segments.push_back(Segment { epoch: header.epoch, bytes: GROUPS_AT, records: 0 });
        Writer {
            slots,
            live,
            clock: Arc::clone(&self.options.clock),
            store: self.store,
            open: OpenSegment { place, slot, at: GROUPS_AT, index: Index::new(&self.store.secret) },
            segments,
            chain: GroupChain {
                next_group: carry.next_group,
                next_seq: chain.next_seq,
                durable_seq: chain.next_seq - 1,
                prev_crc: carry.prev_crc,
                unproven: false,
            },
            checkpointed: chain.retired_below,
            retired_below: chain.retired_below,
            payload: 0,
            scratch: Default::default(),
        }
    }

    /// Writes the copies, in one group or, where they do not fit one, in several.
    fn write_copies(&self, writer: &mut Writer, carry: &Carry) -> Result<(), OpenError> {
        let bytes = |record: &Salvaged| {
            descriptor_bytes(record.extensions.len()) + record.body.as_ref().map_or(0, |b| b.len())
        };
        let max = group_max(self.store.slot_bytes);
        let mut rest = carry.records.as_slice();
        let mut first_seq = carry.first_seq;
        loop {
            let mut total = HEADER as u64;
            let fitting = rest.iter().take_while(|record| {
                total += bytes(record) as u64;
                total <= max
            });
            let (now, later) = rest.split_at(fitting.count().min(rest.len()));
            let end = if later.is_empty() { COPIES_END } else { 0 };
            self.write_copy(writer, now, first_seq, COPY | end)?;
            if later.is_empty() {
                return Ok(());
            }
            (rest, first_seq) = (later, None);
        }
    }

    fn write_copy(
        &self,
        writer: &mut Writer,
        records: &[Salvaged],
        first_seq: Option<u64>,
        flags: u32,
    ) -> Result<(), OpenError> {
        let next_seq = writer.chain.next_seq;
        let lowest = records.first().map(|record| record.descriptor.sequence);
        let heading = Heading {
            group_no: writer.chain.next_group,
            first_seq: first_seq.or(lowest).unwrap_or(next_seq).min(lowest.unwrap_or(next_seq)),
            durable_seq: next_seq - 1,
            wall_ms: self.options.clock.wall_ms(),
            flags,
            prev_crc: writer.chain.prev_crc,
        };
        let entries = records.iter().map(|record| Entry {
            sequence: record.descriptor.sequence,
            kind: record.descriptor.kind,
            flags: record.descriptor.flags,
            extensions: &record.extensions,
            body: record.body.as_deref().unwrap_or_default(),
        });
        let mut offsets = Vec::with_capacity(records.len());
        let mut group = Aligned::default();
        let (place, at) = (writer.open.place, writer.open.at);
        let header =
            assemble(&mut group, &place, at, heading, entries, |offset| offsets.push(offset));
        let written = writer.put(&header, &group);
        written.map_err(|failed| {
            io("copying the last group", std::io::Error::other(failed.to_string()))
        })?;
        writer.chain.unproven |= !records.is_empty();
        for (record, offset) in records.iter().zip(offsets) {
            let descriptor = record.descriptor;
            let body_len = len32(record.body.as_ref().map_or(0, |body| body.len()));
            let entry = IndexEntry {
                sequence: descriptor.sequence,
                offset,
                body_len,
                kind: descriptor.kind,
                plain: None,
                skippable: descriptor.flags & codec::SKIPPABLE != 0,
            };
            let slot = place.slot;
            let decoded = decode(slot, descriptor.kind, descriptor.flags, &record.extensions)?;
            writer.open.index.push(entry, decoded.as_ref());
        }
        Ok(())
    }
}
