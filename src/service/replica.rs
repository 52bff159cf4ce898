//! Keeps the memory of this server like the database, which other servers change, too. With SQLite there
//! is no other server.
//!
//! Four times a second, the server reads what changed since it last looked: the templates of some users, or
//! which model is active. Before a write, it looks at once, so that the write sees what others wrote before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bipedalnet_core::identity::{UserId, UserTemplates};
use tokio::sync::{MutexGuard, Notify, watch};
use tokio::time::MissedTickBehavior;

use super::ServiceError;
use super::active_model::{ActiveModel, LoadedModel, model_from_file};
use super::pool::{Admission, Pool};
use super::thresholds::fit_all;
use crate::store::{ChangeToken, Changed, Snapshot, State, Store, Transaction};
use crate::telemetry::Metrics;

const INTERVAL: Duration = Duration::from_millis(250);

/// How often the server says that it runs, in ticks of [`INTERVAL`].
const SERVER_TICKS: u64 = 4;

/// How long a request waits for a change that another server made.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long an activation waits for other servers to load the model.
const LONGEST_LOAD: Duration = Duration::from_secs(60);

/// From this age on, the memory counts as behind.
const BEHIND: Duration = Duration::from_secs(2);

/// Rows of the feed are kept for an hour.
const TOO_LONG: Duration = Duration::from_secs(30 * 60);

/// The memory of one of several servers. Clones share it.
#[derive(Clone)]
pub(super) struct Replica {
    store: Store,
    active: ActiveModel,
    pool: Pool,
    metrics: Arc<Metrics>,
    /// Locked while the memory changes.
    memory: Arc<tokio::sync::Mutex<()>>,
    seen: Arc<watch::Sender<Option<Seen>>>,
    /// A model that is about to become active.
    next: Arc<Mutex<Option<Arc<LoadedModel>>>>,
    look: Arc<Notify>,
}

/// What the memory has.
#[derive(Clone, Debug)]
struct Seen {
    snapshot: Snapshot,
    at: Instant,
}

impl Replica {
    /// `state` is that of the database from which the memory was made.
    pub fn new(
        store: Store,
        active: ActiveModel,
        pool: Pool,
        metrics: Arc<Metrics>,
        state: Option<State>,
    ) -> Self {
        let seen = state.map(|state| Seen { snapshot: state.snapshot, at: Instant::now() });
        Self {
            store,
            active,
            pool,
            metrics,
            memory: Arc::default(),
            seen: Arc::new(watch::Sender::new(seen)),
            next: Arc::default(),
            look: Arc::default(),
        }
    }

    /// Follows the database. Never returns.
    pub async fn follow(&self) {
        if self.seen.borrow().is_none() {
            return std::future::pending().await;
        }
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_behind = false;
        for tick in 0u64.. {
            tokio::select! {
                _ = timer.tick() => {}
                () = self.look.notified() => {}
            }
            let mut done = self.catch_up().await;
            if done.is_ok() && tick.is_multiple_of(SERVER_TICKS) {
                let next = self.next().map(|next| next.id().to_owned());
                done = self.store.note_server(next.as_deref()).await.map_err(Into::into);
            }
            match (&done, is_behind) {
                (Err(error), false) => tracing::warn!(
                    %error,
                    "changes of other servers cannot be read; people are still identified"
                ),
                (Ok(()), true) => tracing::info!("changes of other servers are read again"),
                _ => {}
            }
            is_behind = done.is_err();
            self.metrics.database.gallery_age_seconds.set(self.age().as_secs_f64());
        }
    }

    /// How old the memory is.
    pub fn age(&self) -> Duration {
        self.seen.borrow().as_ref().map_or(Duration::ZERO, |seen| seen.at.elapsed())
    }

    /// How old the memory is, if that is more than it should be.
    pub fn behind(&self) -> Option<Duration> {
        Some(self.age()).filter(|age| *age >= BEHIND)
    }

