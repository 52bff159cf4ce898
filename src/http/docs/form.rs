//! An operation as a form. It is hidden until the script shows it.

use std::fmt::Write;

use serde_json::Value;

use super::html::{escaped, list, text};
use super::layout::layout;
use super::operation::{Body, Operation};
use super::page::Page;

impl<'a> Page<'a> {
    pub(super) fn form(&self, operation: &Operation<'a>) -> String {
        let mut fields = String::new();
        if operation.needs_key() {
            fields.push_str(
                "<label class=\"small\">API key or token <input class=\"key\" autocomplete=\"off\" \
                 autocapitalize=\"off\" spellcheck=\"false\"></label>",
            );
        }
        for parameter in list(&operation.value["parameters"]) {
            let is_shared = parameter["$ref"].is_string();
            let (_, parameter) = self.resolved(parameter);
            if !is_shared || parameter["name"] == "Idempotency-Key" {
                fields.push_str(&self.input(parameter));
            }
        }
        match self.body(operation) {
            None => {}
            Some(Body::File(name)) => {
                let _ = write!(
                    fields,
                    "<label>Body <textarea rows=\"8\" spellcheck=\"false\" data-file=\"/docs/{name}\">\
                     </textarea></label>"
                );
            }
            Some(Body::Example(example)) => {
                let _ = write!(
                    fields,
                    "<label>Body <textarea rows=\"4\" spellcheck=\"false\">{}</textarea></label>",
                    escaped(&layout(example))
                );
            }
        }
        if self.body(operation).is_some() {
            fields.push_str("<label>Body from a JSON file <input type=\"file\"></label>");
        }
        format!(
            "<details class=\"try\" hidden><summary>Try it</summary>\
             <form aria-label=\"Try: {summary}\" data-method=\"{method}\" data-path=\"{path}\">{fields}\
             <p><button class=\"send\">Send</button> <button type=\"button\" class=\"stop\" hidden>Stop</button></p>\
             <output></output><dl hidden></dl><pre hidden></pre></form></details>",
            summary = text(&operation.value["summary"]),
            method = escaped(&operation.method.to_uppercase()),
            path = escaped(operation.path),
        )
    }

    fn input(&self, parameter: &'a Value) -> String {
        let name = text(&parameter["name"]);
        let place = text(&parameter["in"]);
        let is_required = parameter["required"] == true;
        let attributes = format!("name=\"{name}\" data-in=\"{place}\"");
        let control = if parameter["schema"]["type"] == "boolean" {
            format!("<select {attributes}><option><option>true<option>false</select>")
        } else {
            let value = match is_required {
                true => format!(" required value=\"{}\"", escaped(&self.example_of(parameter))),
                false => String::new(),
            };
            format!("<input {attributes}{value} autocomplete=\"off\" spellcheck=\"false\">")
        };
        format!("<label class=\"small\"><span><code>{name}</code> {place}</span> {control}</label>")
    }
}
