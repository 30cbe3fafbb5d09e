//! Tokens: the smallest pieces of the lexical pass, without any state.

use std::borrow::Cow;

use super::fault::Fault;
use crate::UnreadableKind;

/// The byte at `at`; 0, which is nowhere allowed, past the end.
#[inline]
pub(super) fn byte(body: &[u8], at: usize) -> u8 {
    body.get(at).copied().unwrap_or(0)
}

#[inline]
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The first offset from `at` on that holds no blank.
pub(super) fn blanks(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    at + rest.iter().position(|&b| !is_blank(b)).unwrap_or(rest.len())
}

/// The first offset from `at` on that holds a quote, a backslash or a control character; eight bytes
/// at a time.
#[inline]
pub(super) fn plain(body: &[u8], at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = at;
    while let Some(&chunk) = body.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(chunk);
        // The lowest mark of each term is exact, and the first of the three is what is asked for.
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let stops = control | zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c));
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = body.get(at..).unwrap_or_default();
    let stop = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
    at + rest.iter().position(stop).unwrap_or(rest.len())
}

pub(super) fn hex4(body: &[u8], at: usize) -> Result<u32, Fault> {
    (at..at + 4).try_fold(0, |unit, at| match char::from(byte(body, at)).to_digit(16) {
        Some(digit) => Ok((unit << 4) | digit),
        None => {
            let message = "\\u needs four hexadecimal digits";
            Err(Fault::at(UnreadableKind::Syntax, at.min(body.len()), message))
        }
    })
}

/// The end of the number at `at`.
pub(super) fn number(body: &[u8], at: usize) -> Result<usize, Fault> {
    let digits = |from: usize| {
        let rest = body.get(from..).unwrap_or_default();
        from + rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len())
    };
    let some_digits = |from: usize| {
        let end = digits(from);
        if end == from { Err(unexpected(body, from, "a digit")) } else { Ok(end) }
    };
    let start = if byte(body, at) == b'-' { at + 1 } else { at };
    let mut end = if byte(body, start) == b'0' { start + 1 } else { some_digits(start)? };
    if byte(body, end) == b'.' {
        end = some_digits(end + 1)?;
    }
    if matches!(byte(body, end), b'e' | b'E') {
        let sign = matches!(byte(body, end + 1), b'+' | b'-');
        end = some_digits(end + if sign { 2 } else { 1 })?;
    }
    if byte(body, end).is_ascii_digit() {
        return Err(Fault::at(UnreadableKind::Syntax, end, "a number with a leading zero"));
    }
    Ok(end)
}

pub(super) fn literal(body: &[u8], at: usize, word: &[u8]) -> Result<usize, Fault> {
    let same = body.get(at..).is_some_and(|rest| rest.starts_with(word));
    if same {
        Ok(at + word.len())
    } else {
        Err(unexpected(body, at, "true, false, null or a value"))
    }
}

/// The fault of something else standing where `wanted` must be.
pub(super) fn unexpected(body: &[u8], at: usize, wanted: &'static str) -> Fault {
    let at = at.min(body.len());
    let message = match at == body.len() {
        true => format!("the document ends where {wanted} is expected; was it cut off?"),
        false => format!("expected {wanted}"),
    };
    Fault::at(UnreadableKind::Syntax, at, message)
}

/// A string's text without its escapes; the text was walked before, so that every escape is whole.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let (text, end) = match (byte(raw, at), byte(raw, at + 1)) {
            (b'\\', b'u') => code_point(raw, at),
            (b'\\', escape) => (char::from(plain_escape(escape)), at + 2),
            (other, _) => {
                out.push(other);
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(text.encode_utf8(&mut [0; 4]).as_bytes());
        at = end;
    }
    Cow::Owned(out)
}

fn plain_escape(escape: u8) -> u8 {
    match escape {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

/// The character of a `\u` escape or of a pair of them, and where it ends.
fn code_point(raw: &[u8], at: usize) -> (char, usize) {
    let unit = |at: usize| hex4(raw, at).unwrap_or(0xfffd);
    let first = unit(at + 2);
    if (0xd800..0xdc00).contains(&first) && byte(raw, at + 6) == b'\\' {
        let low = unit(at + 8).wrapping_sub(0xdc00) & 0x3ff;
        let code = 0x1_0000 + ((first - 0xd800) << 10) + low;
        return (char::from_u32(code).unwrap_or('\u{fffd}'), at + 12);
    }
    (char::from_u32(first).unwrap_or('\u{fffd}'), at + 6)
}
