//! The description of the OAuth endpoints. Their handlers read forms by hand, to answer each fault precisely, so what
//! they take and give is described here, beside the REST API that describes itself.
#![expect(dead_code, reason = "these items exist for what is derived from them")]

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{OpenApi, ToSchema};

/// Adds the endpoints to the description of the REST API.
pub(super) fn describe(document: &mut utoipa::openapi::OpenApi) {
    let mut endpoints = Endpoints::openapi();
    let components = endpoints.components.get_or_insert_with(Default::default);
    let mut basic = HttpBuilder::new().scheme(HttpAuthScheme::Basic).build();
    basic.description = Some("`client_id` and key, each form-encoded (RFC 6749 §2.3.1)".to_owned());
    components.add_security_scheme("client", SecurityScheme::Http(basic));
    document.merge(endpoints);
}

#[derive(OpenApi)]
#[openapi(paths(
    authorize,
    token,
    introspect,
    revoke,
    jwks,
    status_list,
    revocations,
    report,
    forward_auth,
    oauth_authorization_server,
    openid_configuration
))]
struct Endpoints;

/// A token request (RFC 6749 §4.1.3, §4.4.2, §6).
#[derive(ToSchema)]
struct TokenRequest {
    /// `client_credentials`, `authorization_code` or `refresh_token`.
    grant_type: String,
    /// Of `authorization_code`: the code, from the redirect URI.
    code: Option<String>,
    /// Of `authorization_code`: the redirect URI that the code was asked for with.
    redirect_uri: Option<String>,
    /// Of `authorization_code`: what the challenge was made of (RFC 7636 §4.5).
    code_verifier: Option<String>,
    /// Of `refresh_token`: the newest one of the session.
    refresh_token: Option<String>,
    /// Space-separated scopes; all that may be granted if absent.
    scope: Option<String>,
    /// Space-separated resource paths; all that may be granted if absent.
    res: Option<String>,
    /// The audience of the API the token is for (RFC 8707); may be repeated. Needed unless the client has one API only.
    resource: Option<Vec<String>>,
    /// What the caller calls itself in the report of callers; the header `Keyward-Instance` says the same.
    instance: Option<String>,
    /// The `client_…` id, if not sent by HTTP Basic.
    client_id: Option<String>,
    /// The API key, if not sent by HTTP Basic.
    client_secret: Option<String>,
}

/// A token (RFC 6749 §5.1).
#[derive(ToSchema)]
struct TokenResponse {
    /// A JWT (RFC 9068), signed by a key of `/jwks`.
    access_token: String,
    /// `Bearer`.
    token_type: String,
    /// Seconds until it ends.
    expires_in: i64,
    /// What was granted, with all it implies.
    scope: String,
    /// Of a device session: with what its next tokens are got. Each works once.
    refresh_token: Option<String>,
}

/// A token, with a warning if the key ends soon.
#[derive(ToSchema)]
struct TokenAnswer {
    #[serde(flatten)]
    token: TokenResponse,
    #[serde(flatten)]
    warning: EndingKey,
}

/// What stands in a token response only while the key is retiring or its expiry is near.
#[derive(ToSchema)]
struct EndingKey {
    /// `retiring`: it was replaced. `expiring`: it ends by itself.
    key_state: Option<String>,
    /// When it ends, in Unix seconds.
    key_expires_at: Option<i64>,
    /// What ends when, what to do, and whom to ask.
    key_notice: Option<String>,
}

/// A refusal, with what is known of a key that has ended.
#[derive(ToSchema)]
struct TokenRefusal {
    #[serde(flatten)]
    error: OAuthError,
    #[serde(flatten)]
    key: EndedKey,
}

/// What stands in a refusal only if the secret is right and the key has ended.
#[derive(ToSchema)]
struct EndedKey {
    /// `expired` or `revoked`.
    key_state: Option<String>,
    /// When it ended, in Unix seconds.
    key_ended_at: Option<i64>,
    /// What ended when, what to do, and whom to ask.
    key_notice: Option<String>,
}

/// A refusal (RFC 6749 §5.2).
#[derive(ToSchema)]
struct OAuthError {
    /// Such as `invalid_client`, `invalid_scope` or `invalid_target`.
    error: String,
    /// What happened this time.
    error_description: String,
}

/// A token to look at or to end, by a client that authenticates as at `/token`.
#[derive(ToSchema)]
struct TokenForm {
    /// The access or refresh token.
    token: String,
    /// Allowed and ignored: a token says what it is.
    token_type_hint: Option<String>,
    /// What the caller calls itself in the report of callers; the header `Keyward-Instance` says the same.
    instance: Option<String>,
    /// The `client_…` id, if not sent by HTTP Basic.
    client_id: Option<String>,
    /// The API key, if not sent by HTTP Basic.
    client_secret: Option<String>,
}

