//! The description as the page shows it: operations by group, and the objects they take and give.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{ArrayItems, KnownFormat, SchemaFormat, SchemaType, Type};
use utoipa::openapi::tag::Tag;
use utoipa::openapi::{Content, OpenApi, RefOr, Required, Response, Schema};

use super::document::operations;
use crate::respond::Problem;

/// All kinds of refusals of the REST API, by status.
const PROBLEMS: [Problem; 12] = [
    Problem::Malformed,
    Problem::Unauthorized,
    Problem::Forbidden,
    Problem::NotFound,
    Problem::MethodNotAllowed,
    Problem::TooSlow,
    Problem::Conflict,
    Problem::Stale,
    Problem::TooLarge,
    Problem::MediaType,
    Problem::Invalid,
    Problem::Unavailable,
];

/// A text in which some pieces are code.
pub(super) type Text = Vec<Piece>;

/// A piece of text.
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) is_code: bool,
}

/// Operations that belong together.
pub(super) struct Section {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) description: Text,
    pub(super) operations: Vec<OperationView>,
    pub(super) objects: Vec<Object>,
}

/// One operation.
pub(super) struct OperationView {
    pub(super) id: String,
    pub(super) method: &'static str,
    pub(super) path: Vec<Piece>,
    pub(super) title: String,
    pub(super) description: Vec<Text>,
    pub(super) parameters: Vec<Group>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<AnswerView>,
}

impl OperationView {
    /// The method where there is little room.
    pub(super) fn short(&self) -> &'static str {
        if self.method == "DELETE" { "DEL" } else { self.method }
    }
}

/// Parameters that stand in the same place.
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) members: Vec<Member>,
}

/// What is sent.
pub(super) struct Body {
    pub(super) content_type: String,
    pub(super) members: Vec<Member>,
}

/// A parameter, or a member of an object.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) description: Text,
}

/// What a value is.
#[derive(Default)]
pub(super) struct Kind {
    pub(super) before: &'static str,
    pub(super) name: String,
    /// Where the object of this name is described.
    pub(super) link: Option<String>,
    pub(super) nullable: bool,
}

/// What is answered.
pub(super) struct AnswerView {
    pub(super) status: String,
    pub(super) is_refusal: bool,
    pub(super) description: Text,
    pub(super) kind: Option<Kind>,
}

/// A named object.
pub(super) struct Object {
    pub(super) name: String,
    pub(super) description: Text,
    pub(super) members: Vec<Member>,
}

/// A kind of refusal.
pub(super) struct ProblemView {
    pub(super) status: u16,
    pub(super) name: &'static str,
    pub(super) title: &'static str,
}

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// The groups of the document, in its order.
pub(super) fn sections(document: &mut OpenApi) -> Vec<Section> {
    let schemas = document.components.as_ref().map(|c| c.schemas.clone()).unwrap_or_default();
    let tags = document.tags.clone().unwrap_or_default();
    let mut sections: Vec<_> = tags.into_iter().map(|tag| section(tag, document, &schemas)).collect();
    // What several groups give is shown with the first of them; links lead there from all.
    let mut shown = BTreeSet::new();
    for section in &mut sections {
        section.objects.retain(|object| shown.insert(object.name.clone()));
    }
    sections
}

/// The kinds of refusals.
pub(super) fn problems() -> Vec<ProblemView> {
    let view = |p: &Problem| ProblemView { status: p.status().as_u16(), name: p.as_str(), title: p.title() };
    PROBLEMS.iter().map(view).collect()
}

/// The object that all refusals of the REST API are.
pub(super) fn problem_details(document: &OpenApi) -> Option<Object> {
    object("ProblemDetails", &document.components.as_ref()?.schemas)
}

fn section(tag: Tag, document: &mut OpenApi, schemas: &Schemas) -> Section {
    let mut views = Vec::new();
    let mut given = Vec::new();
    for (path, item) in &mut document.paths.paths {
        for (method, found) in operations(item).filter(|(_, o)| o.tags.iter().flatten().any(|t| *t == tag.name)) {
            given.extend(found.responses.responses.values().filter_map(content).filter_map(named));
            // The body itself is shown with its operation.
            let body = body(found).and_then(|(_, content)| named(content)).and_then(|name| schemas.get(&name));
            given.extend(body.map(references).unwrap_or_default());
            views.push(operation(method, path, found, schemas));
        }
    }
    Section {
        id: tag.name.replace(' ', "-"),
        title: tag.summary.unwrap_or(tag.name),
        description: text(&tag.description.unwrap_or_default()),
        operations: views,
        objects: objects(given, schemas),
    }
}

