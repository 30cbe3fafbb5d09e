//! One endpoint: from the feed to its receiver, in order, one request at a time.

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, BufferError, Clock, FeedCursor, FeedError, FeedEvent, FeedPage};
use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::EndpointOptions;
use super::event::{Message, Origin};
use super::receiver::{Receiver, Refusal};
use super::report::Report;
use crate::metrics;

/// Events read at once.
const PAGE: usize = 256;
/// One look for the next events waits so long; an event ends it at once.
const WAIT: Duration = Duration::from_secs(10);
/// A buffer that does not answer is asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A store that seems to be an older copy is asked again after this.
const BEHIND: Duration = Duration::from_secs(10);

/// What one endpoint works with.
pub(super) struct Endpoint<B> {
    pub(super) options: EndpointOptions,
    pub(super) receiver: Receiver,
    pub(super) origin: Origin,
    pub(super) buffer: B,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) report: Report,
    /// How far it got; whoever holds the other end keeps it.
    pub(super) moved: watch::Sender<FeedCursor>,
    /// Whether that it begins where it does is kept, where it must be before it does.
    pub(super) kept: Option<watch::Receiver<bool>>,
    /// When it was known to be up to date, or began; ms since 1970.
    pub(super) read_ms: i64,
    pub(super) stop: watch::Receiver<bool>,
}

impl<B: Buffer> Endpoint<B> {
    /// Until it is asked to stop, or the receiver wants no more. After a panic it goes on where it was.
    pub(super) async fn run(mut self) {
        while AssertUnwindSafe(self.work()).catch_unwind().await.is_err() {
            let why = "it panicked, which is a fault of Forebay's (the log has it); it goes on where it was";
            tracing::error!(endpoint = self.options.name, "a webhook failed: {why}");
            self.report.failing(why, self.clock.wall_ms());
            self.report.waits_if_not(self.read_ms);
            if self.pause(ASK_AGAIN).await.is_break() {
                return;
            }
        }
    }

    async fn work(&mut self) {
        let limit = self.options.batch.max(PAGE);
        let (mut on, mut wait) = (self.may_begin().await, Duration::ZERO);
        while on.is_continue() {
            let after = self.position();
            let page = tokio::select! {
                page = self.buffer.feed(&after, limit, wait) => page,
                _ = self.stop.wait_for(|stop| *stop) => return,
            };
            // Only who has found nothing is up to date, and waits.
            let is_up_to_date = page.as_ref().is_ok_and(|page| page.events.is_empty());
            wait = if is_up_to_date { WAIT } else { Duration::ZERO };
            on = match page {
                Ok(page) => self.tell(page).await,
                Err(error) => self.without_page(error).await,
            };
        }
    }

