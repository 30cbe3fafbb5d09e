//! The demo's books, checked by somebody who did not write them.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::failure::{Failure, Result, While as _};
use crate::say::say;

/// Orders of the short demo.
const ORDERS: &str = "5000";

/// The buckets that must add up to what was acknowledged.
const BUCKETS: [&str; 12] = [
    "duplicates",
    "amended",
    "stale",
    "cancels",
    "conflicts",
    "recorded",
    "held",
    "cancelled",
    "pending",
    "submitted",
    "summarised",
    "exceptions",
];

/// Plays the short demo and checks its books.
///
/// # Errors
/// [`Failure::Missed`] if the demo or its books are not as promised.
pub(super) fn demo(binary: &Path) -> Result<()> {
    let output = Command::new(binary)
        .args(["demo", "--orders", ORDERS, "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .when("running the demo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    say(last);
    if !output.status.success() {
        return Err(Failure::Missed(format!("the demo ended with {}", output.status)));
    }
    check(&serde_json::from_str(last).when("reading the demo's last line")?)
}

fn check(books: &Value) -> Result<()> {
    let count = |name: &str| {
        let value = books.get(name).and_then(Value::as_u64);
        value.ok_or_else(|| Failure::Missed(format!("the books have no count {name:?}")))
    };
    for name in ["lost", "doubled"] {
        if count(name)? != 0 {
            return Err(Failure::Missed(format!("{name} is {}", count(name)?)));
        }
    }
    let acknowledged = count("acknowledged")?;
    let sum = BUCKETS.iter().map(|name| count(name)).sum::<Result<u64>>()?;
    if acknowledged != sum {
        let why = format!("acknowledged {acknowledged}, but the buckets add up to {sum}");
        return Err(Failure::Missed(why));
    }
    if count("summarised")? == 0 {
        return Err(Failure::Missed("no order was summarised".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Value {
        let mut books = serde_json::Map::new();
        for name in BUCKETS {
            books.insert(name.to_owned(), 2.into());
        }
        for (name, value) in [("acknowledged", 24), ("lost", 0), ("doubled", 0)] {
            books.insert(name.to_owned(), value.into());
        }
        books.into()
    }

    #[test]
    fn balanced_books_pass() {
        check(&books()).unwrap();
    }

    #[test]
    fn a_loss_a_double_a_gap_and_a_missing_bucket_do_not() {
        for (name, value) in
            [("lost", Some(1)), ("doubled", Some(1)), ("acknowledged", Some(25)), ("stale", None)]
        {
            let mut books = books();
            match value {
                Some(value) => books[name] = value.into(),
                None => drop(books.as_object_mut().unwrap().remove(name)),
            }
            assert!(check(&books).is_err(), "{name}");
        }
    }
}
