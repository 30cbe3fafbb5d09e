//! Named targets: OMSs that are what `[oms]` is but for what a section `[targets.NAME]` says, as a customer's sandbox is. No order is ever
//! drained to one; `forebay oms verify --target NAME` tries it by the templates and rules of the real one.

use figment::Figment;
use figment::value::{Dict, Value};

use super::knobs::{Config, OmsKind};
use super::{http, preset, secrets};

/// Who we are to an OMS: knobs of one kind are no knobs of another.
const AUTH: &str = "auth";
/// What a list is called that is not replaced but put before that of `[oms]`.
const RULES: &str = "outcome";

/// Lays what is configured of each target over what is configured of `[oms]`, its preset included.
///
/// # Errors
/// A target's preset is not known.
pub(super) fn over_oms(configured: Figment) -> Result<Figment, String> {
    let dict = |name: &str| match configured.find_value(name) {
        Ok(Value::Dict(_, dict)) => dict,
        _ => Dict::new(),
    };
    let mut laid = Dict::new();
    for (name, own) in dict("targets") {
        // Of another type, it is told as a fault later.
        let Value::Dict(_, own) = own else { continue };
        let whole = preset::below(Figment::from(("oms", over(dict("oms"), own))));
        let whole = whole.map_err(|error| format!("targets.{name}: {error}"))?;
        if let Ok(whole) = whole.find_value("oms") {
            laid.insert(name, whole);
        }
    }
    Ok(if laid.is_empty() { configured } else { configured.merge(("targets", laid)) })
}

/// Name by name; an `auth` that names its kind is another one.
fn over(mut below: Dict, own: Dict) -> Dict {
    for (name, own) in own {
        let laid = match (below.remove(&name), own) {
            (Some(Value::Dict(..)), Value::Dict(tag, own))
                if name == AUTH && own.contains_key("kind") =>
            {
                Value::Dict(tag, own)
            }
            (Some(Value::Dict(_, below)), Value::Dict(tag, own)) => {
                Value::Dict(tag, over(below, own))
            }
            (Some(Value::Array(_, below)), Value::Array(tag, own)) if name == RULES => {
                Value::Array(tag, [own, below].concat())
            }
            (_, own) => own,
        };
        below.insert(name, laid);
    }
    below
}

impl Config {
    /// The same with this target for its OMS, or what is wrong with the name.
    pub(crate) fn aimed_at(&self, name: &str) -> Result<Self, String> {
        let Some(oms) = self.targets.get(name) else {
            let known: Vec<_> = self.targets.keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "there is none; describe it in a section [targets.NAME]".to_owned(),
                false => format!("known are {}", known.join(", ")),
            };
            return Err(format!("targets: {name:?} is not known; {known}"));
        };
        Ok(Self { oms: oms.clone(), ..self.clone() })
    }
}

/// Everything of them that cannot be, but what is told of `[oms]` already.
pub(super) fn faults(config: &Config, of_oms: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, target) in &config.targets {
        let mut own = Vec::new();
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            own.push("a name has letters, digits, \"-\", \"_\" and \".\" only".to_owned());
        }
        if target.kind == OmsKind::Http {
            own.extend(http::faults(target));
            own.extend(secrets::faults(target));
        } else {
            own.push("oms.kind: only an OMS over HTTP (\"http\") can be a target".to_owned());
        }
        // Else orders of a trial would be created in the real one.
        if target.test && !config.oms.test {
            let find =
                |oms: &super::knobs::Oms| oms.find.as_ref().and_then(|find| find.url.clone());
            let both = [
                ("url", target.url.clone(), config.oms.url.clone()),
                ("find.url", find(target), find(&config.oms)),
            ];
            for (knob, its, real) in both {
                let host = |url: &String| url.trim_end_matches('/').to_ascii_lowercase();
                if its.is_some() && its.as_ref().map(host) == real.as_ref().map(host) {
                    own.push(format!(
                        "oms.{knob}: is that of [oms], which is no test OMS; set targets.{name}.{knob} to the sandbox's"
                    ));
                }
            }
        }
        own.retain(|fault| !of_oms.contains(fault));
        faults.extend(own.into_iter().map(|fault| format!("targets.{name}: {fault}")));
    }
    faults
}

