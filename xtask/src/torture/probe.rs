//! Single questions to the server under torture, beside the load, each with a limit on how long it may take.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Seconds of its `Retry-After`.
    pub(super) retry_after: Option<u64>,
    pub(super) body: String,
}

impl Reply {
    /// Whether it says that what was sent is durable.
    pub(super) fn is_durable(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it is a refusal for now that says when to come back.
    pub(super) fn is_refusal(&self) -> bool {
        self.status == 503 && self.retry_after.is_some()
    }

    /// The word of the problem it tells, where it tells one.
    pub(super) fn problem(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        let (_, word) = body.get("type")?.as_str()?.rsplit_once('/')?;
        Some(word.to_owned())
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let retry_after = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("retry-after").then(|| value.trim().parse().ok()).flatten()
        });
        Some(Self { status, retry_after, body: body.to_owned() })
    }
}

/// `GET` of a path.
pub(super) fn get(from: SocketAddr, path: &str, within: Duration) -> io::Result<Reply> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n");
    ask(from, head.as_bytes(), within)
}

/// Posts one order of a probe's own to the canonical channel.
pub(super) fn post(to: SocketAddr, id: &str, within: Duration) -> io::Result<Reply> {
    ask(to, order(to, id).as_bytes(), within)
}

/// The request that posts it.
fn order(to: SocketAddr, id: &str) -> String {
    let body =
        format!(r#"{{"id":"{id}","currency":"EUR","totals":{{"grand":"10.00"}},"lines":[]}}"#);
    format!(
        "POST /v1/channels/forebay/orders HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\
         Forebay-Source: probe\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A post of which the last byte is still to be sent.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: String,
    stream: TcpStream,
    rest: u8,
}

impl Begun {
    /// Begins to post one order of a probe's own.
    pub(super) fn new(to: SocketAddr, id: String, within: Duration) -> io::Result<Self> {
        let request = order(to, &id);
        let (rest, now) = request.as_bytes().split_last().ok_or(io::ErrorKind::InvalidData)?;
        let mut stream = connect(to, within)?;
        stream.write_all(now)?;
        Ok(Self { id, rest: *rest, stream })
    }

    /// Sends the last byte.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.stream.write_all(&[self.rest])
    }

    /// Waits for the answer.
    pub(super) fn answer(self) -> io::Result<Reply> {
        read(self.stream)
    }
}

/// Posts a JSON body to a path.
pub(super) fn post_body(
    to: SocketAddr,
    path: &str,
    body: &str,
    within: Duration,
) -> io::Result<Reply> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(to, request.as_bytes(), within)
}

fn ask(to: SocketAddr, request: &[u8], within: Duration) -> io::Result<Reply> {
    let mut stream = connect(to, within)?;
    stream.write_all(request)?;
    read(stream)
}

fn connect(to: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, within)?;
    stream.set_read_timeout(Some(within))?;
    Ok(stream)
}

fn read(mut stream: TcpStream) -> io::Result<Reply> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    Reply::parse(&text).ok_or_else(|| io::Error::other(format!("no answer: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_known_by_its_word() {
        let body = r#"{"type":"https://forebay.dev/problems/unknown-outcome","title":"a"}"#;
        let of = |body: &str| Reply { status: 503, retry_after: None, body: body.to_owned() };
        assert_eq!(of(body).problem().as_deref(), Some("unknown-outcome"));
        assert_eq!(of("busy").problem(), None);
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let text =
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: a\r\nRetry-After: 7\r\n\r\n{}";
        let reply = Reply::parse(text).unwrap();
        assert!(reply.is_refusal() && !reply.is_durable());
        assert_eq!((reply.retry_after, reply.body.as_str()), (Some(7), "{}"));
        let mute = Reply::parse("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\n").unwrap();
        assert!(!mute.is_refusal(), "without the time it is none");
        assert!(Reply::parse("").is_none(), "hung up");
    }
}
