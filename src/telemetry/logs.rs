//! Logs to stderr, for people or for machines; with the feature `otlp`, spans to a collector.

use std::io::IsTerminal;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    Human,
    /// A JSON object a line.
    Json,
}

/// Why logs were not started or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter makes no sense.
    #[error(
        "log level {filter:?}: {error}; give error, warn, info, debug or trace, also for parts, as \
         in info,bipedalnet::access=debug"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        error: ParseError,
    },
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
#[derive(Clone, Copy, Debug)]
pub struct LogSettings<'a> {
    /// How lines are written.
    pub format: LogFormat,
    /// A level, or levels of parts of the program, separated by commas.
    pub filter: &'a str,
    /// Where spans go too: OTLP in protobuf over HTTP.
    #[cfg(feature = "otlp")]
    pub otlp_endpoint: Option<&'a str>,
}

/// The running logs. Dropped, it sends what is left to be sent; lines are written all the same.
#[derive(Debug)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    #[cfg(feature = "otlp")]
    spans: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Logs {
    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// When the filter makes no sense: the old one stays then.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        Ok(self.filter.reload(parse(filter)?)?)
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
/// When the filter makes no sense, or the program logs already.
pub fn start_logs(settings: LogSettings) -> Result<Logs, LogError> {
    let (filter, handle) = reload::Layer::new(parse(settings.filter)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let registry = tracing_subscriber::registry().with(filter).with(lines);
    #[cfg(feature = "otlp")]
    let spans = settings.otlp_endpoint.map(collector).transpose()?;
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

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_exchanged_while_the_program_runs() {
        let settings = LogSettings {
            format: LogFormat::Human,
            filter: "off",
            #[cfg(feature = "otlp")]
            otlp_endpoint: None,
        };
        let logs = start_logs(settings).unwrap();
        assert!(!tracing::enabled!(tracing::Level::ERROR));
        logs.set("bipedalnet=error").unwrap();
        assert!(tracing::enabled!(tracing::Level::ERROR));
        assert!(logs.set("bipedalnet=loud").is_err());
        assert!(tracing::enabled!(tracing::Level::ERROR));
        logs.set("off").unwrap();
        assert!(!tracing::enabled!(tracing::Level::ERROR));
        assert!(matches!(start_logs(settings), Err(LogError::Started(_))));
    }

    #[test]
    fn a_filter_is_a_level_or_levels_of_parts() {
        for good in ["info", "warn,bipedalnet::access=debug", "off", "bipedalnet=trace"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["bipedalnet=loud", "info,=,"] {
            assert!(matches!(parse(bad), Err(LogError::Filter { .. })), "{bad}");
        }
    }
}
