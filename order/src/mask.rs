//! Card data: finds card numbers and verification values in texts, and replaces their digits by `*`.
//!
//! A card number is an issuer's prefix, that issuer's exact number of digits and a right check digit
//! (Luhn), its digits together or grouped by single blanks or hyphens. All three are asked for, since a
//! check digit alone is right for one number in ten. A format says which of its texts are looked at:
//! free text and payment fields, never identifiers, product codes or phones.

use bytes::Bytes;

use crate::MaskedSpan;

/// Fewest digits of a card number.
pub(crate) const CARD_MIN: usize = 12;

/// Most digits of one.
const CARD_MAX: u32 = 19;

/// Names of card verification fields, in small letters without `_`, `-` and blanks.
const VERIFICATION_NAMES: &[&[u8]] = &[
    b"cvv",
    b"cvc",
    b"csc",
    b"cvn",
    b"cvv2",
    b"cvc2",
    b"cvvcode",
    b"cvccode",
    b"cardcvv",
    b"cardcvc",
    b"cardcvv2",
    b"cardcvc2",
    b"cardcsc",
    b"cccvv",
    b"cccvc",
    b"cccid",
    b"creditcardcvv",
    b"creditcardcvc",
    b"cardcode",
    b"securitycode",
    b"cardsecuritycode",
    b"creditcardsecuritycode",
    b"cardverification",
    b"cardverificationcode",
    b"cardverificationvalue",
    b"cardverificationnumber",
    b"verificationvalue",
    b"verificationcode",
];

/// Whether a member or element of this name holds a card verification value. Case, `_`, `-`, blanks
/// and a namespace-like `_` before it do not matter.
#[inline]
pub(crate) fn is_verification_name(name: &[u8]) -> bool {
    // Asked of every string of every order, so nearly all are turned away by their first bytes.
    let Some(first) = name.first() else { return false };
    matches!(first, b'c' | b'C' | b's' | b'S' | b'v' | b'V' | b'_') && may_be_one(name)
}

fn may_be_one(name: &[u8]) -> bool {
    let [first, second, _, ..] = name else { return false };
    let may_be = match first | 0x20 {
        b'c' => matches!(second | 0x20, b'v' | b's' | b'c' | b'a' | b'r'),
        b's' | b'v' => second | 0x20 == b'e',
        _ => *first == b'_',
    };
    may_be && is_one_of_the_names(name)
}

#[inline(never)]
fn is_one_of_the_names(name: &[u8]) -> bool {
    let first = |at: usize| name.get(at).map(u8::to_ascii_lowercase);
    let begins = match first(0) {
        Some(b'c') => match (first(1), first(2)) {
            (Some(b'v'), _) | (Some(b's' | b'c'), Some(b'c')) => true,
            (Some(b'a'), Some(b'r')) | (Some(b'r'), Some(b'e')) => first(3) == Some(b'd'),
            _ => false,
        },
        Some(b's') => (first(1), first(2)) == (Some(b'e'), Some(b'c')),
        Some(b'v') => (first(1), first(2)) == (Some(b'e'), Some(b'r')),
        Some(b'_') => matches!(first(1), Some(b'c' | b's' | b'v')),
        _ => false,
    };
    if !begins || name.len() > 32 {
        return false;
    }
    let mut plain = [0u8; 32];
    let mut length = 0;
    for byte in name.iter().filter(|b| !matches!(b, b'_' | b'-' | b' ')) {
        if let Some(place) = plain.get_mut(length) {
            *place = byte.to_ascii_lowercase();
            length += 1;
        }
    }
    let plain = plain.get(..length).unwrap_or_default();
    VERIFICATION_NAMES.contains(&plain)
}

/// Notes the value of a verification field: three or four digits, blanks around them allowed.
/// `offset` is where `text` stands in the item.
pub(crate) fn verification_value(text: &[u8], offset: usize, spans: &mut Vec<MaskedSpan>) {
    let digits = text.trim_ascii();
    if matches!(digits.len(), 3 | 4) && digits.iter().all(u8::is_ascii_digit) {
        let before = text.len() - text.trim_ascii_start().len();
        push(spans, offset + before, digits.len());
    }
}

/// Notes every card number in `text`, one span for each group of digits.
/// `offset` is where `text` stands in the item.
pub(crate) fn card_numbers(text: &[u8], offset: usize, spans: &mut Vec<MaskedSpan>) {
    let mut from = 0;
    while let Some((start, end)) = next_run(text, from) {
        from = end;
        in_run(text.get(start..end).unwrap_or_default(), offset + start, spans);
    }
}

/// Whether the text is one card number and nothing else, its digits together.
pub(crate) fn is_card_number(text: &[u8]) -> bool {
    text.len() >= CARD_MIN
        && text.iter().all(u8::is_ascii_digit)
        && longest_card(text, 0) == Some(text.len())
}

