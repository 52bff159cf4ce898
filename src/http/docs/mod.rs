//! The HTML documentation, made from the OpenAPI description: one page without scripts or external
//! resources.

mod html;
mod schema;

use std::fmt::Write;
use std::sync::Arc;

use axum::http::header;
use axum::response::Redirect;
use axum::routing::get;
use axum::{Extension, Router};
use html::{capitalised, entries, escaped, field, inline, list, prose, text};
use serde_json::Value;

use super::compression::FixedBody;

const STYLE: &str = include_str!("style.css");

const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const FIRST_STEPS: &str = include_str!("first_steps.sh");

/// Serves `/openapi.json` and `/docs`, to which `/` leads.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(openapi: &Value) -> Router<S> {
    let serve = |content_type: &'static str, body: String| {
        let body = FixedBody::new(body);
        get(move || async move {
            let headers = [
                (header::CONTENT_TYPE, content_type),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, Extension(Arc::clone(&body)), body.plain())
        })
    };
    Router::new()
        .route("/", get(async || Redirect::temporary("/docs")))
        .route("/openapi.json", serve("application/json", openapi.to_string()))
        .route("/docs", serve("text/html; charset=utf-8", Page { openapi }.html()))
        .route("/docs/style.css", serve("text/css; charset=utf-8", STYLE.to_owned()))
}

struct Page<'a> {
    openapi: &'a Value,
}

struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    value: &'a Value,
}

impl<'a> Page<'a> {
    fn html(&self) -> String {
        let info = &self.openapi["info"];
        let title = text(&info["title"]);
        let components = &self.openapi["components"];
        let mut operations = String::new();
        let mut contents = String::new();
        for tag in list(&self.openapi["tags"]) {
            let name = text(&tag["name"]);
            let _ = write!(
                operations,
                "<h2 id=\"tag-{name}\">{}</h2>{}",
                capitalised(&name),
                prose(&tag["description"])
            );
            let _ = write!(contents, "<li><a href=\"#tag-{name}\">{}</a><ul>", capitalised(&name));
            for operation in self.operations(&tag["name"]) {
                operations.push_str(&self.operation(&operation));
                let id = text(&operation.value["operationId"]);
                let summary = text(&operation.value["summary"]);
                let _ = write!(contents, "<li><a href=\"#{id}\">{summary}</a></li>");
            }
            contents.push_str("</ul></li>");
        }
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{title} API</title><link rel=\"stylesheet\" href=\"/docs/style.css\"></head><body>\
             <nav aria-label=\"Contents\"><a class=\"home\" href=\"#top\">{title}</a><ul>\
             <li><a href=\"#first-steps\">First steps</a></li>\
             <li><a href=\"#headers\">Headers</a></li>{contents}\
             <li><a href=\"#problems\">Problems</a></li></ul></nav>\
             <main id=\"top\"><h1>{title} <small>API {version}</small></h1>{about}\
             <p>OpenAPI description: <a href=\"/openapi.json\">/openapi.json</a>.</p>\
             <h2 id=\"first-steps\">First steps</h2>{access}<pre><code>{steps}</code></pre>\
             <h2 id=\"headers\">Headers</h2><h4>Request headers</h4>{parameters}\
             <h4>Response headers</h4>{headers}{operations}\
             <h2 id=\"problems\">Problems</h2>{problem}{problems}</main></body></html>\n",
            version = text(&info["version"]),
            about = prose(&info["description"]),
            access = prose(&components["securitySchemes"]["api_key"]["description"]),
            steps = escaped(FIRST_STEPS),
            parameters =
                self.parameters(entries(&components["parameters"]).map(|(_, value)| value)),
            headers = self.headers(&components["headers"]),
            problem = self.content(&components["responses"]["problem"]["content"]),
            problems = problems(&components["schemas"]["Problem"]),
        )
    }

    /// The operations of a tag: first those that create something.
    fn operations(&self, tag: &Value) -> Vec<Operation<'a>> {
        let mut operations: Vec<Operation<'a>> = entries(&self.openapi["paths"])
            .flat_map(|(path, methods)| {
                entries(methods).map(move |(method, value)| Operation { path, method, value })
            })
            .filter(|operation| list(&operation.value["tags"]).any(|name| name == tag))
            .collect();
        let order = ["put", "post", "get", "delete"];
        operations.sort_by_key(|operation| order.iter().position(|name| *name == operation.method));
        operations
    }

    fn operation(&self, &Operation { path, method, value }: &Operation<'a>) -> String {
        let id = text(&value["operationId"]);
        let access = match value["security"][0]["api_key"].as_array().map(Vec::as_slice) {
            None => "requires no API key".to_owned(),
            Some([]) => "requires an API key".to_owned(),
            Some([scope, ..]) => format!("requires the scope <code>{}</code>", text(scope)),
        };
        let takes_token = list(&value["security"]).any(|scheme| scheme["user_token"].is_array());
        let access = access + if takes_token { ", of a key or a token" } else { "" };
        let mut html = format!(
            "<section id=\"{id}\"><h3><a href=\"#{id}\">{summary}</a></h3>\
             <p class=\"route\"><b class=\"{method}\">{method}</b> <code>{path}</code> \
             <span>{access}</span></p>{description}",
            summary = text(&value["summary"]),
            path = escaped(path),
            description = prose(&value["description"]),
        );
        let (common, own): (Vec<_>, Vec<_>) =
            list(&value["parameters"]).partition(|parameter| parameter["$ref"].is_string());
        if !own.is_empty() {
            let _ = write!(html, "<h4>Parameters</h4>{}", self.parameters(own.into_iter()));
        }
        if !common.is_empty() {
            let name =
                |parameter| format!("<code>{}</code>", text(&self.resolved(parameter).1["name"]));
            let names: Vec<String> = common.into_iter().map(name).collect();
            let _ = write!(
                html,
                "<p class=\"common\"><a href=\"#headers\">Headers</a>: {}</p>",
                names.join(", ")
            );
        }
        let body = &value["requestBody"]["content"];
        if body.is_object() {
            let _ = write!(html, "<h4>Body</h4>{}", self.content(body));
        }
        html.push_str("<h4>Responses</h4>");
        for (status, response) in entries(&value["responses"]) {
            let (_, response) = self.resolved(response);
            let (status, description, content) = match status {
                "default" => {
                    ("other", "<a href=\"#problems\">An error</a>".to_owned(), String::new())
                }
                _ => (status, text(&response["description"]), self.content(&response["content"])),
            };
            let _ = write!(
                html,
                "<p class=\"answer\"><b>{}</b> {description}</p>{content}",
                escaped(status)
            );
        }
        html.push_str("</section>");
        html
    }

    /// The schema of a body. It is the same in all formats.
    fn content(&self, content: &Value) -> String {
        let Some((media_type, body)) = entries(content).last() else { return String::new() };
        let kind = self.kind(&body["schema"]);
        let note = match content.as_object().is_some_and(|all| all.len() > 1) {
            true => "JSON or CBOR".to_owned(),
            false => escaped(media_type),
        };
        let (_, schema) = self.resolved(&body["schema"]);
        format!(
            "<details><summary>{kind} <small>{note}</small></summary>{}{}{}</details>",
            prose(&schema["description"]),
            self.outline(schema, 0),
            examples(schema),
        )
    }

    fn parameters(&self, parameters: impl Iterator<Item = &'a Value>) -> String {
        let row = |parameter: &'a Value| {
            let place = text(&parameter["in"]);
            let required = parameter["required"] == true;
            let kind = format!("{place}, {}", self.kind(&parameter["schema"]));
            field(&text(&parameter["name"]), &kind, required, &parameter["description"], "")
        };
        format!("<ul class=\"fields\">{}</ul>", parameters.map(row).collect::<String>())
    }

    fn headers(&self, headers: &'a Value) -> String {
        let row = |(name, header): (&str, &Value)| {
            field(&escaped(name), &self.kind(&header["schema"]), false, &header["description"], "")
        };
        format!("<ul class=\"fields\">{}</ul>", entries(headers).map(row).collect::<String>())
    }
}

