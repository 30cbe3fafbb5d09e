//! A way to a port of this machine that can be cut as networks are: nothing is closed, and what is sent does not arrive.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::failure::{Result, While as _};

/// What is read at once.
const CHUNK: usize = 64 << 10;

/// The wire. Dropping it stops nothing; its runtime's end does.
#[derive(Debug)]
pub(super) struct Wire {
    address: SocketAddr,
    state: watch::Sender<State>,
    seen: Arc<Seen>,
}

/// What it has seen.
#[derive(Debug, Default)]
struct Seen {
    swallowed: AtomicU64,
    /// Connections that it carries.
    carried: AtomicUsize,
}

/// Which bytes do not arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) to_server: bool,
    pub(super) to_client: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    cut: Cut,
    /// What was sent during the last cut arrives late; otherwise it is lost, and so is its connection.
    keeps: bool,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    ToServer,
    ToClient,
}

impl Wire {
    /// Lays one to a port of this machine.
    pub(super) fn lay(runtime: &Handle, port: u16) -> Result<Self> {
        let bound = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let _inside = runtime.enter();
            Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
        });
        let (address, listener) = bound.when("laying a wire")?;
        let state = watch::Sender::new(State::default());
        let seen = Arc::default();
        drop(runtime.spawn(accept(listener, port, state.subscribe(), Arc::clone(&seen))));
        Ok(Self { address, state, seen })
    }

    /// Where it begins.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it.
    pub(super) fn cut(&self, cut: Cut) {
        self.state.send_modify(|state| state.cut = cut);
    }

    /// Mends it.
    pub(super) fn heal(&self, keeps: bool) {
        self.state.send_replace(State { cut: Cut::default(), keeps });
    }

    /// Bytes that came to it so far while it was cut for them. What a connection sends after the first of them waits
    /// uncounted at its sender, as for an acknowledgement that does not come.
    pub(super) fn swallowed(&self) -> u64 {
        self.seen.swallowed.load(Ordering::Relaxed)
    }

    /// Whether it carries a connection.
    pub(super) fn is_used(&self) -> bool {
        self.seen.carried.load(Ordering::Relaxed) > 0
    }
}

impl Cut {
    fn is_none(self) -> bool {
        self == Self::default()
    }

    fn takes(self, way: Way) -> bool {
        match way {
            Way::ToServer => self.to_server,
            Way::ToClient => self.to_client,
        }
    }
}

impl Way {
    fn back(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

async fn accept(listener: TcpListener, port: u16, state: watch::Receiver<State>, seen: Arc<Seen>) {
    while let Ok((client, _)) = listener.accept().await {
        drop(tokio::spawn(carry(client, port, state.clone(), Arc::clone(&seen))));
    }
}

/// Carries one connection until either end closes it, or what it sent is lost.
async fn carry(client: TcpStream, port: u16, mut state: watch::Receiver<State>, seen: Arc<Seen>) {
    if !state.borrow().cut.is_none() {
        // Of a request to connect and its answer one does not arrive: it was made in vain.
        drop(state.wait_for(|state| state.cut.is_none()).await);
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    for end in [&client, &server] {
        end.set_nodelay(true).ok();
    }
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    seen.carried.fetch_add(1, Ordering::Relaxed);
    tokio::select! {
        () = pass(from_client, to_server, Way::ToServer, state.clone(), &seen) => {}
        () = pass(from_server, to_client, Way::ToClient, state, &seen) => {}
    }
    seen.carried.fetch_sub(1, Ordering::Relaxed);
}

/// Passes bytes on, one way, until the connection is to be closed at its other end.
async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    way: Way,
    mut state: watch::Receiver<State>,
    seen: &Seen,
) {
    let mut bytes = vec![0; CHUNK];
    loop {
        // That its sender closed it is news that travels like any other.
        let count = from.read(&mut bytes).await.unwrap_or_default();
        if state.borrow().cut.takes(way) {
            seen.swallowed.fetch_add(count as u64, Ordering::Relaxed);
            let healed = state.wait_for(|state| !state.cut.takes(way)).await;
            if !healed.is_ok_and(|state| state.keeps) {
                return;
            }
        }
        if count == 0 {
            return;
        }
        if to.write_all(bytes.get(..count).unwrap_or_default()).await.is_err() {
            // That its receiver closed it is news that comes the other way.
            drop(state.wait_for(|state| !state.cut.takes(way.back())).await);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::time::Duration;

    use super::*;
    use crate::time::poll_until;

    const SOON: Duration = Duration::from_secs(10);
    /// How long it takes to believe that nothing comes.
    const NOTHING: Duration = Duration::from_millis(100);

    /// A wire to a server, and a connection by it: both its ends.
    fn connected(runtime: &Handle) -> (Wire, std::net::TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wire = Wire::lay(runtime, listener.local_addr().unwrap().port()).unwrap();
        let client = std::net::TcpStream::connect(wire.address()).unwrap();
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(SOON)).unwrap();
        }
        (wire, client, server)
    }

    fn one_word(from: &mut std::net::TcpStream) -> String {
        let mut word = [0; 5];
        from.read_exact(&mut word).unwrap();
        String::from_utf8_lossy(&word).into_owned()
    }

    fn comes_nothing(to: &mut std::net::TcpStream) -> bool {
        to.set_read_timeout(Some(NOTHING)).unwrap();
        let seen = to.read(&mut [0; 5]);
        to.set_read_timeout(Some(SOON)).unwrap();
        seen.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    #[test]
    fn what_is_sent_into_a_cut_comes_late_and_the_other_way_stays_open() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (wire, mut client, mut server) = connected(runtime.handle());
        client.write_all(b"early").unwrap();
        assert_eq!(one_word(&mut server), "early");
        wire.cut(Cut { to_server: true, to_client: false });
        client.write_all(b"held!").unwrap();
        assert!(poll_until(SOON, || wire.swallowed() == 5));
        server.write_all(b"reply").unwrap();
        assert_eq!(one_word(&mut client), "reply");
        drop(client);
        assert!(comes_nothing(&mut server), "neither the word nor the end");
        wire.heal(true);
        assert_eq!(one_word(&mut server), "held!");
        assert_eq!(server.read(&mut [0; 5]).unwrap(), 0, "and then the end");
    }

    #[test]
    fn what_was_lost_ends_its_connection_when_the_wire_heals() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (wire, mut client, mut server) = connected(runtime.handle());
        wire.cut(Cut { to_server: false, to_client: true });
        server.write_all(b"gone!").unwrap();
        assert!(poll_until(SOON, || wire.swallowed() == 5));
        assert!(comes_nothing(&mut client));
        wire.heal(false);
        assert!(client.read(&mut [0; 5]).is_ok_and(|count| count == 0));
    }

    #[test]
    fn whoever_dials_during_a_cut_dials_in_vain() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (wire, ..) = connected(runtime.handle());
        wire.cut(Cut { to_server: false, to_client: true });
        let mut dialled = std::net::TcpStream::connect(wire.address()).unwrap();
        dialled.set_read_timeout(Some(SOON)).unwrap();
        assert!(comes_nothing(&mut dialled));
        wire.heal(true);
        assert_eq!(dialled.read(&mut [0; 5]).unwrap(), 0);
    }
}
