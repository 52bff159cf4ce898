//! Metrics that are read only when somebody looks.

use super::Service;
use bipedalnet_core::identity::FALSE_MATCH_RATES;

use super::active_model::LoadedModel;
use super::galleries::Matches;
use crate::store::StoreError;
use crate::telemetry::Metrics;

/// The metric of a model file with the share of held-back windows that it recognised.
const VALIDATION_ACCURACY: &str = "validation_top1";

impl Service {
    /// Sets the metrics that nothing else keeps up to date.
    ///
    /// # Errors
    /// If the database fails. Its own metrics are then as old as they were.
    pub async fn observe(&self) -> Result<(), StoreError> {
        let Metrics { model, collections, guesses, memory, database, training, process, .. } =
            &*self.metrics;
        self.pool.observe();
        process.observe();
        let active = self.active.get();
        model.serves(active.id());
        let accuracy = active.model.file.metadata.metrics.get(VALIDATION_ACCURACY);
        model.validation_accuracy.set(accuracy.copied().map_or(f64::NAN, f64::from));
        self.observe_galleries(&active);
        memory.sqlite_cache.set(self.store.cache_limit_bytes() as i64);
        database.gone.set(i64::from(!self.has_its_files()));
        if let Some(space) = self.store.disk_space().await {
            database.disk_free_bytes.set(space.free_bytes as i64);
            database.disk_bytes.set(space.bytes as i64);
        }
        let progress = self.signals.current.borrow().progress.unwrap_or_default();
        training.epoch.set(progress.epoch as i64);
        training.samples_per_second.set(progress.samples_per_second.into());
        if progress.epoch > 0 {
            let known = |figure: Option<f32>| figure.map_or(f64::NAN, f64::from);
            training.loss.set(known(progress.loss));
            training.validation_accuracy.set(known(progress.validation_accuracy));
        }
        // What does not need the database is above.
        let stored = self.store.model(active.id()).await?;
        model.created_timestamp_seconds.set(stored.created_at_unix_seconds);
        model.bytes.set(stored.size_bytes as i64);
        let sizes = self.store.sizes().await?;
        model.users.set(sizes.users as i64);
        collections.count_users(&self.store.users_by_collection().await?);
        database.bytes.set(sizes.database_bytes as i64);
        database.log_bytes.set(sizes.log_bytes as i64);
        if let Some(backups) = self.store.backup_times().await? {
            database.created_timestamp_seconds.set(backups.database_created_at_unix_seconds);
            database.backup_succeeded_timestamp_seconds.set(backups.succeeded_at_unix_seconds);
            database.backup_failed_timestamp_seconds.set(backups.failed_at_unix_seconds);
        }
        let locks = self.attempts.locks(None).await?;
        guesses.locked_users.set(locks.len() as i64);
        database.damaged_rows.set(self.store.damaged_rows().await? as i64);
        for (state, jobs) in self.store.count_training_jobs().await? {
            training.jobs.with_label_values(&[state.name()]).set(jobs);
        }
        Ok(())
    }

    fn observe_galleries(&self, model: &LoadedModel) {
        let metrics = &self.metrics;
        let (mut users, mut fitted, mut bytes) = (0, 0, 0);
        let mut all = Matches::default();
        let mut templates = Vec::new();
        for (collection, shared) in model.galleries.all() {
            let gallery = shared.read();
            users += gallery.len();
            fitted += gallery.tails().users;
            bytes += gallery.bytes();
            templates.push((collection, gallery.templates_len() as u64));
            drop(gallery);
            all += shared.matches();
        }
        metrics.model.gallery_users.set(users as i64);
        metrics.memory.gallery.set(bytes as i64);
        metrics.collections.count_templates(&templates);
        metrics.calibration.users.set(fitted as i64);
        for (asked, accepted) in FALSE_MATCH_RATES.into_iter().zip(all.accepted) {
            let share = accepted as f64 / all.comparisons.max(1) as f64;
            let label = asked.to_string();
            metrics.calibration.gallery_fmr.with_label_values(&[label.as_str()]).set(share);
        }
    }
}
