//! One blocking HTTP/1.1 request on a connection of its own; no client library decides anything.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one read or write may take.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// A request to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// `GET path`.
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: "GET", path, headers: Vec::new(), body: b"" }
    }

    /// `POST path` with a body; its `Content-Type` is added like every other header.
    pub(crate) fn post(path: &'a str, body: &'a [u8]) -> Self {
        Self { method: "POST", path, headers: Vec::new(), body }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sends it and reads the whole answer.
    pub(crate) fn send(&self, to: SocketAddr) -> io::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&to, STEP_LIMIT)?;
        stream.set_read_timeout(Some(STEP_LIMIT))?;
        stream.set_write_timeout(Some(STEP_LIMIT))?;
        stream.set_nodelay(true)?;
        let mut message = format!("{} {} HTTP/1.1\r\nHost: {to}\r\n", self.method, self.path);
        message.push_str("Connection: close\r\n");
        for (name, value) in &self.headers {
            message.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method != "GET" {
            message.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        message.push_str("\r\n");
        let mut message = message.into_bytes();
        message.extend_from_slice(self.body);
        // A server may refuse a large body before it has read it; the answer is still to be read.
        let written = stream.write_all(&message);
        match Answer::read(&mut BufReader::new(stream)) {
            Err(error) => written.and(Err(error)),
            answer => answer,
        }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// Header names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first header of a name, given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, for messages too.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; fails the test with the whole answer if it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        loop {
            let answer = Self::read_one(from)?;
            // 100 Continue and its like come before the answer.
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    fn read_one(from: &mut impl BufRead) -> io::Result<Self> {
        let first = line(from)?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| bad(format!("status line {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = line(from)?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| bad(format!("header {line:?}")))?;
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Self { status, headers, body: Vec::new() };
        if status < 200 || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            answer.body = chunks(from)?;
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(|_| bad(format!("content-length {length:?}")))?;
            answer.body = vec![0; length];
            from.read_exact(&mut answer.body)?;
        } else {
            from.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }
}

fn chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(from)?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| bad(format!("chunk size {size:?}")))?;
        let start = body.len();
        body.resize(start + size, 0);
        from.read_exact(&mut body[start..])?;
        let end = line(from)?;
        if size == 0 {
            return Ok(body);
        }
        if !end.is_empty() {
            return Err(bad(format!("after a chunk: {end:?}")));
        }
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the answer ended"));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[test]
fn an_answer_in_chunks_is_joined() {
    let message = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nLocation: /x\r\n\
        Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
    let answer = Answer::read(&mut &message[..]).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (202, "abcde"));
    assert_eq!(answer.header("location"), Some("/x"));
}

#[test]
fn an_answer_cut_short_is_an_error() {
    let message = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc";
    assert!(Answer::read(&mut &message[..]).is_err());
}
