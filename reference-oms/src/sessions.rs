//! Sessions: a cookie, a token that is good with it alone, and an end.

use std::collections::HashMap;

use crate::clock::secs_us;

/// Sessions kept at most; beyond, all are over.
const SESSIONS_MAX: usize = 10_000;

/// By their cookies.
#[derive(Debug, Default)]
pub(crate) struct Sessions(HashMap<String, Session>);

#[derive(Debug)]
struct Session {
    token: String,
    until_us: i64,
}

impl Sessions {
    /// A new one: its cookie and its token.
    pub(crate) fn begin(&mut self, now_us: i64, lasts_s: u64) -> (String, String) {
        if self.0.len() >= SESSIONS_MAX {
            self.0.clear();
        }
        let [cookie, token] =
            [(); 2].map(|()| format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
        let session =
            Session { token: token.clone(), until_us: now_us.saturating_add(secs_us(lasts_s)) };
        self.0.insert(cookie.clone(), session);
        (cookie, token)
    }

    /// Whether that token is that session's, and it is not over.
    pub(crate) fn is_good(&self, cookie: &str, token: &str, now_us: i64) -> bool {
        let session = self.0.get(cookie);
        session.is_some_and(|session| session.token == token && now_us < session.until_us)
    }

    /// All are over.
    pub(crate) fn end_all(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_in_its_own_session_only() {
        let mut sessions = Sessions::default();
        let ((cookie, token), (other, others)) = (sessions.begin(0, 1), sessions.begin(0, 1));
        assert!(sessions.is_good(&cookie, &token, 999_999) && sessions.is_good(&other, &others, 0));
        assert!(!sessions.is_good(&cookie, &others, 0) && !sessions.is_good(&other, &token, 0));
        assert!(!sessions.is_good(&cookie, &token, 1_000_000) && !sessions.is_good("", &token, 0));
        sessions.end_all();
        assert!(!sessions.is_good(&cookie, &token, 0));
    }
}
