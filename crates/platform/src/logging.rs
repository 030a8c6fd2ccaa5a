//! The program's log: lines to standard error at one level, and to whoever subscribes at a
//! level of their own.
//!
//! A subscriber that wants more than the configured level gets it without a restart, and costs
//! nothing when it is gone: the level of the whole program is recomputed on both occasions.
//!
//! Deliberately absent: rotation and files; the service manager keeps standard error.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

use crate::{Clock, SystemClock};

/// How many lines a new subscriber gets of the past.
const RECENT_LINES: usize = 512;
/// How many lines a slow subscriber may lag behind before it loses some.
const PENDING_LINES: usize = 1024;
/// Libraries whose inner life is only of interest to who debugs them, and what they may say. The
/// consensus engine warns ten times a second while a server is down; `cos_raft` says it once. The
/// engine's handle calls every request an error that comes while it stops, and returns the same as
/// a value. The first target that fits decides.
const QUIET_TARGETS: [(&str, LevelFilter); 7] = [
    ("openraft::raft::raft_inner", LevelFilter::OFF),
    ("openraft", LevelFilter::ERROR),
    ("h2", LevelFilter::WARN),
    ("hyper", LevelFilter::WARN),
    ("tonic", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
    ("hickory", LevelFilter::WARN),
];

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How important it is.
    pub level: Level,
    /// Time, level, source, message and fields, without a line end.
    pub text: Arc<str>,
}

/// Another log was installed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process has a log already")]
pub struct AlreadyInstalled;

/// Where all lines pass. Clones are handles to the same hub.
#[derive(Clone, Debug)]
pub struct LogHub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: SystemClock,
    lines: broadcast::Sender<Line>,
    levels: Mutex<Levels>,
}

#[derive(Debug)]
struct Levels {
    /// What goes to standard error and is remembered.
    configured: LevelFilter,
    /// What each subscriber wants.
    wanted: Vec<Level>,
    recent: VecDeque<Line>,
}

/// A subscription. Dropping it ends it.
#[derive(Debug)]
pub struct Lines {
    hub: LogHub,
    level: Level,
    past: VecDeque<Line>,
    live: broadcast::Receiver<Line>,
}

impl LogHub {
    /// Makes a hub that nothing writes to yet.
    pub fn new(configured: LevelFilter) -> Self {
        let levels = Levels { configured, wanted: Vec::new(), recent: VecDeque::new() };
        let (lines, _) = broadcast::channel(PENDING_LINES);
        let inner = Inner { clock: SystemClock::new(), lines, levels: Mutex::new(levels) };
        Self { inner: Arc::new(inner) }
    }

    /// Makes this hub the log of the whole process.
    pub fn install(&self) -> Result<(), AlreadyInstalled> {
        tracing::subscriber::set_global_default(self.subscriber())
            .map_err(|_already_set| AlreadyInstalled)
    }

    /// What [`LogHub::install`] installs; tests use it for one thread only.
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        Registry::default().with(self.clone().with_filter(HubFilter(self.clone())))
    }

    /// The last lines at `level` or more important, and then those to come.
    pub fn subscribe(&self, level: Level) -> Lines {
        let mut levels = self.lock();
        levels.wanted.push(level);
        let past = levels.recent.iter().filter(|line| line.level <= level).cloned().collect();
        let live = self.inner.lines.subscribe();
        drop(levels);
        tracing::callsite::rebuild_interest_cache();
        Lines { hub: self.clone(), level, past, live }
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        self.inner.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn level(&self) -> LevelFilter {
        let levels = self.lock();
        let wanted = levels.wanted.iter().map(|level| LevelFilter::from_level(*level));
        wanted.fold(levels.configured, LevelFilter::max)
    }

    fn publish(&self, line: Line) {
        let mut levels = self.lock();
        if line.level <= levels.configured {
            if levels.recent.len() == RECENT_LINES {
                levels.recent.pop_front();
            }
            levels.recent.push_back(line.clone());
            // Nothing can be said about a broken standard error on standard error.
            drop(writeln!(std::io::stderr(), "{}", line.text));
        }
        // Nobody listening is no error. Under the lock, so that a new subscriber gets each line
        // exactly once.
        drop(self.inner.lines.send(line));
    }
}

