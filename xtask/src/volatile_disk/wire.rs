//! The kernel's FUSE messages, as far as a file system of one file needs them.
//!
//! Layouts are those of `linux/fuse.h`, protocol 7.31: native byte order, no padding left out.

/// Largest write the kernel may send; requests are at most this and one page.
pub(super) const WRITE_MAX: u32 = 1 << 20;
/// Inode of the mount's root.
pub(super) const ROOT: u64 = 1;
/// Inode of the one file.
pub(super) const IMAGE: u64 = 2;
/// Name of the one file.
pub(super) const IMAGE_NAME: &[u8] = b"disk.img";

const HEADER: usize = 40;
const BIG_WRITES: u32 = 1 << 5;
const MAX_PAGES: u32 = 1 << 22;
const OPEN_DIRECT_IO: u32 = 1;
/// Seconds the kernel may keep a name or an attribute: they never change.
const VALID_S: u64 = 86_400;

/// One request, parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// What the answer must name.
    pub(super) unique: u64,
    /// What is asked.
    pub(super) call: Call<'a>,
}

/// What the kernel asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call<'a> {
    Init,
    Lookup(&'a [u8]),
    Attributes(u64),
    Open {
        directory: bool,
    },
    Read {
        offset: u64,
        length: u32,
    },
    Write {
        offset: u64,
        bytes: &'a [u8],
    },
    Sync,
    Statistics,
    /// A file or directory handle was closed, which is no sync.
    Close,
    EndOfDirectory,
    /// The mount is going away.
    Destroy,
    /// Told, not asked: no answer is allowed.
    Notice,
    /// Not offered here; 95 (not supported) where the kernel would otherwise believe a success.
    Unsupported(i32),
}

/// Reads one request; `None` if it is shorter than its own header says.
pub(super) fn parse(message: &[u8]) -> Option<Request<'_>> {
    let code = u32_at(message, 4)?;
    let unique = u64_at(message, 8)?;
    let node = u64_at(message, 16)?;
    let body = message.get(HEADER..)?;
    let call = match code {
        1 => Call::Lookup(body.split(|byte| *byte == 0).next()?),
        2 | 36 | 42 => Call::Notice,
        3 | 4 => Call::Attributes(node),
        14 => Call::Open { directory: false },
        27 => Call::Open { directory: true },
        15 => Call::Read { offset: u64_at(body, 8)?, length: u32_at(body, 16)? },
        16 => {
            let length = usize::try_from(u32_at(body, 16)?).ok()?;
            Call::Write { offset: u64_at(body, 8)?, bytes: body.get(40..)?.get(..length)? }
        }
        17 => Call::Statistics,
        20 => Call::Sync,
        18 | 25 | 29 => Call::Close,
        26 => Call::Init,
        28 => Call::EndOfDirectory,
        38 => Call::Destroy,
        43 => Call::Unsupported(95),
        _ => Call::Unsupported(38),
    };
    Some(Request { unique, call })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// A whole answer: the header, then the body; on an error (positive errno) only the header.
pub(super) fn answer(unique: u64, result: Result<&[u8], i32>) -> Vec<u8> {
    let (body, error) = match result {
        Ok(body) => (body, 0),
        Err(errno) => (&[][..], -errno),
    };
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(16 + body.len());
    out.extend(length.to_ne_bytes());
    out.extend(error.to_ne_bytes());
    out.extend(unique.to_ne_bytes());
    out.extend(body);
    out
}

fn words32(out: &mut Vec<u8>, words: &[u32]) {
    out.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

fn words64(out: &mut Vec<u8>, words: &[u64]) {
    out.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

/// The handshake: writes of up to [`WRITE_MAX`], no write-back cache of the kernel's own.
pub(super) fn init() -> Vec<u8> {
    let mut out = Vec::new();
    words32(&mut out, &[7, 31, 65_536, BIG_WRITES | MAX_PAGES]);
    out.extend([12_u16, 9].iter().flat_map(|word| word.to_ne_bytes()));
    words32(&mut out, &[WRITE_MAX, 1]);
    out.extend([256_u16, 0].iter().flat_map(|word| word.to_ne_bytes()));
    words32(&mut out, &[0; 8]);
    out
}

fn attributes_of(node: u64, size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let (size, mode) = if node == IMAGE { (size, 0o100_600) } else { (0, 0o040_700) };
    words64(&mut out, &[node, size, size / 512, 0, 0, 0]);
    words32(&mut out, &[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]);
    out
}

/// The answer to a look-up of the one file.
pub(super) fn entry(size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    words64(&mut out, &[IMAGE, 1, VALID_S, VALID_S]);
    words32(&mut out, &[0, 0]);
    out.extend(attributes_of(IMAGE, size));
    out
}

/// The attributes of a node.
pub(super) fn attributes(node: u64, size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    words64(&mut out, &[VALID_S]);
    words32(&mut out, &[0, 0]);
    out.extend(attributes_of(node, size));
    out
}

/// An open handle. A file is opened past the page cache, which would remember what a cut dropped.
pub(super) fn opened(directory: bool) -> Vec<u8> {
    let mut out = Vec::new();
    words64(&mut out, &[1]);
    words32(&mut out, &[if directory { 0 } else { OPEN_DIRECT_IO }, 0]);
    out
}

/// How much of a write was taken.
pub(super) fn written(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    words32(&mut out, &[u32::try_from(bytes.len()).unwrap_or(u32::MAX), 0]);
    out
}

/// The file system's size.
pub(super) fn statistics(size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    words64(&mut out, &[size / 4096, 0, 0, 2, 0]);
    words32(&mut out, &[4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(code: u32, node: u64, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        words32(&mut out, &[u32::try_from(HEADER + body.len()).unwrap(), code]);
        words64(&mut out, &[77, node]);
        words32(&mut out, &[0, 0, 0, 0]);
        out.extend(body);
        out
    }

    #[test]
    fn a_write_carries_its_bytes() {
        let mut body = Vec::new();
        words64(&mut body, &[1, 4096]);
        words32(&mut body, &[3, 0]);
        words64(&mut body, &[0]);
        words32(&mut body, &[0, 0]);
        body.extend(b"abc");
        let message = request(16, IMAGE, &body);
        let parsed = parse(&message).unwrap();
        assert_eq!(parsed.unique, 77);
        assert_eq!(parsed.call, Call::Write { offset: 4096, bytes: b"abc" });
        assert_eq!(parse(&message[..message.len() - 1]), None, "shorter than it says");
    }

    #[test]
    fn a_name_ends_at_its_zero() {
        let message = request(1, ROOT, b"disk.img\0");
        assert_eq!(parse(&message).unwrap().call, Call::Lookup(b"disk.img"));
    }

    #[test]
    fn answers_have_the_kernel_s_sizes() {
        let sizes = [init().len(), entry(1).len(), attributes(1, 1).len(), opened(true).len()];
        assert_eq!(sizes, [64, 128, 104, 16]);
        assert_eq!([statistics(1).len(), written(b"").len()], [80, 8]);
        assert_eq!(answer(5, Err(5)).len(), 16);
    }
}
