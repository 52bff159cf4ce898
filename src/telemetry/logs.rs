//! Logs to stderr, as text or JSON. With the feature `otlp`, spans go to a collector.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Started(#[from] TryInitError),
    #[error(transparent)]
    Gone(#[from] reload::Error),
    #[cfg(feature = "otlp")]
    #[error("traces to {endpoint}: {error}")]
    Endpoint { endpoint: String, error: opentelemetry_otlp::ExporterBuildError },
}

#[derive(Clone, Debug)]
pub struct LogSettings {
    /// JSON lines instead of text, which is coloured on a terminal.
    pub json: bool,
    pub filter: Targets,
    /// URL of a collector that gets spans: OTLP over HTTP, in protobuf.
    #[cfg(feature = "otlp")]
    pub otlp_endpoint: Option<String>,
}

/// Handle of the running log. Dropping it sends the remaining spans; logging continues.
#[derive(Debug)]
pub struct Logs {
    filter: reload::Handle<Targets, Registry>,
    #[cfg(feature = "otlp")]
    spans: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Logs {
    /// Replaces the filter.
    pub fn set_filter(&self, filter: Targets) -> Result<(), LogError> {
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

/// Starts logging to stderr. Must not be called from async code.
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

/// Sends spans in batches from a separate thread, and drops spans if it cannot keep up.
#[cfg(feature = "otlp")]
fn collector(endpoint: &str) -> Result<opentelemetry_sdk::trace::SdkTracerProvider, LogError> {
    use opentelemetry_otlp::WithExportConfig;
    // The HTTP client needs a TLS provider. This fails if there is one already, which is then used.
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
        logs.set_filter(Targets::new().with_target("bipedalnet", Level::ERROR)).unwrap();
        assert!(tracing::enabled!(Level::ERROR));
        logs.set_filter(Targets::new()).unwrap();
        assert!(!tracing::enabled!(Level::ERROR));
        assert!(matches!(start_logs(settings), Err(LogError::Started(_))));
    }
}