/// What is known of a token (RFC 7662 §2.2); of an inactive one only that.
#[derive(ToSchema)]
struct Introspection {
    /// Whether it counts now.
    active: bool,
    /// `Bearer`.
    token_type: Option<String>,
    /// Who issued it.
    iss: Option<String>,
    /// As whom it acts: the owner of the client, or the client itself.
    sub: Option<String>,
    /// The audiences it is for: one as a string, several as a list.
    aud: Option<serde_json::Value>,
    /// The client it was issued to.
    client_id: Option<String>,
    /// Space-separated scopes, with all they imply.
    scope: Option<String>,
    /// The resource paths it may touch.
    res: Option<Vec<String>>,
    /// The credential it was got with.
    cred: Option<String>,
    /// The device session of an identity token.
    sid: Option<String>,
    /// When the user of an identity token proved who they are, in Unix seconds.
    auth_time: Option<i64>,
    /// `{"sub": client_id}` whenever `sub` is the owner (RFC 8693 §4.1).
    #[schema(value_type = Option<Object>)]
    act: Option<()>,
    /// The token's own id.
    jti: Option<String>,
    /// When it was issued, in Unix seconds.
    iat: Option<i64>,
    /// When it ends, in Unix seconds.
    exp: Option<i64>,
}

/// Public keys (RFC 7517 §5).
#[derive(ToSchema)]
struct KeySet {
    /// The keys as JWKs; the `kid` of a token names one of them.
    #[schema(value_type = Vec<Object>)]
    keys: (),
}

/// Ask somebody to let a client in (RFC 6749 §4.1.1)
///
/// A page for people. It leads back to the redirect URI, with `code` or `error`, `state` and `iss` (RFC 9207).
#[utoipa::path(get, path = "/authorize", tag = "oauth", security(()),
    params(("response_type" = String, Query, description = "`code`"),
        ("client_id" = String, Query), ("redirect_uri" = String, Query, description = "One of the client's own"),
        ("code_challenge" = String, Query, description = "RFC 7636 §4.2"),
        ("code_challenge_method" = String, Query, description = "`S256`"),
        ("state" = Option<String>, Query, description = "Comes back as it is"),
        ("scope" = Option<String>, Query), ("res" = Option<String>, Query),
        ("prompt" = Option<String>, Query), ("max_age" = Option<u32>, Query)),
    responses((status = 200, content_type = "text/html"), (status = 303), (status = "4XX", content_type = "text/html")))]
fn authorize() {}

/// Get an access token
///
/// A public client names itself by `client_id`. Any other authenticates by HTTP Basic or in the body, never both. Asking for more than may be granted is an error.
#[utoipa::path(post, path = "/token", tag = "oauth", security(("client" = [])),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = TokenAnswer,
            headers(("Keyward-Key-Expires" = Option<String>, description = "When the key ends, if that is near (RFC 9110 §5.6.7)"))),
        (status = "4XX", body = TokenRefusal)))]
fn token() {}

/// Ask whether a token counts now (RFC 7662)
///
/// The answer considers what happened since the token was issued. The token's own client is answered, and the client of
/// an API the token is for.
#[utoipa::path(post, path = "/introspect", tag = "oauth", security(("client" = [])),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = Introspection), (status = "4XX", body = OAuthError)))]
fn introspect() {}

/// End a token before its time (RFC 7009)
///
/// A refresh token takes its session along, with all its tokens.
#[utoipa::path(post, path = "/revoke", tag = "oauth", security(("client" = [])),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200), (status = "4XX", body = OAuthError)))]
fn revoke() {}

/// Get the public signing keys (RFC 7517)
#[utoipa::path(get, path = "/jwks", tag = "oauth", security(()),
    params(("applied" = Option<i64>, Query, description = "An `id` of the feed: answer when the keys are true up to there")),
    responses((status = 200, body = KeySet), (status = "4XX", body = OAuthError), (status = 503, body = OAuthError)))]
fn jwks() {}

/// Get the status list: which tokens ended before their time
///
/// A signed JWT of the IETF Token Status List, one bit for each credential and device session. Whoever verifies tokens
/// without asking `/introspect` learns here what has ended, by the `status` claim of the token. The claim holds the whole
/// URL. Single tokens that were revoked stand beside the bits, in the member `revoked_tokens`.
#[utoipa::path(get, path = "/status-lists/{id}", tag = "oauth", security(()),
    params(("id" = String, Path, description = "As in the `status` claim"),
        ("applied" = Option<i64>, Query, description = "An `id` of the feed: answer when the list is true up to there")),
    responses((status = 200, body = String, content_type = "application/statuslist+jwt")))]
fn status_list() {}

/// Follow what ends: the revocation feed
///
/// What changes in the status list, within a second: as Server-Sent Events, or by long polling with
/// `Accept: application/json`. Every event has as its `id` the place in the event log up to which everything is known
/// with it: a stream goes on from `Last-Event-ID`, a poll from `after`, both with `log` as it came with the place. All data
/// have this `log`, and `now`, the server's time in Unix milliseconds. `reset`: fetch keys and list anew, with
/// `?applied=` and this `id`. `places`: tokens that name these places of the list do not count (`ended`), or count
/// (`restored`). `tokens`: single tokens, with `exp`, until when they must be remembered. `keys`: fetch the key set
/// anew. `alive`: each second in which nothing happened.
#[utoipa::path(get, path = "/revocations", tag = "oauth", security(()),
    params(("after" = Option<i64>, Query, description = "Polling: the `last` of the answer before"),
        ("log" = Option<String>, Query, description = "The `log` that came with the place: whether it is still the same"),
        ("wait" = Option<u64>, Query, description = "Polling: seconds to wait for something, 0 to 30, 20 if absent"),
        ("Last-Event-ID" = Option<i64>, Header, description = "Stream: the `id` of the last event that was read")),
    responses((status = 200, content((String = "text/event-stream"), (FeedPart = "application/json"))),
        (status = "4XX", body = OAuthError), (status = 503, body = OAuthError)))]