/// What of them deserves a look, but what is told of `[oms]` already.
pub(super) fn warnings(config: &Config, of_oms: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, target) in &config.targets {
        let mut own = secrets::warnings(target);
        own.extend(http::lost_tickets(target));
        own.retain(|warning| !of_oms.contains(warning));
        warnings.extend(own.into_iter().map(|warning| format!("targets.{name}: {warning}")));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use figment::providers::{Format as _, Serialized, Toml};

    use super::super::http::Auth;
    use super::super::{check, explain};
    use super::*;

    const REAL: &str = "[oms]\nkind = \"http\"\nurl = \"https://oms.example.com\"\nclaim = { path = \"/c\" }\n\
         [oms.auth]\nkind = \"basic\"\nuser = \"forebay\"\npassword_file = \"/run/password\"\n\
         [oms.create]\npath = \"/orders\"\nrefuses_second = true\nvalues = { store = \"7\" }\n\
         [[oms.outcome]]\nstatus = 418\nis = \"retry\"\n";

    fn config(targets: &str) -> Result<Config, String> {
        let text = format!("{REAL}{targets}");
        let configured = preset::below(over_oms(Figment::from(Toml::string(&text)))?)?;
        let config = Figment::from(Serialized::defaults(Config::default())).merge(configured);
        config.extract().map_err(|error| explain(error, None))
    }

    #[test]
    fn a_target_is_what_oms_is_but_for_what_it_says() {
        let config = config(
            "[targets.sandbox]\nurl = \"https://sandbox.example.com\"\ntest = true\n\
             auth = { kind = \"bearer\", token_file = \"/run/token\" }\n\
             [targets.sandbox.create.values]\nbook = \"1\"\n\
             [[targets.sandbox.outcome]]\nstatus = 419\nis = \"retry\"\n\
             [targets.other]\nurl = \"https://other.example.com\"\nclaim = \"none\"\nauth = { user = \"me\" }\n",
        )
        .unwrap();
        check(&config).unwrap();
        let sandbox = config.aimed_at("sandbox").unwrap().oms;
        assert_eq!(sandbox.url.as_deref(), Some("https://sandbox.example.com"));
        assert!(sandbox.test && !config.oms.test);
        assert!(matches!(sandbox.auth, Some(Auth::Bearer { .. })), "{:?}", sandbox.auth);
        let (create, real) = (sandbox.create.unwrap(), config.oms.create.clone().unwrap());
        assert_eq!((&create.path, create.refuses_second), (&real.path, true));
        assert_eq!(create.values.len(), 2, "{:?}", create.values);
        let statuses: Vec<_> = sandbox.outcome.iter().map(|rule| rule.status).collect();
        assert_eq!(statuses, [Some(419), Some(418)]);
        let other = config.aimed_at("other").unwrap().oms;
        assert_eq!(super::super::claim_note(&other), None);
        assert!(
            matches!(&other.auth, Some(Auth::Basic { user, .. }) if user == "me"),
            "{:?}",
            other.auth
        );
    }

    #[test]
    fn one_with_a_preset_has_all_of_it() {
        let config =
            config("[targets.trial]\nurl = \"https://trial.example.com\"\npreset = \"netsuite\"\n")
                .unwrap();
        let trial = &config.targets["trial"];
        assert_eq!(trial.create.as_ref().unwrap().path, "/orders", "[oms] comes before it");
        assert!(trial.find.is_some() && config.oms.find.is_none());
        let error = super::over_oms(Figment::from(Toml::string(
            "[oms]\nkind = \"http\"\n[targets.trial]\npreset = \"sap\"\n",
        )));
        assert!(error.unwrap_err().starts_with("targets.trial: oms.preset"));
    }

    #[test]
    fn what_is_wrong_with_one_is_told_by_its_name() {
        let error = config("[targets.sandbox]\nurll = \"https://a.example\"\n").unwrap_err();
        assert!(error.contains("targets.sandbox.urll") && error.contains("file"), "{error}");
        for (own, fault) in [
            (
                "url = \"https://oms.example.com/\"\ntest = true",
                "targets.s: oms.url: is that of [oms]",
            ),
            ("url = \"sandbox\"", "targets.s: oms.url: must begin with"),
            ("kind = \"sqlite\"", "targets.s: oms.kind: only an OMS over HTTP"),
            ("create = { path = \"o\" }", "targets.s: oms.create.path"),
            ("list = { path = \"o\", items = \"/o\" }", "targets.s: oms.list.path"),
        ] {
            let faults = check(&config(&format!("[targets.s]\n{own}\n")).unwrap()).unwrap_err();
            assert!(faults[0].starts_with(fault) && faults.len() == 1, "{own}: {faults:?}");
        }
        let clear = config("[targets.s]\nurl = \"http://sandbox.example\"\n").unwrap();
        let warned = |said: &String| said.starts_with("targets.s: oms.url: ");
        assert!(check(&clear).unwrap().warnings.iter().any(warned));
    }

    #[test]
    fn a_name_that_is_not_known_is_told_with_those_that_are() {
        let none = config("").unwrap().aimed_at("sandbox").unwrap_err();
        assert!(none.contains("[targets.NAME]"), "{none}");
        let two =
            "[targets.a]\nurl = \"https://a.example\"\n[targets.b]\nurl = \"https://b.example\"\n";
        let error = config(two).unwrap().aimed_at("sandbox").unwrap_err();
        assert!(error.contains("\"sandbox\"") && error.contains("known are a, b"), "{error}");
    }
}
