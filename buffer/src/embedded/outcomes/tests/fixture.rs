//! The checked-in run of form 1: it opens for ever, and is still written byte for byte.

use super::*;
use crate::embedded::files::Directory;

const NAME: &str = "1789992000000_1790002800000_1_1.run";
/// Settled in the stretch of that name.
const AT_MS: i64 = 1_790_000_000_000;

fn outcomes_in_it() -> Vec<Outcome> {
    let usual = |n: u64| Outcome {
        version: (!n.is_multiple_of(5)).then_some(AT_MS.unsigned_abs() + n),
        fingerprint: Fingerprint(hash(n).to_be_bytes()),
        summary_id: format!("0sO5g000000{n:04}"),
        ..outcome(1_000_000 + n, AT_MS + i64::try_from(n).unwrap())
    };
    let mut all: Vec<_> = (0..200).map(usual).collect();
    all[1].state = OrderState::Recorded;
    all[1].summary_id.clear();
    all[2].synthetic = true;
    all[3].attempts = 4;
    all[4].earlier = vec![Fingerprint([1; 16]), Fingerprint([2; 16])];
    all[4].newest = Some(u64::MAX - 1);
    all
}

#[test]
fn the_run_of_form_1_opens_and_is_still_written_byte_for_byte() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/outcome-index-1").join(NAME);
    let fixed = fs::read(fixture).unwrap();
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    put(&mut outcomes, &outcomes_in_it());
    assert_eq!(disk.names().unwrap()[0], NAME);
    let mut written = Vec::new();
    disk.damage_file(NAME, |bytes| written.clone_from(bytes));
    assert!(written == fixed, "what is written is not what was written before");

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(NAME), fixed).unwrap();
    let (outcomes, notes) = open(dir.path(), DAY);
    assert_eq!(notes, Vec::<String>::new());
    for outcome in outcomes_in_it() {
        assert_eq!(find(&outcomes, outcome.sequence), Some(outcome));
    }
}
