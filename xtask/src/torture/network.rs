//! The network between three NATS servers and the processes of ours on them: every connection goes by a wire of its own, so
//! that whoever is in it can be cut off, wholly or one way.

use std::collections::BTreeSet;
use std::fs;

use tokio::runtime::Runtime;

use super::wire::{Cut, Wire};
use crate::failure::{Result, While as _};

/// The network. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Network {
    wires: Vec<Laid>,
    /// Where the servers listen; only wires come there.
    ports: Vec<u16>,
    // Apart from the load's, so that neither waits for the other.
    _runtime: Runtime,
}

/// Who is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A NATS server. It can be cut off from the other two; processes still reach it.
    Server(usize),
    /// A process of ours. It can be cut off from all servers.
    Process(usize),
}

/// What does not arrive of what is said by one that is cut off, and to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing arrives.
    All,
    /// What it says is lost, and it hears.
    Said,
    /// What it is told is lost, and it is heard.
    Heard,
}

/// A wire, by who dials it and the server it leads to.
#[derive(Debug)]
struct Laid {
    from: Node,
    to: usize,
    wire: Wire,
}

impl Network {
    /// Lays wires among servers, by the ports where each takes clients and the others, and to each from so many processes.
    pub(super) fn lay(servers: &[(u16, u16)], processes: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .when("starting a runtime")?;
        let mut wires = Vec::new();
        for (to, (clients, routes)) in servers.iter().enumerate() {
            let peers = (0..servers.len()).filter(|from| *from != to);
            let peers = peers.map(|from| (Node::Server(from), *routes));
            let ours = (0..processes).map(|from| (Node::Process(from), *clients));
            for (from, port) in peers.chain(ours) {
                wires.push(Laid { from, to, wire: Wire::lay(runtime.handle(), port)? });
            }
        }
        let ports = servers.iter().flat_map(|(clients, routes)| [*clients, *routes]).collect();
        Ok(Self { wires, ports, _runtime: runtime })
    }

    /// Where one finds the servers, all but itself.
    pub(super) fn servers(&self, from: Node) -> Vec<String> {
        let own = self.wires.iter().filter(|laid| laid.from == from);
        own.map(|laid| format!("nats://{}", laid.wire.address())).collect()
    }

    /// Cuts one off.
    pub(super) fn cut(&self, whom: Node, lost: Lost) {
        for laid in &self.wires {
            if let Some(cut) = lost.of(whom, laid.from, laid.to) {
                laid.wire.cut(cut);
            }
        }
    }

    /// Mends everything; what was sent meanwhile comes late or, unless the network `keeps` it, never.
    pub(super) fn heal(&self, keeps: bool) {
        self.wires.iter().for_each(|laid| laid.wire.heal(keeps));
    }

    /// Bytes that came to wires so far while those were cut for them.
    pub(super) fn swallowed(&self) -> u64 {
        self.wires.iter().map(|laid| laid.wire.swallowed()).sum()
    }

    /// The server that somebody has a connection to.
    pub(super) fn connected(&self, from: Node) -> Option<usize> {
        let used = self.wires.iter().find(|laid| laid.from == from && laid.wire.is_used());
        used.map(|laid| laid.to)
    }

    /// Connections to the servers that go by no wire and were not made by this process either.
    pub(super) fn around(&self) -> Result<usize> {
        let mut own = own_sockets()?;
        let table = fs::read_to_string("/proc/self/net/tcp").when("the kernel's connections")?;
        // Some were made since.
        own.extend(own_sockets()?);
        Ok(dialled(&table, &self.ports).filter(|socket| !own.contains(socket)).count())
    }
}

impl Lost {
    /// How a wire is cut when somebody is cut off, if it is.
    fn of(self, whom: Node, from: Node, to: usize) -> Option<Cut> {
        let dials = whom == from;
        let is_dialled = whom == Node::Server(to) && matches!(from, Node::Server(_));
        if !dials && !is_dialled {
            return None;
        }
        let (said, heard) = (self != Self::Heard, self != Self::Said);
        let (to_server, to_client) = if dials { (said, heard) } else { (heard, said) };
        Some(Cut { to_server, to_client })
    }
}

/// The sockets of this process, by their numbers.
fn own_sockets() -> Result<BTreeSet<u64>> {
    let files = fs::read_dir("/proc/self/fd").when("this process's files")?;
    let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    let number = |link: std::path::PathBuf| {
        let text = link.to_string_lossy().into_owned();
        text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Ok(links.filter_map(number).collect())
}

/// The sockets of a `/proc/net/tcp` that are connected to one of these ports, by their numbers.
fn dialled<'a>(table: &'a str, ports: &'a [u16]) -> impl Iterator<Item = u64> + 'a {
    const ESTABLISHED: &str = "01";
    table.lines().skip(1).filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (_, port) = words.get(2)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let connected = words.get(3) == Some(&ESTABLISHED) && ports.contains(&port);
        words.get(9).filter(|_| connected)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_cut_off_from_its_peers_and_a_process_from_all_servers() {
        let peer = |lost: Lost| lost.of(Node::Server(0), Node::Server(0), 1);
        let cut = |to_server, to_client| Some(Cut { to_server, to_client });
        assert_eq!(
            [peer(Lost::All), peer(Lost::Said), peer(Lost::Heard)],
            [cut(true, true), cut(true, false), cut(false, true)]
        );
        let dialled = |lost: Lost| lost.of(Node::Server(1), Node::Server(0), 1);
        assert_eq!(
            [dialled(Lost::All), dialled(Lost::Said), dialled(Lost::Heard)],
            [cut(true, true), cut(false, true), cut(true, false)]
        );
        assert_eq!(Lost::All.of(Node::Server(2), Node::Server(0), 1), None);
        assert_eq!(Lost::All.of(Node::Server(1), Node::Process(0), 1), None, "still reached");
        assert_eq!(Lost::Said.of(Node::Process(0), Node::Process(0), 1), cut(true, false));
        assert_eq!(Lost::All.of(Node::Process(1), Node::Process(0), 1), None);
    }

    #[test]
    fn who_is_connected_to_a_server_is_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:3A98 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0\n\
            1: 0100007F:8000 0100007F:3A98 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4 30 10 -1\n\
            2: 0100007F:8001 0100007F:3A98 06 00000000:00000000 00:00000000 00000000     0        0 13 1 0 20 4 30 10 -1\n\
            3: 0100007F:3A98 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 14 1 0 20 4 30 10 -1\n";
        assert_eq!(dialled(table, &[15_000]).collect::<Vec<_>>(), [12]);
    }

    #[test]
    fn a_connection_that_goes_by_no_wire_is_this_processs_own_here() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Network::lay(&[(port, port)], 1).unwrap();
        let _own = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(network.around().unwrap(), 0);
        assert_eq!(network.servers(Node::Process(0)).len(), 1);
        assert!(network.servers(Node::Server(0)).is_empty());
    }
}
