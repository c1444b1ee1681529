//! Traces over OTLP/HTTP, if the settings name a collector. A trace that a client began (W3C Trace Context) is continued.

use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Request, Response, StatusCode};
use keyward_model::id::RequestId;
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Status, TraceContextExt as _, TracerProvider as _};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::config::TelemetryConfig;
use crate::meter::Route;

const NAME: &str = "keyward";
/// How long the collector may take for one batch, and at the end for what is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Not a URL.
    #[error("[telemetry] otlp_endpoint: {0}")]
    Endpoint(#[from] ExporterBuildError),
    /// No HTTP client.
    #[error("the client of the trace collector cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// Sends finished spans in batches, from a bounded queue: what does not fit is dropped, nothing waits.
pub(super) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Ready to send to where the settings say; `None` if they say nothing.
    pub(super) fn start(config: &TelemetryConfig) -> Result<Option<Self>, TraceError> {
        if config.otlp_endpoint.is_empty() {
            return Ok(None);
        }
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build()?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client { http, runtime: Handle::current() })
            .with_endpoint(traces_url(&config.otlp_endpoint))
            .with_timeout(PATIENCE)
            .build()?;
        let resource = Resource::builder()
            .with_service_name(NAME)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Some(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())))
    }

    /// What makes the program's spans into those that are sent.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> OpenTelemetryLayer<S, Tracer> {
        // Names and lines of source files, threads and times between polls are of no use to an operator.
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(NAME))
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_target(false)
            .with_threads(false)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// The specification of the OTLP exporter: the base URL is followed by the path of the signal.
fn traces_url(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with("/v1/traces") { endpoint.to_owned() } else { format!("{endpoint}/v1/traces") }
}

/// The exporter lives on a thread of its own, the HTTP client on the runtime.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (http, request) = (self.http.clone(), reqwest::Request::try_from(request)?);
        let exchange = async move {
            let answer = http.execute(request).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.clone_from(answer.headers());
            }
            Ok(response.body(answer.bytes().await?)?)
        };
        self.runtime.spawn(exchange).await?
    }
}

/// The span of one request; without a collector it is none.
pub(crate) struct RequestSpan(Span);

impl RequestSpan {
    /// Begins it.
    pub(crate) fn begin<B>(request: &Request<B>, route: Route, id: RequestId) -> Self {
        // Probes ask every few seconds, and nobody asks about them.
        if route == Route::Health {
            return Self(Span::none());
        }
        // The names are those of OpenTelemetry's semantic conventions. Neither path nor query: a secret may be in them.
        let span = tracing::info_span!(
            "request",
            otel.kind = "server",
            http.request.method = request.method().as_str(),
            keyward.request = %id,
        );
        if !span.is_disabled() {
            let caller = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
            // Fails only if the span has begun already, or is none.
            let _ = span.set_parent(caller);
        }
        Self(span)
    }

    /// To be entered by whatever works on the request.
    pub(crate) fn span(&self) -> Span {
        self.0.clone()
    }

    /// Notes the answer. `template` is the path with names in place of what differs between requests.
    pub(crate) fn answered(&self, method: &Method, template: Option<&str>, status: StatusCode) {
        if self.0.is_disabled() {
            return;
        }
        let context = self.0.context();
        let span = context.span();
        if let Some(template) = template {
            span.update_name(format!("{method} {template}"));
            span.set_attribute(KeyValue::new("http.route", template.to_owned()));
        }
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
    }
}
