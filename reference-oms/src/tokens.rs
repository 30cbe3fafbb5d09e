//! Bearer tokens: random, short-lived, revocable. They live in memory, so a restart revokes them all.

use std::collections::HashMap;

use crate::clock::secs_us;

/// Tokens kept at most; beyond, nobody needs the oldest any more.
const TOKENS_MAX: usize = 100_000;

/// The tokens that are good, and until when.
#[derive(Debug, Default)]
pub(crate) struct Tokens(HashMap<String, i64>);

impl Tokens {
    /// A new token.
    pub(crate) fn issue(&mut self, now_us: i64, ttl_s: u64) -> String {
        if self.0.len() >= TOKENS_MAX {
            self.0.retain(|_, until| *until > now_us);
        }
        if self.0.len() >= TOKENS_MAX {
            self.0.clear();
        }
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        self.0.insert(token.clone(), now_us.saturating_add(secs_us(ttl_s)));
        token
    }

    /// Whether calls may be made with it.
    pub(crate) fn is_good(&self, token: &str, now_us: i64) -> bool {
        self.0.get(token).is_some_and(|until| now_us < *until)
    }

    /// None issued so far is good any more.
    pub(crate) fn revoke_all(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_as_long_as_it_was_issued_for() {
        let mut tokens = Tokens::default();
        let (short, long) = (tokens.issue(0, 1), tokens.issue(0, 10));
        assert_ne!(short, long);
        assert!(tokens.is_good(&short, 999_999) && !tokens.is_good(&short, 1_000_000));
        assert!(tokens.is_good(&long, 1_000_000) && !tokens.is_good("guessed", 0));
        tokens.revoke_all();
        assert!(!tokens.is_good(&long, 1_000_000));
    }
}