fn examples(schema: &Value) -> String {
    let example = |example: &Value| {
        format!("<h5>Example</h5><pre><code>{}</code></pre>", escaped(&example.to_string()))
    };
    list(&schema["examples"]).map(example).collect()
}

fn problems(schema: &Value) -> String {
    let row = |kind: &Value| {
        let uri = text(&kind["type"]);
        let code = uri.rsplit(':').next().unwrap_or_default();
        let status = match &kind["status"] {
            status if *status == 0 => "any".to_owned(),
            status => status.to_string(),
        };
        format!(
            "<tr><td>{status}</td><td><code>{code}</code></td><td>{}</td></tr>",
            inline(kind["meaning"].as_str().unwrap_or_default())
        )
    };
    format!(
        "<p>A <code>type</code> is <code>urn:bipedalnet:problem:</code> followed by one of these. They never \
         change. New ones may be added: handle an unknown one by its status.</p>\
         <table><thead><tr><th>Status</th><th>Type</th><th>Meaning</th></tr></thead><tbody>{}</tbody></table>",
        list(&schema["x-types"]).map(row).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::schema::MAX_DEPTH;
    use super::*;

    #[test]
    fn descriptions_are_escaped() {
        let hostile = "<script>alert(\"1\")</script>";
        let schema = json!({
            "type": "object", "description": hostile, "required": [hostile],
            "properties": {hostile: {"type": hostile, "description": hostile, "enum": [hostile]}},
            "examples": [hostile],
        });
        let openapi = json!({
            "info": {"title": hostile, "version": hostile, "description": hostile},
            "tags": [{"name": hostile, "description": hostile}],
            "paths": {hostile: {"get": {
                "tags": [hostile], "operationId": hostile, "summary": hostile,
                "description": hostile, "security": [{"api_key": [hostile]}],
                "parameters": [{"name": hostile, "in": hostile, "description": hostile}],
                "requestBody": {"content": {hostile: {"schema": schema}}},
                "responses": {"200": {
                    "description": hostile,
                    "content": {hostile: {"schema": {"$ref": "#/components/schemas/Hostile"}}},
                }},
            }}},
            "components": {
                "schemas": {
                    "Hostile": {"oneOf": [schema, {"type": "array", "items": schema}]},
                    "Problem": {"x-types": [{"type": hostile, "meaning": hostile}]},
                },
                "headers": {hostile: {"description": hostile}},
                "parameters": {"a": {"name": hostile}},
                "securitySchemes": {"api_key": {"description": hostile}},
            },
        });
        let html = Page { openapi: &openapi }.html();
        assert!(!html.contains("<script"), "{html}");
        assert!(!html.contains("alert(\""), "{html}");
        assert!(html.matches("&lt;script&gt;").count() > 20);
    }

    #[test]
    fn a_recursive_schema_has_an_outline() {
        let openapi = json!({"components": {"schemas": {"Tree": {
            "type": "object", "properties": {"left": {"$ref": "#/components/schemas/Tree"}},
        }}}});
        let page = Page { openapi: &openapi };
        let outline = page.outline(&openapi["components"]["schemas"]["Tree"], 0);
        assert_eq!(outline.matches("<code>left</code>").count(), MAX_DEPTH);
    }
}
