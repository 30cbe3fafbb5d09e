//! File system, space, limits and kernel settings.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::super::check::Check;
use crate::config::Config;

/// What a file system is to a durable store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Local,
    Memory,
    Network,
    Overlay,
    /// A process of this machine answers; what a sync means is its affair.
    User,
}

/// Magic numbers of `statfs`.
const KINDS: [(i64, &str, Kind); 22] = [
    (0xef53, "ext4", Kind::Local),
    (0x5846_5342, "XFS", Kind::Local),
    (0x9123_683e, "Btrfs", Kind::Local),
    (0x2fc1_2fc1, "ZFS", Kind::Local),
    (0xf2f5_2010, "F2FS", Kind::Local),
    (0xca45_1a4e, "bcachefs", Kind::Local),
    (0x0102_1994, "tmpfs", Kind::Memory),
    (0x8584_58f6, "ramfs", Kind::Memory),
    (0x794c_7630, "overlay", Kind::Overlay),
    (0x6969, "NFS", Kind::Network),
    (0x517b, "SMB", Kind::Network),
    (0xff53_4d42, "CIFS", Kind::Network),
    (0xfe53_4d42, "SMB", Kind::Network),
    (0x00c3_6400, "Ceph", Kind::Network),
    (0x0102_1997, "9P", Kind::Network),
    (0x5346_414f, "AFS", Kind::Network),
    (0x7375_7245, "Coda", Kind::Network),
    (0x0bd0_0bd0, "Lustre", Kind::Network),
    (0x0116_1970, "GFS2", Kind::Network),
    (0x7461_636f, "OCFS2", Kind::Network),
    (0x4750_4653, "GPFS", Kind::Network),
    (0x6573_5546, "FUSE", Kind::User),
];

/// The device number of a path; `None` where it cannot be asked.
pub(super) fn device_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.dev())
}

/// Which file system `place` is on.
pub(super) fn file_system(name: &'static str, place: &Path) -> Check {
    match rustix::fs::statfs(place) {
        Ok(found) => judge_file_system(name, found.f_type & 0xffff_ffff),
        Err(error) => Check::fail(
            name,
            format!("{} cannot be looked at: {error}", place.display()),
            "check that it is mounted and this user may enter it",
        ),
    }
}

fn judge_file_system(name: &'static str, magic: i64) -> Check {
    let Some((_, word, kind)) = KINDS.into_iter().find(|(known, _, _)| *known == magic) else {
        return Check::warn(
            name,
            format!("of a kind not known here ({magic:#x})"),
            "make sure that a sync on it survives a power cut; ext4 and XFS on a local disk do",
        );
    };
    match kind {
        Kind::Local => Check::ok(name, format!("{word}, on a disk of this machine")),
        Kind::Memory => Check::warn(
            name,
            format!(
                "{word} is memory: everything accepted is gone at the next restart of the machine"
            ),
            "put data_dir on a disk",
        ),
        Kind::Network => Check::warn(
            name,
            format!(
                "{word}, over the network: what a sync, a lock and a failed write mean is up to its server"
            ),
            "put data_dir on a disk of this machine",
        ),
        Kind::Overlay => Check::warn(
            name,
            format!(
                "{word}: the writable layer of a container, which goes when the container is replaced"
            ),
            "mount a volume as data_dir",
        ),
        Kind::User => Check::warn(
            name,
            format!(
                "{word}: a process stands between Forebay and the disk, and decides what a sync means"
            ),
            "put data_dir on a disk of this machine, unless you know that process to be sound",
        ),
    }
}

/// What the device under `place` says of its own cache; nothing where it says nothing.
pub(super) fn write_cache(place: &Path) -> Option<Check> {
    let device = device_of(place)?;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = format!("/sys/dev/block/{major}:{minor}");
    // A partition's queue is its disk's.
    let read = |queue: &str| std::fs::read_to_string(format!("{device}/{queue}/write_cache")).ok();
    let cache = read("queue").or_else(|| read("../queue"))?;
    Some(match cache.trim() {
        "write back" => {
            Check::ok("device cache", "the device has a volatile cache, and each sync flushes it")
        }
        "write through" => Check::ok(
            "device cache",
            "the device says that it has no volatile cache, so the kernel sends no flushes; true of a disk, a claim of a virtual one",
        ),
        other => Check::ok("device cache", other.to_owned()),
    })
}

