//! Traces: a span for each request and for each of its stages, sent to a collector (OTLP).

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span as _, TraceContextExt, Tracer, TracerProvider};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// What makes spans, if there is a collector. A process has one, like its log.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Sends spans in batches from a separate thread, and drops spans if it cannot keep up.
pub(super) fn start(endpoint: &str) -> Result<(SdkTracerProvider, SdkTracer), ExporterBuildError> {
    // The HTTP client needs a TLS provider. This fails if there is one already, which is then used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("bipedalnet").build())
        .build();
    let tracer = TRACER.get_or_init(|| provider.tracer("bipedalnet")).clone();
    Ok((provider, tracer))
}

/// Makes a request's span part of the trace that its client began, if the request says so
/// (`traceparent`, [W3C Trace Context](https://www.w3.org/TR/trace-context/)). Returns the trace's id.
pub fn continue_trace(span: &Span, headers: &HeaderMap) -> Option<String> {
    TRACER.get()?;
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // Fails only if the span has begun, and it has not.
    let _ = span.set_parent(parent);
    let id = span.context().span().span_context().trace_id();
    Some(id.to_string())
}

/// Adds a stage to the span of the current request.
pub(super) fn add_stage(name: &'static str, begin: Instant, taken: Duration) {
    let Some(tracer) = TRACER.get() else { return };
    let request = Span::current().context();
    if !request.span().span_context().is_sampled() {
        return;
    }
    let begin = SystemTime::now() - begin.elapsed();
    let stage = tracer.span_builder(name).with_start_time(begin);
    stage.start_with_context(tracer, &request).end_with_timestamp(begin + taken);
}
