//! Where an answer ends, and whether it is the one wanted.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::failure::{Failure, Result};

const WANTED: &[u8] = b"HTTP/1.1 202 ";
static HEAD_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
/// As hyper writes it.
static LENGTH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"content-length: "));

/// Whether `bytes` hold one whole answer.
///
/// # Errors
/// [`Failure::Broken`] with its text if it is no 202, or has no length: the load is made to be accepted.
pub(in crate::bench) fn is_whole(bytes: &[u8]) -> Result<bool> {
    let Some(head) = HEAD_END.find(bytes) else { return Ok(false) };
    let (head, body) = bytes.split_at(head + 4);
    if !head.starts_with(WANTED) {
        return Err(unwanted(bytes));
    }
    let length = LENGTH.find(head).and_then(|at| head.get(at + 16..)).map(number);
    let Some(length) = length else { return Err(unwanted(bytes)) };
    match body.len().cmp(&length) {
        std::cmp::Ordering::Less => Ok(false),
        std::cmp::Ordering::Equal => Ok(true),
        std::cmp::Ordering::Greater => {
            Err(Failure::Broken("two answers to one request".to_owned()))
        }
    }
}

fn number(text: &[u8]) -> usize {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0_usize, |sum, digit| {
        sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
    })
}

fn unwanted(bytes: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(600)).unwrap_or_default());
    Failure::Broken(format!("an answer was not 202 with its length: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";
        for cut in 0..answer.len() {
            assert!(!is_whole(&answer[..cut]).unwrap(), "{cut}");
        }
        assert!(is_whole(answer).unwrap());
    }

    #[test]
    fn a_refusal_and_a_second_answer_are_failures() {
        let refusal = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert!(is_whole(refusal).unwrap_err().to_string().contains("503"));
        let two = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\nHTTP/1.1";
        assert!(is_whole(two).is_err());
    }
}
