//! Damages of a stopped store, all from one seed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result, While as _};

const BLOCK: u64 = 4096;
/// Flips that one copy takes together.
const FLIPS: u32 = 12;

/// One damage.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Damage {
    /// One bit of a slot.
    Flip { slot: PathBuf, at: u64, bit: u8 },
    /// So many blocks of a slot are zeros.
    Zeros { slot: PathBuf, at: u64, blocks: u64 },
    /// A slot ends here.
    Truncated { slot: PathBuf, at: u64 },
    /// One copy of a slot's header, or both.
    Header { slot: PathBuf, copies: Vec<u64> },
    /// Two slots have each other's bytes.
    Swapped { one: PathBuf, other: PathBuf },
    /// A slot has the bytes of some time before.
    Stale { slot: PathBuf },
    /// A run of the outcome index: a bit, its end, or all of it.
    Index { file: PathBuf, way: &'static str },
}

/// Damages a copy: a few flips at independent places, or one greater damage; at most so many.
pub(super) fn some(
    buffer: &Path,
    early: &Path,
    most: u32,
    random: &mut fastrand::Rng,
) -> Result<Vec<Damage>> {
    let journal = buffer.join("journal");
    let damages = match random.u32(0..14) {
        0..=5 => {
            let count = random.u32(1..=FLIPS.min(most));
            (0..count).map(|_| flip(&journal, random)).collect::<Result<Vec<_>>>()?
        }
        6 | 7 => vec![zeros(&journal, random)?],
        8 => vec![truncated(&journal, random)?],
        9 | 10 => vec![header(&journal, random)?],
        11 => vec![swapped(&journal, random)?],
        12 => vec![stale(&journal, early, random)?],
        _ => vec![index(&buffer.join("outcomes"), random)?],
    };
    for damage in &damages {
        damage.inflict(early).when(format_args!("{damage:?}"))?;
    }
    Ok(damages)
}

/// Damages a copy so that what had ended early is forgotten: of a slot that held it, all behind the header is zeros.
pub(super) fn forgetting(buffer: &Path, early: &Path) -> Result<Vec<Damage>> {
    let (slot, end) = filled(early)?.swap_remove(0);
    let name =
        slot.file_name().ok_or_else(|| Failure::Broken("a slot without a name".to_owned()))?;
    let slot = buffer.join("journal").join(name);
    let damage = Damage::Zeros { slot, at: 2 * BLOCK, blocks: end.div_ceil(BLOCK) };
    damage.inflict(early).when(format_args!("{damage:?}"))?;
    Ok(vec![damage])
}

/// Slots that are not all zeros behind their headers, each with where its bytes end.
fn filled(journal: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut filled = Vec::new();
    for entry in fs::read_dir(journal).when("listing the slots")? {
        let path = entry.when("listing the slots")?.path();
        let bytes = fs::read(&path).when("reading a slot")?;
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
        if end > 2 * BLOCK {
            filled.push((path, end));
        }
    }
    filled.sort();
    if filled.is_empty() {
        return Err(Failure::Broken("there is no filled slot to damage".to_owned()));
    }
    Ok(filled)
}

fn one_of(journal: &Path, random: &mut fastrand::Rng) -> Result<(PathBuf, u64)> {
    let filled = filled(journal)?;
    let at = random.usize(0..filled.len());
    filled.into_iter().nth(at).ok_or_else(|| Failure::Broken("no slot".to_owned()))
}

fn flip(journal: &Path, random: &mut fastrand::Rng) -> Result<Damage> {
    let (slot, end) = one_of(journal, random)?;
    Ok(Damage::Flip { slot, at: random.u64(0..end), bit: random.u8(0..8) })
}

fn zeros(journal: &Path, random: &mut fastrand::Rng) -> Result<Damage> {
    let (slot, end) = one_of(journal, random)?;
    let at = random.u64(0..end.div_ceil(BLOCK)) * BLOCK;
    Ok(Damage::Zeros { slot, at, blocks: random.u64(1..=16) })
}

