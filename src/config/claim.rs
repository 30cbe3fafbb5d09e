//! Who keeps another fleet from draining to an OMS over HTTP: a record in it, section `[oms.claim]`, or nobody, which the configuration
//! must say in so many words (`oms.claim = "none"`).

use std::fmt;
use std::path::PathBuf;

use forebay_processor::oms::http::Method;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::knobs::Oms;

/// Who does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Claim {
    /// Nobody.
    Unkept(Unkept),
    /// The OMS.
    Note(Note),
}

/// The word for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Unkept {
    #[serde(rename = "none")]
    None,
}

/// Where it keeps whose orders are drained to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    pub(crate) path: String,
    #[serde(default = "put")]
    pub(crate) method: Method,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) write_path: Option<String>,
    /// The file of a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<PathBuf>,
    #[serde(default = "fleet")]
    pub(crate) fleet: String,
    #[serde(default = "since_ms")]
    pub(crate) since_ms: String,
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either)
    }
}

/// Reads the word or the section, so that a fault of the section is told by its own name.
struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Claim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section [oms.claim], or the word \"none\"")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Claim, E> {
        match word {
            "none" => Ok(Claim::Unkept(Unkept::None)),
            other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, section: M) -> Result<Claim, M::Error> {
        Note::deserialize(MapAccessDeserializer::new(section)).map(Claim::Note)
    }
}

/// The record, if it has one.
pub(crate) fn note(oms: &Oms) -> Option<&Note> {
    match &oms.claim {
        Some(Claim::Note(note)) => Some(note),
        Some(Claim::Unkept(Unkept::None)) | None => None,
    }
}

/// What follows of there being none.
const UNKEPT: &str = "nothing keeps another fleet from draining to this OMS, too, and both from exceeding its ceiling together";

/// Where nobody keeps it, and nobody has said that this is known.
pub(super) fn unsaid(oms: &Oms) -> Option<String> {
    oms.claim.is_none().then(|| {
        format!(
            "oms.claim: {UNKEPT}. Give the OMS a record that says whose it is ([oms.claim]); or set claim = \"none\" in [oms], and see to it \
             yourself"
        )
    })
}

/// Where it was said.
pub(super) fn warning(oms: &Oms) -> Option<String> {
    (oms.claim == Some(Claim::Unkept(Unkept::None))).then(|| {
        format!("oms.claim = \"none\": {UNKEPT}; see to it, or give the OMS a record ([oms.claim])")
    })
}

fn put() -> Method {
    Method::Put
}

fn fleet() -> String {
    "/fleet".to_owned()
}

fn since_ms() -> String {
    "/since_ms".to_owned()
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Serialized, Toml};

    use super::super::{Config, check, explain};

    fn config(claim: &str) -> Result<Config, String> {
        let text = format!(
            "[oms]\nkind = \"http\"\nurl = \"https://oms.example.com\"\n{claim}\n\
             [oms.create]\npath = \"/orders\"\nrefuses_second = true\n"
        );
        let config =
            Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(&text));
        config.extract().map_err(|error| explain(error, None))
    }

    #[test]
    fn an_oms_over_http_keeps_whose_it_is_or_the_configuration_says_that_it_does_not() {
        let faults = check(&config("").unwrap()).unwrap_err();
        assert!(faults[0].starts_with("oms.claim: ") && faults.len() == 1, "{faults:?}");
        assert!(faults[0].contains("[oms.claim]") && faults[0].contains("claim = \"none\""));

        let about = |said: &[String]| said.iter().filter(|said| said.contains("fleet")).count();
        let none = check(&config("claim = \"none\"").unwrap()).unwrap();
        assert!(none.warnings.iter().any(|said| said.starts_with("oms.claim = \"none\": ")));
        let promised = about(&none.promises);
        let kept = check(&config("claim = { path = \"/c\" }").unwrap()).unwrap();
        assert_eq!((promised, about(&kept.warnings)), (0, 0), "{none:?} {kept:?}");
        assert!(kept.promises.iter().any(|said| said.contains("whose orders")), "{kept:?}");
    }

    #[test]
    fn what_is_wrong_with_it_is_told_by_its_name() {
        let error = config("claim = \"nobody\"").unwrap_err();
        assert!(error.contains("oms.claim") && error.contains("\"none\""), "{error}");
        let error = config("claim = { path = \"/c\", flet = \"/f\" }").unwrap_err();
        assert!(error.contains("oms.claim.flet"), "{error}");
        let shown = serde_json::to_value(config("claim = \"none\"").unwrap()).unwrap();
        assert_eq!(shown["oms"]["claim"], "none");
    }
}
