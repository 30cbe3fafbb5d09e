//! An OMS that is reached over HTTP, as it is configured: sections `[oms.auth]`, `[oms.create]`, `[oms.find]`, `[oms.list]`,
//! `[oms.limits]` and any number of `[[oms.outcome]]`; `claim.rs` has `[oms.claim]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use forebay_ops::webhooks::Secrets;
use forebay_processor::Guarantee;
use forebay_processor::oms::http::{Answers, Meaning, Method};
use forebay_processor::outbound::{is_address, is_header};
use serde::{Deserialize, Serialize};

use super::claim;
use super::knobs::{Oms, OmsKind};
use super::units::{Size, Span};

/// Who we are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A fixed token.
    Bearer { token_file: PathBuf },
    /// HTTP Basic.
    Basic { user: String, password_file: PathBuf },
    /// OAuth 2.0.
    #[serde(rename = "oauth2-client-credentials")]
    ClientCredentials {
        token_url: String,
        client_id_file: PathBuf,
        client_secret_file: PathBuf,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
    },
}

/// How orders are created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    #[serde(default)]
    pub(crate) method: Method,
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    /// The file of a body's template, before the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<PathBuf>,
    /// Given to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) values: BTreeMap<String, String>,
    #[serde(default = "one")]
    pub(crate) batch: usize,
    #[serde(default = "body_bytes")]
    pub(crate) bytes: Size,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_header: Option<String>,
    #[serde(default)]
    pub(crate) refuses_second: bool,
    #[serde(default)]
    pub(crate) answers: Answers,
}

/// How they are looked up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Find {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    pub(crate) path: String,
    #[serde(default = "one")]
    pub(crate) batch: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<String>,
    pub(crate) identity: String,
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fingerprint: Option<String>,
    #[serde(default = "visible_after")]
    pub(crate) visible_after: Span,
}

/// How they are listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    pub(crate) path: String,
    pub(crate) items: String,
}

/// What calls are kept to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calls_per_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calls_per_day: Option<u64>,
    /// Percent of those, kept for others.
    #[serde(default)]
    pub(crate) reserve_percent: u8,
    /// Orders with the OMS under a ticket.
    #[serde(default = "outstanding")]
    pub(crate) outstanding: u64,
}

