//! Logs to stderr, for people or for machines; with the feature `otlp`, spans to a collector.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Why logs were not started or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There are logs already.
    #[error(transparent)]
    Started(#[from] TryInitError),
    /// The logs are gone.
    #[error(transparent)]
    Gone(#[from] reload::Error),
    /// Spans cannot be sent there.
    #[cfg(feature = "otlp")]
    #[error("traces to {endpoint}: {error}")]
    Endpoint {
        /// Where.
        endpoint: String,
        /// Why not.
        error: opentelemetry_otlp::ExporterBuildError,
    },
}

/// How to log, and what.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Whether lines are JSON objects, or for people, in colour on a terminal.
    pub json: bool,
    /// What is logged.
    pub filter: Targets,
    /// Where spans go too: OTLP in protobuf over HTTP.
    #[cfg(feature = "otlp")]
    pub otlp_endpoint: Option<String>,
}

/// The running logs. Dropped, it sends what is left to be sent; lines are written all the same.
#[derive(Debug)]
pub struct Logs {
    filter: reload::Handle<Targets, Registry>,
    #[cfg(feature = "otlp")]
    spans: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Logs {
    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// When the logs are gone.
    pub fn set(&self, filter: Targets) -> Result<(), LogError> {
        Ok(self.filter.reload(filter)?)
    }
}

#[cfg(feature = "otlp")]
impl Drop for Logs {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.spans.as_ref().map(|spans| spans.shutdown()) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Logs to stderr what passes the filter. Not to be called from async code.
///
/// # Errors
/// When the program logs already, or spans cannot be sent there.
pub fn start_logs(settings: LogSettings) -> Result<Logs, LogError> {
    let (filter, handle) = reload::Layer::new(settings.filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.json {
        true => lines.json().flatten_event(true).with_span_list(false).boxed(),
        false => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let registry = tracing_subscriber::registry().with(filter).with(lines);
    #[cfg(feature = "otlp")]
    let spans = settings.otlp_endpoint.as_deref().map(collector).transpose()?;
    #[cfg(feature = "otlp")]
    let registry = registry.with(spans.as_ref().map(|spans| {
        use opentelemetry::trace::TracerProvider;
        tracing_opentelemetry::layer().with_tracer(spans.tracer("bipedalnet"))
    }));
    registry.try_init()?;
    Ok(Logs {
        filter: handle,
        #[cfg(feature = "otlp")]
        spans,
    })
}

/// Sends spans in batches, from a thread of its own; where it cannot keep up, it drops them.
#[cfg(feature = "otlp")]
fn collector(endpoint: &str) -> Result<opentelemetry_sdk::trace::SdkTracerProvider, LogError> {
    use opentelemetry_otlp::WithExportConfig;
    // The HTTP client wants a provider of TLS; where there is one already, it serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| LogError::Endpoint { endpoint: endpoint.to_owned(), error })?;
    let resource = opentelemetry_sdk::Resource::builder().with_service_name("bipedalnet").build();
    Ok(opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_filter_is_exchanged_while_the_program_runs() {
        let settings = LogSettings {
            json: false,
            filter: Targets::new(),
            #[cfg(feature = "otlp")]
            otlp_endpoint: None,
        };
        let logs = start_logs(settings.clone()).unwrap();
        assert!(!tracing::enabled!(Level::ERROR));
        logs.set(Targets::new().with_target("bipedalnet", Level::ERROR)).unwrap();
        assert!(tracing::enabled!(Level::ERROR));
        logs.set(Targets::new()).unwrap();
        assert!(!tracing::enabled!(Level::ERROR));
        assert!(matches!(start_logs(settings), Err(LogError::Started(_))));
    }
}
