//! Training on several servers with one database.

use std::path::Path;

use bipedalnet_core::bnn;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use tokio::task::JoinHandle;

use super::*;
use crate::service::tests::{SHIPPED, enroll, server};
use crate::service::{Follower, JobLength, JobRequest, JobStatus, Service};

const BIPEDALNET: &[u8] = include_bytes!("../../../models/bipedalnet.safetensors");

/// A server with two users who have two walks each. Its model has classes, so it is trained epoch by
/// epoch.
async fn with_walkers(folder: &Path) -> Service {
    let (shipped, _) = bnn::decode(SHIPPED).unwrap();
    let (metadata, parameters) = bnn::decode(BIPEDALNET).unwrap();
    let metadata = bnn::Metadata { metrics: shipped.metrics, ..metadata };
    let server = server(folder, &bnn::encode(&metadata, &parameters).unwrap()).await;
    for (user, person) in [("ann", 11), ("bob", 12)] {
        for walk in [1, 2] {
            let walk = Walker::new(person).walk(walk, &Conditions::default());
            enroll(&server, user, &walk).await;
        }
    }
    server
}

async fn add_job(server: &Service, epochs: u16) -> i64 {
    let scope = bipedalnet_client::api::TrainingScope::LastLayers;
    let asked = JobRequest { scope, length: JobLength::Epochs(epochs), activate: false, seed: 5 };
    let (status, write) =
        server.training_jobs.add(Reservation::default(), asked, false).await.unwrap();
    write.commit().await.unwrap();
    status.job.id
}

/// Runs training jobs until it is aborted. Like a process that hangs, its threads go on then.
fn run(server: &Service) -> JoinHandle<()> {
    let trainer = server.trainer.clone();
    tokio::spawn(async move { trainer.run().await })
}

async fn follow(server: &Service, job: i64) -> Follower {
    server.training_jobs.follow(job, 0).await.unwrap()
}

/// Follows a job up to an event for which something holds. Returns it.
async fn until(follower: &mut Follower, is_it: impl Fn(&JobStatus) -> bool) -> JobStatus {
    loop {
        let (_, status) = follower.next().await.unwrap().expect("the job ended before");
        if is_it(&status) {
            return status;
        }
    }
}

fn is_over(status: &JobStatus) -> bool {
    status.job.state.is_over()
}

/// As if a server had given no sign of life for long.
async fn end_lease(folder: &Path, server: &Service) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("test.db"));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let end = sqlx::query("UPDATE training_lease SET ends_at_unix_seconds = 1 WHERE holder = $1");
    end.bind(&*server.trainer.holder).execute(&mut connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_goes_on_if_one_dies_and_makes_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = with_walkers(folder.path()).await;
    let job = add_job(&undisturbed, 3).await;
    let running = run(&undisturbed);
    let expected = until(&mut follow(&undisturbed, job).await, is_over).await.job;
    running.abort();
    let expected = expected.model.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let one = with_walkers(folder.path()).await;
    let other = server(folder.path(), SHIPPED).await;
    let job = add_job(&one, 3).await;
    let (dying, mut follower) = (run(&one), follow(&other, job).await);
    until(&mut follow(&one, job).await, |status| status.job.event.epoch == 1).await;
    let running = run(&other);
    dying.abort();
    let _ = dying.await;
    let mut current = other.signals.current.subscribe();
    while current.borrow_and_update().job != Some(job) {
        // Its threads may still give a sign of life.
        end_lease(folder.path(), &one).await;
        tokio::task::yield_now().await;
    }
    let ended = until(&mut follower, is_over).await.job;
    running.abort();
    assert_eq!((ended.state, ended.model.as_deref()), (JobState::Succeeded, Some(&expected[..])));
    // Once it had no lease, they stored nothing.
    let events = other.store.training_events(job, 0).await.unwrap();
    let epochs: Vec<u32> = events.iter().map(|event| event.epoch).collect();
    assert_eq!(epochs, [0, 0, 1, 2, 3, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_lease_stores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let one = with_walkers(folder.path()).await;
    let job = add_job(&one, 200).await;
    let running = run(&one);
    until(&mut follow(&one, job).await, |status| status.job.event.epoch == 1).await;
    while one.store.take_training_lease("other").await.unwrap() != Lease::Taken {
        end_lease(folder.path(), &one).await;
    }
    let mut current = one.signals.current.subscribe();
    current.wait_for(|current| current.job.is_none()).await.unwrap();
    let left = one.store.training_job(job).await.unwrap();
    assert_eq!((left.state, left.reason), (JobState::Running, None));
    let Err(Stop::Over) = one.trainer.begin().await else { panic!("it may still write") };
    // It gets the lease back, and goes on.
    one.store.release_training_lease("other").await.unwrap();
    let epoch = left.event.epoch;
    until(&mut follow(&one, job).await, |status| status.job.event.epoch > epoch).await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_followed_and_cancelled_on_another_server() {
    let folder = tempfile::tempdir().unwrap();
    let one = with_walkers(folder.path()).await;
    let other = server(folder.path(), SHIPPED).await;
    let running = run(&one);
    // It waits for the job of another server.
    let job = add_job(&other, 200).await;
    let mut follower = follow(&other, job).await;
    until(&mut follower, |status| status.job.event.epoch == 1).await;
    let shown = until(&mut follower, |status| status.progress.is_some()).await;
    assert_eq!(shown.job.state, JobState::Running);
    let shown = other.training_jobs.get(job).await.unwrap().progress.unwrap();
    assert!(shown.step > 0 && shown.step <= shown.steps, "{shown:?}");

    let cancelled = other.training_jobs.cancel(Reservation::default(), job).await.unwrap();
    cancelled.commit().await.unwrap();
    assert_eq!(until(&mut follower, is_over).await.job.state, JobState::Cancelled);
    let mut current = one.signals.current.subscribe();
    current.wait_for(|current| current.job.is_none()).await.unwrap();
    // The next one runs.
    let next = add_job(&other, 1).await;
    let ended = until(&mut follow(&other, next).await, is_over).await;
    assert_eq!(ended.job.state, JobState::Succeeded);
    running.abort();
}
