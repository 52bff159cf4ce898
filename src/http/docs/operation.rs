//! The section of an operation.

use std::fmt::Write;

use serde_json::Value;

use super::html::{entries, escaped, list, pre, prose, text};
use super::layout::layout;
use super::page::Page;
use super::walks;

pub(super) struct Operation<'a> {
    pub path: &'a str,
    pub method: &'a str,
    pub value: &'a Value,
}

/// What an operation is tried with.
pub(super) enum Body<'a> {
    /// A file below `/docs`.
    File(&'static str),
    Example(&'a Value),
}

impl<'a> Operation<'a> {
    pub fn id(&self) -> &'a str {
        self.value["operationId"].as_str().unwrap_or_default()
    }

    pub fn needs_key(&self) -> bool {
        list(&self.value["security"]).next().is_some()
    }

    fn access(&self) -> String {
        let security = &self.value["security"];
        let access = match security[0]["api_key"].as_array().map(Vec::as_slice) {
            None => "requires no API key".to_owned(),
            Some([]) => "requires an API key".to_owned(),
            Some([scope, ..]) => format!("requires the scope <code>{}</code>", text(scope)),
        };
        let takes_token = list(security).any(|scheme| scheme["user_token"].is_array());
        access + if takes_token { ", of a key or a token" } else { "" }
    }
}

impl<'a> Page<'a> {
    pub(super) fn operation(&self, operation: &Operation<'a>) -> String {
        let &Operation { path, method, value } = operation;
        let mut html = format!(
            "<section id=\"{id}\"><h3><a href=\"#{id}\">{summary}</a></h3>\
             <p class=\"route\"><b class=\"{method}\">{method}</b> <code>{path}</code> \
             <span>{access}</span></p>{description}",
            id = escaped(operation.id()),
            summary = text(&value["summary"]),
            path = escaped(path),
            method = escaped(method),
            access = operation.access(),
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
            // A curl line without a file has the example.
            if let Some(Body::File(_)) = self.body(operation) {
                html.push_str(&self.example_of_body(body));
            }
        }
        let _ = write!(html, "<h4>Request</h4>{}", self.shell(&self.curl(operation)));
        html.push_str("<h4>Responses</h4>");
        let mut shown = None;
        for (status, response) in entries(&value["responses"]) {
            html.push_str(&self.response(status, response, &mut shown));
        }
        html + &self.form(operation) + "</section>"
    }

    /// A response. Its example is left out if it was shown before.
    fn response(&self, status: &str, response: &'a Value, shown: &mut Option<&'a Value>) -> String {
        if status == "default" {
            return "<p class=\"answer\"><b>other</b> <a href=\"#problems\">An error</a></p>"
                .to_owned();
        }
        let (_, response) = self.resolved(response);
        let content = &response["content"];
        let example = match shown.replace(content) == Some(content) {
            true => String::new(),
            false => self.example_of_body(content),
        };
        format!(
            "<p class=\"answer\"><b>{}</b> {}</p>{}{example}",
            escaped(status),
            text(&response["description"]),
            self.content(content),
        )
    }

    /// The schema of a body. It is the same in all formats.
    pub(super) fn content(&self, content: &'a Value) -> String {
        let Some((media_type, body)) = entries(content).last() else { return String::new() };
        let kind = self.kind(&body["schema"]);
        let note = match content.as_object().is_some_and(|all| all.len() > 1) {
            true => "JSON or CBOR".to_owned(),
            false => escaped(media_type),
        };
        let (_, schema) = self.resolved(&body["schema"]);
        let fields = prose(&schema["description"]) + &self.outline(schema, 0);
        if fields.is_empty() {
            return format!("<p>{kind} <small>{note}</small></p>");
        }
        format!("<details><summary>{kind} <small>{note}</small></summary>{fields}</details>")
    }

    /// The example of a body.
    pub(super) fn example_of_body(&self, content: &'a Value) -> String {
        let Some((_, body)) = entries(content).next() else { return String::new() };
        let (_, schema) = self.resolved(&body["schema"]);
        match (&body["example"], &schema["examples"][0]) {
            (Value::String(example), _) => pre(example.trim_end()),
            (_, Value::Null) => String::new(),
            (_, example) => pre(&layout(example)),
        }
    }

    pub(super) fn parameters_of(
        &self,
        operation: &Operation<'a>,
    ) -> impl Iterator<Item = &'a Value> {
        list(&operation.value["parameters"]).map(|parameter| self.resolved(parameter).1)
    }

    /// A value that a parameter may have. Empty if none is known.
    pub(super) fn example_of(&self, parameter: &'a Value) -> String {
        let (_, schema) = self.resolved(&parameter["schema"]);
        match (&parameter["example"], &schema["examples"][0]) {
            (Value::Null, Value::Null) => String::new(),
            (Value::Null, example) | (example, _) => {
                example.as_str().map_or_else(|| example.to_string(), str::to_owned)
            }
        }
    }

    pub(super) fn body(&self, operation: &Operation<'a>) -> Option<Body<'a>> {
        let body = &operation.value["requestBody"]["content"]["application/json"];
        let (_, schema) = self.resolved(&body["schema"]);
        if let Some(name) = walks::file_for(operation.id()) {
            return Some(Body::File(name));
        }
        let example = &schema["examples"][0];
        (!example.is_null()).then_some(Body::Example(example))
    }
}
