//! Bodies made to take long: twice the bytes may take about twice the time, never four times as long.

use std::time::Duration;

use bytes::Bytes;
use forebay_order::{Format, ReadOptions, mask_unread, read};
use rustix::time::{ClockId, clock_gettime};

/// What this thread has used of a processor; other work on the machine does not count.
fn used() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// The shortest of some runs, since what disturbs one only adds to it.
fn shortest(mut run: impl FnMut()) -> Duration {
    let times = (0..3).map(|_| {
        let began = used();
        run();
        used() - began
    });
    times.min().unwrap()
}

/// Fails if twice the size takes more than three times as long, three times in a row.
fn grows_with_size(what: &str, make: impl Fn(usize) -> String, take: impl Fn(Bytes)) {
    let (small, large) = (Bytes::from(make(1)), Bytes::from(make(2)));
    assert!((1.8..2.2).contains(&(large.len() as f64 / small.len() as f64)), "{what}");
    let mut times = Vec::new();
    for _ in 0..3 {
        let one = shortest(|| take(small.clone()));
        let two = shortest(|| take(large.clone()));
        if two < one * 3 + Duration::from_millis(2) {
            return;
        }
        times.push((one, two));
    }
    panic!("{what}: {times:?}");
}

fn reads(format: Format) -> impl Fn(Bytes) {
    move |body| drop(read(format, &body, &ReadOptions::default()))
}

const SIZE: usize = 20_000;

#[test]
fn a_name_above_many_cards_is_not_read_for_each_of_them() {
    let make = |times: usize| {
        let (name, cards) =
            ("n".repeat(SIZE * times), "\"4111111111111111\",".repeat(SIZE * times / 20));
        format!(r#"{{"id":1,"{name}":[{cards}0],"note":"4111111111111111"}}"#)
    };
    grows_with_size("long name", make, reads(Format::Shopify));
    let pointed = |body| {
        let options = ReadOptions { source_pointer: Some("/a/b"), ..ReadOptions::default() };
        drop(read(Format::Shopify, &body, &options));
    };
    grows_with_size("long name on the way", make, pointed);
}

#[test]
fn wrappers_that_turn_out_to_be_orders_are_read_a_few_times_at_most() {
    for inner in
        [r#"{"id":1,"line_items":[{"price":"1.00"}]},"#, "0,", r#"{"id":{}},"#, r#"{"x":[]},"#]
    {
        let make = |times: usize| {
            let items = inner.repeat(SIZE * times / inner.len());
            format!(r#"{{"order":{{"orders":[{{"data":[{items}{{}}],"id":1}}],"id":1}},"id":1}}"#)
        };
        grows_with_size(inner, make, reads(Format::Shopify));
        let cut = |times: usize| make(times).strip_suffix('}').unwrap().to_owned();
        grows_with_size("cut off", cut, reads(Format::Shopify));
        let lines = |times: usize| format!("{}\n", make(1)).repeat(times);
        grows_with_size("lines", lines, reads(Format::Shopify));
    }
}

#[test]
fn runs_of_digits_are_looked_at_once() {
    for run in ["4111 ", "4 ", "4-1-1-1-", "5018 ", "4111111111111 ", "\\u0031 4111 "] {
        let text = |times: usize| run.repeat(SIZE * times / run.len());
        let note = |times: usize| format!(r#"{{"id":1,"note":"{}"}}"#, text(times));
        grows_with_size(run, note, reads(Format::Shopify));
        let xml =
            |times: usize| format!("<order order-no='1'><note>{}</note></order>", text(times));
        grows_with_size(run, xml, reads(Format::B2cCommerceXml));
        grows_with_size(run, text, |body| drop(mask_unread(body)));
    }
}

#[test]
fn nesting_is_walked_once() {
    let deep = |times: usize| "[".repeat(SIZE * times);
    grows_with_size("lists", deep, reads(Format::Forebay));
    let bomb = |times: usize| {
        let (open, close) = ("{\"a\":".repeat(SIZE * times), "}".repeat(SIZE * times));
        format!(r#"{{"id":1,"x":{open}0{close}}}"#)
    };
    grows_with_size("objects", bomb, reads(Format::Forebay));
    for tag in ["<a>", "<a b='c'>", "<a>&#x41;", "<custom-attribute>4111111111111111"] {
        let open = |times: usize| {
            format!("<orders><order order-no='1'>{}", tag.repeat(SIZE * times / tag.len()))
        };
        grows_with_size(tag, open, reads(Format::B2cCommerceXml));
        let whole = |times: usize| {
            let name = tag[1..].split(['>', ' ']).next().unwrap();
            let close = format!("</{name}>").repeat(SIZE * times / tag.len());
            format!("{}{close}</order></orders>", open(times))
        };
        grows_with_size("closed", whole, reads(Format::B2cCommerceXml));
    }
}

#[test]
fn many_members_of_one_name_and_many_faults_cost_as_many() {
    let members = |times: usize| format!("{{{}\"id\":1}}", "\"x\":1,".repeat(SIZE * times / 6));
    grows_with_size("members", members, reads(Format::Forebay));
    let faults = |times: usize| {
        format!("[{}{{}}]", r#"{"id":1,"lines":[{"amount":"x"}]},"#.repeat(SIZE * times / 35))
    };
    grows_with_size("faults", faults, reads(Format::Forebay));
    let lines = |times: usize| "{\"id\":1,\n{\"id\":}\n".repeat(SIZE * times / 17);
    grows_with_size("bad lines", lines, reads(Format::Forebay));
    let entities = |times: usize| {
        let bad = "<order order-no='1'>&x;</order>".repeat(SIZE * times / 31);
        format!("<orders>{bad}</orders>")
    };
    grows_with_size("bad orders", entities, reads(Format::B2cCommerceXml));
}