/// Everything of it that cannot be, each fault with its knob.
pub(super) fn faults(oms: &Oms) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |ok: bool, fault: &str| {
        if !ok {
            faults.push(fault.to_owned());
        }
    };
    if oms.kind != OmsKind::Http {
        must(
            oms.preset.is_none()
                && oms.auth.is_none()
                && oms.header_files.is_empty()
                && oms.csrf_path.is_none()
                && oms.create.is_none()
                && oms.find.is_none()
                && oms.list.is_none()
                && oms.claim.is_none()
                && oms.limits.is_none()
                && oms.outcome.is_empty()
                && oms.identity_max.is_none()
                && oms.outcomes_secret_file.is_none()
                && !oms.accept_doubles,
            "oms.preset, auth, header_files, csrf_path, create, find, list, claim, limits, outcome, identity_max, outcomes_secret_file, accept_doubles: only for oms.kind = \"http\"",
        );
        return faults;
    }
    must(oms.url.is_some(), "oms.url: says where the OMS of oms.kind = \"http\" is");
    must(
        oms.url
            .as_deref()
            .is_none_or(|url| url.starts_with("http://") || url.starts_with("https://")),
        "oms.url: must begin with https:// (or http://) for oms.kind = \"http\"",
    );
    must(
        oms.url.as_deref().is_none_or(|url| !url.contains('@')),
        "oms.url: must hold no user or token, which would be shown; say who we are in [oms.auth]",
    );
    for (knob, name) in headers(oms).filter(|(_, name)| !is_header(name)) {
        must(false, &format!("{knob}: {name:?} is no header"));
    }
    if let Some(Auth::ClientCredentials { token_url, .. }) = &oms.auth {
        must(is_address(token_url), &format!("oms.auth.token_url: {ADDRESS}"));
    }
    must(
        oms.identity_max.is_none_or(|most| most > 0 && most <= 1_024),
        "oms.identity_max: must be 1 to 1024",
    );
    must(
        oms.ticket_deadline >= Span::secs(60) && oms.ticket_deadline <= Span::secs(30 * 86_400),
        "oms.ticket_deadline: must be 1m to 30d",
    );
    if let Some(Err(why)) = oms.outcomes_secret_file.as_deref().map(Secrets::read) {
        must(false, &format!("oms.outcomes_secret_file: {why}"));
    }
    must(
        oms.csrf_path.as_deref().is_none_or(|path| path.starts_with('/')),
        "oms.csrf_path: must start with \"/\"",
    );
    let Some(create) = &oms.create else {
        must(false, "oms.create: says how orders are created; at least its path is needed");
        return faults;
    };
    must(create.path.starts_with('/'), "oms.create.path: must start with \"/\"");
    must((1..=1_000).contains(&create.batch), "oms.create.batch: must be 1 to 1000");
    must(create.bytes.0 >= 1 << 10, "oms.create.bytes: must be at least 1KiB");
    must(
        create.batch == 1 || create.answers.items.is_some(),
        "oms.create.answers.items: with more than one order a call (oms.create.batch) say where the list with one answer an order is",
    );
    must(
        create.batch == 1 || (!create.path.contains("{{") && create.answers.id_header.is_none()),
        "oms.create.batch: must be 1 where an order has its own path (oms.create.path) or its id is in a header (oms.create.answers.id_header)",
    );
    must(
        create.batch == 1 || create.idempotency_header.is_none(),
        "oms.create.idempotency_header: only with one order a call, for an order is sent again in other company",
    );
    if let Some(find) = &oms.find {
        must(find.path.starts_with('/'), "oms.find.path: must start with \"/\"");
        must(find.url.as_deref().is_none_or(is_address), &format!("oms.find.url: {ADDRESS}"));
        must((1..=1_000).contains(&find.batch), "oms.find.batch: must be 1 to 1000");
        must(
            find.batch == 1 || find.items.is_some(),
            "oms.find.items: with more than one identity a call (oms.find.batch) say where the list of orders is",
        );
        must(find.visible_after <= Span::secs(60), "oms.find.visible_after: must be at most 1m");
    }
    if let Some(unsaid) = claim::unsaid(oms) {
        must(false, &unsaid);
    }
    if let Some(claim) = claim::note(oms) {
        must(claim.path.starts_with('/'), "oms.claim.path: must start with \"/\"");
        must(
            claim.write_path.as_deref().is_none_or(|path| path.starts_with('/')),
            "oms.claim.write_path: must start with \"/\"",
        );
        must(claim.url.as_deref().is_none_or(is_address), &format!("oms.claim.url: {ADDRESS}"));
        for (knob, pointer) in [("fleet", &claim.fleet), ("since_ms", &claim.since_ms)] {
            must(
                pointer.starts_with('/'),
                &format!("oms.claim.{knob}: {pointer:?} is no JSON pointer; begin it with \"/\""),
            );
        }
    }
    if let Some(list) = &oms.list {
        must(list.path.starts_with('/'), "oms.list.path: must start with \"/\"");
    }
    let certain =
        create.refuses_second || create.idempotency_header.is_some() || oms.find.is_some();
    must(
        certain || oms.accept_doubles,
        "oms.accept_doubles: nothing keeps this OMS from a double: it refuses no second create (oms.create.refuses_second), has no \
         idempotency key (oms.create.idempotency_header) and cannot be asked (oms.find). Set one of these; or set it to true, and \
         each order whose outcome was not told waits for a person",
    );
    let pointers = oms.find.iter().flat_map(|find| {
        [find.items.as_ref(), Some(&find.identity), Some(&find.id), find.fingerprint.as_ref()]
    });
    let of_list = oms.list.iter().map(|list| &list.items);
    let pointers = pointers.flatten().chain(create.answers.pointers()).chain(of_list);
    for pointer in pointers.filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
        must(
            false,
            &format!(
                "oms.create.answers, oms.find, oms.list: {pointer:?} is no JSON pointer; begin it with \"/\""
            ),
        );
    }
    if let Some(limits) = &oms.limits {
        must(
            limits.calls_per_s.is_none_or(|rate| (0.01..=1e5).contains(&rate)),
            "oms.limits.calls_per_s: must be 0.01 to 100000",
        );
        must(limits.reserve_percent < 100, "oms.limits.reserve_percent: must be below 100");
        must(
            (1..=1_000_000).contains(&limits.outstanding),
            "oms.limits.outstanding: must be 1 to 1000000",
        );
    }
    faults
}

/// What an address must be.
const ADDRESS: &str = "must begin with https:// (or http://) and a host, and hold no user or token, which would be shown";

