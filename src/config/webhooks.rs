//! Who is told what becomes of orders, as it is configured: any number of sections `[webhooks.NAME]`.

use std::path::PathBuf;

use forebay_buffer::FeedKind;
use forebay_ops::webhooks::{Beginning, EndpointOptions, Secrets, address};
use forebay_processor::RetryPolicy;
use forebay_processor::outbound::tls_client;
use serde::{Deserialize, Serialize};

use super::units::Span;

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    pub(crate) secret_file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kinds: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) synthetic: bool,
    #[serde(default)]
    pub(crate) from: Beginning,
    #[serde(default = "one")]
    pub(crate) batch: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) roots: Option<PathBuf>,
    #[serde(default = "connect_timeout")]
    pub(crate) connect_timeout: Span,
    #[serde(default = "answer_timeout")]
    pub(crate) answer_timeout: Span,
    #[serde(default = "retry_base")]
    pub(crate) retry_base: Span,
    #[serde(default = "retry_max")]
    pub(crate) retry_max: Span,
}

impl Webhook {
    /// As the operator's room takes it; kinds that are none are left out.
    pub(crate) fn options(&self, name: &str) -> EndpointOptions {
        let named = |kind: &FeedKind| {
            self.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|word| word == kind.word()))
        };
        EndpointOptions {
            name: name.to_owned(),
            url: self.url.clone(),
            secret_file: self.secret_file.clone(),
            source: self.source.clone(),
            kinds: FeedKind::ALL.into_iter().filter(named).collect(),
            synthetic: self.synthetic,
            from: self.from,
            batch: self.batch,
            roots: self.roots.clone(),
            connect_timeout: self.connect_timeout.0,
            answer_timeout: self.answer_timeout.0,
            retry: RetryPolicy { base: self.retry_base.0, max: self.retry_max.0 },
        }
    }

    /// Everything of it that cannot be, each fault with its knob.
    pub(super) fn faults(&self, name: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut must = |ok: bool, fault: &str| {
            if !ok {
                faults.push(format!("webhooks.{name}{fault}"));
            }
        };
        let of_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        must(
            !name.is_empty() && name.bytes().all(of_name),
            ": the name must have letters, digits, \"-\" and \"_\" only",
        );
        let mut read = |knob: &str, read: Result<(), String>| {
            let fault = read.err().map(|why| format!(".{knob}: {why}"));
            must(fault.is_none(), &fault.unwrap_or_default());
        };
        read("url", address(&self.url).map(drop));
        read("secret_file", Secrets::read(&self.secret_file).map(drop));
        if self.roots.is_some() {
            let tls = tls_client(self.roots.as_deref());
            read("roots", tls.map(drop).map_err(|error| error.to_string()));
        }
        let known: Vec<_> = FeedKind::ALL.iter().map(|kind| kind.word()).collect();
        for word in self.kinds.iter().flatten().filter(|word| !known.contains(&word.as_str())) {
            must(false, &format!(".kinds: {word:?} is not known; known are {}", known.join(", ")));
        }
        must(
            self.kinds.as_ref().is_none_or(|kinds| !kinds.is_empty()),
            ".kinds: names none, so nothing is ever sent; leave it out for all",
        );
        must(
            self.source.as_deref().is_none_or(|source| {
                !source.is_empty() && source.bytes().all(|byte| byte.is_ascii_graphic())
            }),
            ".source: must be a URI, without spaces; leave it out for the store's own",
        );
        must((1..=1_000).contains(&self.batch), ".batch: must be 1 to 1000");
        let wait = |span: Span| span >= Span::millis(1) && span <= Span::secs(300);
        must(wait(self.connect_timeout), ".connect_timeout: must be 1ms to 5m");
        must(wait(self.answer_timeout), ".answer_timeout: must be 1ms to 5m");
        must(
            self.retry_base >= Span::millis(1) && self.retry_base <= self.retry_max,
            ".retry_base: must be at least 1ms and not above retry_max",
        );
        must(self.retry_max <= Span::secs(3_600), ".retry_max: must be at most 1h");
        faults
    }
}

fn one() -> usize {
    1
}

fn connect_timeout() -> Span {
    Span::secs(5)
}

fn answer_timeout() -> Span {
    Span::secs(15)
}

fn retry_base() -> Span {
    Span::secs(1)
}

fn retry_max() -> Span {
    Span::secs(300)
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Serialized, Toml};

    use super::super::{Config, check};

    fn checked(text: &str) -> Result<Config, String> {
        let config = Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::string(text))
            .extract::<Config>()
            .map_err(|error| error.to_string())?;
        check(&config).map_err(|faults| faults.join("\n"))?;
        Ok(config)
    }

    #[test]
    fn an_endpoint_needs_an_address_and_a_secret_that_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        let section = |more: &str| {
            let path = secret.display();
            format!(
                "[webhooks.mail]\nurl = \"https://shop.example/hooks\"\nsecret_file = \"{path}\"\n{more}"
            )
        };
        let missing = checked(&section("")).unwrap_err();
        assert!(
            missing.contains("webhooks.mail.secret_file") && missing.contains("secret: "),
            "{missing}"
        );
        std::fs::write(&secret, "hush\n").unwrap();
        let wrong = checked(&section("")).unwrap_err();
        assert!(wrong.contains("line 1 is no secret") && !wrong.contains("hush"), "{wrong}");
        std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let config = checked(&section("")).unwrap();
        let options = config.webhooks["mail"].options("mail");
        assert_eq!(options.kinds.len(), 6);
        assert_eq!((options.batch, options.synthetic), (1, false));

        for (more, fault) in [
            ("batch = 0", "webhooks.mail.batch"),
            (
                "kinds = [\"accepted\", \"shipped\"]",
                "webhooks.mail.kinds: \"shipped\" is not known",
            ),
            ("kinds = []", "webhooks.mail.kinds: names none"),
            ("source = \"my shop\"", "webhooks.mail.source"),
            ("retry_base = \"10m\"", "webhooks.mail.retry_base"),
            ("retry_max = \"2h\"", "webhooks.mail.retry_max"),
            ("answer_timeout = \"0ms\"", "webhooks.mail.answer_timeout"),
            ("roots = \"nowhere.pem\"", "webhooks.mail.roots: nowhere.pem"),
            ("secrets = 3", "secrets"),
        ] {
            let said = checked(&section(more)).unwrap_err();
            assert!(said.contains(fault), "{more}: {said}");
        }
        let unfed = checked(&format!("[feed]\nkeep = \"0B\"\n{}", section(""))).unwrap_err();
        assert!(unfed.starts_with("feed.keep: "), "{unfed}");
        let clear = section("").replace("https://", "http://");
        assert!(checked(&clear).unwrap_err().contains("webhooks.mail.url"));
        let dots = section("").replace("webhooks.mail", "webhooks.\"../mail\"");
        assert!(checked(&dots).unwrap_err().contains("the name must have letters"));
    }
}
