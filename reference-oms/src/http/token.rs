//! `POST /oauth/token`: the client-credentials grant (RFC 6749, 4.4), with the credentials in the form or as HTTP Basic.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::answer::Answer;
use super::call::Call;
use crate::ledger::Note;
use crate::oms::Oms;
use crate::order::Why;

pub(super) async fn grant(oms: &Oms, call: &Call) -> Answer {
    let form: Result<Vec<(String, String)>, _> = serde_urlencoded::from_bytes(&call.body);
    let Ok(form) = form else { return error(400, "invalid_request", Why::Malformed) };
    let field =
        |name: &str| form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let basic = call.parts.headers.get(header::AUTHORIZATION);
    let basic = basic.and_then(|value| basic_credentials(value.to_str().ok()?));
    let (id, secret) = match &basic {
        Some((id, secret)) => (Some(id.as_str()), Some(secret.as_str())),
        None => (field("client_id"), field("client_secret")),
    };
    match field("grant_type") {
        None => return error(400, "invalid_request", Why::Malformed),
        Some("client_credentials") => {}
        Some(_) => return error(400, "unsupported_grant_type", Why::Malformed),
    }
    let known = id == Some(&oms.client_id) && secret == Some(&oms.client_secret);
    if !known || call.faults.refuse_credentials {
        return error(401, "invalid_client", Why::Credentials)
            .header(header::WWW_AUTHENTICATE, "Basic".to_owned());
    }
    let (now_us, ttl_s) = (oms.clock.now_us(), call.faults.token_ttl_s);
    let token = oms.tokens().issue(now_us, ttl_s);
    oms.ledger.note(Note::Token { call: call.number, at_us: now_us }).await;
    let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": ttl_s });
    Answer::ok(body.to_string().into_bytes()).header(header::CACHE_CONTROL, "no-store".to_owned())
}

/// Errors of the token endpoint are worded by OAuth, whatever the dialect.
fn error(status: u16, word: &str, why: Why) -> Answer {
    let mut answer = Answer::ok(json!({ "error": word }).to_string().into_bytes());
    (answer.status, answer.why) = (status, Some(why));
    answer
}

/// Both parts are form-encoded before they are joined.
fn basic_credentials(header: &str) -> Option<(String, String)> {
    let joined = BASE64_STANDARD.decode(header.strip_prefix("Basic ")?.trim()).ok()?;
    let joined = String::from_utf8(joined).ok()?;
    let (id, secret) = joined.split_once(':')?;
    let decode = |part: &str| {
        let part = part.replace('+', " ");
        Some(percent_decode_str(&part).decode_utf8().ok()?.into_owned())
    };
    Some((decode(id)?, decode(secret)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_decoded_twice() {
        let header = format!("Basic {}", BASE64_STANDARD.encode("fore+bay:a%3Ab%25"));
        let expected = ("fore bay".to_owned(), "a:b%".to_owned());
        assert_eq!(basic_credentials(&header), Some(expected));
        for no in ["Basic !", "Bearer x", "Basic bm9jb2xvbg=="] {
            assert_eq!(basic_credentials(no), None, "{no}");
        }
    }
}
