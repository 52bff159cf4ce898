//! Concurrent requests, and their progress.

use std::cell::Cell;

use bipedalnet_client::ClientError;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Refusals;

/// Concurrent requests.
const CONCURRENT: usize = 8;

/// Status for a recording that the server cannot use.
const UNPROCESSABLE: u16 = 422;

/// Gives the answer, or the type of problem of an unusable recording. Other problems are errors.
pub(super) fn accepted<T>(
    answer: Result<T, ClientError>,
) -> Result<Result<T, String>, ClientError> {
    match answer {
        Err(ClientError::Problem(problem)) if problem.status == UNPROCESSABLE => {
            let kind = problem.r#type.rsplit(':').next().unwrap_or_default();
            Ok(Err(kind.to_owned()))
        }
        answer => answer.map(Ok),
    }
}

pub(super) fn count(refusals: &mut Refusals, problems: impl IntoIterator<Item = String>) {
    problems.into_iter().for_each(|problem| *refusals.entry(problem).or_default() += 1);
}

/// Runs a task for each item, several at a time. Results are in the order of the items.
pub(super) async fn each<T, R>(
    items: impl IntoIterator<Item = T>,
    task: impl AsyncFn(T) -> Result<R, ClientError>,
) -> Result<Vec<R>, ClientError> {
    let task = &task;
    let numbered = async |(number, item)| Ok::<_, ClientError>((number, task(item).await?));
    let running = stream::iter(items.into_iter().enumerate()).map(numbered);
    let mut results: Vec<(usize, R)> = running.buffer_unordered(CONCURRENT).try_collect().await?;
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Counts finished requests, and reports their number.
pub(super) struct Counter<F> {
    done: Cell<usize>,
    all: usize,
    progress: F,
}

impl<F: Fn(usize, usize)> Counter<F> {
    pub fn new(all: usize, progress: F) -> Self {
        progress(0, all);
        Self { done: Cell::new(0), all, progress }
    }

    pub fn step(&self) {
        self.done.set(self.done.get() + 1);
        (self.progress)(self.done.get(), self.all);
    }
}
