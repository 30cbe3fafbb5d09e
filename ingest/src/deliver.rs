//! From envelopes to answers: the buffer decides what each delivery means.

use forebay_buffer::{Answer, AppendError, Buffer, Envelope, OrderState, Permit, Receipt};
use forebay_order::{Format, Readiness, RecordedAs};
use futures_util::StreamExt as _;

use crate::answer::{ItemAnswer, Kept, location};
use crate::channel::Feed;
use crate::config::Caller;
use crate::door::Shared;
use crate::judge::Step;
use crate::problem::{Conflict, Problem};
use crate::{differ, metrics};

/// Items of one body that are with the buffer at once: enough to fill a group, few enough that one batch
/// does not take the in-flight budget of everybody else.
const TOGETHER: usize = 128;

/// What is reserved for an item's entry in the answer to a batch.
const ENTRY_BYTES: usize = 768;

/// Carries out every step and answers in their order. For a batch also gives back what is left of the
/// permit: it has paid for the answer, and must live as long as that does.
///
/// # Errors
/// 503 when there is no room for the answer; then nothing was kept.
pub(crate) async fn deliver<B: Buffer>(
    shared: &Shared<B>,
    feed: &Feed,
    mut permit: Permit,
    mut steps: Vec<Step>,
) -> Result<(Vec<ItemAnswer>, Option<Permit>), Problem> {
    if steps.len() == 1
        && let Some(step) = steps.pop()
    {
        let answer = carry_out(shared, feed, step, Some(permit)).await;
        return Ok((answer.into_iter().collect(), None));
    }
    permit.grow(steps.len().saturating_mul(ENTRY_BYTES)).map_err(|_| Problem::overloaded())?;
    let answers = steps.into_iter().map(|step| {
        let share = match &step {
            Step::Append(envelope) => permit.split(envelope.body.len()).ok(),
            Step::Refuse(_) | Step::WithThePrevious => None,
        };
        carry_out(shared, feed, step, share)
    });
    let mut answers = futures_util::stream::iter(answers).buffered(TOGETHER);
    let mut items: Vec<ItemAnswer> = Vec::new();
    while let Some(answer) = answers.next().await {
        items.extend(answer.or_else(|| items.last().cloned()));
    }
    drop(answers);
    Ok((items, Some(permit)))
}

/// `None` for a step that shares the answer before it.
async fn carry_out<B: Buffer>(
    shared: &Shared<B>,
    feed: &Feed,
    step: Step,
    permit: Option<Permit>,
) -> Option<ItemAnswer> {
    match (step, permit) {
        (Step::Append(envelope), Some(permit)) => {
            Some(append(shared, feed, *envelope, permit).await)
        }
        (Step::Append(_), None) => Some(ItemAnswer::refused(Problem::overloaded())),
        (Step::Refuse(problem), _) => Some(ItemAnswer::refused(problem)),
        (Step::WithThePrevious, _) => None,
    }
}

async fn append<B: Buffer>(
    shared: &Shared<B>,
    feed: &Feed,
    envelope: Envelope,
    permit: Permit,
) -> ItemAnswer {
    let caller = feed.channel.caller;
    let readiness = envelope.readiness;
    let (key, number) = (envelope.key.clone(), envelope.number.clone());
    let (fingerprint, masked) = (envelope.fingerprint, envelope.masked.len());
    let keyed = matches!(
        envelope.readiness,
        Readiness::Pending | Readiness::Held(_) | Readiness::Cancelled
    );
    let body = (caller == Caller::Api).then(|| envelope.body.clone());
    let receipt = match shared.buffer.append(envelope, permit).await {
        Ok(receipt) => receipt,
        Err(error) => return ItemAnswer::refused(unkept(shared, &error)),
    };
    if masked > 0 {
        metrics::masked(&feed.name, masked);
        tracing::warn!(
            channel = %feed.name, sequence = receipt.sequence(), runs = masked,
            "card data was masked in an order; its storefront leaks it"
        );
    }
    let failed = readiness == Readiness::Recorded(RecordedAs::Failed);
    if caller == Caller::Api && failed && receipt.first().state == OrderState::Recorded {
        return ItemAnswer::refused(Problem::failed_order());
    }
    match body {
        Some(body) if receipt.answer() == Answer::Conflict => {
            let differing = differing(shared, feed.channel.format, &receipt, &body).await;
            ItemAnswer::Conflict(Box::new(Problem::conflict(Conflict {
                location: location(&key),
                first_fingerprint: receipt.first().fingerprint,
                fingerprint,
                differing,
                sequence: receipt.sequence(),
            })))
        }
        _ => {
            ItemAnswer::Kept(Box::new(Kept::new(caller, &receipt, key, number, fingerprint, keyed)))
        }
    }
}

/// Names of what differs from the first body, where that is still there.
async fn differing<B: Buffer>(
    shared: &Shared<B>,
    format: Format,
    receipt: &Receipt,
    body: &[u8],
) -> Vec<String> {
    match shared.buffer.body(receipt.first().sequence).await {
        Ok(Some(first)) => differ::differing(format, &first, body),
        Ok(None) | Err(_) => Vec::new(),
    }
}

fn unkept<B: Buffer>(shared: &Shared<B>, error: &AppendError) -> Problem {
    match error {
        AppendError::Full => Problem::disk_full(shared.when_drained()),
        AppendError::TooLarge => Problem::too_large_to_keep(),
        AppendError::Disputed => Problem::disputed(),
        AppendError::Closing => Problem::closing(),
        AppendError::Failed(_) => {
            tracing::error!(%error, "an order could not be made durable");
            Problem::unknown_outcome()
        }
    }
}