/// Whether the bytes can hold a card number at all; false for nearly every order, and quick.
pub(crate) fn may_hold_card(bytes: &[u8]) -> bool {
    let mut from = 0;
    let mut spans = Vec::new();
    while let Some((start, end)) = next_run(bytes, from) {
        from = end;
        in_run(bytes.get(start..end).unwrap_or_default(), start, &mut spans);
        // Digits of a \uXXXX before the run would hide it from the check.
        let before = bytes.get(start.saturating_sub(5)..start + 4).unwrap_or_default();
        if !spans.is_empty() || memchr::memmem::find(before, b"\\u").is_some() {
            return true;
        }
    }
    false
}

/// The bytes with every span's digits replaced; the same memory if there is no span.
pub(crate) fn apply(bytes: Bytes, spans: &[MaskedSpan]) -> Bytes {
    if spans.is_empty() {
        return bytes;
    }
    let mut masked = bytes.to_vec();
    for span in spans {
        let start = span.start as usize;
        if let Some(digits) = masked.get_mut(start..start + span.len as usize) {
            digits.fill(b'*');
        }
    }
    masked.into()
}

/// Notes a run of bytes.
pub(crate) fn push(spans: &mut Vec<MaskedSpan>, start: usize, len: usize) {
    if let (Ok(start), Ok(len)) = (u32::try_from(start), u32::try_from(len)) {
        spans.push(MaskedSpan { start, len });
    }
}

