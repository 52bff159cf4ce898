//! Reloading settings at SIGHUP.

use std::sync::Arc;

use tokio::signal::unix::Signal;

use super::settings::CommandLine;
use super::{Command, Failure};
use crate::config::{Config, HttpSettings, Live, ServiceSettings, Setting};
use crate::http::Tls;
use crate::telemetry::{Logs, Metrics};

/// The settings of a running server, and the parts that they apply to.
pub(super) struct Reloading {
    /// The settings in effect.
    pub settings: Vec<Setting>,
    pub http: Live<HttpSettings>,
    pub service: Live<ServiceSettings>,
    pub logs: Logs,
    pub tls: Option<Arc<Tls>>,
    pub metrics: Arc<Metrics>,
}

impl Reloading {
    /// Reloads the settings and the certificate at each SIGHUP.
    pub async fn follow(mut self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            let tls = self.tls.clone();
            let read = move || {
                if let Some(tls) = tls {
                    tls.reload();
                }
                CommandLine::read()
            };
            let line = tokio::task::spawn_blocking(read).await.map_err(Failure::from).flatten();
            let applied = line.and_then(|line| self.apply(line));
            self.metrics.note_reloaded_settings(applied.is_ok());
            if let Err(error) = applied {
                tracing::error!(%error, "settings not reloaded");
            }
        }
    }

    fn apply(&mut self, line: CommandLine) -> Result<(), Failure> {
        let Command::Serve(arguments) = line.command else {
            return Err("the command is no longer `serve`".into());
        };
        let Config { http, mut service, log_level, .. } = arguments.config;
        // Deleted recordings cannot be restored, so a mistake in the file must not shorten this.
        let kept_days = self.service.get().keep_recordings_days;
        let is_shorter = service.keep_recordings_days < kept_days;
        service.keep_recordings_days = service.keep_recordings_days.max(kept_days);
        service.erase_inactive_days = self.service.get().erase_inactive_days;
        service.keep_audit_days = self.service.get().keep_audit_days;
        self.logs.set_filter(log_level)?;
        self.http.set(http);
        self.service.set(service);
        let (mut changed, mut ignored) = (Vec::new(), Vec::new());
        for (setting, new) in self.settings.iter_mut().zip(line.settings) {
            if setting.value == new.value {
                continue;
            }
            if Config::is_live(&new.key) && !(is_shorter && new.key == "keep-recordings-days") {
                changed.push(new.key.clone());
                *setting = new;
            } else {
                ignored.push(new.key);
            }
        }
        tracing::info!(changed = changed.join(","), "settings reloaded");
        if !ignored.is_empty() {
            tracing::warn!(
                settings = ignored.join(","),
                "restart the server to change these settings"
            );
        }
        Ok(())
    }
}