/// Each header that is named, with its knob.
fn headers(oms: &Oms) -> impl Iterator<Item = (&'static str, &String)> {
    let of_create = oms.create.iter().flat_map(|create| {
        let sent = create.headers.keys().map(|name| ("oms.create.headers", name));
        let key = create.idempotency_header.iter();
        let id = create.answers.id_header.iter();
        sent.chain(key.map(|name| ("oms.create.idempotency_header", name)))
            .chain(id.map(|name| ("oms.create.answers.id_header", name)))
    });
    of_create.chain(oms.header_files.keys().map(|name| ("oms.header_files", name)))
}

/// What becomes of a second create.
pub(super) fn guarantee(oms: &Oms) -> Guarantee {
    let create = oms.create.as_ref();
    Guarantee::of(
        create.is_some_and(|create| create.refuses_second),
        create.is_some_and(|create| create.idempotency_header.is_some()),
        oms.find.is_some(),
    )
}

/// How long what a process was allowed to send may be under way, where only a look-up keeps from doubles: the calls before its last
/// one, a token, the session and the call itself. Zero for other OMSs.
pub(crate) fn under_way(oms: &Oms) -> Duration {
    let looked_up = oms.kind == OmsKind::Http && guarantee(oms) == Guarantee::LookedUp;
    if looked_up { 4 * (oms.connect_timeout.0 + oms.answer_timeout.0) } else { Duration::ZERO }
}

/// What becomes of orders that are taken under a ticket, in words.
pub(super) fn tickets(oms: &Oms) -> String {
    let (most, deadline) = (outstanding_of(oms), oms.ticket_deadline);
    let closed = match oms.find {
        Some(_) => "looked up, or told by POST /v1/oms/outcomes",
        None => "told by POST /v1/oms/outcomes, for it cannot be asked (oms.find)",
    };
    format!(
        "at most {most} orders are with the OMS under a ticket; each is {closed}, or waits for a person after {deadline}"
    )
}

/// What can double where the answer that holds a ticket is lost, in words.
pub(super) fn lost_tickets(oms: &Oms) -> Option<String> {
    let (find, create) = (oms.find.as_ref()?, oms.create.as_ref()?);
    let gives_none = create.answers.ticket.is_empty()
        && oms.outcome.iter().all(|rule| rule.is != Meaning::Accepted);
    (guarantee(oms) == Guarantee::LookedUp && !gives_none).then(|| {
        format!(
            "oms.find.visible_after: where this OMS only takes orders at first, one whose ticket is lost on its way is looked up after {} and \
             sent again if it is absent: created later than that, it doubles. Set oms.create.refuses_second or idempotency_header if the \
             OMS keeps to one; if it gives no tickets, set oms.create.answers.ticket = []",
            find.visible_after
        )
    })
}

/// Orders with the OMS under a ticket, of all processes together.
pub(crate) fn outstanding_of(oms: &Oms) -> u64 {
    oms.limits.as_ref().map_or_else(outstanding, |limits| limits.outstanding)
}

fn outstanding() -> u64 {
    2_000
}

fn one() -> usize {
    1
}

fn body_bytes() -> Size {
    Size::mib(1)
}

