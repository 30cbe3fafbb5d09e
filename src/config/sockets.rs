//! Listening sockets that the service manager holds, so that a restart refuses no connection: those who come meanwhile
//! wait in the socket's queue.

use std::net::TcpListener;

use listenfd::ListenFd;

/// What was handed over; where nothing was, the configured address is opened.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) orders: Option<TcpListener>,
    pub(crate) ops: Option<TcpListener>,
}

/// Takes the sockets that the environment names (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`), once, before there are
/// other threads.
///
/// # Errors
/// In words: one is no listening TCP socket, or it is not clear which is for whom.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub(crate) fn inherited() -> Result<Sockets, String> {
    let own = |text: String| text.parse() == Ok(std::process::id());
    if !std::env::var("LISTEN_PID").is_ok_and(own) {
        return Ok(Sockets::default());
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut handed = ListenFd::from_env();
    let [orders, ops] = places(&names, handed.len())?;
    let mut take = |place: Option<usize>| match place {
        Some(place) => handed
            .take_tcp_listener(place)
            .map_err(|error| format!("socket {place} of the service manager: {error}")),
        None => Ok(None),
    };
    Ok(Sockets { orders: take(orders)?, ops: take(ops)? })
}

/// Which of so many sockets are for orders and for operators: by their names, or without such names in that order.
fn places(names: &str, count: usize) -> Result<[Option<usize>; 2], String> {
    let place = |wanted: &str| names.split(':').take(count).position(|name| name == wanted);
    let places = [place("orders"), place("ops")];
    let named = places.iter().flatten().count();
    match (named, count) {
        (0, 0..=2) => Ok([(count > 0).then_some(0), (count > 1).then_some(1)]),
        (named, count) if named == count => Ok(places),
        _ => Err(format!(
            "the service manager hands over {count} sockets named {names:?}; name one `orders` and at most one other `ops` \
             (FileDescriptorName=)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_apart_by_name_or_else_by_order() {
        assert_eq!(places("", 0), Ok([None, None]));
        assert_eq!(places("", 1), Ok([Some(0), None]));
        assert_eq!(places("forebay.socket:forebay.socket", 2), Ok([Some(0), Some(1)]));
        assert_eq!(places("ops:orders", 2), Ok([Some(1), Some(0)]));
        assert_eq!(places("ops", 1), Ok([None, Some(0)]));
        for (names, count) in [("orders:other", 2), ("", 3), ("orders:orders", 2)] {
            assert!(places(names, count).is_err(), "{names}");
        }
    }
}
