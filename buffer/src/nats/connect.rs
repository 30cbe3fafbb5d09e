//! The connection to the cluster, and which servers are refused.

use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};

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
    let shown: Vec<_> = config.servers.iter().map(|server| without_login(server)).collect();
    let servers = shown.join(", ");
    let mut options = ConnectOptions::new()
        .name("forebay")
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(TRY_TIMEOUT))
        .ping_interval(PING)
        .reconnect_delay_callback(|_| RECONNECT_PAUSE)
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

fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("the connection to NATS is cut; trying again"),
        other => tracing::warn!(event = %other, "NATS"),
    }
}

/// An address as it may be shown: a password may stand in it.
fn without_login(server: &str) -> String {
    let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
    format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default())
}

/// Whether a server of that version may be used; one whose version nobody understands may not.
fn is_new_enough(version: &str) -> bool {
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
    fn old_servers_are_told_from_new_ones() {
        for version in ["2.12.0", "2.15.1", "2.100.0", "3.0.0", "2.12.0-RC.2"] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["2.9.10", "2.11.99", "1.99.0", "", "dev", "2"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }
}
