//! `EXPECTED.csv`: what the real orders mean, written down apart from any decoder.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

/// One order (or one file without orders) as the table has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) file: String,
    pub(crate) item: usize,
    pub(crate) id: String,
    pub(crate) number: String,
    pub(crate) currency: String,
    pub(crate) readiness: String,
    pub(crate) reason: String,
    pub(crate) lines: String,
    pub(crate) grand_total: String,
    pub(crate) tax_total: String,
    pub(crate) shipping_total: String,
}

/// Where the real orders are, if they are here.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/orders");
    folder.join("EXPECTED.csv").exists().then_some(folder)
}

/// The rows of the files in `part`; `None`, with a word on stdout, where the real orders are not here.
pub(crate) fn rows(part: &str) -> Option<Vec<Row>> {
    let Some(folder) = folder() else {
        #[expect(clippy::print_stdout, reason = "a skipped test says so")]
        {
            println!("skipped: no real orders");
        }
        return None;
    };
    let table = std::fs::read_to_string(folder.join("EXPECTED.csv")).unwrap();
    let rows: Vec<Row> =
        table.lines().skip(1).map(row).filter(|r| r.file.starts_with(part)).collect();
    assert!(!rows.is_empty(), "{part} has no rows");
    Some(rows)
}

/// The bytes of a file of the table.
pub(crate) fn body(file: &str) -> bytes::Bytes {
    std::fs::read(folder().unwrap().join(file)).unwrap().into()
}

fn row(line: &str) -> Row {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    let cell = |at: usize| cells[at].clone();
    Row {
        file: cell(0),
        item: cell(1).parse().unwrap(),
        id: cell(3),
        number: cell(4),
        currency: cell(5),
        readiness: cell(6),
        reason: cell(7),
        lines: cell(8),
        grand_total: cell(9),
        tax_total: cell(10),
        shipping_total: cell(11),
    }
}
