//! Sessions of a dialect that has them: a cookie, and a token that is good with it alone.

use http::{HeaderName, header};

use super::answer::Answer;
use super::call::Call;
use crate::oms::Oms;

const TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
const COOKIE: &str = "SAP_SESSIONID_OMS_100";
/// Seconds that one lasts without a change of the faults; longer than any test.
const LASTS_S: u64 = 1_800;

/// Begins one, where the call asks for it.
pub(super) fn begin(oms: &Oms, call: &Call) -> Answer {
    let answer = Answer::ok(br#"{"d":{"EntitySets":["A_SalesOrder"]}}"#.to_vec());
    let asked = call.parts.headers.get(TOKEN).and_then(|asked| asked.to_str().ok());
    if !asked.is_some_and(|asked| asked.eq_ignore_ascii_case("fetch")) {
        return answer;
    }
    let (cookie, token) = oms.sessions().begin(call.at_us, LASTS_S);
    answer
        .header(TOKEN, token)
        .header(header::SET_COOKIE, "sap-usercontext=sap-client=100; path=/".to_owned())
        .header(header::SET_COOKIE, format!("{COOKIE}={cookie}; path=/; HttpOnly"))
}

/// Whether a call has a session's cookie, and that session's token.
pub(super) fn is_in_one(oms: &Oms, call: &Call) -> bool {
    let text =
        |name: &HeaderName| call.parts.headers.get(name).and_then(|value| value.to_str().ok());
    let cookies = text(&header::COOKIE).unwrap_or_default();
    let cookie = cookies.split("; ").find_map(|one| one.strip_prefix(COOKIE)?.strip_prefix('='));
    let token = text(&TOKEN).unwrap_or_default();
    cookie.is_some_and(|cookie| oms.sessions().is_good(cookie, token, call.at_us))
}