/// Free space against what the journal and the feed may take, and against what a burst needs at once.
pub(super) fn space(config: &Config, store: &Path, place: &Path) -> Check {
    let found = match rustix::fs::statvfs(place) {
        Ok(found) => found,
        Err(error) => {
            let finding = format!("{} cannot be asked: {error}", place.display());
            return Check::fail("space", finding, "check that it is mounted");
        }
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let buffer = &config.buffer;
    let room = Room {
        free,
        taken: taken(&store.join("journal")) + taken(&store.join("feed")),
        disk_max: buffer.disk_max.0.saturating_add(config.feed.keep.0),
        // The open segment and the three that settles, carry-forward and the next start need.
        burst: buffer.slot_bytes.0.saturating_mul(u64::from(buffer.burst_reserve) + 4),
    };
    room.judge()
}

struct Room {
    free: u64,
    /// By the journal and the feed already.
    taken: u64,
    disk_max: u64,
    burst: u64,
}

impl Room {
    fn judge(&self) -> Check {
        let mib = |bytes: u64| bytes >> 20;
        let can_take = self.free.saturating_add(self.taken);
        let finding = format!(
            "{} MiB free, {} MiB taken by the journal and the feed, which may take {} MiB",
            mib(self.free),
            mib(self.taken),
            mib(self.disk_max)
        );
        if can_take < self.burst {
            let finding =
                format!("{finding}; the burst reserve alone needs {} MiB", mib(self.burst));
            return Check::fail("space", finding, "free some disk space");
        }
        if can_take < self.disk_max {
            return Check::warn(
                "space",
                format!(
                    "{finding}; the disk is full before that, and orders are refused with 503 then"
                ),
                "free some disk space, or lower buffer.disk_max and feed.keep to what is there",
            );
        }
        Check::ok("space", finding)
    }
}

/// Bytes of disk the files of a directory take.
fn taken(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let blocks = entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.blocks());
    blocks.fold(0, |sum, blocks| sum.saturating_add(blocks.saturating_mul(512)))
}

/// The limit on open files against what all connections and all slots need.
pub(super) fn open_files(config: &Config) -> Check {
    let limit = getrlimit(Resource::Nofile).current;
    let slots = config.buffer.disk_max.0 / config.buffer.slot_bytes.0.max(1);
    let connections = config.door.connections_max as u64;
    judge_open_files(limit, connections, slots)
}

fn judge_open_files(limit: Option<u64>, connections: u64, slots: u64) -> Check {
    // Each slot is open twice, buffered and direct; the rest is databases, listeners, logs.
    let need = connections.saturating_add(slots.saturating_mul(2)).saturating_add(128);
    match limit {
        Some(limit) if limit < need => Check::warn(
            "open files",
            format!(
                "the limit is {limit}; {connections} connections and {slots} slots need {need}, and past it connections fail"
            ),
            format!(
                "ulimit -n {need} (LimitNOFILE={need} for systemd), or lower door.connections_max; this is the limit of who runs the doctor"
            ),
        ),
        Some(limit) => {
            Check::ok("open files", format!("the limit is {limit}, {need} are needed at most"))
        }
        None => Check::ok("open files", "no limit"),
    }
}

/// How many connections may wait to be accepted.
pub(super) fn accept_queue() -> Option<Check> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    let length: u32 = text.trim().parse().ok()?;
    Some(if length < 1_024 {
        Check::warn(
            "accept queue",
            format!(
                "net.core.somaxconn is {length}: a wave of new connections longer than that is dropped"
            ),
            "sysctl net.core.somaxconn=4096",
        )
    } else {
        Check::ok("accept queue", format!("net.core.somaxconn is {length}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn only_disks_of_this_machine_are_trusted() {
        for (magic, level) in [
            (0xef53, Level::Ok),
            (0x5846_5342, Level::Ok),
            (0x0102_1994, Level::Warn),
            (0x794c_7630, Level::Warn),
            (0x6969, Level::Warn),
            (0x6573_5546, Level::Warn),
            (0x1234, Level::Warn),
        ] {
            let check = judge_file_system("file system", magic);
            assert_eq!((check.level, check.advice.is_empty()), (level, level == Level::Ok));
        }
    }

    #[test]
    fn memory_is_told_from_a_disk() {
        let shared_memory = Path::new("/dev/shm");
        if shared_memory.is_dir() {
            assert!(file_system("file system", shared_memory).finding.contains("tmpfs is memory"));
        }
    }

    #[test]
    fn space_counts_what_the_journal_has_already() {
        let room = Room { free: 10 << 30, taken: 6 << 30, disk_max: 16 << 30, burst: 1 << 30 };
        assert_eq!(room.judge().level, Level::Ok);
        assert_eq!(Room { taken: 0, ..room }.judge().level, Level::Warn);
        assert_eq!(Room { taken: 0, free: 1 << 20, ..room }.judge().level, Level::Fail);
    }

    #[test]
    fn every_connection_and_every_slot_needs_a_handle() {
        assert_eq!(judge_open_files(Some(1_024), 10_000, 256).level, Level::Warn);
        assert_eq!(judge_open_files(Some(10_640), 10_000, 256).level, Level::Ok);
        assert_eq!(judge_open_files(None, 10_000, 256).level, Level::Ok);
    }
}
