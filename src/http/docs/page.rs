//! The whole page.

use std::fmt::Write;

use serde_json::Value;

use super::html::{capitalised, entries, escaped, field, inline, list, prose, text};
use super::operation::Operation;

const FIRST_STEPS: &str = include_str!("first_steps.sh");

pub(super) struct Page<'a> {
    pub openapi: &'a Value,
}

impl<'a> Page<'a> {
    pub(super) fn html(&self) -> String {
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
                let id = escaped(operation.id());
                let summary = text(&operation.value["summary"]);
                let _ = write!(contents, "<li><a href=\"#{id}\">{summary}</a></li>");
            }
            contents.push_str("</ul></li>");
        }
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{title} API</title><link rel=\"stylesheet\" href=\"/docs/style.css\">\
             <script type=\"module\" src=\"/docs/docs.js\"></script></head><body>\
             <nav aria-label=\"Contents\"><a class=\"home\" href=\"#top\">{title}</a><ul>\
             <li><a href=\"#first-steps\">First steps</a></li>\
             <li><a href=\"#headers\">Headers</a></li>{contents}\
             <li><a href=\"#problems\">Problems</a></li></ul></nav>\
             <main id=\"top\"><h1>{title} <small>API {version}</small></h1>{about}\
             <p>OpenAPI description: <a href=\"/openapi.json\">/openapi.json</a>.</p>\
             <h2 id=\"first-steps\">First steps</h2>{access}{steps}\
             <p>Each operation below has such a request, and a form to try it. <code>$key</code> is your API \
             key. The forms forget theirs when you leave the page.</p><noscript><p>The forms need JavaScript.</p></noscript>\
             <h2 id=\"headers\">Headers</h2><h3>Request headers</h3>{parameters}\
             <h3>Response headers</h3>{headers}{operations}\
             <h2 id=\"problems\">Problems</h2>{problem}{example}{problems}</main></body></html>\n",
            version = text(&info["version"]),
            about = prose(&info["description"]),
            access = prose(&components["securitySchemes"]["api_key"]["description"]),
            steps = self.shell(FIRST_STEPS.trim_end()),
            parameters =
                self.parameters(entries(&components["parameters"]).map(|(_, value)| value)),
            headers = self.headers(&components["headers"]),
            problem = self.content(&components["responses"]["problem"]["content"]),
            example = self.example_of_body(&components["responses"]["problem"]["content"]),
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

    pub(super) fn parameters(&self, parameters: impl Iterator<Item = &'a Value>) -> String {
        let row = |parameter: &'a Value| {
            let place = text(&parameter["in"]);
            let required = parameter["required"] == true;
            let kind = format!("{place}, {}", self.kind(&parameter["schema"]));
            field(&text(&parameter["name"]), &kind, required, &parameter["description"], "")
        };
        format!("<ul class=\"fields\">{}</ul>", parameters.map(row).collect::<String>())
    }

    fn headers(&self, headers: &'a Value) -> String {
        let row = |(name, header): (&str, &'a Value)| {
            field(&escaped(name), &self.kind(&header["schema"]), false, &header["description"], "")
        };
        let rows: String = entries(headers).map(row).collect();
        format!("<ul class=\"fields\" id=\"response-headers\">{rows}</ul>")
    }
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

    use super::*;

    #[test]
    fn descriptions_are_escaped() {
        let hostile = "<script>alert(\"1\")</script>'";
        let schema = json!({
            "type": "object", "description": hostile, "required": [hostile],
            "properties": {hostile: {"type": hostile, "description": hostile, "enum": [hostile]}},
            "examples": [{hostile: hostile}],
        });
        let example = json!({"schema": {"type": "string"}, "example": hostile});
        let openapi = json!({
            "info": {"title": hostile, "version": hostile, "description": hostile},
            "servers": [{"url": hostile}],
            "tags": [{"name": hostile, "description": hostile}],
            "paths": {format!("/{{{hostile}}}"): {hostile: {
                "tags": [hostile], "operationId": hostile, "summary": hostile,
                "description": hostile, "security": [{"api_key": [hostile]}],
                "parameters": [
                    {"name": hostile, "in": hostile, "description": hostile, "example": hostile},
                    {"name": "a", "in": "path", "required": true, "example": hostile},
                    {"name": hostile, "in": hostile, "schema": {"type": "boolean"}},
                ],
                "requestBody": {"content": {"application/json": {"schema": schema}, hostile: {}}},
                "responses": {
                    "200": {
                        "description": hostile,
                        "content": {hostile: {"schema": {"$ref": "#/components/schemas/Hostile"}}},
                    },
                    hostile: {"content": {"text/plain": example}},
                },
            }}},
            "components": {
                "schemas": {
                    "Hostile": {
                        "oneOf": [schema, {"type": "array", "items": schema}], "examples": [hostile],
                    },
                    "Problem": {"x-types": [{"type": hostile, "meaning": hostile}]},
                },
                "headers": {hostile: {"description": hostile}},
                "parameters": {"a": {"name": hostile}},
                "securitySchemes": {"api_key": {"description": hostile}},
            },
        });
        let html = Page { openapi: &openapi }.html();
        let own = "<script type=\"module\" src=\"/docs/docs.js\"></script>";
        let html = html.replacen(own, "", 1);
        assert!(!html.to_lowercase().contains("<script"), "{html}");
        assert!(!html.contains("alert(\""), "{html}");
        assert!(!html.contains("</script>'"), "{html}");
        assert!(html.matches("&lt;script&gt;").count() > 30);
    }

    #[test]
    fn quotes_of_an_example_do_not_end_the_curl_line() {
        let schema = json!({"examples": [{"reference": "Ann's"}]});
        let openapi = json!({"servers": [{"url": "http://localhost:8080"}]});
        let value = json!({"requestBody": {"content": {"application/json": {"schema": schema}}}});
        let operation = Operation { path: "/v1/users", method: "post", value: &value };
        let expected = "curl http://localhost:8080/v1/users \\\n  \
                        -H 'content-type: application/json' \\\n  \
                        --data-binary '{\"reference\": \"Ann'\\''s\"}'";
        assert_eq!(Page { openapi: &openapi }.curl(&operation), expected);
    }
}
