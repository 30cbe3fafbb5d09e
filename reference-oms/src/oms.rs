//! What all calls share.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use serde_json::Value;

use crate::clock::Clock;
use crate::dialect::Dialect;
use crate::faults::Faults;
use crate::judge;
use crate::ledger::{Ledger, LedgerError};
use crate::nth::Counts;
use crate::pressure::Pressure;
use crate::sessions::Sessions;
use crate::tokens::Tokens;

/// How a reference OMS is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The ledger; made if it is not there.
    pub db: PathBuf,
    /// Who may have a token.
    pub client_id: String,
    /// With which secret.
    pub client_secret: String,
    /// The faults from the start.
    pub faults: Faults,
    /// Serve TLS with these.
    pub tls: Option<TlsFiles>,
    /// Orders in one create call at most.
    pub batch_max: usize,
    /// In which words it speaks.
    pub dialect: Dialect,
}

impl Options {
    /// Without faults and TLS, with 1,000 orders in a call.
    pub fn new(db: PathBuf, client_id: &str, client_secret: &str) -> Self {
        Self {
            db,
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            faults: Faults::default(),
            tls: None,
            batch_max: 1_000,
            dialect: Dialect::Generic,
        }
    }
}

/// PEM files for TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, with what leads from it to the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The OMS behind its HTTP.
#[derive(Debug)]
pub(crate) struct Oms {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) batch_max: usize,
    pub(crate) dialect: Dialect,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) counts: Counts,
    last_call: AtomicI64,
    tell_again: AtomicBool,
    /// Limited calls under way.
    pub(crate) under_way: AtomicU64,
    faults: Mutex<Arc<Faults>>,
    tokens: Mutex<Tokens>,
    sessions: Mutex<Sessions>,
    pressure: Mutex<Pressure>,
    bodies: Mutex<VecDeque<Bytes>>,
}

/// Bodies of create calls that are kept to be looked at.
const BODIES: usize = 16;

impl Oms {
    /// Opens the ledger. Blocks for the disk.
    pub(crate) fn open(options: &Options) -> Result<Self, LedgerError> {
        let clock = Clock::start();
        let ledger = Ledger::open(&options.db, clock)?;
        let now_us = clock.now_us();
        let counted = judge::counted_since(&options.db, Pressure::day_began_us(now_us))?;
        Ok(Self {
            client_id: options.client_id.clone(),
            client_secret: options.client_secret.clone(),
            batch_max: options.batch_max,
            dialect: options.dialect,
            clock,
            tell_again: AtomicBool::new(false),
            last_call: AtomicI64::new(ledger.calls_before),
            ledger,
            counts: Counts::default(),
            under_way: AtomicU64::new(0),
            faults: Mutex::new(Arc::new(options.faults.clone())),
            tokens: Mutex::new(Tokens::default()),
            sessions: Mutex::default(),
            pressure: Mutex::new(Pressure::new(now_us, u64::try_from(counted).unwrap_or(0))),
            bodies: Mutex::default(),
        })
    }

    /// A number for a call.
    pub(crate) fn next_call(&self) -> i64 {
        self.last_call.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether what was told is to be told again; true once.
    pub(crate) fn tell_again(&self) -> bool {
        self.tell_again.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&lock(&self.faults))
    }

    /// Merges a change of the faults in.
    pub(crate) fn change(&self, change: Value) -> Result<Arc<Faults>, String> {
        let mut faults = lock(&self.faults);
        let change = faults.changed(change)?;
        self.counts.restart_changed(&faults, &change.faults);
        if change.revoke_tokens {
            self.tokens().revoke_all();
        }
        if change.end_sessions {
            self.sessions().end_all();
        }
        self.tell_again.fetch_or(change.tell_again, Ordering::Relaxed);
        *faults = Arc::new(change.faults);
        Ok(Arc::clone(&faults))
    }

    /// Keeps the body of a create call, for as long as few come after it.
    pub(crate) fn keep(&self, body: Bytes) {
        let mut bodies = lock(&self.bodies);
        bodies.push_back(body);
        if bodies.len() > BODIES {
            bodies.pop_front();
        }
    }

    /// Those that are kept, the oldest first.
    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        lock(&self.bodies).iter().cloned().collect()
    }

    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }

    pub(crate) fn pressure(&self) -> MutexGuard<'_, Pressure> {
        lock(&self.pressure)
    }
}

/// What it guards is whole at every step, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
