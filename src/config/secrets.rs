//! What is secret of an OMS over HTTP stays in files, and off lines that others read.

use forebay_processor::outbound::in_the_clear;

use super::claim;
use super::http::Auth;
use super::knobs::Oms;

/// Parts of a header's name which say that its value is a secret.
const SECRET: [&str; 8] =
    ["auth", "cookie", "credential", "key", "password", "secret", "signature", "token"];

/// Secrets that would be shown, each fault with its knob.
pub(super) fn faults(oms: &Oms) -> Vec<String> {
    let mut faults = Vec::new();
    let headers = oms.create.iter().flat_map(|create| create.headers.keys());
    for name in headers.filter(|name| is_secret(name)) {
        faults.push(format!(
            "oms.create.headers: must hold no {name}, which would be shown; put its value into a file and set oms.header_files, or say \
             who we are in [oms.auth]"
        ));
    }
    let authorization = |name: &String| name.eq_ignore_ascii_case("authorization");
    if oms.auth.is_some() && oms.header_files.keys().any(authorization) {
        faults.push("oms.header_files: authorization is what [oms.auth] says; set one".to_owned());
    }
    faults
}

/// Addresses that what is secret would travel to in the clear.
pub(super) fn warnings(oms: &Oms) -> Vec<String> {
    let find = oms.find.as_ref().and_then(|find| find.url.as_ref());
    let claim = claim::note(oms).and_then(|claim| claim.url.as_ref());
    let token = oms.auth.as_ref().and_then(|auth| match auth {
        Auth::ClientCredentials { token_url, .. } => Some(token_url),
        Auth::Bearer { .. } | Auth::Basic { .. } => None,
    });
    let travels = "orders and credentials travel";
    let all = [
        ("oms.url", oms.url.as_ref(), travels),
        ("oms.find.url", find, travels),
        ("oms.claim.url", claim, travels),
        ("oms.auth.token_url", token, "the client's secret travels"),
    ];
    let warning = |(knob, url, travels): (&str, Option<&String>, &str)| {
        let clear = url.is_some_and(|url| in_the_clear(url));
        clear.then(|| format!("{knob}: {travels} in the clear; use https://"))
    };
    all.into_iter().filter_map(warning).collect()
}

fn is_secret(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    SECRET.iter().any(|part| header.contains(part))
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Serialized, Toml};

    use super::super::{Config, check};

    fn config(of_oms: &str, more: &str) -> Config {
        let text = format!(
            "[oms]\nkind = \"http\"\nclaim = \"none\"\n{of_oms}\n[oms.create]\npath = \"/orders\"\nrefuses_second = true\n{more}\n"
        );
        Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::string(&text))
            .extract()
            .unwrap()
    }

    #[test]
    fn a_header_s_secret_is_in_a_file() {
        let url = "url = \"https://oms.example\"";
        for name in ["X-Api-Key", "authorization", "Cookie", "X-Auth", "Ocp-Apim-Subscription-Key"]
        {
            let shown = config(url, &format!("headers = {{ \"{name}\" = \"s3cret\" }}"));
            let faults = check(&shown).unwrap_err().join("\n");
            assert!(faults.contains("oms.create.headers") && faults.contains(name), "{faults}");
            assert!(!faults.contains("s3cret"), "{faults}");
            let file = format!("{url}\nheader_files = {{ \"{name}\" = \"/run/oms.key\" }}");
            assert!(check(&config(&file, "")).is_ok(), "{name}");
        }
        let two = "header_files = { Authorization = \"/run/key\" }\n\
                   auth = { kind = \"bearer\", token_file = \"/run/token\" }";
        let faults = check(&config(&format!("{url}\n{two}"), "")).unwrap_err();
        assert!(faults[0].starts_with("oms.header_files"), "{faults:?}");
        let no_header = format!("{url}\nheader_files = {{ \"a b\" = \"/run/key\" }}");
        let faults = check(&config(&no_header, "")).unwrap_err();
        assert!(faults[0].starts_with("oms.header_files"), "{faults:?}");
        assert!(check(&config(url, "headers = { Prefer = \"return=minimal\" }")).is_ok());
    }

    #[test]
    fn what_is_secret_in_the_clear_is_warned_of_unless_it_never_leaves_this_machine() {
        for (host, clear) in [
            ("http://oms.example", true),
            ("http://192.0.2.7:80", true),
            ("https://oms.example", false),
            ("http://127.0.0.1:80", false),
            ("http://[::1]:80", false),
            ("http://localhost", false),
        ] {
            let of_oms = format!(
                "url = \"{host}\"\nauth = {{ kind = \"oauth2-client-credentials\", token_url = \"{host}/token\", \
                 client_id_file = \"/run/id\", client_secret_file = \"/run/secret\" }}"
            );
            let find = format!(
                "[oms.find]\nurl = \"{host}\"\npath = \"/o\"\nidentity = \"/ref\"\nid = \"/id\""
            );
            let warnings = check(&config(&of_oms, &find)).unwrap().warnings;
            for knob in ["oms.url", "oms.find.url", "oms.auth.token_url"] {
                let warned = |said: &String| said.starts_with(&format!("{knob}: "));
                assert_eq!(warnings.iter().any(warned), clear, "{host}: {warnings:?}");
            }
        }
    }
}
