//! The session of calls that change something, where an OMS wants one: a token against forged requests (CSRF), which is fetched first
//! and is good with the cookies that came with it, as SAP's OData services have it.
//!
//! There is one at a time: whoever needs a new one first fetches it, the others wait. Where each call fetched its own, one call's cookies
//! would go with another's token, and those calls be refused.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::Mutex;

use crate::oms::CallFailure;
use crate::outbound::Answer;

pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
/// Asks for a token.
pub(super) const FETCH: HeaderValue = HeaderValue::from_static("Fetch");
/// Says that there is none, or not that one any more.
const REQUIRED: &str = "required";

/// The session that is good now, as headers.
#[derive(Default)]
pub(super) struct Session(Mutex<Option<HeaderMap>>);

impl Session {
    /// The headers of a call. `refused`: those of a session that is over.
    ///
    /// # Errors
    /// [`CallFailure`]: none was had, and nothing was sent but the question.
    pub(super) async fn headers(
        &self,
        refused: Option<&HeaderMap>,
        fetch: impl Future<Output = Result<Answer, CallFailure>>,
    ) -> Result<HeaderMap, CallFailure> {
        let mut held = self.0.lock().await;
        if let Some(good) = held.as_ref().filter(|held| Some(*held) != refused) {
            return Ok(good.clone());
        }
        *held = None;
        let headers = read(&fetch.await?)?;
        *held = Some(headers.clone());
        Ok(headers)
    }
}

fn read(answer: &Answer) -> Result<HeaderMap, CallFailure> {
    let none = || CallFailure::NotSent("no token was told at oms.csrf_path".to_owned());
    let token = answer.headers.get(TOKEN).ok_or_else(none)?;
    let cookies = answer.headers.get_all(SET_COOKIE).iter();
    let cookies: Vec<_> =
        cookies.filter_map(|cookie| cookie.to_str().ok()?.split(';').next()).collect();
    let mut headers = HeaderMap::new();
    headers.insert(TOKEN, token.clone());
    if !cookies.is_empty() {
        headers.insert(COOKIE, HeaderValue::from_str(&cookies.join("; ")).map_err(|_| none())?);
    }
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    Ok(headers)
}

/// Whether a call was refused for its session; nothing of it was done.
pub(super) fn is_over(answer: &Answer) -> bool {
    let told = answer.headers.get(TOKEN).and_then(|told| told.to_str().ok());
    answer.status == StatusCode::FORBIDDEN
        && told.is_some_and(|told| told.eq_ignore_ascii_case(REQUIRED))
}
