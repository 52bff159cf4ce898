//! The clock, and whether it can be trusted. A wrong clock must not make data look old, nor expired keys
//! new.
//!
//! The trusted time runs with the time since the machine started, which nobody sets, and follows the clock
//! by at most a second per second. The process goes by the clock while the two are within a day. So small
//! steps do no harm, however many there are. A clock that is more than a day away has leapt. Until an
//! operator confirms it or it comes back, the process goes by the time from before. A small leap is also
//! settled by a day without another.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use super::audit::AuditEvent;
use super::sql::{query, query_as, query_scalar};
use super::{DAY_SECONDS, Database, Engine, Store, StoreError};

/// By how much a clock may differ from the trusted time.
const TOLERANCE_SECONDS: i64 = DAY_SECONDS;

/// The largest leap that a day settles. A server may be off for so long; of a clock that is wrong by more,
/// nobody must hear too late.
const LARGEST_SETTLED_SECONDS: i64 = 30 * DAY_SECONDS;

/// Until a process watches the clock.
const UNWATCHED: i64 = i64::MIN;

/// What this process goes by: seconds since 1970 at the time when the machine started. A machine has one
/// clock, so a process has one of these.
static ORIGIN: AtomicI64 = AtomicI64::new(UNWATCHED);

/// Whether this process goes by PostgreSQL's clock, so that all servers of a database agree.
static FOLLOWS_DATABASE: AtomicBool = AtomicBool::new(false);

/// Goes by the clock of PostgreSQL from now on.
pub(super) fn follow_database(unix_seconds: i64) {
    ORIGIN.store(unix_seconds - uptime_seconds(), Ordering::Relaxed);
    FOLLOWS_DATABASE.store(true, Ordering::Relaxed);
}

/// Goes by a time line from now on. Clocks that count whole seconds differ by one now and then: a change of
/// one would only make the time step back.
fn follow(origin: i64) {
    if origin.abs_diff(ORIGIN.load(Ordering::Relaxed)) > 1 {
        ORIGIN.store(origin, Ordering::Relaxed);
    }
}

/// Seconds since 1970, UTC. In a process that watches the clock, without leaps.
pub fn unix_seconds() -> i64 {
    let wall = wall_seconds();
    match ORIGIN.load(Ordering::Relaxed) {
        UNWATCHED => wall,
        origin => {
            let trusted = origin + uptime_seconds();
            if !FOLLOWS_DATABASE.load(Ordering::Relaxed) && is_near(wall, trusted) {
                wall
            } else {
                trusted
            }
        }
    }
}

/// A time in words: `2026-11-28 12:00:00 UTC`.
pub fn date_and_time(unix_seconds: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(unix_seconds) {
        Ok(at) => {
            let (hour, minute, second) = at.to_hms();
            format!("{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
        }
        // Past the year 9999, or before the year -9999.
        Err(_) => format!("{unix_seconds} s after 1970"),
    }
}

fn is_near(wall: i64, trusted: i64) -> bool {
    wall.abs_diff(trusted) <= TOLERANCE_SECONDS.unsigned_abs()
}

fn wall_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}

/// Seconds since the machine started, or since some other time that stays the same.
fn uptime_seconds() -> i64 {
    #[cfg(target_os = "linux")]
    {
        use rustix::time::{ClockId, clock_gettime};
        clock_gettime(ClockId::Boottime).tv_sec
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_secs() as i64
    }
}

/// How the clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// What just happened.
    pub event: Option<ClockEvent>,
    /// Whether it leapt, and nothing settled that yet.
    pub is_paused: bool,
    /// Whether data past its time may be deleted: it has been steady for a day, or was confirmed.
    pub is_steady: bool,
}

/// Something that happened to the clock. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockEvent {
    Leapt {
        from: i64,
        to: i64,
    },
    /// It shows again what it would have shown without the leap.
    Returned,
    /// It was steady for a day after a small leap.
    Settled,
    Confirmed,
}

/// Watches the clock of a server.
#[derive(Default)]
pub(super) struct ClockWatch(Mutex<Option<Watch>>);

