//! Spans of requests, sent to a collector of OpenTelemetry by OTLP over gRPC.
//!
//! The library queues up to [`QUEUE`] spans and sends them in batches, on a thread and a runtime of their own. What does not fit is
//! dropped and said in the log: a collector that is slow or dead costs requests nothing.

use std::time::{Duration, UNIX_EPOCH};

use esker_server::{RequestSpan, SpanStatus, Spans, TraceParent};
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
        TraceState, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::{
    SpanExporter, WithExportConfig as _, WithTonicConfig as _, tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan},
};
use tokio::runtime::{Builder, Runtime};

/// Spans that wait to be sent; further ones are dropped.
const QUEUE: usize = 2048;
/// Spans sent at a time.
const BATCH: usize = 512;
/// What waits is sent so often.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long the last ones may take when the server ends.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// Where spans go, and how many.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OtlpSettings {
    /// `http://host:4317` or `https://…`.
    pub(crate) endpoint: String,
    /// Of the requests that belong to no trace, so many in one are recorded.
    pub(crate) sample_ratio: f64,
}

/// Sends spans.
#[derive(Debug)]
pub(crate) struct Otlp {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    /// The exporter's connection lives in it.
    _runtime: Runtime,
}

impl Otlp {
    /// Nothing is connected to before there is something to send. Errors: the settings are wrong, or the system has no threads.
    pub(crate) fn new(settings: &OtlpSettings, node: &str) -> Result<Self, String> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("esker-otlp").enable_all().build();
        let runtime = runtime.map_err(|e| format!("cannot start a thread: {e}"))?;
        let entered = runtime.enter();
        let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(&settings.endpoint);
        if is_encrypted(&settings.endpoint) {
            // The library's own settings trust nobody.
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let exporter = exporter.with_timeout(ANSWER_WITHIN).build();
        let exporter = exporter.map_err(|e| format!("`otlp_endpoint`: {}: {e}", settings.endpoint))?;
        drop(entered);
        let batches =
            BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_max_export_batch_size(BATCH);
        let batches = batches.with_scheduled_delay(SEND_EVERY).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_sampler(sampler(settings.sample_ratio))
            .with_resource(resource(node))
            .build();
        Ok(Self { tracer: provider.tracer("esker"), provider, _runtime: runtime })
    }

    /// Sends what is left.
    pub(crate) fn finish(&self) {
        if let Err(e) = self.provider.shutdown_with_timeout(LAST_WITHIN) {
            tracing::warn!(error = %e, "the last spans could not be sent");
        }
    }
}

fn is_encrypted(endpoint: &str) -> bool {
    endpoint.get(.."https:".len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

/// Whoever sends a traceparent decides; of the others, so many in one.
fn sampler(ratio: f64) -> Sampler {
    Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)))
}

fn resource(node: &str) -> Resource {
    Resource::builder()
        .with_service_name("esker")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
        .build()
}

impl Spans for Otlp {
    fn record(&self, span: &RequestSpan<'_>) {
        let began = UNIX_EPOCH + span.began;
        let builder =
            self.tracer.span_builder(span.operation).with_kind(SpanKind::Server).with_start_time(began);
        let mut ours = self.tracer.build_with_context(builder, &context(span.parent));
        if ours.is_recording() {
            describe(&mut ours, span);
        }
        ours.end_with_timestamp(began + span.took);
    }
}

/// What the span is a part of; nothing, if nobody said.
fn context(parent: Option<TraceParent>) -> Context {
    let Some(parent) = parent else { return Context::new() };
    let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from_bytes(parent.trace_id), SpanId::from_bytes(parent.span_id));
    Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
}

fn describe(ours: &mut SdkSpan, span: &RequestSpan<'_>) {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    ours.set_attribute(KeyValue::new("esker.front", span.front));
    ours.set_attribute(KeyValue::new("esker.connection", number(span.connection)));
    ours.set_attribute(KeyValue::new("esker.request", number(span.request)));
    if span.requests != 1 {
        ours.set_attribute(KeyValue::new("esker.requests", number(span.requests)));
    }
    if let Some(id) = span.request_id {
        ours.set_attribute(KeyValue::new("esker.request_id", id.to_owned()));
    }
    match span.status {
        Some(SpanStatus::Http(status)) => {
            ours.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        Some(SpanStatus::Grpc(code)) => {
            ours.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code)));
        }
        None => {}
    }
    if span.status.is_some_and(SpanStatus::is_failure) {
        ours.set_status(Status::error(""));
    }
}
