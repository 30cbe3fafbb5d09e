//! The in-flight budget: how many requests, and how many bytes, may be between the door and the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Hands out the in-flight budget. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    orders_max: usize,
    bytes_max: usize,
    orders: AtomicUsize,
    bytes: AtomicUsize,
}

/// The budget is used up; the sender should come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is in flight")]
pub struct Overloaded;

/// An owned share of the budget. It travels with the bytes, through `append`, to the answer, and gives
/// its share back when dropped; so a client that hangs up frees nothing early.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    orders: usize,
    bytes: usize,
}

impl Admission {
    /// A budget of so many orders and bytes in flight.
    pub fn new(orders_max: usize, bytes_max: usize) -> Self {
        let shared = Shared {
            orders_max,
            bytes_max,
            orders: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A share of one order and `bytes`, at once or not at all.
    ///
    /// # Errors
    /// [`Overloaded`] when the budget has not that much left.
    pub fn admit(&self, bytes: usize) -> Result<Permit, Overloaded> {
        take(&self.shared.orders, 1, self.shared.orders_max)?;
        if let Err(overloaded) = take(&self.shared.bytes, bytes, self.shared.bytes_max) {
            self.shared.orders.fetch_sub(1, Ordering::Relaxed);
            return Err(overloaded);
        }
        Ok(Permit { shared: Arc::clone(&self.shared), orders: 1, bytes })
    }

    /// Orders and bytes in flight now.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.shared.orders.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed))
    }
}

impl Permit {
    /// Takes `bytes` more, as a body turns out longer than announced or is inflated.
    ///
    /// # Errors
    /// [`Overloaded`] when the budget has not that much left; what was held stays held.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Overloaded> {
        take(&self.shared.bytes, bytes, self.shared.bytes_max)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Splits off a share of one more order and up to `bytes` of what this one holds, for one item of a batch.
    ///
    /// # Errors
    /// [`Overloaded`] when no further order may be in flight.
    pub fn split(&mut self, bytes: usize) -> Result<Permit, Overloaded> {
        take(&self.shared.orders, 1, self.shared.orders_max)?;
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Ok(Permit { shared: Arc::clone(&self.shared), orders: 1, bytes })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.orders.fetch_sub(self.orders, Ordering::Relaxed);
        self.shared.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn take(counter: &AtomicUsize, n: usize, max: usize) -> Result<(), Overloaded> {
    let add = |now: usize| now.checked_add(n).filter(|sum| *sum <= max);
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
        .map(|_| ())
        .map_err(|_| Overloaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back_exactly_once() {
        let admission = Admission::new(2, 100);
        let mut first = admission.admit(60).unwrap();
        assert_eq!(admission.admit(41).unwrap_err(), Overloaded);
        assert_eq!(admission.in_flight(), (1, 60));
        first.grow(40).unwrap();
        assert_eq!(first.grow(1), Err(Overloaded));
        let part = first.split(30).unwrap();
        assert!(first.split(1).is_err(), "two orders is the most");
        drop(first);
        assert_eq!(admission.in_flight(), (1, 30));
        drop(part);
        assert_eq!(admission.in_flight(), (0, 0));
    }
}