/// The objects by these names and all they refer to, each once. Lists speak for themselves, refusals have their own place.
fn objects(names: Vec<String>, schemas: &Schemas) -> Vec<Object> {
    let mut next: std::collections::VecDeque<String> = names.into();
    let mut seen: Vec<String> = Vec::new();
    while let Some(name) = next.pop_front() {
        if seen.contains(&name) || name == "ProblemDetails" {
            continue;
        }
        if let Some(schema) = schemas.get(&name) {
            next.extend(references(schema));
        }
        seen.push(name);
    }
    let shown = seen.iter().filter(|name| !name.starts_with("List_"));
    shown.filter_map(|name| object(name, schemas)).collect()
}

/// The objects that the members of this one are.
fn references(schema: &RefOr<Schema>) -> Vec<String> {
    match schema {
        RefOr::Ref(reference) => vec![last(&reference.ref_location)],
        RefOr::T(Schema::Object(object)) => object.properties.values().flat_map(references).collect(),
        RefOr::T(Schema::AllOf(all)) => all.items.iter().flat_map(references).collect(),
        RefOr::T(Schema::Array(array)) => match &array.items {
            ArrayItems::RefOrSchema(items) => references(items),
            ArrayItems::False => Vec::new(),
        },
        RefOr::T(_) => Vec::new(),
    }
}

fn object(name: &str, schemas: &Schemas) -> Option<Object> {
    let schema = schemas.get(name)?;
    let description = match schema {
        RefOr::T(Schema::Object(object)) => object.description.clone(),
        RefOr::T(Schema::AllOf(all)) => all.description.clone(),
        _ => None,
    };
    let description = text(&description.unwrap_or_default());
    Some(Object { name: name.to_owned(), description, members: members(schema, schemas) })
}

fn operation(method: &'static str, path: &str, operation: &Operation, schemas: &Schemas) -> OperationView {
    let summary = operation.summary.as_deref().unwrap_or_default();
    // What follows a colon explains: a title says no more than what is done.
    let (title, explanation) = summary.split_once(": ").unwrap_or((summary, ""));
    let description = operation.description.as_deref().unwrap_or_default();
    let paragraphs = description.split("\n\n").filter(|p| !p.is_empty()).map(text);
    let explanation = (!explanation.is_empty()).then(|| text(&sentence(explanation)));
    OperationView {
        id: operation.operation_id.clone().unwrap_or_default(),
        method,
        path: path_pieces(path),
        title: title.to_owned(),
        description: explanation.into_iter().chain(paragraphs).collect(),
        parameters: groups(operation),
        body: body(operation).map(|(content_type, content)| Body {
            content_type: content_type.clone(),
            members: schema_of(content).map(|s| members(s, schemas)).unwrap_or_default(),
        }),
        answers: operation.responses.responses.iter().map(|(status, r)| answer(status, r)).collect(),
    }
}

fn body(operation: &Operation) -> Option<(&String, &RefOr<Content>)> {
    match operation.request_body.as_ref()? {
        RefOr::T(body) => body.content.iter().next(),
        RefOr::Ref(_) => None,
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn path_pieces(path: &str) -> Vec<Piece> {
    path.split_inclusive(['/', '}'])
        .map(|piece| match piece.strip_suffix('}') {
            Some(parameter) => Piece { text: format!("{parameter}}}"), is_code: true },
            None => Piece { text: piece.to_owned(), is_code: false },
        })
        .collect()
}

fn groups(operation: &Operation) -> Vec<Group> {
    let all: Vec<&Parameter> = operation
        .parameters
        .iter()
        .flatten()
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(_) => None,
        })
        .collect();
    [("In the path", ParameterIn::Path), ("In the query", ParameterIn::Query), ("Headers", ParameterIn::Header)]
        .into_iter()
        .map(|(title, place)| {
            let here = all.iter().filter(|parameter| parameter.parameter_in == place);
            Group { title, members: here.map(|parameter| member_of(parameter)).collect() }
        })
        .filter(|group| !group.members.is_empty())
        .collect()
}

fn member_of(parameter: &Parameter) -> Member {
    Member {
        name: parameter.name.clone(),
        // An absent parameter is absent, not null.
        kind: Kind { nullable: false, ..parameter.schema.as_ref().map(kind).unwrap_or_default() },
        required: parameter.required == Required::True,
        description: text(parameter.description.as_deref().unwrap_or_default()),
    }
}

