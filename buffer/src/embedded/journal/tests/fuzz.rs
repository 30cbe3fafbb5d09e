//! Directories that were changed at random, from a small corpus: they open or are refused, nothing panics, and no record
//! reads as something that was never written.

use std::sync::Arc;

use super::super::files::{Aligned, Directory};
use super::super::group::{Entry, Heading, assemble};
use super::super::recovery::look_on;
use super::super::{Journal, OpenError};
use super::disk::Disk;
use super::fixture::{corpus, every_record};
use super::support::{ground, open_disk, small};
use crate::codec::put_varint;

/// Inputs of each kind; more with `FOREBAY_FUZZ_INPUTS=100000 cargo test --release -p forebay-buffer fuzz`.
fn inputs() -> u64 {
    let asked = option_env!("FOREBAY_FUZZ_INPUTS").map(|inputs| inputs.parse().unwrap());
    asked.unwrap_or(if cfg!(debug_assertions) { 150 } else { 3_000 })
}

/// One change of some slot's bytes.
fn change(slots: &mut [Vec<u8>], random: &mut fastrand::Rng) {
    let from = random.usize(..slots.len());
    let source = slots[random.usize(..slots.len())].clone();
    let slot = &mut slots[from];
    if slot.len() < 8_192 {
        return;
    }
    // Where there is something, rather than in zeros.
    let used = slot.iter().rposition(|byte| *byte != 0).unwrap_or(1) + 1;
    let at = random.usize(..used);
    let unit = [1, 8, 512, 4_096][random.usize(..4)];
    let start = at / unit * unit;
    let end = (start + unit * random.usize(1..4)).min(slot.len());
    match random.u8(..8) {
        0..3 => slot[at] ^= 1 << random.u8(..8),
        3 => slot[start..end].fill(0),
        4 => random.fill(&mut slot[start..end]),
        5 => {
            let there = random.usize(..source.len()) / unit * unit;
            let len = (end - start).min(source.len() - there);
            slot[start..start + len].copy_from_slice(&source[there..there + len]);
        }
        6 => slot.truncate(at),
        _ => slot.swap(at, random.usize(..used)),
    }
}

#[test]
fn a_directory_changed_at_random_opens_or_is_refused_and_never_reads_wrong() {
    let known = every_record();
    let mut opened = 0;
    for input in 0..inputs() {
        let mut random = fastrand::Rng::with_seed(input);
        let mut slots = corpus(&mut random);
        for _ in 0..random.usize(1..8) {
            change(&mut slots, &mut random);
        }
        let disk = Disk::holding(slots);
        look_on(Arc::new(disk.clone())).ok();
        for _ in 0..2 {
            let (journal, mut recovered) = match Journal::open_on(ground(&disk), &small()) {
                Ok(store) => store,
                Err(OpenError::UnknownFormat { .. } | OpenError::Newer { .. }) => break,
                Err(error) => panic!("input {input}: {error}"),
            };
            opened += 1;
            let reader = journal.reader();
            let replayed = recovered.replay(|replayed| {
                let (sequence, location, _) = replayed.place();
                if let Ok((read, record)) = reader.read(location) {
                    assert_eq!(read, sequence, "input {input}");
                    assert!(known.contains(&record), "input {input}: never written: {record:?}");
                }
            });
            replayed.unwrap();
        }
    }
    assert!(opened > inputs(), "most open: {opened}");
}

/// Extensions that are well formed, of any tag and length, some of them cut or repeated.
fn extensions(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..random.usize(..6) {
        out.push(random.u8(..34));
        let len = random.u32(..40);
        put_varint(&mut out, if random.u8(..20) == 0 { random.u32(..) } else { len });
        let mut value = vec![0; len as usize];
        random.fill(&mut value);
        out.extend(value);
    }
    out
}

#[test]
fn records_of_any_content_under_right_checksums_are_read_passed_over_or_refused() {
    let mut outcomes = [0; 2];
    for input in 0..inputs() {
        let mut random = fastrand::Rng::with_seed(input);
        let disk = Disk::default();
        let (journal, _) = open_disk(&disk);
        let writer = journal.writer.as_ref().unwrap();
        let first_seq = writer.chain.next_seq;
        let heading = Heading {
            group_no: writer.chain.next_group,
            first_seq: if random.bool() { first_seq } else { random.u64(..) },
            durable_seq: if random.bool() { first_seq - 1 } else { random.u64(..) },
            wall_ms: random.i64(..),
            flags: if random.u8(..4) == 0 { random.u32(..8) } else { 0 },
            prev_crc: writer.chain.prev_crc,
        };
        let whole: Vec<_> = (0..random.usize(1..5)).map(|_| extensions(&mut random)).collect();
        let entries: Vec<_> = whole
            .iter()
            .map(|extensions| Entry {
                sequence: if random.bool() { first_seq } else { random.u64(..) },
                kind: random.u8(..26),
                flags: random.u8(..2),
                extensions,
                body: b"body",
            })
            .collect();
        let mut group = Aligned::default();
        let (place, at) = (writer.open.place, writer.open.at);
        let header = assemble(&mut group, &place, at, heading, entries.iter().copied(), |_| {});
        let bytes = group.bytes(usize::try_from(header.bytes()).unwrap());
        let file = Directory::open(&disk, writer.open.slot.number).unwrap();
        file.write_at(at, bytes).unwrap();
        drop(journal);
        look_on(Arc::new(disk.clone())).ok();
        match Journal::open_on(ground(&disk), &small()) {
            Ok((_, mut recovered)) => {
                recovered.replay(|_| {}).unwrap();
                outcomes[0] += 1;
            }
            Err(OpenError::Newer { .. }) => outcomes[1] += 1,
            Err(error) => panic!("input {input}: {error}"),
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}
