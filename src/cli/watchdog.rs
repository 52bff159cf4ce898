//! The watchdog of systemd, which restarts a server that hangs.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use super::serve::notify_systemd;
use crate::service::Service;

/// Tells systemd that the server works, as long as it does, if systemd asked for that (`WatchdogSec`).
/// Never returns.
pub(super) async fn reassure(service: Arc<Service>) {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return };
    let prove = move || {
        let service = Arc::clone(&service);
        async move { service.prove_that_it_works().await }
    };
    // A delay of half the timeout does no harm.
    tell_while(timeout / 4, prove, || notify_systemd(NotifyState::Watchdog)).await;
}

/// Calls `tell` at this interval, each time after a proof. A proof that never ends ends the calls.
async fn tell_while<P: Future<Output = ()>>(
    interval: Duration,
    prove: impl Fn() -> P,
    tell: impl Fn(),
) {
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        prove().await;
        tell();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    #[tokio::test]
    async fn a_proof_that_does_not_end_is_told_nobody() {
        let (proofs, begun) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(0)));
        let (told, mut heard) = mpsc::unbounded_channel();
        let task = {
            let (proofs, begun) = (Arc::clone(&proofs), Arc::clone(&begun));
            let prove = move || {
                begun.add_permits(1);
                let proofs = Arc::clone(&proofs);
                async move { proofs.acquire().await.unwrap().forget() }
            };
            tokio::spawn(async move {
                tell_while(Duration::from_millis(1), prove, || told.send(()).unwrap()).await;
            })
        };
        // The third proof has begun, and does not end.
        begun.acquire_many(3).await.unwrap().forget();
        assert_eq!((heard.recv().await, heard.recv().await), (Some(()), Some(())));
        assert!(heard.try_recv().is_err());
        proofs.add_permits(1);
        assert_eq!(heard.recv().await, Some(()));
        task.abort();
    }
}
