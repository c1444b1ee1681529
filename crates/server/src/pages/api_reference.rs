//! The description of the API: for programs at `/openapi.json`, for people at `/docs`. Both come from the code.

mod document;
mod oauth;
mod view;

use std::sync::{Arc, OnceLock};

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use utoipa::openapi::OpenApi;

use crate::app::App;
use crate::pages::served::Served;
use crate::pages::style;

/// The page runs nothing, loads nothing but its stylesheet, sends nothing, and stands in no frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
);

/// What is served about the API. Made when somebody first asks: most servers are never asked.
pub(crate) struct Reference {
    describe: fn() -> OpenApi,
    document: OnceLock<Served>,
    page: OnceLock<Option<Served>>,
}

impl Reference {
    /// From whoever describes the REST API, which takes a megabyte or two.
    pub(crate) fn new(describe: fn() -> OpenApi) -> Self {
        Self { describe, document: OnceLock::new(), page: OnceLock::new() }
    }

    /// `/openapi.json`, `/docs` and the stylesheet.
    pub(crate) fn routes(self) -> Router<Arc<App>> {
        let for_programs = Arc::new(self);
        let for_people = Arc::clone(&for_programs);
        Router::new()
            .route(
                "/openapi.json",
                get(async move |State(app): State<Arc<App>>, headers: HeaderMap| for_programs.document(&app, &headers)),
            )
            .route(
                "/docs",
                get(async move |State(app): State<Arc<App>>, headers: HeaderMap| for_people.page(&app, &headers)),
            )
            .merge(style::routes())
    }

    fn document(&self, app: &App, headers: &HeaderMap) -> Response {
        let document = self.document.get_or_init(|| {
            let document = document::complete((self.describe)(), &app.issuer);
            Served::new(serde_json::to_vec(&document).unwrap_or_default(), "application/json")
        });
        document.answer(headers, "public, max-age=300")
    }

    fn page(&self, app: &App, headers: &HeaderMap) -> Response {
        let page = self.page.get_or_init(|| {
            let html = render(document::complete((self.describe)(), &app.issuer), &app.issuer);
            html.map(|html| Served::new(html.into_bytes(), "text/html; charset=utf-8"))
                .inspect_err(|error| tracing::error!(%error, "the API reference cannot be written"))
                .ok()
        });
        let Some(page) = page else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
        let mut response = page.answer(headers, "public, max-age=300");
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
        response
    }
}

#[derive(Template)]
#[template(path = "api_reference.html")]
struct Page<'a> {
    issuer: &'a str,
    style: String,
    sections: Vec<view::Section>,
    problem: Option<view::Object>,
    problems: Vec<view::ProblemView>,
}

fn render(mut document: OpenApi, issuer: &str) -> Result<String, askama::Error> {
    let problem = view::problem_details(&document);
    let sections = view::sections(&mut document);
    Page { issuer, style: style::url(), sections, problem, problems: view::problems() }.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html() -> String {
        let issuer = "https://iam.example.org";
        render(document::complete(crate::api::router().1, issuer), issuer).unwrap()
    }

    #[test]
    fn the_page_shows_every_operation_of_the_document() {
        let html = html();
        let mut document = document::complete(crate::api::router().1, "");
        for item in document.paths.paths.values_mut() {
            for (_, operation) in document::operations(item) {
                let id = operation.operation_id.clone().unwrap();
                assert!(html.contains(&format!("<article class=\"operation\" id=\"{id}\">")), "{id}");
            }
        }
    }

    #[test]
    fn every_link_of_the_page_leads_somewhere() {
        let html = html();
        for target in html.split("href=\"#").skip(1).filter_map(|t| t.split('"').next()) {
            assert!(html.contains(&format!("id=\"{target}\"")), "#{target}");
        }
    }

    #[test]
    fn every_id_of_the_page_is_given_once() {
        let html = html();
        for id in html.split(" id=\"").skip(1).filter_map(|t| t.split('"').next()) {
            assert_eq!(html.matches(&format!(" id=\"{id}\"")).count(), 1, "{id}");
        }
    }

    #[test]
    fn the_page_keeps_to_its_policy() {
        let html = html();
        for forbidden in ["<script", "<style", " style=", "<img", "<form", "javascript:"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        let loaded = html.split("<link ").skip(1).count();
        assert_eq!((loaded, html.matches(&style::url()).count()), (1, 1));
    }
}