fn truncated(journal: &Path, random: &mut fastrand::Rng) -> Result<Damage> {
    let (slot, end) = one_of(journal, random)?;
    Ok(Damage::Truncated { slot, at: random.u64(0..end) })
}

fn header(journal: &Path, random: &mut fastrand::Rng) -> Result<Damage> {
    let (slot, _) = one_of(journal, random)?;
    let copies = random.choice([vec![0], vec![1], vec![0, 1]]).unwrap_or_default();
    Ok(Damage::Header { slot, copies })
}

fn swapped(journal: &Path, random: &mut fastrand::Rng) -> Result<Damage> {
    let (one, _) = one_of(journal, random)?;
    let mut others: Vec<_> = fs::read_dir(journal)
        .when("listing the slots")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| *path != one)
        .collect();
    others.sort();
    let other = random.choice(others).ok_or_else(|| Failure::Broken("one slot".to_owned()))?;
    Ok(Damage::Swapped { one, other })
}

fn stale(journal: &Path, early: &Path, random: &mut fastrand::Rng) -> Result<Damage> {
    let changed = filled(journal)?.into_iter().filter_map(|(slot, _)| {
        let before = fs::read(early.join(slot.file_name()?)).ok()?;
        (fs::read(&slot).ok()? != before).then_some(slot)
    });
    let slot = random.choice(changed.collect::<Vec<_>>());
    Ok(Damage::Stale { slot: slot.ok_or_else(|| Failure::Broken("no stale slot".to_owned()))? })
}

fn index(outcomes: &Path, random: &mut fastrand::Rng) -> Result<Damage> {
    let mut files: Vec<_> = fs::read_dir(outcomes)
        .when("listing the index")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "run"))
        .collect();
    files.sort();
    let file =
        random.choice(files).ok_or_else(|| Failure::Broken("no run of the index".to_owned()))?;
    let way = random.choice(["flip", "truncate", "fill"]).unwrap_or("fill");
    Ok(Damage::Index { file, way })
}

impl Damage {
    fn inflict(&self, early: &Path) -> std::io::Result<()> {
        let open = |path: &Path| File::options().read(true).write(true).open(path);
        match self {
            Self::Flip { slot, at, bit } => {
                let file = open(slot)?;
                let mut byte = [0];
                file.read_exact_at(&mut byte, *at)?;
                file.write_all_at(&byte.map(|byte| byte ^ (1 << bit)), *at)
            }
            Self::Zeros { slot, at, blocks } => {
                let file = open(slot)?;
                let rest = file.metadata()?.len().saturating_sub(*at);
                let bytes = usize::try_from((blocks * BLOCK).min(rest)).unwrap_or_default();
                file.write_all_at(&vec![0; bytes], *at)
            }
            Self::Truncated { slot, at } => open(slot)?.set_len(*at),
            Self::Header { slot, copies } => {
                let file = open(slot)?;
                copies.iter().try_for_each(|copy| file.write_all_at(&[0xa5; 64], copy * BLOCK + 40))
            }
            Self::Swapped { one, other } => {
                let (first, second) = (fs::read(one)?, fs::read(other)?);
                fs::write(one, second)?;
                fs::write(other, first)
            }
            Self::Stale { slot } => {
                let name = slot.file_name().unwrap_or_default();
                fs::copy(early.join(name), slot).map(drop)
            }
            Self::Index { file, way } => {
                let bytes = fs::read(file)?;
                let half = bytes.len() / 2;
                match *way {
                    "flip" => {
                        let mut bytes = bytes;
                        if let Some(byte) = bytes.get_mut(half) {
                            *byte ^= 0x10;
                        }
                        fs::write(file, bytes)
                    }
                    "truncate" => fs::write(file, bytes.get(..half).unwrap_or_default()),
                    _ => fs::write(file, vec![0xa5; bytes.len()]),
                }
            }
        }
    }
}
