//! The straight line from a request's bytes to its answers.

use bytes::Bytes;
use forebay_buffer::{Buffer, Permit};
use forebay_order::{Format, ItemResult, Limits, ReadOptions, Unreadable};
use http::request::Parts;
use http::{HeaderMap, Request, header};
use hyper::body::Incoming;

use crate::answer::ItemAnswer;
use crate::body::{self, BodyFault};
use crate::channel::Feed;
use crate::config::{Caller, Channel, SourceRule};
use crate::deliver::deliver;
use crate::door::Shared;
use crate::envelope::{DAMAGED_GZIP, Maker, Source};
use crate::graphs;
use crate::inflate::{InflateFault, inflate};
use crate::judge::{Step, judge, keep_unreadable};
use crate::marks::Marks;
use crate::media::{Coding, Media, coding, is_ping};
use crate::problem::Problem;

/// Said of a webhook's body that is packed in a way nobody unpacks here.
const UNKNOWN_CODING: &str =
    "The body has a Content-Encoding other than gzip and is kept as it came.";

/// A body up to this size is read on the accept thread: about a millisecond for orders of that size.
const READ_HERE_MAX: usize = 256 << 10;

/// What a request came to.
pub(crate) struct Received {
    pub(crate) items: Vec<ItemAnswer>,
    /// Whether the sender sent a list, and so gets one.
    pub(crate) batch: bool,
    /// What the order-summary graphs call themselves, where that was asked for.
    pub(crate) graph_ids: Vec<Option<String>>,
    /// What has paid for a long answer.
    pub(crate) permit: Option<Permit>,
}

