//! TLS with a certificate that is exchanged while the server runs.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | [`Tls`]: the certificate in use; reads the files again |
//! | `files.rs` | reads certificate and key |
//! | `certificate.rs` | what a certificate says |

mod certificate;
mod files;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certificate::Certificate;
pub use files::{TlsError, TlsFiles};
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;

use crate::config::Live;
use crate::telemetry::TlsMetrics;

/// How often the server looks for a new certificate.
const LOOK: Duration = Duration::from_secs(5);

/// The certificate that new connections get, and the files that it came from. Open connections keep what
/// they began with.
pub struct Tls {
    files: TlsFiles,
    config: Live<rustls::ServerConfig>,
    state: Mutex<State>,
    /// Held while the files are read, so that what was read later is taken later.
    exchanging: Mutex<()>,
    metrics: TlsMetrics,
}

struct State {
    certificate: Certificate,
    /// Why the files cannot be used now, as reported.
    failure: Option<String>,
}

impl Tls {
    /// Reads the files. A certificate that is not valid now is used all the same.
    ///
    /// # Errors
    /// If a file cannot be used, or the key belongs to another certificate.
    pub fn start(files: TlsFiles, metrics: TlsMetrics) -> Result<Self, TlsError> {
        let (config, certificate) = files.read()?;
        let tls = Self {
            files,
            config: Live::new(config),
            state: Mutex::new(State { certificate: certificate.clone(), failure: None }),
            exchanging: Mutex::default(),
            metrics,
        };
        tracing::info!(
            names = certificate.names.join(","),
            serial = certificate.serial,
            not_after = %certificate.not_after,
            "certificate read"
        );
        tls.note_in_use(&certificate);
        tls.metrics.note_reload(true);
        Ok(tls)
    }

    /// For one new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.get())
    }

    /// Reads the files again, and logs the result. If they cannot be used, the old certificate stays.
    pub fn reload(&self) {
        match self.exchange() {
            Ok(true) => {}
            Ok(false) => {
                let Certificate { names, not_after, .. } = &self.state().certificate;
                tracing::info!(names = names.join(","), %not_after, "certificate unchanged");
            }
            Err(error) => self.note_failure(error.to_string()),
        }
    }

    /// Looks for a new certificate from time to time, so that a renewal needs no signal. Never returns.
    pub async fn follow_files(self: Arc<Self>) {
        let mut timer = tokio::time::interval(LOOK);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            timer.tick().await;
            let tls = Arc::clone(&self);
            // A panic is logged where it happens.
            let Ok(result) = tokio::task::spawn_blocking(move || tls.exchange()).await else {
                continue;
            };
            let failure = result.err().map(|error| error.to_string());
            // The first time, the files may be half replaced.
            let is_new = failure != self.state().failure;
            if let Some(failure) = &failure
                && is_new
                && last.as_ref() == Some(failure)
            {
                self.note_failure(failure.clone());
            }
            last = failure;
        }
    }

    /// Takes what is in the files. Returns whether it is another certificate.
    fn exchange(&self) -> Result<bool, TlsError> {
        let _turn = self.exchanging.lock().unwrap_or_else(PoisonError::into_inner);
        let (config, new) = self.files.read()?;
        let mut state = self.state();
        let is_new = state.certificate != new;
        if is_new {
            if state.certificate.own_is_valid() && !new.own_is_valid() {
                let Certificate { not_before, not_after, .. } = new;
                let path = self.files.certificate.clone();
                return Err(TlsError::NotValidNow { path, not_before, not_after });
            }
            self.config.set(config);
            tracing::info!(
                names = new.names.join(","),
                serial = new.serial,
                not_after = %new.not_after,
                replaced_names = state.certificate.names.join(","),
                replaced_serial = state.certificate.serial,
                replaced_not_after = %state.certificate.not_after,
                "certificate exchanged"
            );
            self.note_in_use(&new);
            state.certificate = new;
        }
        if is_new || state.failure.take().is_some() {
            self.metrics.note_reload(true);
        }
        state.failure = None;
        Ok(is_new)
    }

    fn note_in_use(&self, certificate: &Certificate) {
        self.metrics.not_after.set(certificate.not_after.timestamp());
        if !certificate.is_valid() {
            tracing::warn!(
                file = %self.files.certificate.display(),
                not_before = %certificate.not_before,
                not_after = %certificate.not_after,
                "the certificate is not valid now, so clients refuse it; renew it, or set the clock"
            );
        }
    }

    fn note_failure(&self, failure: String) {
        let mut state = self.state();
        tracing::error!(
            error = failure,
            kept_serial = state.certificate.serial,
            kept_not_after = %state.certificate.not_after,
            "certificate not reloaded; the old one stays"
        );
        self.metrics.note_reload(false);
        state.failure = Some(failure);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