/// The row in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
struct Row {
    /// The trusted time when it was stored.
    seen_at_unix_seconds: i64,
    steady_since_unix_seconds: i64,
    leapt_from_unix_seconds: Option<i64>,
    confirmations: i64,
}

/// Two time lines, each by its origin, as in [`ORIGIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watch {
    /// The trusted time, which the clock is compared with; after a leap, that of the new clock.
    origin: i64,
    /// The one from before a leap.
    before: Option<i64>,
    /// The one that the process goes by.
    kept: i64,
    steady_since: i64,
    looked_at_uptime: i64,
    confirmations: i64,
}

impl Watch {
    fn new(row: &Row, wall: i64, uptime: i64) -> Self {
        Self {
            origin: row.seen_at_unix_seconds - uptime,
            before: row.leapt_from_unix_seconds.map(|from| from - uptime),
            // If the clock leapt, nobody saw when. The latest time makes no expired key valid.
            kept: wall.max(row.seen_at_unix_seconds).max(row.leapt_from_unix_seconds.unwrap_or(0))
                - uptime,
            steady_since: row.steady_since_unix_seconds,
            looked_at_uptime: uptime,
            confirmations: row.confirmations,
        }
    }

    fn look(&mut self, wall: i64, uptime: i64) -> Option<ClockEvent> {
        let passed = uptime - self.looked_at_uptime;
        self.looked_at_uptime = uptime;
        let difference = wall - (self.origin + uptime);
        let leaps = !is_near(wall, self.origin + uptime);
        if leaps {
            let before = *self.before.get_or_insert(self.origin);
            self.origin = wall - uptime;
            // A clock that was far ahead at the start, and was put right since, no longer counts.
            self.kept = self.kept.clamp(before, before.max(self.origin));
            self.steady_since = wall;
        } else {
            self.origin += difference.clamp(-passed, passed);
        }
        let event = match self.before {
            Some(before) if is_near(wall, before + uptime) => Some(ClockEvent::Returned),
            Some(before) if leaps => Some(ClockEvent::Leapt { from: before + uptime, to: wall }),
            Some(before)
                if self.has_been_steady(uptime)
                    && (self.origin - before).abs() <= LARGEST_SETTLED_SECONDS =>
            {
                Some(ClockEvent::Settled)
            }
            _ => None,
        };
        match event {
            Some(ClockEvent::Returned) => self.trust(wall, uptime),
            Some(ClockEvent::Settled) => self.before = None,
            _ => {}
        }
        if self.before.is_none() {
            // Not `origin`: after a start that lags by the time without the server.
            self.kept = wall - uptime;
        }
        event
    }

    /// Goes by the clock from now on.
    fn trust(&mut self, wall: i64, uptime: i64) {
        self.origin = wall - uptime;
        self.before = None;
        self.steady_since = wall - DAY_SECONDS;
    }

    fn has_been_steady(&self, uptime: i64) -> bool {
        self.origin + uptime - self.steady_since >= DAY_SECONDS
    }
}

impl Store {
    /// Looks at the clock, and goes by what [`unix_seconds`] promises from then on. To be called once a
    /// second.
    ///
    /// # Errors
    /// If a statement fails. The next look then tells the same.
    pub async fn look_at_clock(&self) -> Result<Clock, StoreError> {
        let row: Row = query_as("SELECT * FROM retention_clock").fetch_one(&self.readers).await?;
        let (wall, uptime) = (self.wall_seconds().await?, uptime_seconds());
        let watched = *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watch = watched.unwrap_or_else(|| Watch::new(&row, wall, uptime));
        let is_confirmed = row.confirmations != watch.confirmations;
        if is_confirmed {
            watch = Watch::new(&row, wall, uptime);
        }
        let mut event = watch.look(wall, uptime);
        follow(watch.kept);
        if is_confirmed && event.is_none() {
            event = Some(ClockEvent::Confirmed);
        }
        *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
        let is_paused = watch.before.is_some();
        Ok(Clock { event, is_paused, is_steady: !is_paused && watch.has_been_steady(uptime) })
    }