fn visible_after() -> Span {
    Span::secs(5)
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Serialized, Toml};

    use super::super::{Config, check};

    const MINIMAL: &str = "[oms]\nkind = \"http\"\nurl = \"https://oms.example.com/api\"\nclaim = \"none\"\n\
         [oms.create]\npath = \"/orders\"\n";

    fn checked(more: &str) -> Result<Vec<String>, Vec<String>> {
        let text = format!("{MINIMAL}{more}");
        let config =
            Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(&text));
        check(&config.extract().unwrap()).map(|checked| checked.promises)
    }

    fn fault(more: &str) -> String {
        checked(more).unwrap_err().join("\n")
    }

    #[test]
    fn the_guarantee_is_named_and_at_least_once_is_refused_unless_it_is_wanted() {
        assert!(fault("").starts_with("oms.accept_doubles"));
        for (more, words) in [
            ("refuses_second = true", "once: unique id"),
            ("idempotency_header = \"Idempotency-Key\"", "once: idempotency key"),
            (
                "[oms.find]\npath = \"/o/{{ identity }}\"\nidentity = \"/ref\"\nid = \"/id\"",
                "once: looked up",
            ),
        ] {
            let promises = checked(more).unwrap();
            assert!(
                promises.iter().any(|promise| promise.contains(words)),
                "{words}: {promises:?}"
            );
        }
        let wanted = MINIMAL.replace("[oms.create]", "accept_doubles = true\n[oms.create]");
        let config =
            Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(&wanted));
        let promises = check(&config.extract().unwrap()).unwrap().promises;
        assert!(promises.iter().any(|promise| promise.contains("at least once: doubles possible")));
    }

    #[test]
    fn an_oms_that_gives_tickets_and_can_only_be_looked_up_is_warned_of() {
        let find = "[oms.find]\npath = \"/o/{{ identity }}\"\nidentity = \"/ref\"\nid = \"/id\"\n";
        let rule = "[[oms.outcome]]\nstatus = 200\nis = \"accepted\"\n";
        for (create, more, warned) in [
            ("", find.to_owned(), true),
            ("answers = { ticket = [] }\n", find.to_owned(), false),
            ("answers = { ticket = [] }\n", format!("{find}{rule}"), true),
            ("refuses_second = true\n", find.to_owned(), false),
            ("idempotency_header = \"Idempotency-Key\"\n", find.to_owned(), false),
            ("refuses_second = true\n", String::new(), false),
        ] {
            let text = format!("{MINIMAL}{create}{more}");
            let config =
                Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(&text));
            let warnings = check(&config.extract().unwrap()).unwrap().warnings;
            let lost = |said: &String| said.starts_with("oms.find.visible_after");
            assert_eq!(warnings.iter().any(lost), warned, "{text}: {warnings:?}");
        }
    }

    #[test]
    fn what_cannot_work_is_named_with_its_knob() {
        for (more, knob) in [
            ("refuses_second = true\nbatch = 20", "oms.create.answers.items"),
            (
                "batch = 20\nanswers = { items = \"/r\" }\nidempotency_header = \"K\"",
                "oms.create.idempotency_header",
            ),
            ("refuses_second = true\nanswers = { id = [\"id\"] }", "oms.create.answers"),
            ("refuses_second = true\n[oms.limits]\ncalls_per_s = 0.0", "oms.limits.calls_per_s"),
            (
                "refuses_second = true\n[oms.limits]\nreserve_percent = 100",
                "oms.limits.reserve_percent",
            ),
            ("refuses_second = true\n[oms.limits]\noutstanding = 0", "oms.limits.outstanding"),
            (
                "[oms.find]\npath = \"/o\"\nbatch = 2\nidentity = \"/ref\"\nid = \"/id\"",
                "oms.find.items",
            ),
            (
                "refuses_second = true\nbatch = 2\nanswers = { items = \"/r\", id_header = \"Location\" }",
                "oms.create.batch",
            ),
            (
                "refuses_second = true\nheaders = { Authorization = \"Bearer x\" }",
                "oms.create.headers",
            ),
            (
                "[oms.find]\nurl = \"oms.example.com\"\npath = \"/o\"\nidentity = \"/ref\"\nid = \"/id\"",
                "oms.find.url",
            ),
            ("[oms.find]\npath = \"o\"\nidentity = \"/ref\"\nid = \"/id\"", "oms.find.path"),
            (
                "refuses_second = true\nanswers = { id_header = \"Locat ion\" }",
                "oms.create.answers.id_header",
            ),
            ("idempotency_header = \"a:b\"", "oms.create.idempotency_header"),
            ("refuses_second = true\nheaders = { \"\" = \"x\" }", "oms.create.headers"),
            ("refuses_second = true\n[oms.list]\npath = \"o\"\nitems = \"/o\"", "oms.list.path"),
            ("refuses_second = true\n[oms.list]\npath = \"/o\"\nitems = \"o\"", "oms.list"),
        ] {
            let fault = fault(more);
            assert!(fault.contains(knob), "{more}: {fault}");
        }
        for url in
            ["login.example", "https:///token", "https://me:s3cret@login.example", "https://a b/t"]
        {
            let auth = format!(
                "refuses_second = true\n[oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{url}\"\n\
                 client_id_file = \"/run/id\"\nclient_secret_file = \"/run/secret\""
            );
            let fault = fault(&auth);
            assert!(fault.starts_with("oms.auth.token_url"), "{url}: {fault}");
            assert!(!fault.contains("s3cret"), "{fault}");
        }
        for (claim, knob) in [
            ("path = \"claim\"", "oms.claim.path"),
            ("path = \"/c\", since_ms = \"at\"", "oms.claim.since_ms"),
        ] {
            let minimal = MINIMAL.replace("\"none\"", &format!("{{ {claim} }}"));
            let text = format!("{minimal}refuses_second = true\n");
            let config =
                Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(&text));
            let fault = check(&config.extract().unwrap()).unwrap_err().join("\n");
            assert!(fault.starts_with(knob), "{claim}: {fault}");
        }
        let mut config = Config::default();
        config.oms.accept_doubles = true;
        let faults = check(&config).unwrap_err();
        assert!(faults[0].contains("only for oms.kind = \"http\""), "{faults:?}");
    }
}
