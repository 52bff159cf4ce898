//! An operation as a curl line that works as it is.

use super::html::escaped;
use super::layout::layout;
use super::operation::{Body, Operation};
use super::page::Page;

impl<'a> Page<'a> {
    /// The curl line. It takes the API key from `$key`.
    pub(super) fn curl(&self, operation: &Operation<'a>) -> String {
        let server = self.server();
        let mut path = operation.path.to_owned();
        let mut has_idempotency_key = false;
        for parameter in self.parameters_of(operation) {
            let name = parameter["name"].as_str().unwrap_or_default();
            path = path.replace(&format!("{{{name}}}"), &self.example_of(parameter));
            has_idempotency_key |= name == "Idempotency-Key";
        }
        let body = self.body(operation);
        let mut words = vec![format!("curl {server}{path}")];
        match operation.method {
            "get" => {}
            "post" if body.is_some() => {}
            method => words.push(format!("-X {}", method.to_uppercase())),
        }
        let answers = &operation.value["responses"]["200"]["content"];
        if answers["text/event-stream"].is_object() {
            words.push("--no-buffer".to_owned());
        }
        if answers["application/octet-stream"].is_object() {
            words.push("-o model.safetensors".to_owned());
        }
        if operation.needs_key() {
            words.push("-H \"authorization: Bearer $key\"".to_owned());
        }
        // PUT and DELETE may be retried without one.
        if has_idempotency_key && operation.method == "post" {
            words.push(format!("-H 'idempotency-key: {}-1'", operation.id()));
        }
        if body.is_some() {
            words.push("-H 'content-type: application/json'".to_owned());
        }
        let mut before = String::new();
        match body {
            None => {}
            Some(Body::File(name)) => {
                before = format!("curl -O {server}/docs/{name}\n");
                words.push(format!("--data-binary @{name}"));
            }
            Some(Body::Example(example)) => {
                let quoted = layout(example).replace('\'', r"'\''");
                words.push(format!("--data-binary '{quoted}'"));
            }
        }
        before + &words.join(" \\\n  ")
    }

    /// A block of commands. The script puts the page's own address where the server's is.
    pub(super) fn shell(&self, commands: &str) -> String {
        let server = escaped(self.server());
        let mut html = escaped(commands);
        if !server.is_empty() {
            html = html.replace(&server, &format!("<span class=\"server\">{server}</span>"));
        }
        format!("<div class=\"shell\"><pre><code>{html}</code></pre></div>")
    }

    fn server(&self) -> &'a str {
        self.openapi["servers"][0]["url"].as_str().unwrap_or_default()
    }
}