/// A body, unpacked if it could be.
enum Plain {
    Whole(Bytes),
    /// The bytes as they came, and why they were not unpacked; only a webhook's are kept.
    Packed(Bytes, &'static str),
}

/// Takes one request to its answers: bytes, permit, quota, inflate, read, envelope, append, receipt.
///
/// # Errors
/// A [`Problem`] when the request as a whole was refused; then nothing of it was kept.
pub(crate) async fn receive<B: Buffer>(
    shared: &Shared<B>,
    feed: &Feed,
    request: Request<Incoming>,
    name_graphs: bool,
) -> Result<Received, Problem> {
    let (head, incoming) = request.into_parts();
    let (media, packing) = match before_the_body(feed, &head) {
        Ok(said) => said,
        Err(problem) => return Err(turn_away(shared, &head.headers, incoming, problem).await),
    };
    let (permit, wire) = read_body(shared, &head.headers, incoming).await?;
    let (permit, plain) = unpack(shared, feed, permit, wire, packing)?;

    let limits = shared.config.limits;
    let maker = Maker {
        feed,
        marks: Marks::of(&head.headers),
        source: Source::of(&feed.channel.source, &head.headers),
        lookup_key: &shared.lookup_key,
        identity_max: shared.config.identity_max,
        now_ms: shared.clock.wall_ms(),
    };
    let listed = matches!(&plain, Plain::Whole(body) if is_list(media, body));
    let mut graph_ids = Vec::new();
    let steps = match plain {
        Plain::Packed(bytes, reason) => {
            vec![keep_unreadable(&maker, bytes, reason.to_owned(), limits.item_bytes)]
        }
        Plain::Whole(body) if is_ping(feed.channel.format, media, &body) => {
            vec![Step::Append(Box::new(maker.ping(body)))]
        }
        Plain::Whole(body) => {
            let items = read_items(feed, &body, limits).await;
            // Only once the number of items is known to be within its limit.
            if name_graphs && items.is_ok() {
                graph_ids = graphs::ids(&body);
            }
            judge(&maker, &body, items, limits.item_bytes)
        }
    };
    feed.spend(steps.len().saturating_sub(1))?;
    let batch = listed || steps.len() > 1;
    let (items, permit) = deliver(shared, feed, permit, steps).await?;
    items.iter().for_each(|item| feed.metrics.order(item.word()));
    Ok(Received { items, batch, graph_ids, permit })
}

/// What can be refused before a byte of the body is read.
fn before_the_body(feed: &Feed, head: &Parts) -> Result<(Media, Option<Coding>), Problem> {
    feed.spend(1)?;
    let format = feed.channel.format;
    let media = Media::of(&head.headers);
    let coding = coding(&head.headers);
    // A webhook's sender would send nothing else, so its body is read as what the channel says it is.
    if feed.channel.caller == Caller::Webhook {
        return Ok((media, coding.ok()));
    }
    let may_be_ping = format == Format::WooCommerce && media == Media::Form;
    if !media.fits(format) && !may_be_ping {
        return Err(unsupported(format));
    }
    Ok((media, Some(coding?)))
}

fn unsupported(format: Format) -> Problem {
    Problem::unsupported_type(match format {
        Format::B2cCommerceXml => "application/xml or text/xml",
        _ => "application/json or application/x-ndjson",
    })
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Refuses a request whose body was not asked for yet.
pub(crate) async fn turn_away<B: Buffer>(
    shared: &Shared<B>,
    headers: &HeaderMap,
    incoming: Incoming,
    problem: Problem,
) -> Problem {
    let ended = body::discard(incoming, &shared.config, expects_continue(headers)).await;
    if ended { problem } else { problem.closing_connection() }
}

async fn read_body<B: Buffer>(
    shared: &Shared<B>,
    headers: &HeaderMap,
    incoming: Incoming,
) -> Result<(Permit, Bytes), Problem> {
    let config = &shared.config;
    let admission = shared.buffer.admission();
    let (fault, ended) =
        match body::read(admission, incoming, config, expects_continue(headers)).await {
            Ok(whole) => return Ok(whole),
            Err(fault) => fault,
        };
    let problem = match fault {
        BodyFault::TooLarge => Problem::too_large("The body", config.body_bytes),
        BodyFault::Overloaded => Problem::overloaded(),
        BodyFault::TooSlow => Problem::too_slow(),
        BodyFault::Broken => Problem::broken_body(),
    };
    Err(if ended { problem } else { problem.closing_connection() })
}

fn unpack<B: Buffer>(
    shared: &Shared<B>,
    feed: &Feed,
    permit: Permit,
    wire: Bytes,
    packing: Option<Coding>,
) -> Result<(Permit, Plain), Problem> {
    let max = shared.config.body_bytes;
    let (fault, permit) = match packing {
        None => return Ok((permit, Plain::Packed(wire, UNKNOWN_CODING))),
        Some(Coding::Identity) => return Ok((permit, Plain::Whole(wire))),
        Some(Coding::Gzip) => match inflate(&wire, permit, max) {
            Ok((permit, plain)) => return Ok((permit, Plain::Whole(plain))),
            Err(fault) => fault,
        },
    };
    match fault {
        InflateFault::TooLarge => Err(Problem::too_large("The unpacked body", max)),
        InflateFault::Ratio => Err(Problem::inflates_too_much()),
        InflateFault::Overloaded => Err(Problem::overloaded()),
        InflateFault::Damaged if feed.channel.caller == Caller::Webhook => {
            Ok((permit, Plain::Packed(wire, DAMAGED_GZIP)))
        }
        InflateFault::Damaged => Err(Problem::damaged_gzip()),
    }
}

/// Reads the items of a body: a large one on a thread of its own, so that the accept thread answers others
/// meanwhile.
async fn read_items(
    feed: &Feed,
    body: &Bytes,
    limits: Limits,
) -> Result<Vec<ItemResult>, Unreadable> {
    if body.len() <= READ_HERE_MAX {
        return read(&feed.channel, body, limits);
    }
    let (channel, large) = (feed.channel.clone(), body.clone());
    match tokio::task::spawn_blocking(move || read(&channel, &large, limits)).await {
        Ok(items) => items,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The door is closing; what came in before is still answered.
            Err(_) => read(&feed.channel, body, limits),
        },
    }
}

fn read(channel: &Channel, body: &Bytes, limits: Limits) -> Result<Vec<ItemResult>, Unreadable> {
    let source_pointer = match &channel.source {
        SourceRule::Pointer { pointer, .. } => Some(pointer.as_str()),
        SourceRule::Constant(_) | SourceRule::Header { .. } => None,
    };
    let fingerprint_ignore = &channel.fingerprint_ignore;
    forebay_order::read(
        channel.format,
        body,
        &ReadOptions { limits, source_pointer, fingerprint_ignore },
    )
}

/// Whether the sender sent a list: NDJSON, or a JSON array.
fn is_list(media: Media, body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let first = body.iter().find(|b| !b.is_ascii_whitespace());
    media == Media::Ndjson || first == Some(&b'[')
}