fn revocations() {}

/// A part of the revocation feed.
#[derive(ToSchema)]
struct FeedPart {
    /// The place in the event log up to which everything is known now.
    last: i64,
    /// Of which log that place is.
    log: Option<String>,
    /// The server's time in Unix milliseconds.
    now: i64,
    /// What happened; empty if nothing did while the poll waited.
    events: Vec<FeedEvent>,
}

/// One event of the feed.
#[derive(ToSchema)]
struct FeedEvent {
    /// The place in the event log up to which everything is known with it.
    id: i64,
    /// `reset`, `places`, `tokens` or `keys`.
    event: String,
    /// Its particulars, with `log` and `now`.
    data: serde_json::Value,
}

/// Ask whether a request may go on to its API
///
/// For gateways: nginx `auth_request`, Caddy `forward_auth`, Traefik ForwardAuth. The headers are those of the request, the
/// parameters say what this route of the gateway needs. Any method is taken. 200 lets in, and its `Keyward-` headers
/// say who calls; those that have nothing to say are empty.
#[utoipa::path(get, path = "/forward-auth", tag = "oauth", security(()),
    params(("audience" = String, Query, description = "The API"),
        ("scope" = Option<String>, Query, description = "All of these scopes are needed; may be repeated"),
        ("res" = Option<String>, Query, description = "All of these resources are needed; may be repeated"),
        ("res_after" = Option<String>, Query, description = "The resource is what follows this prefix in the path"),
        ("ambiguous_paths" = Option<String>, Query,
            description = "`allow` lets paths through that servers read in different ways; else they are refused"),
        ("Authorization" = Option<String>, Header, description = "`Bearer` and the client token"),
        ("Identity-Token" = Option<String>, Header, description = "The token of the user who is present"),
        ("X-Forwarded-Uri" = Option<String>, Header,
            description = "The path and query as they came from the network; needed for `res_after`")),
    responses(
        (status = 200, headers(
            ("Keyward-Client" = String, description = "The application"),
            ("Keyward-Subject" = String, description = "The `sub` of the client token"),
            ("Keyward-User" = String, description = "The user who is present"),
            ("Keyward-User-Issuer" = String, description = "Who vouches for them, if it is not Keyward"),
            ("Keyward-Modified-By" = String, description = "On whose behalf"),
            ("Keyward-Scope" = String, description = "Space-separated scopes"),
            ("Keyward-Res" = String, description = "Space-separated resources"),
            ("Keyward-Credential" = Option<String>, description = "The key behind it"),
            ("Keyward-Session" = String, description = "The device session of the user"),
            ("Keyward-Key-Expires" = String, description = "When the key that was sent ends, if that is near"))),
        (status = "4XX", body = GatewayRefusal), (status = "5XX", body = GatewayRefusal)))]
fn forward_auth() {}

/// Why a request may not go on.
#[derive(ToSchema)]
struct GatewayRefusal {
    /// `invalid_request`, `invalid_token` or `insufficient_scope` (RFC 6750 §3.1), `invalid_client`, `server_error`; absent where
    /// no token was sent.
    error: Option<String>,
    /// What happened this time.
    error_description: String,
}

/// Get the server's metadata (RFC 8414)
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", tag = "oauth", security(()),
    responses((status = 200, body = Object)))]
fn oauth_authorization_server() {}

/// The same metadata, where OpenID Connect clients look for it
#[utoipa::path(get, path = "/.well-known/openid-configuration", tag = "oauth", security(()),
    responses((status = 200, body = Object)))]
fn openid_configuration() {}

/// Report a leaked key
///
/// Nobody needs to authenticate: the whole key proves that there is something to report. The answer is the same whatever
/// the key is. A key that works ends as the setting `[leaks] on_report` says.
#[utoipa::path(post, path = "/leaks", tag = "leaks", security(()),
    request_body(content((LeakReport = "application/json"), (LeakReport = "application/x-www-form-urlencoded"))),
    responses((status = 202, body = LeakReceived), (status = "4XX", body = crate::respond::ProblemDetails)))]
fn report() {}

/// A key, and where it was found.
#[derive(ToSchema)]
struct LeakReport {
    /// The whole key, `kw_…`.
    key: String,
    /// Where it was found: a URL or a file, for its owner. The first 200 bytes are kept.
    #[schema(rename = "where")]
    place: Option<String>,
}

/// What everybody is answered.
#[derive(ToSchema)]
struct LeakReceived {
    /// `received`.
    status: String,
    /// The same each time.
    detail: String,
}
