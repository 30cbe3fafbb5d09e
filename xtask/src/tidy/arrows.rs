//! Which crate may depend on which: `ingest -> buffer <- processor`, all `-> order`.

use std::path::Path;

use crate::failure::{Result, While as _};

/// Each crate's directory and the crates of the workspace it may name outside its tests.
const ARROWS: [(&str, &[&str]); 7] = [
    ("order", &[]),
    ("buffer", &["forebay-order"]),
    ("ingest", &["forebay-order", "forebay-buffer"]),
    ("processor", &["forebay-order", "forebay-buffer"]),
    ("ops", &["forebay-order", "forebay-buffer", "forebay-processor"]),
    // A black box's judge: it knows the server by HTTP only.
    ("loadtest", &[]),
    // Another one, on the other side: what it shared with Forebay it could not judge.
    ("reference-oms", &[]),
];

/// Compares every crate's manifest with the arrows.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (directory, allowed) in ARROWS {
        let path = root.join(directory).join("Cargo.toml");
        let text = std::fs::read_to_string(&path).when(path.display())?;
        findings.extend(forbidden(directory, allowed, &text)?);
    }
    Ok(findings)
}

fn forbidden(directory: &str, allowed: &[&str], manifest: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = manifest.parse().when(format_args!("{directory}/Cargo.toml"))?;
    let named = ["dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(toml::Table::keys);
    Ok(named
        .filter(|name| name.starts_with("forebay") && !allowed.contains(&name.as_str()))
        .map(|name| format!("{directory}/Cargo.toml: {directory} must not know {name}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_arrow_is_found() {
        let manifest = "[dependencies]\nforebay-order.workspace = true\n\
            forebay-processor.workspace = true\nbytes = \"1\"\n";
        let found = forbidden("ingest", &["forebay-order", "forebay-buffer"], manifest).unwrap();
        assert_eq!(found, ["ingest/Cargo.toml: ingest must not know forebay-processor"]);
    }

    #[test]
    fn a_test_may_know_more() {
        let manifest = "[dev-dependencies]\nforebay-ingest.workspace = true\n";
        assert!(forbidden("order", &[], manifest).unwrap().is_empty());
    }
}
