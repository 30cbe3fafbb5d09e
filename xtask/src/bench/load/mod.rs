//! A closed-loop HTTP/1.1 load on one thread: so many keep-alive connections, each with one request under way.
//!
//! It shares two cores with the server it measures, so it does as little as it can: one poll for all that is
//! ready, one read and one write a request, and no request is built, only its ids are written over.

mod answer;
mod orders;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{ClockId, clock_gettime};

use super::process;
use crate::failure::{Failure, Result, While as _};
use crate::time::Stopwatch;
pub(super) use answer::is_whole;
pub(super) use orders::Orders;

/// How long the server may be silent altogether before the load gives up.
const SILENCE: Duration = Duration::from_secs(60);
/// The most of an answer that is read at once.
const READ: usize = 64 << 10;

/// How a load is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drive {
    /// Where to.
    pub(super) at: SocketAddr,
    /// The process whose CPU time is counted.
    pub(super) pid: u32,
    /// Connections.
    pub(super) connections: usize,
    /// When it ends.
    pub(super) until: Until,
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// After this long, counted once `warm` has passed.
    Passed {
        /// Not counted.
        warm: Duration,
        /// Counted.
        measured: Duration,
    },
    /// When so many requests are answered; all count.
    Answered(u64),
}

/// What came of a load.
#[derive(Clone, Debug)]
pub(super) struct Driven {
    /// Requests answered with 202.
    pub(super) answers: u64,
    /// In this time.
    pub(super) within: Duration,
    /// CPU time the server took for them.
    pub(super) server: Duration,
    /// CPU time the load took for them.
    pub(super) own: Duration,
    /// From the first byte sent to the last received, in microseconds.
    pub(super) latency_us: Histogram<u64>,
    /// The longest time without any answer.
    pub(super) silence: Duration,
}

impl Driven {
    /// Requests a second.
    pub(super) fn per_second(&self) -> f64 {
        self.answers as f64 / self.within.as_secs_f64()
    }

    /// Server CPU a request, in microseconds.
    pub(super) fn server_us(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.answers.max(1) as f64
    }

    /// The load's own CPU a request, in microseconds.
    pub(super) fn own_us(&self) -> f64 {
        self.own.as_secs_f64() * 1e6 / self.answers.max(1) as f64
    }

    /// A percentile of the latency, in milliseconds.
    pub(super) fn latency_ms(&self, percentile: f64) -> f64 {
        self.latency_us.value_at_percentile(percentile) as f64 / 1e3
    }
}

/// Drives a load to its end; every order of `orders` that was sent has been answered then.
///
/// # Errors
/// [`Failure::Broken`] if an answer is no 202 or does not come.
pub(super) fn drive(drive: &Drive, orders: &mut Orders) -> Result<Driven> {
    Load::connect(drive, orders)?.run(drive)
}

/// One connection.
struct Line {
    stream: TcpStream,
    sent_at: Duration,
    /// What the socket did not take at once.
    unsent: Vec<u8>,
    /// The begun answer.
    begun: Vec<u8>,
}

impl Line {
    fn connect(at: SocketAddr) -> std::io::Result<Self> {
        let stream = std::net::TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream);
        Ok(Self { stream, sent_at: Duration::ZERO, unsent: Vec::new(), begun: Vec::new() })
    }

    fn send(&mut self, request: &[u8], now: Duration) -> std::io::Result<()> {
        self.sent_at = now;
        let sent = match self.stream.write(request) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.unsent.extend_from_slice(request.get(sent..).unwrap_or_default());
        if sent > 0 { self.send_on() } else { Ok(()) }
    }

    fn send_on(&mut self) -> std::io::Result<()> {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(more) => sent += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }

    /// Reads what is there; whether the answer is whole now.
    fn receive(&mut self, scratch: &mut [u8]) -> Result<bool> {
        loop {
            let read = match self.stream.read(scratch) {
                Ok(0) => return Err(Failure::Broken("the server closed a connection".to_owned())),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(Failure::broken("reading an answer", error)),
            };
            let room = read < scratch.len();
            let bytes = scratch.get(..read).unwrap_or_default();
            if self.begun.is_empty() && answer::is_whole(bytes)? {
                return Ok(true);
            }
            self.begun.extend_from_slice(bytes);
            if answer::is_whole(&self.begun)? {
                self.begun.clear();
                return Ok(true);
            }
            // Less than there was room for is all there was.
            if room {
                return Ok(false);
            }
        }
    }
}

struct Load<'a> {
    poll: Poll,
    lines: Vec<Line>,
    orders: &'a mut Orders,
    clock: Stopwatch,
    scratch: Vec<u8>,
    /// Requests that may still be sent.
    budget: u64,
    under_way: u64,
    tally: Tally,
}

/// What is counted, between `open` and `close`.
struct Tally {
    counts: bool,
    answers: u64,
    latency_us: Histogram<u64>,
    last_answer: Duration,
    silence: Duration,
}

impl Tally {
    fn answered(&mut self, sent_at: Duration, now: Duration) {
        if !self.counts {
            return;
        }
        self.answers += 1;
        let us = u64::try_from(now.saturating_sub(sent_at).as_micros()).unwrap_or(u64::MAX);
        self.latency_us.saturating_record(us);
        self.silence = self.silence.max(now.saturating_sub(self.last_answer));
        self.last_answer = now;
    }
}

/// The moment counting began.
struct Mark {
    at: Duration,
    server: Duration,
    own: Duration,
}

