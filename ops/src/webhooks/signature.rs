//! Signatures by Standard Webhooks (<https://www.standardwebhooks.com>), scheme `v1`: HMAC-SHA256 over `id.timestamp.body`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// What a secret begins with, so that none is mistaken for another thing.
const PREFIX: &str = "whsec_";
/// Bytes of a key, by the specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The secrets of one endpoint: the one in use, and while it is being replaced the one before. Each signs.
pub struct Secrets(Vec<hmac::Key>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Reads a file of one secret a line, two at most.
    ///
    /// # Errors
    /// What is wrong with it, with its path and without a secret.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path);
        let secrets = text.map_err(|error| error.to_string()).and_then(|text| Self::parse(&text));
        secrets.map_err(|why| format!("{}: {why}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() || lines.len() > 2 {
            let lines = lines.len();
            return Err(format!(
                "holds {lines} secrets; write one, or two while the first replaces the second, each on a line of its own"
            ));
        }
        let keys = lines.iter().enumerate().map(|(n, line)| {
            key(line).ok_or_else(|| {
                format!(
                    "line {} is no secret; one is {PREFIX} and the base64 of {} to {} random bytes",
                    n + 1,
                    KEY_BYTES.start(),
                    KEY_BYTES.end()
                )
            })
        });
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// The value of `webhook-signature`: one signature a secret.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signatures = self.0.iter().map(|key| {
            let mut signed = hmac::Context::with_key(key);
            signed.update(format!("{id}.{timestamp}.").as_bytes());
            signed.update(body);
            format!("v1,{}", STANDARD.encode(signed.sign()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }

    /// Whether one of the signatures in a `webhook-signature` is of one of these secrets; in a time that says nothing of them.
    pub(crate) fn signed(&self, id: &str, timestamp: &str, body: &[u8], signatures: &str) -> bool {
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let given = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,"));
        let mut given = given.filter_map(|text| STANDARD.decode(text).ok());
        given.any(|tag| self.0.iter().any(|key| hmac::verify(key, &signed, &tag).is_ok()))
    }
}

fn key(line: &str) -> Option<hmac::Key> {
    let bytes = STANDARD.decode(line.strip_prefix(PREFIX)?).ok()?;
    KEY_BYTES.contains(&bytes.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    #[test]
    fn the_published_vectors_are_signed_as_published() {
        let secrets = Secrets::parse(SECRET).unwrap();
        let signed =
            secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let secrets = Secrets::parse(OTHER).unwrap();
        let signed = secrets.sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
        assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn a_secret_that_is_being_replaced_signs_too() {
        let both = Secrets::parse(&format!("{SECRET}\n{OTHER}\n")).unwrap().sign("a", 1, b"{}");
        let alone = [SECRET, OTHER].map(|one| Secrets::parse(one).unwrap().sign("a", 1, b"{}"));
        assert_eq!(both, alone.join(" "));
    }

    #[test]
    fn what_is_no_secret_is_said_without_it() {
        for (text, what) in [
            ("", "holds 0 secrets"),
            (&format!("{SECRET}\n{SECRET}\n{OTHER}") as &str, "holds 3 secrets"),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "line 1 is no secret"),
            ("whsec_c2hvcnQ=", "line 1 is no secret"),
            (&format!("{SECRET}\nwhsec_!!!!"), "line 2 is no secret"),
        ] {
            let why = Secrets::parse(text).unwrap_err();
            assert!(why.contains(what), "{why}");
            assert!(!why.contains("MfKQ") && !why.contains("!!!!"), "{why}");
        }
    }
}
