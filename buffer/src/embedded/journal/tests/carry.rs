//! What was taken can always be written anew, so that its segment can go.

use super::super::WriteError;
use super::disk::Disk;
use super::support::{SLOT, accept, open_disk};
use crate::OrderState;
use crate::record::{Record, Snapshot};

fn moved(accept: Record) -> Record {
    let Record::Accept(delivery) = accept else { unreachable!() };
    let snapshot = Snapshot {
        state: OrderState::Submitted,
        first_accepted_at_ms: 1_000,
        attempts: 3,
        sent_before: true,
        not_before_ms: Some(2_000),
        ticket: Some("t".repeat(200)),
        ticket_at_ms: None,
        earlier: vec![[7; 16]; 64],
        newest: Some(u64::MAX),
    };
    Record::Moved { order: 1, snapshot, delivery }
}

#[test]
fn the_largest_order_that_is_taken_can_be_carried_forward() {
    let (mut journal, _) = open_disk(&Disk::default());
    let (mut fits, mut refused) = (0, usize::try_from(SLOT).unwrap());
    while refused - fits > 1 {
        let bytes = fits.midpoint(refused);
        match journal.append(&[accept(1, bytes)]) {
            Ok(_) => {
                fits = bytes;
                let below = journal.epoch();
                journal
                    .append(&[Record::Checkpoint { retired_below: below, ended: vec![] }])
                    .unwrap();
                journal.retire(below).unwrap();
            }
            Err(WriteError::TooLarge { .. }) => refused = bytes,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(fits > 40_000, "{fits}");
    let carried = moved(accept(1, fits));
    let placed = journal.carry(std::slice::from_ref(&carried)).unwrap();
    assert_eq!(journal.reader().read(placed[0].location), Ok((placed[0].sequence, carried)));
}

#[test]
fn a_content_that_waits_for_a_loan_is_carried_forward_even_where_no_order_has_room() {
    let (mut journal, _) = open_disk(&Disk::default());
    let parked = || {
        let Record::Accept(delivery) = accept(1, 40_000) else { unreachable!() };
        Record::Replace { order: 1, parked: true, delivery }
    };
    while journal.append(&[accept(1, 40_000)]).is_ok() {}
    assert!(!journal.room_for_orders());
    assert_eq!(journal.append(&[parked()]), Err(WriteError::Full));
    journal.carry(&[parked()]).unwrap();
}
