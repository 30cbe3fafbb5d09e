//! Unpacking gzip within the budget: what counts is what comes out.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use forebay_buffer::Permit;

use crate::body::{BodyFault, Paid};

/// How many times its packed size a body may unpack to, once it is longer than [`RATIO_FREE`].
pub(crate) const RATIO_MAX: usize = 200;
const RATIO_FREE: usize = 1 << 20;

/// Members of one gzip body. Each costs a fresh decoder, so their number is bounded too.
const MEMBERS_MAX: usize = 1024;

/// Why a gzip body was not unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateFault {
    /// More bytes than a body may have.
    TooLarge,
    /// More than [`RATIO_MAX`] times its packed size.
    Ratio,
    /// The in-flight budget is used up.
    Overloaded,
    /// Not gzip, damaged, cut short, or with something behind its end.
    Damaged,
}

/// Unpacks all members of `packed`. The permit, which has paid for the packed bytes, pays for the unpacked ones too
/// and comes back with them; memory never exceeds the smaller of the two limits by more than one step.
///
/// # Errors
/// [`InflateFault`]; unpacking stopped where the limit was reached.
pub(crate) fn inflate(
    packed: &[u8],
    permit: Permit,
    bytes_max: usize,
) -> Result<(Permit, Bytes), (InflateFault, Permit)> {
    let ratio_max = packed.len().saturating_mul(RATIO_MAX).max(RATIO_FREE);
    let mut sink = Sink { paid: Paid::new(permit, 0, bytes_max.min(ratio_max)), fault: None };
    let outcome = members(packed, &mut sink);
    let fault = match (outcome, sink.fault) {
        (Ok(()), _) => return Ok(sink.paid.into_parts()),
        (Err(_), Some(BodyFault::Overloaded)) => InflateFault::Overloaded,
        (Err(_), Some(BodyFault::TooLarge)) if ratio_max < bytes_max => InflateFault::Ratio,
        (Err(_), Some(BodyFault::TooLarge)) => InflateFault::TooLarge,
        (Err(_), _) => InflateFault::Damaged,
    };
    Err((fault, sink.paid.into_parts().0))
}

fn members(packed: &[u8], sink: &mut Sink) -> std::io::Result<()> {
    let mut rest = packed;
    for _ in 0..MEMBERS_MAX {
        let mut decoder = GzDecoder::new(rest);
        std::io::copy(&mut decoder.by_ref(), sink)?;
        rest = decoder.into_inner();
        if rest.is_empty() {
            return Ok(());
        }
    }
    Err(std::io::ErrorKind::InvalidData.into())
}

struct Sink {
    paid: Paid,
    fault: Option<BodyFault>,
}

impl Write for Sink {
    fn write(&mut self, chunk: &[u8]) -> std::io::Result<usize> {
        self.paid.push(chunk).map_err(|fault| {
            self.fault = Some(fault);
            std::io::Error::from(std::io::ErrorKind::Other)
        })?;
        Ok(chunk.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use forebay_buffer::Admission;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(packed: &[u8], bytes_max: usize) -> Result<Bytes, InflateFault> {
        let permit = Admission::new(1, 64 << 20).admit(packed.len()).unwrap();
        inflate(packed, permit, bytes_max).map(|(_, plain)| plain).map_err(|(fault, _)| fault)
    }

    #[test]
    fn all_members_are_unpacked_and_nothing_else() {
        let mut two = gzip(b"one,");
        two.extend(gzip(b"two"));
        assert_eq!(unpack(&two, 100).as_deref(), Ok(&b"one,two"[..]));
        assert_eq!(unpack(&gzip(b""), 100).as_deref(), Ok(&b""[..]));
        let whole = gzip(b"some text that is packed");
        for cut in 0..whole.len() {
            assert_eq!(unpack(&whole[..cut], 100), Err(InflateFault::Damaged), "cut at {cut}");
        }
        let mut trailing = whole.clone();
        trailing.extend(b"behind");
        assert_eq!(unpack(&trailing, 100), Err(InflateFault::Damaged));
        let mut flipped = whole;
        let crc = flipped.len() - 6;
        flipped[crc] ^= 1;
        assert_eq!(unpack(&flipped, 100), Err(InflateFault::Damaged));
        assert_eq!(unpack(b"plain text", 100), Err(InflateFault::Damaged));
    }

    #[test]
    fn a_bomb_is_cut_where_the_limit_is() {
        let bomb = gzip(&vec![b'0'; 32 << 20]);
        assert!(bomb.len() < 64 << 10);
        assert_eq!(unpack(&bomb, 1 << 20), Err(InflateFault::TooLarge));
        assert_eq!(unpack(&bomb, 64 << 20), Err(InflateFault::Ratio));
        let admission = Admission::new(1, 2 << 20);
        let (fault, permit) = inflate(&bomb, admission.admit(0).unwrap(), 16 << 20).unwrap_err();
        assert_eq!(fault, InflateFault::Overloaded);
        assert!(admission.in_flight().1 <= 2 << 20);
        drop(permit);
        assert_eq!(admission.in_flight(), (0, 0));
    }

    #[test]
    fn very_many_members_are_not_unpacked() {
        let many = gzip(b"x").repeat(MEMBERS_MAX + 1);
        assert_eq!(unpack(&many, 1 << 20), Err(InflateFault::Damaged));
        let enough = gzip(b"x").repeat(MEMBERS_MAX);
        assert_eq!(unpack(&enough, 1 << 20).map(|b| b.len()), Ok(MEMBERS_MAX));
    }
}
