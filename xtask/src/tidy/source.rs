//! Rules on the text of one file.

use std::path::Path;

/// Directories of a developer's or a builder's machine; a path below one is true only there.
const MACHINE_ROOTS: [&str; 4] = ["work", "root", "home", "Users"];

/// Marks of what is not finished. In two parts, so that this file does not bear them.
const UNFINISHED: [(&str, &str); 4] =
    [("to", "do!"), ("unimpl", "emented!"), ("FIX", "ME"), ("#[ign", "ore")];

/// Whether a whole file is test or bench code.
pub(super) fn is_test(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part == "benches" || part == "tests.rs")
}

/// A file's text before its test module.
pub(super) fn without_tests(text: &str) -> &str {
    let mut at = 0;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let module = lines.peek().is_some_and(|next| next.starts_with("mod "));
        if line.trim_end() == "#[cfg(test)]" && module {
            return text.get(..at).unwrap_or(text);
        }
        at += line.len();
    }
    text
}

/// Absolute paths of somebody's machine.
pub(super) fn machine_paths(path: &Path, text: &str) -> Vec<String> {
    findings(path, text, "names a path of one machine", |line| {
        MACHINE_ROOTS.iter().any(|root| {
            let needle = format!("/{root}/");
            line.match_indices(&needle).any(|(at, _)| {
                let before = line.get(..at).and_then(|before| before.chars().next_back());
                before.is_none_or(|c| c.is_whitespace() || "\"'`(=:,[".contains(c))
            })
        })
    })
}

/// Marks of unfinished work and tests that do not run.
pub(super) fn unfinished(path: &Path, text: &str) -> Vec<String> {
    findings(path, text, "is unfinished or a test that never runs", |line| {
        UNFINISHED.iter().any(|(head, tail)| line.contains(&format!("{head}{tail}")))
    })
}

/// Engines, and where each may be named: the one behind the buffer in the buffer, and the one the bench measures the
/// journal against where it does so, for what one is compared with must be the thing itself.
const ENGINES: [(&str, &[&str]); 2] = [
    ("async_nats", &["buffer", "xtask/src/bench/nats/baseline.rs"]),
    ("sled", &["xtask/src/bench/journal/baseline.rs"]),
];

/// Nobody else names an engine.
pub(super) fn engines(path: &Path, code: &str) -> Vec<String> {
    let room = |rooms: &[&str]| rooms.iter().any(|room| path.starts_with(room));
    let elsewhere = ENGINES.iter().filter(|(_, rooms)| !room(rooms));
    let names: Vec<_> =
        elsewhere.flat_map(|(name, _)| [format!("{name}::"), format!("use {name}")]).collect();
    findings(path, code, "names an engine outside its room", |line| {
        let code = line.split("//").next().unwrap_or_default();
        names.iter().any(|name| code.contains(name))
    })
}

/// Only the configuration reads the environment; of this crate only its one module for it.
pub(super) fn environment(path: &Path, code: &str) -> Vec<String> {
    let allowed = path.starts_with("src/config") || path == Path::new("xtask/src/environment.rs");
    if allowed {
        return Vec::new();
    }
    findings(path, code, "reads the environment; only src/config may", |line| {
        let code = line.split("//").next().unwrap_or_default();
        code.contains(concat!("env::", "var"))
    })
}

fn findings(
    path: &Path,
    text: &str,
    what: &str,
    mut is_one: impl FnMut(&str) -> bool,
) -> Vec<String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| is_one(line))
        .map(|(index, line)| format!("{}:{} {what}: {}", path.display(), index + 1, line.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_found_and_a_url_is_not() {
        let path = Path::new("x.rs");
        let bad = format!("let a = \"/{}/me/x\";", "home");
        assert_eq!(machine_paths(path, &bad).len(), 1);
        let url = format!("see https://example.com/{}/page and ./a/{}/b", "home", "work");
        assert!(machine_paths(path, &url).is_empty());
    }

    #[test]
    fn unfinished_marks_are_found() {
        let path = Path::new("x.rs");
        for (head, tail) in UNFINISHED {
            assert_eq!(unfinished(path, &format!("    {head}{tail}(\"x\")")).len(), 1);
        }
        assert!(unfinished(path, "let to_do = 1;").is_empty());
    }

    #[test]
    fn an_engine_is_named_in_its_room_alone() {
        for (engine, room, other) in [
            ("sled", "xtask/src/bench/journal/baseline.rs", "buffer/src/index.rs"),
            ("async_nats", "buffer/src/nats/mod.rs", "src/main.rs"),
        ] {
            for code in [format!("let db = {engine}::open(x);"), format!("use {engine};")] {
                assert_eq!(engines(Path::new(other), &code).len(), 1, "{code}");
                assert!(engines(Path::new(room), &code).is_empty(), "{code}");
            }
            assert!(engines(Path::new(other), &format!("// {engine}::open")).is_empty());
        }
    }

    #[test]
    fn only_the_configuration_reads_the_environment() {
        let code = concat!("std::env::", "var(\"X\")");
        assert_eq!(environment(Path::new("ops/src/lib.rs"), code).len(), 1);
        assert!(environment(Path::new("src/config/mod.rs"), code).is_empty());
    }

    #[test]
    fn tests_at_the_end_of_a_file_do_not_count() {
        let text = "fn a() {}\n#[cfg(test)]\nuse b;\nfn c() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(without_tests(text), "fn a() {}\n#[cfg(test)]\nuse b;\nfn c() {}\n");
    }
}
