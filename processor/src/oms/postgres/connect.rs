//! Connections: how they are made, and that the tables are there.

use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError};
use deadpool_postgres::{RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::config::{LoadBalanceHosts, TargetSessionAttrs};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresOptions;
use super::fault::not_done;
use crate::oms::CallFailure;
use crate::outbound::{TlsError, tls_client};

/// The schema in `schema.sql`.
const SCHEMA_VERSION: i32 = 1;
/// Those who make the tables wait for each other by it.
const SCHEMA_LOCK: i64 = 0x666f_7265_6261_7931;

/// A connection is waited for so long, where the address does not say it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A free connection is waited for so long.
const WAIT: Duration = Duration::from_secs(10);
/// A server that says nothing on an open connection, as one whose machine is gone, is given up after about twice this, where the address
/// does not say it.
const SILENCE: Duration = Duration::from_secs(15);
/// What the address says, if it says nothing.
const KEEPALIVE_DEFAULT: Duration = Duration::from_secs(2 * 3_600);

/// What each connection is set to. Limits that the address, the user, the database or the server sets stand. A server that
/// acknowledges before it has synced would make what is settled untrue, so that is put right for ours; a stricter one is left as it is.
/// (The limit for a statement goes before it.)
const SESSION: &str = "\
     SELECT set_config('lock_timeout', '5s', false) WHERE current_setting('lock_timeout') = '0'; \
     SELECT set_config('idle_in_transaction_session_timeout', '60s', false) \
         WHERE current_setting('idle_in_transaction_session_timeout') = '0'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';";

/// Why no connection can be made, whatever the server does.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is none.
    #[error("oms.url: {0}")]
    Address(String),
    /// Certificates or TLS.
    #[error("oms.roots: {0}")]
    Tls(#[from] TlsError),
}

/// A pool; nothing is connected yet.
pub(super) fn pool(options: &PostgresOptions) -> Result<Pool, OpenError> {
    let mut config =
        Config::from_str(&options.url).map_err(|error| OpenError::Address(error.to_string()))?;
    if config.get_hosts().is_empty() {
        return Err(OpenError::Address("names no host".to_owned()));
    }
    if let Some(password) = &options.password {
        config.password(password);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("forebay");
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE * 2);
    }
    if config.get_keepalives_idle() == KEEPALIVE_DEFAULT {
        config.keepalives_idle(SILENCE).keepalives_interval(SILENCE / 3).keepalives_retries(3);
    }
    // One that does not answer leaves time for the next.
    let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
    let connect = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
    let create = connect.saturating_mul(hosts).max(WAIT);
    // Of several hosts the one that writes; by no order, so that one that stands still does not always come first.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config.load_balance_hosts(LoadBalanceHosts::Random);
    let statement_ms = options.answer_timeout.as_millis();
    let session = format!(
        "SELECT set_config('statement_timeout', '{statement_ms}ms', false) \
             WHERE current_setting('statement_timeout') = '0'; {SESSION}"
    );
    let tls = MakeRustlsConnect::new(tls_client(options.roots.as_deref())?);
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, tls, recycling);
    let timeouts =
        Timeouts { wait: Some(WAIT), create: Some(create), recycle: Some(CONNECT_TIMEOUT) };
    Pool::builder(manager)
        .max_size(options.connections)
        .timeouts(timeouts)
        .runtime(Runtime::Tokio1)
        .post_create(Hook::async_fn(move |client, _| {
            let session = session.clone();
            Box::pin(
                async move { client.batch_execute(&session).await.map_err(HookError::Backend) },
            )
        }))
        .build()
        .map_err(|error| OpenError::Address(error.to_string()))
}

/// A connection, free for us.
///
/// # Errors
/// [`CallFailure`], with nothing done.
pub(super) async fn get(pool: &Pool) -> Result<Object, CallFailure> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
            not_done(&error)
        }
        error => CallFailure::NotSent(format!("no connection to the database: {error}")),
    })
}

/// Makes the tables, unless they are there.
///
/// # Errors
/// [`CallFailure`]: they are not, or of a later release.
pub(super) async fn migrate(client: &mut Client) -> Result<(), CallFailure> {
    let failed = |error: tokio_postgres::Error| not_done(&error);
    if version(client).await.map_err(failed)? == Some(SCHEMA_VERSION) {
        return Ok(());
    }
    let transaction = client.transaction().await.map_err(failed)?;
    let lock = format!("SELECT pg_advisory_xact_lock({SCHEMA_LOCK})");
    transaction.batch_execute(&lock).await.map_err(failed)?;
    // Another may have made them meanwhile.
    match version(transaction.client()).await.map_err(failed)? {
        Some(SCHEMA_VERSION) => return Ok(()),
        Some(found) => {
            return Err(CallFailure::NotSent(format!(
                "its tables have version {found}, this release knows {SCHEMA_VERSION}: run a later release, or give another database"
            )));
        }
        None => {}
    }
    let schema = include_str!("schema.sql");
    let all = format!(
        "CREATE TABLE forebay_schema (version integer NOT NULL); \
         INSERT INTO forebay_schema VALUES ({SCHEMA_VERSION}); {schema}"
    );
    transaction.batch_execute(&all).await.map_err(|error| {
        CallFailure::NotSent(format!("its tables cannot be made: {}", not_done(&error)))
    })?;
    transaction.commit().await.map_err(failed)
}

/// The version of the tables; `None` where there are none.
///
/// # Errors
/// The server's.
pub(super) async fn version(client: &Client) -> Result<Option<i32>, tokio_postgres::Error> {
    let there = "SELECT to_regclass('forebay_schema') IS NOT NULL";
    if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    client.query_one("SELECT max(version) FROM forebay_schema", &[]).await?.try_get(0)
}
