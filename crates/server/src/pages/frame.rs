//! What is around every page: that its forms are its own, what the browser must not do with it, and how it refuses.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::app::App;
use crate::pages::texts::{Language, Texts};
use crate::pages::{script, style};
use crate::respond::{PageError, PageProblem, html_response};

/// Only what we serve ourselves, nothing inline, nothing around it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::VARY, "accept-language, cookie"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
const FETCH_SITE: &str = "sec-fetch-site";

/// Goes with a page whose form leads on to another origin than ours, to just this one: browsers apply `form-action` to
/// where a form is redirected, too.
#[derive(Debug, Clone)]
pub(crate) struct FormsLeadTo(pub(crate) String);

/// What every template needs.
pub(crate) struct Frame {
    /// The texts in the language of whoever asked.
    pub(crate) t: &'static Texts,
    /// The URLs of stylesheet and script.
    pub(crate) style: String,
    pub(crate) script: String,
}

impl Frame {
    /// In this language.
    pub(crate) fn new(language: Language) -> Self {
        Self { t: language.texts(), style: style::url(), script: script::url() }
    }
}

/// A page from its template; with a problem, one that says so.
pub(crate) fn page(template: &impl Template, problem: Option<PageError>) -> Response {
    match template.render() {
        Ok(html) => {
            html_response(html, problem.map(|error| error.problem), problem.and_then(|error| error.retry_after))
        }
        Err(error) => axum::response::IntoResponse::into_response(PageError::fault(&error)),
    }
}

/// Around every page.
pub(crate) async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let language = Language::of(request.headers());
    let changes_nothing = request.method().is_safe();
    let response = if changes_nothing || is_same_origin(request.headers(), &app.issuer) {
        next.run(request).await
    } else {
        axum::response::IntoResponse::into_response(PageError::from(PageProblem::Foreign))
    };
    finish(response, language)
}

/// What is shown where there is no page.
pub(crate) fn nothing_here(headers: &HeaderMap) -> Response {
    let refusal = axum::response::IntoResponse::into_response(PageError::from(PageProblem::NotFound));
    finish(refusal, Language::of(headers))
}

fn finish(response: Response, language: Language) -> Response {
    let mut response = match response.extensions().get::<PageError>() {
        Some(error) => refusal(*error, language),
        None if is_of_the_router(&response) => {
            // It speaks to programs: nobody is to be left before an empty page.
            let mut shown = refusal(PageProblem::NotFound.into(), language);
            *shown.status_mut() = response.status();
            if let Some(allowed) = response.headers().get(header::ALLOW) {
                shown.headers_mut().insert(header::ALLOW, allowed.clone());
            }
            shown
        }
        None => response,
    };
    let policy = match response.extensions().get::<FormsLeadTo>() {
        Some(FormsLeadTo(origin)) => POLICY.replace("form-action 'self'", &format!("form-action 'self' {origin}")),
        None => POLICY.to_owned(),
    };
    // An origin is visible ASCII without separators; were it not, no form would lead anywhere.
    let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(POLICY));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether there was no handler for it: another method than the page has, a path that is no text.
fn is_of_the_router(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    response.status().is_client_error() && !content_type.starts_with(b"text/html")
}

/// Whether a form comes from a page of ours. Browsers say so in `Sec-Fetch-Site`; those that do not, and any over plain http
/// from elsewhere, in `Origin`. Who says neither may be anybody, and is refused.
fn is_same_origin(headers: &HeaderMap, issuer: &str) -> bool {
    if let Some(site) = headers.get(FETCH_SITE) {
        return site == "same-origin";
    }
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes() == origin_of(issuer).as_bytes())
}

/// The origin of a URL: scheme, host and port.
fn origin_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| host + at);
    url.get(..end).unwrap_or(url)
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    frame: Frame,
    title: &'static str,
    text: &'static str,
    link: Option<(&'static str, &'static str)>,
}

/// A page that says one thing, and where to go on.
pub(crate) fn message(language: Language, (title, text): (&'static str, &'static str)) -> Response {
    let frame = Frame::new(language);
    let link = Some(("/login", frame.t.to_sign_in));
    page(&Message { frame, title, text, link }, None)
}

fn refusal(error: PageError, language: Language) -> Response {
    let frame = Frame::new(language);
    let t = frame.t;
    let (title, text) = match error.problem {
        PageProblem::Unreadable => t.unreadable,
        PageProblem::Foreign => t.foreign,
        PageProblem::Wrong | PageProblem::Invalid => t.refused,
        PageProblem::NotFound => t.not_found,
        PageProblem::Changed => t.changed,
        PageProblem::Ended => t.invitation_ended,
        PageProblem::Application => t.application_unknown,
        PageProblem::TooMany => (t.too_many_title, t.too_many),
        PageProblem::Busy => (t.busy_title, t.busy),
        PageProblem::Unavailable => t.unavailable,
    };
    let link = (error.problem != PageProblem::Ended).then_some(("/account", t.to_account));
    page(&Message { frame, title, text, link }, Some(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(headers: &[(&str, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        is_same_origin(&headers, "https://iam.example:8443/keyward")
    }

    #[test]
    fn a_form_is_taken_from_pages_of_the_same_origin_only() {
        for (headers, taken) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            // With `no-referrer` a browser hides the origin of its own form too.
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")], true),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://iam.example:8443")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("origin", "https://iam.example:8443")], true),
            (&[("origin", "https://iam.example")], false),
            (&[("origin", "http://iam.example:8443")], false),
            (&[("origin", "null")], false),
            (&[], false),
        ] {
            assert_eq!(judged(headers), taken, "{headers:?}");
        }
    }
}