    /// Waits until that it begins where it does is kept: else a restart would begin later, and what happened in between be told nobody.
    async fn may_begin(&mut self) -> ControlFlow<()> {
        let Some(mut kept) = self.kept.clone() else { return ControlFlow::Continue(()) };
        tokio::select! {
            kept = kept.wait_for(|kept| *kept) => match kept {
                Ok(_) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
            _ = self.stop.wait_for(|stop| *stop) => ControlFlow::Break(()),
        }
    }

    async fn tell(&mut self, page: FeedPage) -> ControlFlow<()> {
        let events = page.events.iter().enumerate();
        let wanted: Vec<_> = events.filter(|(_, event)| self.wants(event)).collect();
        for now in wanted.chunks(self.options.batch.max(1)) {
            let ([(_, first), ..], [.., (last, _)]) = (now, now) else { continue };
            self.report.waits(first.at_ms);
            let now: Vec<_> = now.iter().map(|(_, event)| *event).collect();
            let message = match self.options.batch {
                1 => self.origin.single(first),
                _ => self.origin.batch(first, &now),
            };
            self.until_taken(&message, now.len()).await?;
            self.moved(page.behind(*last));
        }
        self.moved(page.next);
        match page.events.iter().map(|event| event.at_ms).max() {
            // What comes after it happened later, if there is something.
            Some(at_ms) => self.report.waits(at_ms),
            None => {
                self.report.up_to_date();
                self.read_ms = self.clock.wall_ms();
            }
        }
        self.goes_on()
    }

    fn wants(&self, event: &FeedEvent) -> bool {
        self.options.kinds.contains(&event.kind) && (self.options.synthetic || !event.synthetic)
    }

    fn position(&self) -> FeedCursor {
        self.moved.borrow().clone()
    }

    fn moved(&self, to: FeedCursor) {
        self.report.moved(to.sequence());
        self.moved.send_if_modified(|known| {
            let moves = *known != to;
            *known = to;
            moves
        });
    }

    async fn until_taken(&mut self, message: &Message, events: usize) -> ControlFlow<()> {
        let name = self.options.name.clone();
        let mut rng = fastrand::Rng::new();
        loop {
            self.goes_on()?;
            let began = self.clock.elapsed();
            let taken = self.receiver.take(message, &*self.clock).await;
            metrics::took(&name, self.clock.elapsed().saturating_sub(began));
            let refusal = match taken {
                Ok(status) => {
                    self.report.took(events, status);
                    return ControlFlow::Continue(());
                }
                Err(refusal) => refusal,
            };
            let failures = self.report.refused(&refusal, self.clock.wall_ms());
            if refusal == Refusal::Gone {
                return self.stopped(&refusal.to_string());
            }
            let wait = self.options.retry.wait_at_least(refusal.come_back(), failures, &mut rng);
            tracing::warn!(
                endpoint = name,
                id = message.id,
                failures,
                ?wait,
                "a webhook was not taken: {refusal}"
            );
            self.pause(wait).await?;
        }
    }

    async fn without_page(&mut self, error: FeedError) -> ControlFlow<()> {
        let name = &self.options.name;
        // Nobody knows what has happened since.
        self.report.waits_if_not(self.read_ms);
        match error {
            FeedError::Gone { oldest } => {
                let after = self.position().sequence();
                tracing::error!(
                    endpoint = name,
                    after,
                    oldest,
                    "events were given up before this webhook's receiver had been told them; it goes on with the oldest that is kept"
                );
                self.report.missed();
                self.moved(FeedCursor::after(oldest));
                ControlFlow::Continue(())
            }
            FeedError::Ahead { newest } => self.without_store(newest).await,
            FeedError::NotKept => self.stopped(&error.to_string()),
            FeedError::Buffer(BufferError::Closing) => ControlFlow::Break(()),
            FeedError::Buffer(BufferError::Failed(why)) => {
                tracing::warn!(endpoint = name, why, "the feed cannot be read; it is asked again");
                self.pause(ASK_AGAIN).await
            }
        }
    }

    /// The store is not as far as the receiver was told. Whoever answers may be a moment behind; if it stays so, it is an older copy.
    async fn without_store(&mut self, newest: u64) -> ControlFlow<()> {
        self.pause(BEHIND).await?;
        let after = self.position();
        let again = self.buffer.feed(&after, 1, Duration::ZERO).await;
        if matches!(again, Err(FeedError::Ahead { .. })) {
            tracing::error!(
                endpoint = self.options.name,
                after = after.sequence(),
                newest,
                "this webhook's receiver was told more than the store has, so it is an older copy; all that is kept is told again"
            );
            self.moved(FeedCursor::default());
        }
        ControlFlow::Continue(())
    }

    fn stopped(&self, why: &str) -> ControlFlow<()> {
        tracing::error!(
            endpoint = self.options.name,
            after = self.position().sequence(),
            "this webhook is stopped until a restart: {why}"
        );
        self.report.stopped(why, self.clock.wall_ms());
        ControlFlow::Break(())
    }

    fn goes_on(&self) -> ControlFlow<()> {
        if *self.stop.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    async fn pause(&mut self, wait: Duration) -> ControlFlow<()> {
        tokio::select! {
            () = tokio::time::sleep(wait) => ControlFlow::Continue(()),
            _ = self.stop.wait_for(|stop| *stop) => ControlFlow::Break(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Envelope, FeedKind, Memory, SystemClock};
    use forebay_processor::RetryPolicy;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::event::tests::{event, origin};
    use super::super::report::{Board, EndpointState};
    use super::super::{Beginning, EndpointStatus};
    use super::*;

    const NOWHERE: &str = "http://127.0.0.1:1/";

    struct Scene {
        directory: tempfile::TempDir,
        board: Board,
        stop: watch::Sender<bool>,
    }

    impl Scene {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
            std::fs::write(directory.path().join("secret"), secret).unwrap();
            Self { directory, board: Board::default(), stop: watch::Sender::new(false) }
        }

        fn endpoint(&mut self, url: &str) -> Endpoint<Memory> {
            let second = Duration::from_secs(1);
            let options = EndpointOptions {
                name: "mail".to_owned(),
                url: url.to_owned(),
                secret_file: self.directory.path().join("secret"),
                source: None,
                kinds: vec![FeedKind::Summarised],
                synthetic: false,
                from: Beginning::Start,
                batch: 1,
                roots: None,
                connect_timeout: second,
                answer_timeout: second,
                retry: RetryPolicy { base: second, max: second },
            };
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            Endpoint {
                receiver: Receiver::open(&options).unwrap(),
                origin: origin(),
                buffer: Memory::new(10, 1 << 20, Arc::clone(&clock)),
                clock,
                report: self.board.add("mail", String::new(), 7),
                moved: watch::channel(FeedCursor::after(7)).0,
                kept: None,
                read_ms: 0,
                stop: self.stop.subscribe(),
                options,
            }
        }

        fn standing(&self) -> EndpointStatus {
            self.board.status().pop().unwrap()
        }
    }

    /// An order comes; its sequence.
    async fn accept(buffer: &Memory) -> u64 {
        let body = bytes::Bytes::from_static(b"1");
        let permit = buffer.admission().admit(body.len()).unwrap();
        let key = forebay_order::OrderKey::new("shop", "de", "1");
        let envelope = Envelope::new(key, forebay_order::Fingerprint([1; 16]), body);
        buffer.append(envelope, permit).await.unwrap().sequence()
    }

    #[tokio::test]
    async fn what_was_given_up_before_it_was_told_is_said_and_the_rest_is_told() {
        let mut scene = Scene::new();
        let mut endpoint = scene.endpoint(NOWHERE);
        let on = endpoint.without_page(FeedError::Gone { oldest: 40 }).await;
        assert!(on.is_continue());
        assert_eq!(endpoint.position(), FeedCursor::after(40));
        assert_eq!((scene.standing().after, scene.standing().missed), (40, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_copy_of_the_store_makes_repeats_and_a_moment_behind_does_not() {
        let mut scene = Scene::new();
        let mut endpoint = scene.endpoint(NOWHERE);
        assert!(endpoint.without_page(FeedError::Ahead { newest: 0 }).await.is_continue());
        assert_eq!((endpoint.position(), scene.standing().missed), (FeedCursor::after(0), 0));

        let reached = accept(&endpoint.buffer).await;
        endpoint.moved(FeedCursor::after(reached));
        assert!(endpoint.without_page(FeedError::Ahead { newest: 0 }).await.is_continue());
        assert_eq!(endpoint.position(), FeedCursor::after(reached));
    }

    #[tokio::test]
    async fn without_a_feed_there_is_nothing_to_tell() {
        let mut scene = Scene::new();
        let mut endpoint = scene.endpoint(NOWHERE);
        assert!(endpoint.without_page(FeedError::NotKept).await.is_break());
        assert_eq!(scene.standing().state, EndpointState::Stopped);
        assert!(endpoint.without_page(BufferError::Closing.into()).await.is_break());
    }

    /// Only a feed that was read to its end says that nothing waits.
    #[tokio::test(start_paused = true)]
    async fn while_the_feed_cannot_be_read_nobody_says_that_nothing_waits() {
        let mut scene = Scene::new();
        let mut endpoint = scene.endpoint(NOWHERE);
        let page = |events| FeedPage::of(events, &FeedCursor::after(7), 8);
        let unread = || FeedError::Buffer(BufferError::Failed("no server".to_owned()));
        let unwanted = event(FeedKind::Accepted, 8);
        let at_ms = unwanted.at_ms;
        assert!(endpoint.tell(page(vec![unwanted])).await.is_continue());
        assert_eq!(scene.standing().waiting_since_ms, Some(at_ms), "there may be more");
        assert!(endpoint.without_page(unread()).await.is_continue());
        assert_eq!(scene.standing().waiting_since_ms, Some(at_ms));
        let before_ms = endpoint.clock.wall_ms();
        assert!(endpoint.tell(page(Vec::new())).await.is_continue());
        assert_eq!(scene.standing().waiting_since_ms, None);
        assert!(endpoint.without_page(unread()).await.is_continue());
        let since_ms = scene.standing().waiting_since_ms.unwrap();
        assert!((before_ms..=endpoint.clock.wall_ms()).contains(&since_ms), "{since_ms}");
    }

    /// Panics the first time it is asked how long something took.
    #[derive(Debug, Default)]
    struct Fragile(std::sync::atomic::AtomicBool);

    impl Clock for Fragile {
        fn wall_ms(&self) -> i64 {
            SystemClock.wall_ms()
        }

        fn elapsed(&self) -> Duration {
            let broke = self.0.swap(true, std::sync::atomic::Ordering::Relaxed);
            assert!(broke, "a fault, for the test");
            SystemClock.elapsed()
        }
    }

    #[tokio::test]
    async fn a_panic_is_said_and_it_goes_on_where_it_was() {
        let mut scene = Scene::new();
        let (url, told) = receiver(&["200 OK"]).await;
        let mut endpoint = scene.endpoint(&url);
        endpoint.options.kinds = vec![FeedKind::Accepted];
        endpoint.clock = Arc::new(Fragile::default());
        endpoint.moved.send_replace(FeedCursor::default());
        accept(&endpoint.buffer).await;
        let stands = async |state, error: Option<&str>| {
            loop {
                let standing = scene.standing();
                if standing.state == state && standing.error.is_some() == error.is_some() {
                    assert!(standing.error.is_none_or(|said| said.contains(error.unwrap())));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let running = tokio::spawn(endpoint.run());
        stands(EndpointState::Failing, Some("it panicked")).await;
        assert_eq!(told.await.unwrap(), ["3f9c2a71-1-0"]);
        stands(EndpointState::Ok, None).await;
        scene.stop.send_replace(true);
        running.await.unwrap();
    }

    #[tokio::test]
    async fn what_nobody_wants_moves_the_cursor_and_asks_nobody() {
        let mut scene = Scene::new();
        let mut endpoint = scene.endpoint(NOWHERE);
        let events = vec![event(FeedKind::Accepted, 8), event(FeedKind::Held, 9)];
        let page = FeedPage::of(events, &FeedCursor::after(7), 12);
        assert!(endpoint.tell(page).await.is_continue());
        assert_eq!((endpoint.position(), scene.standing().after), (FeedCursor::after(12), 12));
    }

    /// A receiver that answers so, one connection after the other, and the ids it was sent.
    async fn receiver(
        answers: &'static [&'static str],
    ) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let mut ids = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut read = String::new();
                while !read.ends_with("}}") {
                    let mut more = [0; 4096];
                    let n = stream.read(&mut more).await.unwrap();
                    assert!(n > 0, "{read}");
                    read.push_str(std::str::from_utf8(&more[..n]).unwrap());
                }
                let id = read.lines().find_map(|line| line.strip_prefix("webhook-id: ")).unwrap();
                ids.push(id.to_owned());
                let head =
                    format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
            }
            ids
        });
        (url, served)
    }

    /// The settles of a batch are one record: it may be long, and the receiver slow.
    #[tokio::test]
    async fn a_record_that_was_told_in_part_is_told_to_its_end() {
        let parts = |sequence| {
            (0..3).map(move |part| FeedEvent { part, ..event(FeedKind::Summarised, sequence) })
        };
        let asked = FeedCursor::after(7);
        let page = FeedPage::of(parts(8).chain(parts(9)).collect(), &asked, 9);
        let mut scene = Scene::new();
        let (url, told) = receiver(&["200 OK", "200 OK", "200 OK", "200 OK", "410 Gone"]).await;
        let mut endpoint = scene.endpoint(&url);
        assert!(endpoint.tell(page.clone()).await.is_break());
        let ids = told.await.unwrap();
        assert_eq!(ids, ["8-0", "8-1", "8-2", "9-0", "9-1"].map(|name| format!("3f9c2a71-{name}")));
        let position = endpoint.position();
        assert_eq!(position.to_string(), "v1.8.1.8");

        let (url, told) = receiver(&["200 OK", "200 OK"]).await;
        let mut endpoint = scene.endpoint(&url);
        endpoint.moved.send_replace(position.clone());
        let rest = FeedPage::of(parts(9).collect(), &position, 9);
        assert!(endpoint.tell(rest).await.is_continue());
        assert_eq!(told.await.unwrap(), ["9-1", "9-2"].map(|name| format!("3f9c2a71-{name}")));
        assert_eq!(endpoint.position(), FeedCursor::after(9));
    }
}
