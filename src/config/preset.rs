//! Presets: OMSs that are reached over HTTP, described by name. Each is a piece of configuration and the template of a body, in
//! `config/presets/`; what is configured beside it comes before it, name by name, and rules before its rules.

use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::Value;

/// One of them.
struct Preset {
    name: &'static str,
    config: &'static str,
    body: &'static str,
}

macro_rules! presets {
    ($($name:literal),+) => {
        const PRESETS: &[Preset] = &[$(Preset {
            name: $name,
            config: include_str!(concat!("../../config/presets/", $name, "/oms.toml")),
            body: include_str!(concat!("../../config/presets/", $name, "/order.json.jinja")),
        }),+];
    };
}

presets!("salesforce-hso", "dynamics", "netsuite", "commercetools-import");

/// What a list is called that is not replaced but put before the preset's.
const RULES: &str = "oms.outcome";

/// Puts the preset that is configured, if any, below what is configured.
///
/// # Errors
/// There is none of that name.
pub(super) fn below(configured: Figment) -> Result<Figment, String> {
    let Ok(name) = configured.extract_inner::<String>("oms.preset") else {
        return Ok(configured);
    };
    let preset = find(&name).ok_or_else(|| unknown(&name))?;
    let preset = Figment::from(Toml::string(preset.config));
    let rules = |of: &Figment| of.extract_inner::<Vec<Value>>(RULES).ok();
    // Of another type, they are told as a fault later.
    let (Some(first), Some(then)) = (rules(&configured), rules(&preset)) else {
        return Ok(preset.merge(configured));
    };
    Ok(preset.merge(configured).merge((RULES, [first, then].concat())))
}

/// The template of a preset's body.
pub(crate) fn body(name: &str) -> Option<&'static str> {
    find(name).map(|preset| preset.body)
}

fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    format!("oms.preset: {name:?} is not known; known are {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use figment::providers::Serialized;

    use super::super::{Config, check};
    use super::*;

    fn config(text: &str) -> Config {
        let configured = below(Figment::from(Toml::string(text))).unwrap();
        Figment::from(Serialized::defaults(Config::default())).merge(configured).extract().unwrap()
    }

    fn minimal(name: &str) -> String {
        format!("[oms]\npreset = \"{name}\"\nurl = \"https://oms.example.com\"\nclaim = \"none\"\n")
    }

    #[test]
    fn each_can_run_names_its_guarantee_and_says_that_nobody_verified_it() {
        for (name, guarantee) in [
            ("salesforce-hso", "once: unique id"),
            ("dynamics", "once: unique id"),
            ("netsuite", "once: looked up"),
            ("commercetools-import", "once: unique id"),
        ] {
            let checked = check(&config(&minimal(name))).unwrap();
            assert!(checked.promises.iter().any(|said| said.contains(guarantee)), "{name}");
            let unverified = |said: &String| said.contains(name) && said.contains("not verified");
            assert!(checked.warnings.iter().any(unverified), "{name}: {:?}", checked.warnings);
        }
    }

    #[test]
    fn what_is_configured_comes_first_name_by_name_and_rule_by_rule() {
        let more = "identity_max = 70\n[oms.create]\nbatch = 3\n[oms.create.values]\nweb_store = \"W\"\n\
                    [[oms.outcome]]\nstatus = 418\nis = \"retry\"\n";
        let (plain, set) =
            (config(&minimal("salesforce-hso")), config(&(minimal("salesforce-hso") + more)));
        let (before, create) = (plain.oms.create.unwrap(), set.oms.create.unwrap());
        assert_eq!((set.oms.identity_max, create.batch), (Some(70), 3));
        assert_eq!((&create.path, &create.answers), (&before.path, &before.answers));
        assert_eq!(create.values["web_store"], "W");
        assert_eq!(create.values["sales_channel"], before.values["sales_channel"]);
        assert_eq!(set.oms.outcome[0].status, Some(418));
        assert_eq!(set.oms.outcome[1..], plain.oms.outcome);
    }

    #[test]
    fn no_amount_becomes_a_float() {
        for preset in PRESETS {
            // Of a quantity that must be whole there digits are lost on purpose.
            let others = preset.body.replace("line.quantity|float|round|int", "");
            assert!(!others.contains("float"), "{}", preset.name);
        }
    }

    #[test]
    fn one_that_is_not_known_is_told_with_those_that_are() {
        let error = below(Figment::from(Toml::string("[oms]\npreset = \"sap\"\n"))).unwrap_err();
        assert!(error.contains("\"sap\"") && error.contains("salesforce-hso"), "{error}");
    }
}
