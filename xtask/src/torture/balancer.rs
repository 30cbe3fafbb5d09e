//! A load balancer before the doors of a fleet. A connection goes to the door that has the fewest; a door that refuses one is
//! left out until it is named again. When one is named anew, the others give connections up, each after an answer, so that
//! it gets its share. What a door leaves unanswered its sender sends again, to whichever door it gets then.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::interrupt::Interrupt;
use crate::failure::{Result, While as _};

/// Bytes passed on at once.
const CHUNK: usize = 64 << 10;

/// The balancer. Dropping it ends it; connections that are open go on.
#[derive(Debug)]
pub(super) struct Balancer {
    address: SocketAddr,
    doors: Doors,
    task: JoinHandle<()>,
}

/// The doors that are not left out.
#[derive(Clone, Debug, Default)]
struct Doors(Arc<Mutex<Vec<Door>>>);

/// A door; each of its connections holds `open`.
#[derive(Clone, Debug)]
struct Door {
    address: SocketAddr,
    open: Arc<()>,
}

impl Balancer {
    /// Starts it, without a door.
    pub(super) fn start(interrupt: &Interrupt) -> Result<Self> {
        let bind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = interrupt.handle().block_on(bind).when("a port for the balancer")?;
        let address = listener.local_addr().when("the balancer's port")?;
        let doors = Doors::default();
        let all = doors.clone();
        let task = interrupt.handle().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                drop(tokio::spawn(pass_on(client, all.clone())));
            }
        });
        Ok(Self { address, doors, task })
    }

    /// Where senders connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Names a door.
    pub(super) fn admit(&self, address: SocketAddr) {
        self.doors.lock().push(Door { address, open: Arc::default() });
    }

    /// How many connections a door has.
    pub(super) fn connections(&self, address: SocketAddr) -> usize {
        let doors = self.doors.lock();
        doors.iter().filter(|door| door.address == address).map(Door::connections).sum()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Doors {
    fn lock(&self) -> MutexGuard<'_, Vec<Door>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The door with the fewest connections, to have one more.
    fn next(&self) -> Option<Door> {
        self.lock().iter().min_by_key(|door| door.connections()).cloned()
    }

    fn leave_out(&self, refusing: &Door) {
        self.lock().retain(|door| !Arc::ptr_eq(&door.open, &refusing.open));
    }

    /// Whether it has more than its share, and one for those that just come and go.
    fn has_too_many(&self, door: &Door) -> bool {
        let doors = self.lock();
        let all: usize = doors.iter().map(Door::connections).sum();
        door.connections() > all / doors.len().max(1) + 1
    }
}

impl Door {
    fn connections(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }
}

/// Passes a connection on to the first door that takes it; without one it is closed.
async fn pass_on(client: TcpStream, doors: Doors) {
    while let Some(door) = doors.next() {
        match TcpStream::connect(door.address).await {
            Ok(server) => return exchange(client, server, || doors.has_too_many(&door)).await,
            Err(_) => doors.leave_out(&door),
        }
    }
}

/// Passes bytes on, both ways, until either end closes, or after an answer if that is to be the last.
async fn exchange(mut client: TcpStream, mut server: TcpStream, is_last: impl Fn() -> bool) {
    let ((mut asks, mut told), (mut answers, mut asked)) = (client.split(), server.split());
    let (mut question, mut answer) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        tokio::select! {
            read = asks.read(&mut question) => {
                let Ok(count @ 1..) = read else { return };
                let bytes = question.get(..count).unwrap_or_default();
                if asked.write_all(bytes).await.is_err() {
                    return;
                }
            }
            read = answers.read(&mut answer) => {
                let Ok(count @ 1..) = read else { return };
                let bytes = answer.get(..count).unwrap_or_default();
                if told.write_all(bytes).await.is_err() || is_last() {
                    return;
                }
            }
        }
    }
}