impl<'a> Load<'a> {
    fn connect(drive: &Drive, orders: &'a mut Orders) -> Result<Self> {
        let poll = Poll::new().when("making a poll")?;
        let mut lines = Vec::with_capacity(drive.connections);
        for token in 0..drive.connections {
            let mut line = Line::connect(drive.at).when("connecting to the server")?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = poll.registry();
            registry.register(&mut line.stream, Token(token), interest).when("a connection")?;
            lines.push(line);
        }
        let budget = match drive.until {
            Until::Passed { .. } => u64::MAX,
            Until::Answered(count) => count,
        };
        let latency_us = Histogram::new_with_max(120_000_000, 3).when("a histogram")?;
        let tally = Tally {
            counts: false,
            answers: 0,
            latency_us,
            last_answer: Duration::ZERO,
            silence: Duration::ZERO,
        };
        let (clock, scratch) = (Stopwatch::start(), vec![0; READ]);
        Ok(Self { poll, lines, orders, clock, scratch, budget, under_way: 0, tally })
    }

    fn run(mut self, drive: &Drive) -> Result<Driven> {
        let (warm, measured) = match drive.until {
            Until::Passed { warm, measured } => (warm, measured),
            Until::Answered(_) => (Duration::ZERO, Duration::MAX),
        };
        let mut events = Events::with_capacity(256);
        for index in 0..self.lines.len() {
            self.send(index, self.clock.elapsed())?;
        }
        while self.clock.elapsed() < warm {
            self.turn(&mut events)?;
        }
        let start = self.open(drive.pid)?;
        while self.under_way > 0 && self.clock.elapsed().saturating_sub(start.at) < measured {
            self.turn(&mut events)?;
        }
        let driven = self.close(drive.pid, &start)?;
        self.budget = 0;
        while self.under_way > 0 {
            self.turn(&mut events)?;
        }
        Ok(driven)
    }

    fn open(&mut self, pid: u32) -> Result<Mark> {
        let (server, own) = (process::cpu(pid)?, own_cpu());
        let at = self.clock.elapsed();
        self.tally.counts = true;
        self.tally.last_answer = at;
        Ok(Mark { at, server, own })
    }

    fn close(&mut self, pid: u32, start: &Mark) -> Result<Driven> {
        self.tally.counts = false;
        let within = self.clock.elapsed().saturating_sub(start.at);
        let (server, own) = (process::cpu(pid)?, own_cpu());
        Ok(Driven {
            answers: self.tally.answers,
            within,
            server: server.saturating_sub(start.server),
            own: own.saturating_sub(start.own),
            latency_us: self.tally.latency_us.clone(),
            silence: self.tally.silence,
        })
    }

    /// Waits for whatever is ready, and goes on with it.
    fn turn(&mut self, events: &mut Events) -> Result<()> {
        match self.poll.poll(events, Some(SILENCE)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Failure::broken("waiting for answers", error)),
        }
        if events.is_empty() {
            return Err(Failure::Broken(format!("no answer within {SILENCE:?}")));
        }
        for event in &*events {
            let index = event.token().0;
            let Some(line) = self.lines.get_mut(index) else { continue };
            if event.is_writable() && !line.unsent.is_empty() {
                line.send_on().when("sending a request")?;
            }
            if event.is_readable() && line.receive(&mut self.scratch)? {
                let now = self.clock.elapsed();
                self.tally.answered(line.sent_at, now);
                self.under_way -= 1;
                self.send(index, now)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, index: usize, now: Duration) -> Result<()> {
        if self.budget == 0 {
            return Ok(());
        }
        if let Some(line) = self.lines.get_mut(index) {
            line.send(self.orders.next(), now).when("sending a request")?;
            self.budget -= 1;
            self.under_way += 1;
        }
        Ok(())
    }
}

fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    /// A server that answers each request by `answer`, byte by byte, and tells the bodies it got.
    fn server(answer: &'static [u8]) -> (SocketAddr, Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (bodies, got) = sync_channel(10_000);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true).unwrap();
                let bodies = bodies.clone();
                std::thread::spawn(move || {
                    while let Some(body) = request(&mut stream) {
                        bodies.send(body).unwrap();
                        for byte in answer.chunks(1) {
                            if stream.write_all(byte).is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        (at, got)
    }

    fn request(stream: &mut std::net::TcpStream) -> Option<Vec<u8>> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).ok()?;
        Some(body)
    }

    fn to(at: SocketAddr, count: u64) -> Drive {
        Drive { at, pid: std::process::id(), connections: 4, until: Until::Answered(count) }
    }

    #[test]
    fn every_request_is_sent_once_and_answered_before_the_next() {
        let (at, got) = server(b"HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\n\r\nyes");
        let mut orders = Orders::single().unwrap();
        let driven = drive(&to(at, 50), &mut orders).unwrap();
        assert_eq!((driven.answers, driven.latency_us.len(), orders.made()), (50, 50, 50));
        assert!(driven.latency_ms(100.0) <= driven.within.as_secs_f64() * 1e3);
        let bodies: HashSet<Vec<u8>> = got.try_iter().collect();
        assert_eq!(bodies.len(), 50, "each with an id of its own");
    }

    #[test]
    fn a_body_larger_than_the_socket_takes_arrives_whole() {
        let (at, got) = server(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
        let mut orders = Orders::batch(3_000).unwrap();
        drive(&to(at, 6), &mut orders).unwrap();
        let lines = |body: Vec<u8>| body.split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(got.try_iter().map(lines).sum::<usize>(), 18_000);
    }

    #[test]
    fn a_refusal_ends_the_load() {
        let (at, _got) = server(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
        let failure = drive(&to(at, 50), &mut Orders::single().unwrap()).unwrap_err();
        assert!(failure.to_string().contains("503"), "{failure}");
    }
}
