//! Who we are, said with each call. Of tokens there is one at a time: whoever needs a new one first fetches it, the others wait.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::options::Auth;
use crate::oms::{CallFailure, Scope};
use crate::outbound::{Client, retry_after};

/// A token is renewed so long before it ends, or at a tenth of its life where that is less; but a second before, for servers that
/// count in whole seconds, or at half of its life.
const EARLY: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
/// The life of a token whose server does not say it.
const LIFE: Duration = Duration::from_secs(300);
/// No token is used for longer.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What the calls say of us.
pub(super) struct Credentials {
    auth: Auth,
    /// Headers whose values are in files.
    header_files: Vec<(HeaderName, PathBuf)>,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    value: HeaderValue,
    renew_at: Instant,
}

/// A token server's answer (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds; some write them as text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl Credentials {
    pub(super) fn new(auth: Auth, header_files: Vec<(HeaderName, PathBuf)>) -> Self {
        Self { auth, header_files, token: Mutex::new(None) }
    }

    /// The headers of a call whose values are in files.
    ///
    /// # Errors
    /// [`CallFailure::Unauthenticated`] where one cannot be read.
    pub(super) fn headers(&self) -> Result<HeaderMap, CallFailure> {
        let header =
            |(name, path): &(HeaderName, PathBuf)| Ok((name.clone(), secret(&read(path)?)?));
        self.header_files.iter().map(header).collect()
    }

    /// The `Authorization` of a call, if there is one. `refused`: one that was refused, which is not given again where another
    /// can be had.
    ///
    /// # Errors
    /// [`CallFailure::Unauthenticated`] where the credentials are refused or cannot be read; other trouble of the token server
    /// as [`CallFailure::NotSent`] or [`CallFailure::Overloaded`], for nothing was sent to the OMS.
    pub(super) async fn header(
        &self,
        client: &Client,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, CallFailure> {
        match &self.auth {
            Auth::Nobody => Ok(None),
            Auth::Bearer { token_file } => {
                secret(&format!("Bearer {}", read(token_file)?)).map(Some)
            }
            Auth::Basic { user, password_file } => basic(user, &read(password_file)?).map(Some),
            Auth::ClientCredentials { .. } => {
                let mut token = self.token.lock().await;
                let good = token.as_ref().filter(|token| {
                    Instant::now() < token.renew_at && Some(&token.value) != refused
                });
                if let Some(good) = good {
                    return Ok(Some(good.value.clone()));
                }
                *token = None;
                let fetched = self.fetch(client).await?;
                let value = fetched.value.clone();
                *token = Some(fetched);
                Ok(Some(value))
            }
        }
    }

    /// Whether another one can be had than the one that was refused.
    pub(super) fn renews(&self) -> bool {
        matches!(self.auth, Auth::ClientCredentials { .. })
    }

    async fn fetch(&self, client: &Client) -> Result<Token, CallFailure> {
        let Auth::ClientCredentials { token_url, client_id_file, client_secret_file, scope } =
            &self.auth
        else {
            return Err(CallFailure::Unauthenticated);
        };
        let login = basic(&form(&read(client_id_file)?), &form(&read(client_secret_file)?))?;
        let mut body = "grant_type=client_credentials".to_owned();
        if let Some(scope) = scope {
            body.push_str("&scope=");
            body.push_str(&form(scope));
        }
        let request = Request::builder()
            .method(Method::POST)
            .uri(token_url)
            .header(AUTHORIZATION, login)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Bytes::from(body))
            .map_err(|error| CallFailure::NotSent(format!("oms.auth.token_url: {error}")))?;
        let asked_at = Instant::now();
        let answer = client
            .call(request)
            .await
            .map_err(|failure| CallFailure::NotSent(format!("no token was had: {failure}")))?;
        match answer.status.as_u16() {
            200..=299 => {}
            400 | 401 | 403 => {
                tracing::warn!(
                    status = answer.status.as_u16(),
                    "the token server refuses the credentials"
                );
                return Err(CallFailure::Unauthenticated);
            }
            429 | 503 => {
                let after = retry_after(&answer.headers);
                return Err(CallFailure::Overloaded { after, scope: Scope::Second });
            }
            status => {
                return Err(CallFailure::NotSent(format!("the token server answered {status}")));
            }
        }
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| {
            CallFailure::NotSent("the token server's answer holds no access_token".to_owned())
        })?;
        let seconds = match &granted.expires_in {
            serde_json::Value::String(text) => text.parse::<f64>().ok(),
            number => number.as_f64(),
        };
        let life = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let life = life.unwrap_or(LIFE).min(LIFE_MAX);
        let early = EARLY.min(life / 10).max(SECOND.min(life / 2));
        let renew_at = asked_at + life.saturating_sub(early);
        Ok(Token { value: secret(&format!("Bearer {}", granted.access_token))?, renew_at })
    }
}

/// A secret without the line end it was written with.
fn read(path: &Path) -> Result<String, CallFailure> {
    fs::read_to_string(path).map(|text| text.trim_end_matches(['\r', '\n']).to_owned()).map_err(
        |error| {
            tracing::error!(path = %path.display(), %error, "a secret of the OMS cannot be read");
            CallFailure::Unauthenticated
        },
    )
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, CallFailure> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn secret(text: &str) -> Result<HeaderValue, CallFailure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        tracing::error!("a secret of the OMS holds what no header can");
        CallFailure::Unauthenticated
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// As in a form, which is also how a client's id and secret are written into HTTP Basic (RFC 6749, section 2.3.1).
fn form(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, super::template::RESERVED).to_string()
}