    /// Stores what the clock shows, for the next start. To be called after events, and from time to time.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn note_clock(&self) -> Result<(), StoreError> {
        let watch = *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = watch else { return Ok(()) };
        let uptime = uptime_seconds();
        // Unless it was confirmed meanwhile: the next look will see that.
        let noted = query(
            "UPDATE retention_clock SET seen_at_unix_seconds = $1, steady_since_unix_seconds = $2,
             leapt_from_unix_seconds = $3 WHERE confirmations = $4",
        )
        .bind(watch.origin + uptime)
        .bind(watch.steady_since)
        .bind(watch.before.map(|before| before + uptime))
        .bind(watch.confirmations);
        self.write(noted.execute(&self.writer)).await?;
        Ok(())
    }
}

impl Database {
    /// What the clock shows: this machine's, or PostgreSQL's.
    async fn wall_seconds(&self) -> Result<i64, StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(wall_seconds()),
            Engine::Postgres(_) => {
                let now = query_scalar("SELECT extract(epoch FROM clock_timestamp())::bigint");
                Ok(now.fetch_one(&self.readers).await?)
            }
        }
    }

    /// What the clock showed before its last leap, and shows now, in seconds since 1970. `None` if it did
    /// not leap, or if that is settled.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn clock_leap(&self) -> Result<Option<(i64, i64)>, StoreError> {
        let row: Row = query_as("SELECT * FROM retention_clock").fetch_one(&self.readers).await?;
        let wall = self.wall_seconds().await?;
        let unnoticed = Some(row.seen_at_unix_seconds).filter(|seen| !is_near(wall, *seen));
        Ok(row.leapt_from_unix_seconds.or(unnoticed).map(|from| (from, wall)))
    }

    /// Says that the clock is right. A running server goes by it within a second.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn confirm_clock(&self, (from, to): (i64, i64)) -> Result<(), StoreError> {
        let mut transaction = self.begin_writing().await?;
        query(
            "UPDATE retention_clock SET seen_at_unix_seconds = $1,
             steady_since_unix_seconds = $1 - $2, leapt_from_unix_seconds = NULL,
             confirmations = confirmations + 1",
        )
        .bind(to)
        .bind(DAY_SECONDS)
        .execute(&mut transaction)
        .await?;
        AuditEvent::ClockConfirmed { from, to }.note(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_words_is_utc() {
        assert_eq!(date_and_time(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(date_and_time(i64::MAX), "9223372036854775807 s after 1970");
    }

    const HOUR: i64 = 3600;
    const DAY: i64 = DAY_SECONDS;
    const NOON: i64 = 1_800_000_000;

    /// A clock that was steady for long, in a process that started at noon with an uptime of 1000.
    fn watched(seen_at: i64, wall: i64) -> Watch {
        let row = Row {
            seen_at_unix_seconds: seen_at,
            steady_since_unix_seconds: seen_at - 10 * DAY,
            leapt_from_unix_seconds: None,
            confirmations: 0,
        };
        let mut watch = Watch::new(&row, wall, 1000);
        watch.look(wall, 1000);
        watch
    }

    #[test]
    fn a_leap_is_noticed_at_once_and_the_time_from_before_goes_on() {
        for days in [400, -400, 2] {
            let mut watch = watched(NOON, NOON);
            assert_eq!(watch.look(NOON + 1, 1001), None);
            let leap = watch.look(NOON + days * DAY, 1002);
            assert_eq!(leap, Some(ClockEvent::Leapt { from: NOON + 2, to: NOON + days * DAY }));
            assert_eq!(watch.kept + 1010, NOON + 10);
            // A small one ends by itself after a day, and not before.
            let half = DAY / 2;
            assert_eq!(watch.look(NOON + days * DAY + half, 1002 + half), None);
            assert_eq!(watch.kept + 1002 + half, NOON + 2 + half);
            let settled = watch.look(NOON + days * DAY + DAY, 1002 + DAY);
            assert_eq!(settled, (days == 2).then_some(ClockEvent::Settled));
            let shown = if days == 2 { days * DAY + DAY } else { DAY + 2 };
            assert_eq!(watch.kept + 1002 + DAY, NOON + shown);
            if days != 2 {
                let returned = watch.look(NOON + 2 * DAY, 1000 + 2 * DAY);
                assert_eq!(returned, Some(ClockEvent::Returned));
            }
        }
    }

    #[test]
    fn a_clock_that_is_put_right_needs_no_confirmation() {
        let mut watch = watched(NOON, NOON);
        watch.look(NOON + 400 * DAY, 1001);
        assert_eq!(watch.look(NOON + 3, 1003), Some(ClockEvent::Returned));
        assert!(watch.before.is_none() && watch.has_been_steady(1003));
        // A machine without a battery starts in 1970, until it hears from NTP.
        let mut watch = watched(NOON, 100);
        assert_eq!(watch.before.map(|before| before + 1000), Some(NOON));
        assert_eq!(watch.kept + 1000, NOON);
        assert_eq!(watch.look(NOON + HOUR, 1030), Some(ClockEvent::Returned));
    }

    #[test]
    fn a_leap_after_a_step_back_makes_nothing_valid_again() {
        let mut watch = watched(NOON, NOON);
        watch.look(NOON - 20 * HOUR + 60, 1060);
        assert_eq!(watch.kept + 1060, NOON - 20 * HOUR + 60);
        let leap = watch.look(NOON - 400 * DAY, 1061);
        assert!(matches!(leap, Some(ClockEvent::Leapt { .. })));
        assert!(watch.kept + 1061 >= NOON, "{}", watch.kept + 1061 - NOON);
    }

    #[test]
    fn small_steps_do_no_harm_unless_they_add_up() {
        let mut watch = watched(NOON, NOON);
        let (mut wall, mut uptime) = (NOON, 1000);
        for step in [2, -2, HOUR, -HOUR, 20 * HOUR, -20 * HOUR] {
            (wall, uptime) = (wall + step + 60, uptime + 60);
            assert_eq!(watch.look(wall, uptime), None, "{step}");
        }
        let mut leaps = 0;
        for _ in 0..20 {
            (wall, uptime) = (wall + 20 * HOUR, uptime + 60);
            leaps += i32::from(matches!(watch.look(wall, uptime), Some(ClockEvent::Leapt { .. })));
        }
        assert!(leaps > 0);
        assert!(!watch.has_been_steady(uptime));
        assert!(watch.kept + uptime < NOON + 2 * DAY);
    }

    #[test]
    fn the_time_between_two_starts_counts_until_as_much_was_watched() {
        // Off at night.
        let mut watch = watched(NOON, NOON + 14 * HOUR);
        let (mut wall, mut uptime) = (NOON + 14 * HOUR, 1000);
        assert!(watch.before.is_none());
        assert_eq!(watch.kept + uptime, wall);
        for _ in 0..10 {
            (wall, uptime) = (wall + HOUR, uptime + HOUR);
            assert_eq!(watch.look(wall, uptime), None);
        }
        assert!(watched(watch.origin + uptime, wall + 14 * HOUR).before.is_none());
        // Ever new leaps before ever new starts.
        let watch = watched(NOON, NOON + 20 * HOUR);
        let watch = watched(watch.origin + 1000, NOON + 40 * HOUR);
        assert!(watch.before.is_some() && !watch.has_been_steady(1000));
        // Off for a weekend. What expired meanwhile has expired.
        let watch = watched(NOON, NOON + 3 * DAY);
        assert!(watch.before.is_some());
        assert_eq!(watch.kept + 1000, NOON + 3 * DAY);
        // After the weekend, the clock was a year ahead until it heard from NTP.
        let mut watch = watched(NOON, NOON + 365 * DAY);
        watch.look(NOON + 3 * DAY, 1030);
        assert!(watch.before.is_some());
        assert_eq!(watch.kept + 1030, NOON + 3 * DAY);
    }
}
