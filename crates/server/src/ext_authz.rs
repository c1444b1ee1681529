//! Envoy's external authorization over gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! 1. Envoy describes a request; what the route asks for stands in its `context_extensions`
//! 2. `gateway.rs` answers as it answers every gateway
//! 3. Told headers replace those that came in; the others that Keyward may tell are removed

mod messages;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use tonic::Status;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use crate::app::App;
use crate::gateway::{Knock, NAMES, answer, misconfigured};
use crate::request::Arrival;
use messages::{
    APPEND, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValueOption, HttpRequest, HttpResponse, HttpStatus,
    OVERWRITE, OkHttpResponse, Verdict,
};

/// The path of the one method.
pub(crate) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The largest description of a request, in bytes: its head several times over, and no body.
const MAX_MESSAGE: usize = 128 * 1024;
/// The most headers of one request; Envoy takes 100 unless it is set otherwise.
const MAX_HEADERS: usize = 256;
/// `UNAUTHENTICATED` and `PERMISSION_DENIED` of google.rpc.Code.
const UNAUTHENTICATED: i32 = 16;
const PERMISSION_DENIED: i32 = 7;

/// `POST /envoy.service.auth.v3.Authorization/Check`
pub(crate) async fn check(State(app): State<Arc<App>>, request: Request) -> Response {
    let patience = app.body_timeout;
    let check = Check { app, arrival: request.extensions().get::<Arrival>().copied() };
    let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_MESSAGE);
    match timeout(patience, grpc.unary(check, request)).await {
        Ok(answer) => answer.map(Body::new),
        Err(_) => Status::deadline_exceeded("the message took too long to arrive").into_http(),
    }
}

/// One question.
struct Check {
    app: Arc<App>,
    arrival: Option<Arrival>,
}

impl UnaryService<CheckRequest> for Check {
    type Response = CheckResponse;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<CheckResponse>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let (app, arrival) = (Arc::clone(&self.app), self.arrival);
        Box::pin(async move { respond(decide(&app, arrival, request.into_inner()).await).await })
    }
}

async fn decide(app: &Arc<App>, arrival: Option<Arrival>, request: CheckRequest) -> Response {
    let attributes = request.attributes.unwrap_or_default();
    let Some(http) = attributes.request.and_then(|request| request.http) else {
        return misconfigured("Envoy describes no HTTP request");
    };
    let Some(headers) = headers(&http) else {
        return misconfigured("Envoy describes a request with a header that is none, or with more than 256");
    };
    // Envoy speaks for its clients as far as any proxy does.
    let source = attributes.source.and_then(|peer| peer.address?.socket_address?.address.parse::<IpAddr>().ok());
    let address = match (arrival, source) {
        (Some(arrival), Some(source)) if arrival.is_spoken_for => Some(source),
        (arrival, _) => arrival.map(|arrival| arrival.address),
    };
    let knock = Knock { headers: &headers, target: Some(http.path.as_bytes()), address, now: app.clock.now() };
    let parameters = attributes.context_extensions.iter();
    answer(app, parameters.map(|(name, value)| (name.as_str(), value.as_str())), &knock).await
}

/// The headers, each as often as it came if Envoy says so, else those of one name joined by commas. Envoy's own, with a
/// colon in front, are left out.
fn headers(http: &HttpRequest) -> Option<HeaderMap> {
    let pairs: Vec<(&str, &[u8])> = match &http.header_map {
        Some(map) => map.headers.iter().map(|header| (header.key.as_str(), header.bytes())).collect(),
        None => http.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
    };
    if pairs.len() > MAX_HEADERS {
        return None;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.into_iter().filter(|(name, _)| !name.starts_with(':')) {
        headers.append(HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some(headers)
}

async fn respond(answer: Response) -> Result<tonic::Response<CheckResponse>, Status> {
    let (head, body) = answer.into_parts();
    let response = if head.status == StatusCode::OK { let_in(&head.headers) } else { turn_away(&head, body).await? };
    Ok(tonic::Response::new(response))
}

fn let_in(told: &HeaderMap) -> CheckResponse {
    let mut response = OkHttpResponse::default();
    for name in &NAMES {
        match told.get(name).filter(|value| !value.is_empty()) {
            Some(value) => response.headers.push(header(name, value, OVERWRITE)),
            None => response.headers_to_remove.push(name.to_string()),
        }
    }
    CheckResponse { status: Some(Verdict { code: 0 }), http_response: Some(HttpResponse::Ok(response)) }
}

async fn turn_away(head: &http::response::Parts, body: Body) -> Result<CheckResponse, Status> {
    let body = body.collect().await.map_err(|_| Status::internal("the answer could not be read"))?.to_bytes();
    let mut headers: Vec<HeaderValueOption> = Vec::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        let again = headers.iter().any(|known| known.is(name));
        headers.push(header(name, value, if again { APPEND } else { OVERWRITE }));
    }
    let code = if head.status == StatusCode::UNAUTHORIZED { UNAUTHENTICATED } else { PERMISSION_DENIED };
    let response = DeniedHttpResponse {
        status: Some(HttpStatus { code: head.status.as_u16().into() }),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    Ok(CheckResponse { status: Some(Verdict { code }), http_response: Some(HttpResponse::Denied(response)) })
}

fn header(name: &HeaderName, value: &HeaderValue, append_action: i32) -> HeaderValueOption {
    let value = value.to_str().unwrap_or_default().to_owned();
    HeaderValueOption {
        header: Some(messages::Header { key: name.to_string(), value, raw_value: Vec::new() }),
        append_action,
    }
}