    /// Waits until the memory has a change that another server may have made. Returns whether it has it.
    pub async fn wait_for(&self, change: ChangeToken) -> bool {
        let mut seen = self.seen.subscribe();
        // There is no other server.
        if seen.borrow().is_none() {
            return true;
        }
        let has = |seen: &Option<Seen>| seen.as_ref().is_some_and(|it| it.snapshot.has(change));
        let has_change = async {
            while !has(&seen.borrow_and_update()) {
                self.look.notify_one();
                if seen.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(LONGEST_WAIT, has_change).await.unwrap_or(false)
    }

    /// Tells other servers which model will become active, and waits until they have it in memory. One that
    /// takes too long loads it when it is active.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn announce(&self, model: &str) -> Result<(), ServiceError> {
        if self.seen.borrow().is_none() {
            return Ok(());
        }
        let mut write = self.store.begin().await?;
        write.announce_model(model).await?;
        write.commit().await?;
        let begin = Instant::now();
        while begin.elapsed() < LONGEST_LOAD {
            let (servers, without) = self.store.servers_without(model).await?;
            if without == 0 {
                break;
            }
            tracing::debug!(model, servers, without, "waiting for other servers to load the model");
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// Keeps others from changing the memory: from before a commit until the change shows.
    pub async fn hold(&self) -> MutexGuard<'_, ()> {
        self.memory.lock().await
    }

    /// Reads what changed in the database since the last look.
    ///
    /// # Errors
    /// If the database or the pool fails.
    pub async fn catch_up(&self) -> Result<(), ServiceError> {
        if self.seen.borrow().is_none() {
            return Ok(());
        }
        let _memory = self.memory.lock().await;
        let Some(before) = self.seen.borrow().clone() else { return Ok(()) };
        let began = Instant::now();
        let mut reading = self.store.begin_following().await?;
        let Some(state) = reading.state().await? else { return Ok(()) };
        let changed = match before.at.elapsed() < TOO_LONG {
            true => reading.changes_between(&before.snapshot, &state.snapshot).await?,
            false => Changed::All,
        };
        self.apply(&mut reading, &state, &changed).await?;
        self.seen.send_replace(Some(Seen { snapshot: state.snapshot, at: began }));
        Ok(())
    }

    async fn apply(
        &self,
        reading: &mut Transaction,
        state: &State,
        changed: &Changed,
    ) -> Result<(), ServiceError> {
        let active = self.active.get();
        if let Some(model) = state.model.as_ref().filter(|model| *model != active.id()) {
            // What changed since it was loaded.
            let next = match (self.next().filter(|next| next.id() == model), changed) {
                (Some(next), Changed::Users(users)) => {
                    self.read_users(reading, &next, users).await?;
                    next
                }
                _ => self.load(reading, model).await?,
            };
            tracing::info!(model, "another server activated a model");
            self.active.exchange(next);
            self.set_next(None);
            return Ok(());
        }
        match changed {
            Changed::All => {
                let fresh = self.load(reading, active.id()).await?;
                self.active.exchange(fresh);
                self.set_next(None);
            }
            Changed::Users(users) => {
                self.read_users(reading, &active, users).await?;
                if let Some(next) = self.next() {
                    self.read_users(reading, &next, users).await?;
                }
            }
        }
        let next = state.next_model.as_ref().filter(|model| *model != active.id());
        match (next, self.next()) {
            (None, Some(_)) => self.set_next(None),
            (Some(model), loaded) if loaded.as_ref().is_none_or(|next| next.id() != model) => {
                // The activation reads the walks that the model has not read, and tells of them.
                let next = self.load(reading, model).await?;
                self.set_next(Some(next));
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads the templates of some users.
    async fn read_users(
        &self,
        reading: &mut Transaction,
        model: &LoadedModel,
        users: &[UserId],
    ) -> Result<(), ServiceError> {
        for user in users {
            let (id, feature_len) = (model.id(), model.feature_len());
            let walks = reading.templates_of(user, id, feature_len, None).await?;
            let templates: UserTemplates = model.galleries.templates(&walks);
            let collection = user.collection();
            model.galleries.change(&collection, |gallery| gallery.replace(user, templates));
            self.active.gallery_changed(collection);
        }
        Ok(())
    }

    /// Loads a model and all its galleries.
    async fn load(
        &self,
        reading: &mut Transaction,
        id: &str,
    ) -> Result<Arc<LoadedModel>, ServiceError> {
        let file = self.store.model_file(id).await?;
        let wanted = id.to_owned();
        let load = move |_: &mut _| model_from_file(&wanted, &file);
        let model = self.pool.run(Admission::Always, load).await?;
        let model = model.map_err(ServiceError::UnusableModel)?;
        let model = Arc::new(LoadedModel::new(model, &self.store.template_secret()));
        let walks = reading.templates(id, model.feature_len()).await?;
        let filled = Arc::clone(&model);
        let fill = move |_: &mut _| filled.galleries.fill(&walks);
        self.pool.run(Admission::Always, fill).await?;
        fit_all(&self.pool, &model).await?;
        Ok(model)
    }

    fn next(&self) -> Option<Arc<LoadedModel>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_next(&self, model: Option<Arc<LoadedModel>>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = model;
    }
}
