//! Renewal of templates (ISO/IEC 24745): all are transformed with another secret. Those that leaked
//! before match nothing afterwards.

use std::path::Path;

use bipedalnet_core::bnn::Model;
use bipedalnet_core::identity::{Template, Transform};

use super::Progress;
use super::audit::{COMMAND_LINE, SERVER};
use super::keyring::{OVERHEAD_BYTES, SecretKey};
use super::sql::{query, query_scalar};
use super::{AuditEvent, DatabaseAddress, Store, StoreError, Transaction};

/// Transforms all templates of a database with another secret. Returns how many. Damaged templates stay
/// as they are. If the program ends at any point, either all are renewed or none is.
///
/// # Errors
/// If a server uses the database, and those of [`Store::open`].
pub async fn renew_templates(
    database: &DatabaseAddress,
    master_key_file: Option<&Path>,
) -> Result<usize, StoreError> {
    let mut store = Store::open_alone(database, master_key_file).await?;
    let renewed = match store.refuse_running_servers().await {
        Ok(()) => store.renew(COMMAND_LINE).await,
        Err(error) => Err(error),
    };
    store.close().await;
    renewed
}

impl Store {
    /// The secret that all templates are transformed with.
    pub fn template_secret(&self) -> SecretKey {
        self.generation_secret(self.template_generation)
    }

    fn generation_secret(&self, generation: u32) -> SecretKey {
        self.keyring.secret(&format!("templates {generation}"))
    }

    /// Finds which secret templates are transformed with. Those of an earlier version have none: they
    /// are transformed now.
    pub(super) async fn find_template_generation(&mut self) -> Result<(), StoreError> {
        let query = query_scalar("SELECT generation FROM template_generation");
        let generation: i64 = query.fetch_one(&self.writer).await?;
        self.template_generation = generation as u32;
        if self.template_generation == 0 {
            self.renew(SERVER).await?;
        }
        Ok(())
    }

    pub(super) async fn renew(&mut self, actor: &str) -> Result<usize, StoreError> {
        let next = self.template_generation + 1;
        let mut transaction = self.begin().await?;
        transaction.act_for(actor);
        let renewed = transaction.renew_templates(next).await?;
        transaction.audit(AuditEvent::TemplatesRenewed(next)).await?;
        transaction.commit().await?;
        self.template_generation = next;
        // The log still holds what was replaced.
        self.scrub().await?;
        Ok(renewed)
    }
}

impl Transaction {
    async fn renew_templates(&mut self, next: u32) -> Result<usize, StoreError> {
        let models: Vec<String> =
            query_scalar("SELECT DISTINCT model FROM templates").fetch_all(&mut self.inner).await?;
        let mut renewed = 0;
        for model in models {
            let walks: Vec<i64> = query_scalar(
                "SELECT enrollment_id FROM templates WHERE model = $1 ORDER BY enrollment_id",
            )
            .bind(&model)
            .fetch_all(&mut self.inner)
            .await?;
            let progress = Progress::new("transforming", "templates", walks.len());
            let feature_len = self.feature_len_of(&model).await?;
            let change = Change::new(&self.store, next, feature_len);
            for (row, enrollment) in walks.into_iter().enumerate() {
                progress.report(row);
                let old = self.template_of(&model, enrollment, feature_len).await?;
                // A damaged one is bound to its generation, so it will not be taken for a new one.
                let Some(old) = old else { continue };
                let new = change.apply(&old);
                self.replace_template(next, &model, enrollment, &new).await?;
                renewed += 1;
            }
        }
        // They end soon anyway.
        self.forget_all_sessions().await?;
        query("UPDATE template_generation SET generation = $1")
            .bind(next)
            .execute(&mut self.inner)
            .await?;
        Ok(renewed)
    }

    async fn feature_len_of(&mut self, model: &str) -> Result<usize, StoreError> {
        let file: Option<Vec<u8>> = query_scalar("SELECT file FROM models WHERE id = $1")
            .bind(model)
            .fetch_optional(&mut self.inner)
            .await?;
        if let Some(Ok(model)) = file.map(|file| Model::from_bytes(&file)) {
            return Ok(model.network.feature_len());
        }
        // Templates from before there were models, or the model's file is damaged.
        let query = query_scalar(
            "SELECT (length(template) - $2) / CASE WHEN scale IS NULL THEN 4 ELSE 1 END FROM templates
             WHERE model = $1 LIMIT 1",
        );
        let query = query.bind(model).bind(OVERHEAD_BYTES as i64);
        Ok(query.fetch_one(&mut self.inner).await.map(|values: i64| values as usize)?)
    }
}

/// From one generation to the next.
struct Change {
    /// `None` if the templates are not transformed yet.
    old: Option<Transform>,
    new: Transform,
}

impl Change {
    fn new(store: &Store, next: u32, feature_len: usize) -> Self {
        let transform =
            |generation| Transform::new(store.generation_secret(generation).bytes(), feature_len);
        let old = store.template_generation;
        Self { old: (old > 0).then(|| transform(old)), new: transform(next) }
    }

    fn apply(&self, template: &Template) -> Template {
        match &self.old {
            Some(old) => self.new.apply(&old.invert(template)).rounded(),
            None => self.new.apply(template).rounded(),
        }
    }
}
