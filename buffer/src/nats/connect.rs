//! The connection to the cluster, and which servers are refused.

use std::future::ready;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, ReconnectToServer, Server, ServerAddr,
};

use super::{Login, NatsConfig, OpenError};

/// The oldest release that is not refused, major and minor.
pub(super) const OLDEST: (u64, u64) = (2, 12);

/// How long one server may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one request may go without an answer before it is asked again.
pub(super) const TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// A server that answers nothing for twice to three times as long is taken for gone: one that hangs, or whose machine has lost its power, ends
/// no connection.
const PING: Duration = Duration::from_secs(1);
/// A connection that is cut is made anew so often, as long as it takes.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Connects to the first server that answers.
///
/// # Errors
/// [`OpenError::Connect`], [`OpenError::TooOld`].
pub(super) async fn connect(config: &NatsConfig) -> Result<Client, OpenError> {
    connect_as(config, &config.login).await
}

/// The same as somebody else.
///
/// # Errors
/// [`OpenError::Connect`], [`OpenError::TooOld`].
pub(super) async fn connect_as(config: &NatsConfig, login: &Login) -> Result<Client, OpenError> {
    let servers = config.shown_servers();
    let left = Left::default();
    let mut options = ConnectOptions::new()
        .name("forebay")
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(TRY_TIMEOUT))
        .ping_interval(PING)
        .reconnect_delay_callback(|_| RECONNECT_PAUSE)
        .reconnect_to_server_callback(move |servers, info| {
            // At first any will do.
            let again = !info.server_id.is_empty();
            let addr = again.then(|| left.another(&servers)).flatten();
            ready(addr.map(|addr| ReconnectToServer { addr, delay: Some(RECONNECT_PAUSE) }))
        })
        .event_callback(async |event| tell(&event));
    if let Login::User { name, password } = login {
        options = options.user_and_password(name.clone(), password.clone());
    }
    if let Some(roots) = &config.roots {
        options = options.add_root_certificates(roots.clone()).require_tls(true);
    }
    let client = options.connect(config.servers.as_slice()).await.map_err(|error| {
        let mend = match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                "; check the user and its password"
            }
            ConnectErrorKind::Tls => {
                "; check the certificates, and that the name in the address is in the server's"
            }
            _ => "; check the address, and that the server runs",
        };
        OpenError::Connect { servers: servers.clone(), reason: format!("{error}{mend}") }
    })?;
    let info = client.server_info();
    match is_new_enough(&info.version) {
        true => Ok(client),
        false => Err(OpenError::TooOld { name: info.server_name, version: info.version }),
    }
}

/// Which server is to be left, so that it is not the next one again.
#[derive(Debug, Default)]
struct Left(Mutex<Option<ServerAddr>>);

impl Left {
    /// One to go to: not where we were, and of the others one that failed least.
    fn another(&self, servers: &[Server]) -> Option<ServerAddr> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = servers.iter().filter(|server| match &*last {
            Some(last) => server.addr != *last,
            None => !server.did_connect,
        });
        let next = others.min_by_key(|server| (server.failed_attempts, fastrand::u32(..)))?;
        *last = Some(next.addr.clone());
        last.clone()
    }
}

fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("the connection to NATS is cut; trying again"),
        other => tracing::warn!(event = %other, "NATS"),
    }
}

/// An address as it may be shown: a password may stand in it.
pub(super) fn without_login(server: &str) -> String {
    let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
    format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default())
}

/// Whether a server of that version may be used; one whose version nobody understands may not.
pub(super) fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown_with_an_address() {
        for server in ["tls://who:p@ss@host:4222", "tls://token@host:4222", "tls://host:4222"] {
            assert_eq!(without_login(server), "tls://host:4222");
        }
        assert_eq!(without_login("who:secret@host"), "nats://host");
    }

    #[test]
    fn a_server_that_is_left_is_not_the_next_one() {
        let server = |name: &str, failed_attempts, did_connect| Server {
            addr: name.parse().unwrap(),
            failed_attempts,
            did_connect,
            is_discovered: false,
            last_error: None,
        };
        let left = Left::default();
        let servers = [server("a", 0, true), server("b", 0, false), server("c", 2, false)];
        let went = || left.another(&servers).unwrap().host().to_owned();
        assert_eq!([went(), went(), went()], ["b", "a", "b"], "nor one that failed");
        assert_eq!(Left::default().another(&servers[..1]), None, "there is no other");
    }

    #[test]
    fn old_servers_are_told_from_new_ones() {
        for version in ["2.12.0", "2.15.1", "2.100.0", "3.0.0", "2.12.0-RC.2"] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["2.9.10", "2.11.99", "1.99.0", "", "dev", "2"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }
}
