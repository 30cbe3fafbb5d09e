//! `forebay buffer export`: every order that is not yet in the OMS, to empty a buffer by hand.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use forebay_buffer::{Inspection, KeptOrder, LostOrder};
use forebay_order::Format;
use serde_json::{Value, json};

use super::super::{EXIT_FAILED, EXIT_MET, EXIT_MISSED, fail};

/// Exit 1 if an order could not be read; its line then has no body and says why.
pub(super) fn run(found: &Inspection, out: Option<&Path>) -> ExitCode {
    let written = match out {
        None => write(found, BufWriter::new(io::stdout().lock())).map(|(counts, _)| counts),
        Some(path) => to_file(found, path),
    };
    match written {
        Ok(Counts { orders, lost: 0 }) => {
            drop(writeln!(io::stderr(), "forebay: {orders} orders written"));
            ExitCode::from(EXIT_MET)
        }
        Ok(Counts { orders, lost }) => fail(
            EXIT_MISSED,
            &format!(
                "{orders} orders written, {lost} of them without a body, for their bytes cannot be read"
            ),
        ),
        Err(error) => fail(EXIT_FAILED, &format!("the export is not complete: {error}")),
    }
}

struct Counts {
    orders: u64,
    lost: u64,
}

/// A new file, readable by this user only, durable when this returns.
fn to_file(found: &Inspection, path: &Path) -> io::Result<Counts> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let (counts, file) = write(found, BufWriter::new(file))?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(counts)
}

fn write<W: Write>(found: &Inspection, mut to: W) -> io::Result<(Counts, W)> {
    let mut counts = Counts { orders: 0, lost: 0 };
    for order in found.orders() {
        counts.orders += 1;
        counts.lost += u64::from(order.is_err());
        let line = match &order {
            Ok(order) => whole(order),
            Err(lost) => without_body(lost),
        };
        writeln!(to, "{line}")?;
    }
    to.flush()?;
    Ok((counts, to))
}

fn whole(order: &KeptOrder) -> Value {
    let mut line = json!({
        "key": order.key.identity(), "sequence": order.sequence, "accepted_at_ms": order.accepted_at_ms,
        "state": order.state, "number": order.number, "exception": order.exception,
        "format": Format::from_code(order.format).map(Format::name),
    });
    // Text where it is text, so that people and tools can read it.
    let (name, body) = match std::str::from_utf8(&order.body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("body_base64", base64(&order.body)),
    };
    if let Some(line) = line.as_object_mut() {
        line.insert(name.to_owned(), body.into());
    }
    line
}

fn without_body(lost: &LostOrder) -> Value {
    let key = lost.key.as_ref().map(|key| key.identity());
    json!({ "key": key, "sequence": lost.sequence, "state": lost.state, "unreadable": lost.reason })
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |six: u32| DIGITS.get(six as usize & 63).map_or('=', |digit| char::from(*digit));
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| chunk.get(index).map_or(0, |byte| u32::from(*byte));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        text.push(digit(bits >> 18));
        text.push(digit(bits >> 12));
        text.push(if chunk.len() > 1 { digit(bits >> 6) } else { '=' });
        text.push(if chunk.len() > 2 { digit(bits) } else { '=' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_its_rfc_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd, 0x00]), "//79AA==");
    }
}
