//! Logs to stderr, as text or JSON, and spans to a collector.

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::traces;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Started(#[from] TryInitError),
    #[error(transparent)]
    Gone(#[from] reload::Error),
    #[error("traces to {endpoint}: {error}")]
    Endpoint { endpoint: String, error: opentelemetry_otlp::ExporterBuildError },
}

#[derive(Clone, Debug)]
pub struct LogSettings {
    /// JSON lines instead of text, which is coloured on a terminal.
    pub json: bool,
    pub filter: Targets,
    /// URL of a collector that gets spans: OTLP over HTTP, in protobuf.
    pub otlp_endpoint: Option<String>,
}

/// Handle of the running log. Dropping it sends the remaining spans; logging continues.
#[derive(Debug)]
pub struct Logs {
    filter: reload::Handle<Targets, Registry>,
    spans: Option<SdkTracerProvider>,
}

impl Logs {
    /// Replaces the filter.
    pub fn set_filter(&self, filter: Targets) -> Result<(), LogError> {
        Ok(self.filter.reload(filter)?)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.spans.as_ref().map(|spans| spans.shutdown()) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Starts logging to stderr. Must not be called from async code.
pub fn start_logs(settings: LogSettings) -> Result<Logs, LogError> {
    let (filter, handle) = reload::Layer::new(settings.filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.json {
        true => lines.json().flatten_event(true).with_span_list(false).boxed(),
        false => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter));
    let Some(endpoint) = settings.otlp_endpoint else {
        registry.try_init()?;
        return Ok(Logs { filter: handle, spans: None });
    };
    let (provider, tracer) =
        traces::start(&endpoint).map_err(|error| LogError::Endpoint { endpoint, error })?;
    // A log that is quiet must not silence the traces.
    let of_ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), Level::INFO);
    let spans = tracing_opentelemetry::layer().with_tracer(tracer).with_filter(of_ours);
    registry.with(spans).try_init()?;
    Ok(Logs { filter: handle, spans: Some(provider) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_exchanged_while_the_program_runs() {
        let settings = LogSettings { json: false, filter: Targets::new(), otlp_endpoint: None };
        let logs = start_logs(settings.clone()).unwrap();
        assert!(!tracing::enabled!(Level::ERROR));
        logs.set_filter(Targets::new().with_target("bipedalnet", Level::ERROR)).unwrap();
        assert!(tracing::enabled!(Level::ERROR));
        logs.set_filter(Targets::new()).unwrap();
        assert!(!tracing::enabled!(Level::ERROR));
        assert!(matches!(start_logs(settings), Err(LogError::Started(_))));
    }
}
