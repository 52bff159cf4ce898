//! One attempt to train a model, on separate threads.

use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bipedalnet_client::api::{JobState, TrainingScope};
use bipedalnet_core::gait::Recording;
use bipedalnet_training::{
    Checkpoint, Event, Length, Progress, RetrainingError, RetrainingOptions, Users,
    low_priority_pool, retrain, retrained_model,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{RETRY, Stop, Trainer};
use crate::service::active_model::model_from_file;
use crate::service::crash::crash_point;
use crate::service::walk_reader::unpack;
use crate::store::{JobEvent, JobLength, StoreError, TrainingJob};

/// Time between two reports of progress to those who follow the job.
const PROGRESS: Duration = Duration::from_millis(250);

/// Why an attempt gave no model.
pub(super) enum NoModel {
    Stop(Stop),
    /// The users at these positions have too little walking.
    TooLittleOf(Vec<usize>),
    /// A recording or the checkpoint cannot be used any more.
    StartAgain(String),
    /// One of the recordings was deleted.
    Deleted,
}

impl From<Stop> for NoModel {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl Trainer {
    /// Trains on these recordings, by user. Returns a model file.
    pub(super) async fn attempt(
        &self,
        job: &TrainingJob,
        (parent_id, parent): (&str, &[u8]),
        recordings: &Arc<[Vec<i64>]>,
    ) -> Result<Vec<u8>, NoModel> {
        let checkpoint = self.store.training_checkpoint(job.id).await.map_err(Stop::from)?;
        let attempt = Attempt {
            trainer: self.clone(),
            runtime: Handle::current(),
            job: job.id,
            parent_id: parent_id.to_owned(),
            parent: parent.to_vec(),
            options: options(job, self.settings.get().training_memory_bytes()),
            recordings: Arc::clone(recordings),
        };
        let threads = self.settings.get().training_threads();
        let pool = low_priority_pool(threads)
            .map_err(|error| Stop::Failed(format!("no threads to train on: {error}")))?;
        let (sender, receiver) = oneshot::channel();
        pool.spawn(move || {
            // If the service stops, nobody receives the result.
            let _ = sender.send(attempt.run(checkpoint));
        });
        receiver.await.unwrap_or_else(|_| {
            Err(Stop::Failed("a bug in this program; see its log".to_owned()).into())
        })
    }
}

fn options(job: &TrainingJob, memory_bytes: usize) -> RetrainingOptions {
    RetrainingOptions {
        last_layers_only: job.request.scope == TrainingScope::LastLayers,
        length: match job.request.length {
            JobLength::Epochs(epochs) => {
                Length::Epochs(NonZeroU16::new(epochs).unwrap_or(NonZeroU16::MIN))
            }
            JobLength::BudgetSeconds(seconds) => {
                Length::Budget(Duration::from_secs(seconds.into()))
            }
        },
        seed: job.request.seed.into(),
        memory_bytes,
    }
}

struct Attempt {
    trainer: Trainer,
    runtime: Handle,
    job: i64,
    parent_id: String,
    /// The parent's file.
    parent: Vec<u8>,
    options: RetrainingOptions,
    recordings: Arc<[Vec<i64>]>,
}

/// The result of storing a checkpoint.
enum Kept {
    Stored,
    /// The job is over, or another server runs it.
    Over,
    /// One of the recordings was deleted.
    Deleted,
}

impl Attempt {
    fn run(self, checkpoint: Option<Vec<u8>>) -> Result<Vec<u8>, NoModel> {
        let parent = model_from_file(&self.parent_id, &self.parent).map_err(Stop::Failed)?;
        let checkpoint = match checkpoint.map(|bytes| Checkpoint::from_bytes(&bytes)).transpose() {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Err(NoModel::StartAgain(error.to_string())),
        };
        let read = |enrollment| self.recording(enrollment);
        let users = Users { recordings: &self.recordings, read: &read };
        let (mut failure, mut deleted) = (None, false);
        let mut reported = Instant::now();
        let observe = |event: Event<'_>| match event {
            Event::Progress(progress) => self.report(progress, &mut reported),
            Event::Checkpoint(checkpoint) => match self.keep(checkpoint) {
                Ok(Kept::Stored) => ControlFlow::Continue(()),
                Ok(Kept::Over) => ControlFlow::Break(()),
                Ok(Kept::Deleted) => {
                    deleted = true;
                    ControlFlow::Break(())
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(job = self.job, %error, "a checkpoint was not stored");
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(format!("a checkpoint could not be stored: {error}"));
                    ControlFlow::Break(())
                }
            },
        };
        let retrained = retrain(&self.parent, &users, &self.options, checkpoint, observe);
        if let Some(reason) = failure {
            return Err(Stop::Failed(reason).into());
        }
        match retrained {
            Ok(Some(retrained)) => retrained_model(&parent.file, &retrained)
                .map_err(|error| Stop::Failed(error.to_string()).into()),
            Ok(None) if deleted => Err(NoModel::Deleted),
            Ok(None) => Err(Stop::Over.into()),
            Err(RetrainingError::TooLittle { users, .. })
                if !users.is_empty() && users.len() < self.recordings.len() =>
            {
                Err(NoModel::TooLittleOf(users.into_iter().map(|short| short.user).collect()))
            }
            Err(error @ (RetrainingError::Recording(_) | RetrainingError::Checkpoint(_))) => {
                Err(NoModel::StartAgain(error.to_string()))
            }
            Err(error) => Err(Stop::Failed(error.to_string()).into()),
        }
    }

    fn recording(
        &self,
        enrollment: i64,
    ) -> Result<Recording, Box<dyn std::error::Error + Send + Sync>> {
        let kept = loop {
            match self.runtime.block_on(self.trainer.store.recording(enrollment)) {
                Err(error) if error.is_transient() && !self.is_over() => std::thread::sleep(RETRY),
                kept => break kept?,
            }
        };
        self.trainer.metrics.training.progressed();
        let recording = kept.and_then(|kept| unpack(&kept)).map(Recording::try_from);
        Ok(recording.ok_or_else(|| format!("that of enrollment {enrollment} is gone"))??)
    }

    /// Whether the job was cancelled, another server runs it, or the service stops.
    fn is_over(&self) -> bool {
        let current = self.trainer.signals.current.borrow();
        current.is_over || current.stopping
    }

    fn report(&self, progress: &Progress, reported: &mut Instant) -> ControlFlow<()> {
        if self.is_over() {
            return ControlFlow::Break(());
        }
        self.trainer.metrics.training.progressed();
        // Before its first step there is no progress.
        if progress.steps > 0 && reported.elapsed() >= PROGRESS {
            *reported = Instant::now();
            let current = &self.trainer.signals.current;
            current.send_modify(|current| current.progress = Some(*progress));
        }
        ControlFlow::Continue(())
    }

    fn keep(&self, checkpoint: &Checkpoint) -> Result<Kept, StoreError> {
        let event = JobEvent {
            // Given when it is stored.
            number: 0,
            state: JobState::Running,
            epoch: checkpoint.epoch(),
            epochs: Some(checkpoint.epochs()),
            loss: checkpoint.loss(),
            validation_accuracy: checkpoint.validation_accuracy(),
        };
        let bytes = checkpoint.to_bytes();
        let kept = self.runtime.block_on(async {
            let mut transaction = self.trainer.store.begin().await?;
            if !transaction.hold_training_lease(&self.trainer.holder).await? {
                return Ok(Kept::Over);
            }
            if !transaction.are_enrolled(&self.recordings.concat()).await? {
                return Ok(Kept::Deleted);
            }
            let kept = transaction.keep_checkpoint(self.job, &event, &bytes).await?;
            transaction.commit().await?;
            Ok::<_, StoreError>(if kept { Kept::Stored } else { Kept::Over })
        })?;
        self.trainer.signals.job_changed();
        crash_point("checkpoint kept");
        Ok(kept)
    }
}