fn answer(status: &str, response: &RefOr<Response>) -> AnswerView {
    let description = match response {
        RefOr::T(response) => response.description.as_str(),
        RefOr::Ref(_) => "",
    };
    AnswerView {
        status: if status == "default" { "4xx, 5xx".to_owned() } else { status.to_lowercase() },
        is_refusal: status.parse::<u16>().ok().and_then(|s| StatusCode::from_u16(s).ok()).is_none(),
        description: text(description),
        kind: content(response).and_then(schema_of).map(kind),
    }
}

fn content(response: &RefOr<Response>) -> Option<&RefOr<Content>> {
    match response {
        RefOr::T(response) => response.content.values().next(),
        RefOr::Ref(_) => None,
    }
}

fn schema_of(content: &RefOr<Content>) -> Option<&RefOr<Schema>> {
    match content {
        RefOr::T(content) => content.schema.as_ref(),
        RefOr::Ref(_) => None,
    }
}

fn named(content: &RefOr<Content>) -> Option<String> {
    match schema_of(content)? {
        RefOr::Ref(reference) => Some(last(&reference.ref_location)),
        RefOr::T(_) => None,
    }
}

fn last(reference: &str) -> String {
    reference.rsplit('/').next().unwrap_or_default().to_owned()
}

fn members(schema: &RefOr<Schema>, schemas: &Schemas) -> Vec<Member> {
    match schema {
        RefOr::Ref(reference) => {
            schemas.get(&last(&reference.ref_location)).map(|schema| members(schema, schemas)).unwrap_or_default()
        }
        RefOr::T(Schema::Object(object)) => {
            let member = |(name, schema): (&String, &RefOr<Schema>)| Member {
                name: name.clone(),
                kind: kind(schema),
                required: object.required.contains(name),
                description: text(description(schema)),
            };
            object.properties.iter().map(member).collect()
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter().flat_map(|schema| members(schema, schemas)).collect(),
        RefOr::T(_) => Vec::new(),
    }
}

fn description(schema: &RefOr<Schema>) -> &str {
    match schema {
        RefOr::Ref(reference) => &reference.description,
        RefOr::T(Schema::Object(object)) => object.description.as_deref().unwrap_or_default(),
        RefOr::T(Schema::Array(array)) => array.description.as_deref().unwrap_or_default(),
        RefOr::T(_) => "",
    }
}

fn kind(schema: &RefOr<Schema>) -> Kind {
    match schema {
        RefOr::Ref(reference) => kind_by_name(&last(&reference.ref_location)),
        RefOr::T(Schema::Array(array)) => {
            let items = match &array.items {
                ArrayItems::RefOrSchema(items) => kind(items),
                ArrayItems::False => Kind::default(),
            };
            let name = if items.link.is_none() { format!("{}s", items.name) } else { items.name };
            Kind { before: "list of ", name, nullable: is_nullable(&array.schema_type), ..items }
        }
        RefOr::T(Schema::Object(object)) => {
            let is_instant = object.format == Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
            let name = if is_instant { "instant" } else { type_name(&object.schema_type) };
            Kind { name: name.to_owned(), nullable: is_nullable(&object.schema_type), ..Kind::default() }
        }
        RefOr::T(_) => Kind { name: "object".to_owned(), ..Kind::default() },
    }
}

fn kind_by_name(name: &str) -> Kind {
    match name.strip_prefix("List_") {
        Some(item) => Kind { before: "page of ", ..kind_by_name(item) },
        None => Kind { name: name.to_owned(), link: Some(name.to_owned()), ..Kind::default() },
    }
}

fn is_nullable(schema_type: &SchemaType) -> bool {
    matches!(schema_type, SchemaType::Array(types) if types.contains(&Type::Null))
}

fn type_name(schema_type: &SchemaType) -> &'static str {
    let of = |one: &Type| match one {
        Type::Object => "object",
        Type::String => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
        Type::Array => "list",
        Type::Null => "null",
    };
    match schema_type {
        SchemaType::Type(one) => of(one),
        SchemaType::Array(several) => several.iter().find(|t| **t != Type::Null).map_or("null", of),
        SchemaType::AnyValue => "any",
    }
}

/// Splits a description at its backticks.
pub(super) fn text(description: &str) -> Text {
    description
        .split('`')
        .enumerate()
        .map(|(n, piece)| Piece { text: piece.to_owned(), is_code: n % 2 == 1 })
        .filter(|piece| !piece.text.is_empty())
        .collect()
}
