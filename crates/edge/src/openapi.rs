//! The OpenAPI document, made from route tables: a route that exists is described, and what is described exists.

use bytes::Bytes;
use penstock_identity::{Method, Needs, Operation, Parameter, Place, Route};
use serde_json::{Map, Value, json};

use crate::error::Shape;
use crate::relay;
use crate::routes::ROUTES;

/// Schemas of the edge's own bodies.
const COMPONENTS: &str = include_str!("openapi/components.json");

/// A route as the document shows it: a [`Route`] without its handler.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// What the document says.
    pub operation: Operation,
}

impl<H> From<&Route<H>> for Row {
    fn from(route: &Route<H>) -> Self {
        Self { method: route.method, path: route.path, needs: route.needs, operation: route.operation }
    }
}

/// The edge's own rows.
pub fn rows() -> Vec<Row> {
    ROUTES.iter().chain(relay::ROWS).map(Row::from).collect()
}

/// Writes the document for these rows (the edge's [`rows`] and the admin API's), with further schemas beside the
/// edge's own.
pub fn document(rows: &[Row], schemas: Map<String, Value>) -> Bytes {
    let mut paths = Map::new();
    for row in rows {
        let item = paths.entry(row.path).or_insert_with(|| Value::Object(Map::new()));
        item[row.method.name().to_ascii_lowercase()] = operation(row);
    }
    let mut components: Map<String, Value> = serde_json::from_str(COMPONENTS).unwrap_or_default();
    components.extend(schemas);
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An AI gateway: one API in front of many models. The paths under /v1 follow OpenAI's API, those under /v1/messages Anthropic's.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
            },
        },
    });
    Bytes::from(serde_json::to_vec_pretty(&document).unwrap_or_default())
}

fn operation(row: &Row) -> Value {
    let Operation { id, tag, summary, parameters, request, replies } = row.operation;
    let mut responses = Map::new();
    for reply in replies {
        let entry =
            responses.entry(reply.status.to_string()).or_insert_with(|| json!({"description": reply.about}));
        if !reply.media.is_empty() {
            entry["content"][reply.media] = content(reply.schema);
        }
    }
    let (media, schema) = match Shape::of_path(row.path) {
        Shape::Problem => ("application/problem+json", "Problem"),
        Shape::Anthropic => ("application/json", "MessageError"),
        Shape::OpenAi => ("application/json", "Error"),
    };
    for (status, about) in once(row).map_or(&[][..], |_| &TWICE) {
        let entry = responses.entry(*status).or_insert_with(|| json!({"description": about}));
        entry["content"][media] = content(schema);
    }
    responses.insert(
        "default".to_owned(),
        json!({"description": "an error", "content": {media: content(schema)}}),
    );
    let mut operation = json!({
        "operationId": id,
        "tags": [tag],
        "summary": summary,
        "parameters": parameters.iter().chain(once(row)).map(parameter).collect::<Vec<_>>(),
        "responses": responses,
    });
    if !request.is_empty() {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": content(request)}});
    }
    match row.needs {
        Needs::Scope(scope) => {
            operation["security"] = json!([{"bearer": []}, {"x-api-key": []}, {"api-key": []}]);
            operation["x-penstock-scope"] = Value::String(scope.to_string());
        }
        Needs::Nothing(reason) => {
            operation["security"] = json!([]);
            operation["x-penstock-open"] = Value::String(reason.to_owned());
        }
    }
    operation
}

/// What is refused where a request may be sent again.
const TWICE: [(&str, &str); 2] = [
    ("409", "the first request with this idempotency key is still running, or the state of an object is in the way"),
    ("422", "the idempotency key stands for another request"),
];

const IDEMPOTENCY_KEY: Parameter = Parameter {
    name: "idempotency-key",
    place: Place::Header,
    about: "your name for this request, 1 to 255 printable ASCII characters: sent again within the retention, it is not \
            done again, and its answer comes with `idempotent-replayed: true`",
    kind: "string",
};

/// The header that every POST takes.
fn once(row: &Row) -> Option<&'static Parameter> {
    (row.method == Method::Post).then_some(&IDEMPOTENCY_KEY)
}

fn content(schema: &str) -> Value {
    if schema.is_empty() {
        return json!({});
    }
    json!({"schema": {"$ref": format!("#/components/schemas/{schema}")}})
}

fn parameter(parameter: &Parameter) -> Value {
    let place = match parameter.place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    };
    json!({
        "name": parameter.name,
        "in": place,
        "required": parameter.place == Place::Path,
        "description": parameter.about,
        "schema": {"type": parameter.kind},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_with_its_scope_and_every_reference_resolves() {
        let document: Value = serde_json::from_slice(&document(&rows(), Map::new())).unwrap();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.name().to_ascii_lowercase()];
            assert_eq!(operation["operationId"], route.operation.id);
            let takes_key = operation["parameters"].to_string().contains("idempotency-key");
            assert_eq!(takes_key, route.method == Method::Post, "{}", route.path);
            match route.needs {
                Needs::Scope(scope) => assert_eq!(operation["x-penstock-scope"], scope.to_string()),
                Needs::Nothing(_) => assert_eq!(operation["security"], json!([])),
            }
        }
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "components.json lacks {name}");
        }
    }
}
