//! The whole description: that of the REST API with the OAuth endpoints, and with what the handlers cannot say themselves.

use utoipa::openapi::info::License;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::schema::{Array, Components};
use utoipa::openapi::security::{Flow, SecurityScheme};
use utoipa::openapi::server::Server;
use utoipa::openapi::tag::Tag;
use utoipa::openapi::{OpenApi, Ref, RefOr, Schema};

use super::oauth;

/// The groups of operations in the order in which somebody needs them, with a name and a word of explanation.
const TAGS: [(&str, &str, &str); 15] = [
    (
        "oauth",
        "Tokens and discovery",
        "The OAuth 2.0 endpoints that clients and APIs use. They answer errors as RFC 6749 §5.2 says.",
    ),
    (
        "users",
        "Users",
        "People. What a user may do bounds every key of every client they own, now and not when the key was made.",
    ),
    ("clients", "Clients", "Applications, each owned by exactly one user and as such the OAuth `client_id`."),
    (
        "credentials",
        "Credentials",
        "The keys of clients. A client has several at once; each is shown once, when it is issued.",
    ),
    (
        "device sessions",
        "Device sessions",
        "Where users are logged in: what each may do there, until when, and how it is ended.",
    ),
    ("callers", "Callers", "From where credentials are used: as Keyward sees it, and as gateways and APIs report it."),
    (
        "transfers",
        "Transfers",
        "Clients offered to another owner: what the offer says of rights, and who accepts, declines or withdraws it.",
    ),
    ("reports", "Reports", "What deserves a look: clients whose owner is disabled, or has less than they ask for."),
    ("leaks", "Leaked keys", "Where whoever finds a key reports it; the key itself is the proof."),
    (
        "scopes",
        "Scopes",
        "The catalogue of scopes and of what each brings with it: a ladder such as Admin, Supervisor, Worker.",
    ),
    (
        "apis",
        "APIs",
        "Resource servers, each known by its audience, with the scopes it knows and the lifetime of its tokens.",
    ),
    ("notices", "Notices", "What people are told of keys, and what became of telling them."),
    ("webhooks", "Webhooks", "Who is told over HTTP, signed as Standard Webhooks says."),
    ("signing keys", "Signing keys", "Of each algorithm one key signs and one waits, published long before its turn."),
    ("events", "Events", "Everything that changed, in one order, each entry holding the hash of the one before."),
];

/// Completes the description of the REST API for a server with this URL.
pub(super) fn complete(mut document: OpenApi, issuer: &str) -> OpenApi {
    oauth::describe(&mut document);
    // What stands here otherwise speaks of a library.
    document.info.contact = None;
    document.info.license = Some(License::new(env!("CARGO_PKG_LICENSE")));
    document.servers = Some(vec![Server::new(issuer)]);
    document.tags = Some(TAGS.iter().map(described).collect());
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(|(_, operation)| complete_operation(operation));
    }
    if let Some(components) = &mut document.components {
        refer_to_items(components);
        name_token_endpoint(components, issuer);
    }
    document
}

/// The operations of a path, safe ones first.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all =
        [("GET", &mut item.get), ("POST", &mut item.post), ("PATCH", &mut item.patch), ("DELETE", &mut item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn described((name, summary, description): &(&str, &str, &str)) -> Tag {
    let mut tag = Tag::new(name);
    tag.summary = Some((*summary).to_owned());
    tag.description = Some((*description).to_owned());
    tag
}

fn complete_operation(operation: &mut Operation) {
    // Handlers of different nouns have the same names, identifiers of operations must differ.
    let noun = operation.tags.iter().flatten().next().map(|tag| tag.replace(' ', "_"));
    if let (Some(noun), Some(id)) = (noun, &operation.operation_id) {
        operation.operation_id = Some(format!("{noun}_{id}"));
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && parameter.parameter_in == ParameterIn::Path
        {
            parameter.description.get_or_insert_with(|| format!("The {} of the one that is meant", parameter.name));
        }
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            response.description = meaning(status).to_owned();
        }
        let is_problem = |content: &RefOr<_>| matches!(content, RefOr::T(content) if refers_to_problem(content));
        if response.content.get("application/json").is_some_and(is_problem)
            && let Some(content) = response.content.shift_remove("application/json")
        {
            response.content.insert("application/problem+json".to_owned(), content);
        }
    }
}

fn refers_to_problem(content: &utoipa::openapi::Content) -> bool {
    matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location.ends_with("/ProblemDetails"))
}

fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "As asked",
        "201" => "Made; `Location` says where it is",
        "204" => "Done; there is nothing to show",
        _ => "A refusal, or a fault of the server",
    }
}

/// Lists are described with their entries written out; a reference says the same and has a name.
fn refer_to_items(components: &mut Components) {
    for (name, schema) in &mut components.schemas {
        if let (Some(item), RefOr::T(Schema::Object(list))) = (name.strip_prefix("List_"), schema)
            && let Some(items) = list.properties.get_mut("items")
        {
            *items = RefOr::T(Schema::Array(Array::new(Ref::from_schema_name(item))));
        }
    }
}

fn name_token_endpoint(components: &mut Components, issuer: &str) {
    for scheme in components.security_schemes.values_mut() {
        let RefOr::T(SecurityScheme::OAuth2(scheme)) = scheme else { continue };
        for flow in scheme.flows.values_mut() {
            if let Flow::ClientCredentials(flow) = flow {
                flow.token_url = format!("{issuer}/token");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn document() -> OpenApi {
        complete(crate::api::router().1, "https://iam.example.org")
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_a_known_group() {
        let mut names = BTreeSet::new();
        for (path, item) in &mut document().paths.paths {
            for (method, operation) in operations(item) {
                let id = operation.operation_id.clone().unwrap();
                assert!(names.insert(id.clone()), "{id} is the name of two operations");
                let tag = operation.tags.clone().unwrap_or_default().join(" ");
                assert!(TAGS.iter().any(|(name, ..)| *name == tag), "{method} {path} is in the unknown group {tag:?}");
                assert!(operation.summary.is_some(), "{method} {path} has no summary");
            }
        }
        assert!(names.contains("signing_keys_rotate"), "{names:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = document().to_json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let references: Vec<&str> = text.split("\"$ref\":\"#").skip(1).filter_map(|t| t.split('"').next()).collect();
        assert!(references.len() > 50);
        for reference in references {
            assert!(value.pointer(reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_document_names_this_server_and_nobody_else() {
        let document = serde_json::to_value(document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"].get("contact"), None);
        assert_eq!(document["servers"][0]["url"], "https://iam.example.org");
        let flow = "/components/securitySchemes/oauth2/flows/clientCredentials/tokenUrl";
        assert_eq!(document.pointer(flow).unwrap(), "https://iam.example.org/token");
    }

    #[test]
    fn refusals_of_the_rest_api_are_problem_details() {
        let document = serde_json::to_value(document()).unwrap();
        let refusal = &document["paths"]["/api/v1/users"]["get"]["responses"]["default"];
        assert_eq!(refusal["content"].as_object().unwrap().keys().collect::<Vec<_>>(), ["application/problem+json"]);
    }
}