impl Lines {
    /// The next line. `None` means that the hub is gone. Lines that came too fast are skipped.
    pub async fn next(&mut self) -> Option<Line> {
        if let Some(line) = self.past.pop_front() {
            return Some(line);
        }
        loop {
            match self.live.recv().await {
                Ok(line) if line.level <= self.level => return Some(line),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut levels = self.hub.lock();
        if let Some(at) = levels.wanted.iter().position(|level| *level == self.level) {
            levels.wanted.swap_remove(at);
        }
        drop(levels);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Lets through what somebody wants at the moment.
struct HubFilter(LogHub);

impl HubFilter {
    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        let wanted = self.0.level();
        let quiet = QUIET_TARGETS.iter().find(|(target, _)| metadata.target().starts_with(target));
        match quiet {
            Some((_, limit)) if wanted < LevelFilter::TRACE => {
                *metadata.level() <= wanted.min(*limit)
            }
            _ => *metadata.level() <= wanted,
        }
    }
}

impl<S> Filter<S> for HubFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        self.lets_through(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.lets_through(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.level())
    }
}

impl<S: Subscriber> Layer<S> for LogHub {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut text = timestamp(self.inner.clock.unix_nanos());
        let mut words = Words::default();
        event.record(&mut words);
        let Words { message, fields } = words;
        // Writing to a string does not fail.
        let _ = write!(text, " [{}] {}: {message}{fields}", metadata.level(), metadata.target());
        self.publish(Line { level: *metadata.level(), text: text.replace('\n', "\\n").into() });
    }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// RFC 3339 in UTC with milliseconds.
fn timestamp(unix_nanos: i64) -> String {
    let millis = unix_nanos.div_euclid(1_000_000);
    let (days, millis) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    // Days since 0000-03-01, in eras of 400 years, so that the leap day ends a year.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
    let (second, milli) = (millis / 1_000 % 60, millis % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn timestamps_are_calendar_dates() {
        let check = |seconds: i64, expected: &str| {
            assert_eq!(timestamp(seconds * 1_000_000_000), expected);
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199, "2024-02-29T23:59:59.000Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000Z");
        check(-1, "1969-12-31T23:59:59.000Z");
    }

    #[tokio::test]
    async fn a_subscriber_gets_its_own_level_and_the_recent_past() {
        let hub = LogHub::new(LevelFilter::WARN);
        let subscriber = tracing::Dispatch::new(hub.subscriber());
        tracing::dispatcher::with_default(&subscriber, || {
            let emit = || {
                tracing::warn!(node = 7, "careful");
                tracing::debug!("details");
                tracing::error!(target: "openraft::core", "raft serious");
                tracing::warn!(target: "openraft::core", "raft chatter");
                tracing::warn!(target: "h2::frame", "frame careful");
                tracing::info!(target: "h2::frame", "frame chatter");
            };
            emit();
            let mut debug = hub.subscribe(Level::DEBUG);
            let mut error = hub.subscribe(Level::ERROR);
            emit();
            let mut texts = Vec::new();
            while let Some(Some(line)) = debug.next().now_or_never() {
                texts.push(line.text.split_once("] ").unwrap().1.to_owned());
            }
            let source = module_path!();
            let careful = format!("{source}: careful node=7");
            let details = format!("{source}: details");
            let raft = "openraft::core: raft serious".to_owned();
            let frame = "h2::frame: frame careful".to_owned();
            let expected = [&careful, &raft, &frame, &careful, &details, &raft, &frame];
            assert_eq!(texts.iter().collect::<Vec<_>>(), expected);
            let serious = error.next().now_or_never().flatten();
            assert_eq!(serious.map(|line| line.level), Some(Level::ERROR));
            drop(debug);
            assert_eq!(hub.level(), LevelFilter::WARN);
        });
    }
}