/// The next run of at least twelve digits in groups parted by one blank or hyphen each. Every such run
/// covers one byte of any twelve, so only every twelfth is looked at.
#[inline]
fn next_run(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut unseen = from;
    loop {
        let at = unseen + CARD_MIN - 1;
        let byte = *bytes.get(at)?;
        unseen = at + 1;
        if byte.is_ascii_digit() || is_separator(byte) {
            let (start, end) = run_around(bytes, at, from);
            let digits = bytes.get(start..end)?.iter().filter(|b| b.is_ascii_digit()).count();
            if digits >= CARD_MIN {
                return Some((start, end));
            }
            unseen = unseen.max(end);
        }
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-')
}

/// How far digits and single separators between digits go on both sides of `at`.
fn run_around(bytes: &[u8], at: usize, from: usize) -> (usize, usize) {
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let joins = |at: usize| {
        bytes.get(at).copied().is_some_and(is_separator) && at > 0 && digit(at - 1) && digit(at + 1)
    };
    let inside = |at: usize| digit(at) || joins(at);
    let (mut start, mut end) = (at, at);
    while start > from && inside(start - 1) {
        start -= 1;
    }
    while inside(end) {
        end += 1;
    }
    (start, end)
}

/// Takes the longest card number that begins at each group of a run.
fn in_run(run: &[u8], offset: usize, spans: &mut Vec<MaskedSpan>) {
    let mut from = 0;
    while let Some((start, end)) = group(run, from) {
        from = end;
        let Some(card_end) = longest_card(run, start) else { continue };
        from = start;
        while let Some((start, end)) = group(run, from).filter(|(_, end)| *end <= card_end) {
            push(spans, offset + start, end - start);
            from = end;
        }
    }
}

/// The first group of digits from `from` on.
fn group(run: &[u8], from: usize) -> Option<(usize, usize)> {
    let rest = run.get(from..)?;
    let start = from + rest.iter().position(u8::is_ascii_digit)?;
    let digits = run.get(start..)?;
    let length = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    Some((start, start + length))
}

/// Where the longest card number ends whose first group begins at `start`; whole groups only.
fn longest_card(run: &[u8], start: usize) -> Option<usize> {
    let (mut prefix, mut lengths, mut card_end) = (0u32, None, None);
    let (mut count, mut check) = (0, CheckSums::default());
    for (at, byte) in run.iter().enumerate().skip(start) {
        if !byte.is_ascii_digit() {
            continue;
        }
        let digit = u32::from(byte - b'0');
        count += 1;
        check.add(digit);
        if count <= PREFIX {
            prefix = prefix * 10 + digit;
            continue;
        }
        // No issuer has most prefixes, and every group of a long run begins one.
        let lengths = *lengths.get_or_insert_with(|| issued_lengths(prefix));
        if count > CARD_MAX || lengths == 0 {
            break;
        }
        let ends_here = run.get(at + 1).is_none_or(|next| !next.is_ascii_digit());
        if ends_here && lengths & (1 << count) != 0 && check.holds() {
            card_end = Some(at + 1);
        }
    }
    card_end
}

/// Luhn: every second digit from the right doubled, all digits summed, divisible by ten. Which digits that are
/// is known at the end, so both sums are kept.
#[derive(Default)]
struct CheckSums {
    /// With this digit doubled, and with it plain; they change places at the next.
    doubled: u32,
    plain: u32,
}

impl CheckSums {
    fn add(&mut self, digit: u32) {
        let twice = if digit > 4 { digit * 2 - 9 } else { digit * 2 };
        // The last digit is plain, so the one before it is doubled.
        (self.doubled, self.plain) = (self.plain + twice, self.doubled + digit);
    }

    fn holds(&self) -> bool {
        self.plain.is_multiple_of(10)
    }
}

/// Digits that tell the issuer.
const PREFIX: u32 = 6;

/// How many digits the issuer's numbers have, a bit for each count; none if no issuer has this prefix.
fn issued_lengths(prefix: u32) -> u32 {
    const ANY: u32 = of(12) | of(13) | of(14) | of(15) | SIXTEEN_ON;
    const SIXTEEN_ON: u32 = of(16) | of(17) | of(18) | of(19);
    const fn of(length: u32) -> u32 {
        1 << length
    }
    match prefix {
        // Visa
        400_000..=499_999 => of(13) | of(16) | of(19),
        // Mastercard
        510_000..=559_999 | 222_100..=272_099 => of(16),
        // American Express
        340_000..=349_999 | 370_000..=379_999 => of(15),
        // Diners Club
        300_000..=305_999 | 309_500..=309_599 | 360_000..=369_999 | 380_000..=399_999 => {
            of(14) | of(16)
        }
        // JCB
        352_800..=358_999 => SIXTEEN_ON,
        // Discover
        601_100..=601_199 | 644_000..=659_999 => of(16) | of(19),
        // UnionPay, and Discover's 622126 to 622925 in it
        620_000..=629_999 => SIXTEEN_ON,
        // Maestro
        501_800..=501_899
        | 502_000..=502_099
        | 503_800..=503_899
        | 589_300..=589_399
        | 630_400..=630_499
        | 675_900..=675_999
        | 676_100..=676_399 => ANY,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut spans = Vec::new();
        card_numbers(text.as_bytes(), 0, &mut spans);
        let bytes = apply(Bytes::copy_from_slice(text.as_bytes()), &spans);
        assert_eq!(may_hold_card(text.as_bytes()), !spans.is_empty(), "{text}");
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn every_issuers_published_test_number_is_masked() {
        for number in [
            "4111111111111111",
            "4222222222222",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "30569309025904",
            "38520000023237",
            "3530111333300000",
            "6011111111111117",
            "6200000000000005",
            "6759649826438453",
        ] {
            let text = format!("card {number}, thanks");
            let stars = "*".repeat(number.len());
            assert_eq!(masked(&text), format!("card {stars}, thanks"), "{number}");
            assert_eq!(masked(number), stars, "alone: {number}");
        }
    }

    #[test]
    fn groups_keep_their_separators() {
        assert_eq!(masked("4111 1111 1111 1111"), "**** **** **** ****");
        assert_eq!(masked("x 3782-822463-10005."), "x ****-******-*****.");
        assert_eq!(masked("no 12 4111 1111 1111 1111 7"), "no 12 **** **** **** **** 7");
        assert_eq!(masked("4111  1111 1111 1111"), "4111  1111 1111 1111", "two blanks part");
        let two = masked("4111111111111111 5555555555554444");
        assert_eq!(two, format!("{0} {0}", "*".repeat(16)));
    }

    #[test]
    fn what_is_no_card_number_stays() {
        for text in [
            "820982911946154508",   // Luhn holds, no issuer
            "4111111111111112",     // check digit
            "41111111111111111",    // one digit more
            "94111111111111111",    // part of a longer run
            "411111111111111",      // one digit less
            "32007568654424",       // a variant id
            "2018-04-03 23:05:14",  // a time
            "+1 312 555 1212 4242", // a phone
            "0000000000000000",
            "",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn verification_names_and_values() {
        for name in ["cvv", "CVC", "card_verification_value", "Security-Code", "_card_cvc", "cvv2"]
        {
            assert!(is_verification_name(name.as_bytes()), "{name}");
        }
        for name in ["cvv_result_code", "code", "vendor", "cv", "", "security"] {
            assert!(!is_verification_name(name.as_bytes()), "{name}");
        }
        let value = |text: &str| {
            let mut spans = Vec::new();
            verification_value(text.as_bytes(), 10, &mut spans);
            spans
        };
        assert_eq!(value(" 123 "), [MaskedSpan { start: 11, len: 3 }]);
        assert_eq!(value("1234").len(), 1);
        assert!(value("12345").is_empty() && value("M").is_empty() && value("12a").is_empty());
    }
}
