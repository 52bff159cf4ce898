//! Schemas as nested lists of fields.

use std::fmt::Write;

use serde_json::Value;

use super::html::{entries, escaped, field, list, text};
use super::page::Page;

/// Nesting that is shown. A recursive schema would have no end.
const MAX_DEPTH: usize = 8;

impl<'a> Page<'a> {
    /// The fields of a schema, nested. Empty if it has none.
    pub(super) fn outline(&self, schema: &'a Value, depth: usize) -> String {
        if depth == MAX_DEPTH {
            return String::new();
        }
        let (_, schema) = self.resolved(schema);
        if schema["items"].is_object() {
            return self.outline(&schema["items"], depth + 1);
        }
        let mut html = String::new();
        let mut rows = String::new();
        for part in std::iter::once(schema).chain(list(&schema["allOf"])) {
            let (_, part) = self.resolved(part);
            let required = |name: &str| list(&part["required"]).any(|required| required == name);
            let (first, then): (Vec<_>, Vec<_>) =
                entries(&part["properties"]).partition(|(name, _)| required(name));
            for (name, property) in first.into_iter().chain(then) {
                let inner = self.outline(property, depth + 1);
                let (_, target) = self.resolved(property);
                let description = match &property["description"] {
                    Value::Null => &target["description"],
                    own => own,
                };
                let kind = self.kind(property);
                rows.push_str(&field(&escaped(name), &kind, required(name), description, &inner));
            }
        }
        if !rows.is_empty() {
            let _ = write!(html, "<ul class=\"fields\">{rows}</ul>");
        }
        for choice in alternatives(schema) {
            html.push_str(&self.outline(choice, depth + 1));
        }
        html
    }

    /// The type of a value, in a few words.
    pub(super) fn kind(&self, schema: &Value) -> String {
        let (name, schema) = self.resolved(schema);
        let choices: Vec<&Value> = alternatives(schema).collect();
        if !choices.is_empty() && name.is_none() {
            let kinds: Vec<String> = choices.into_iter().map(|choice| self.kind(choice)).collect();
            return kinds.join(" or ");
        }
        if schema["allOf"].is_array() && name.is_none() {
            return self.kind(&schema["allOf"][0]);
        }
        if schema["enum"].is_array() {
            let values = list(&schema["enum"]).filter(|value| !value.is_null());
            let values: Vec<String> = values
                .map(|value| {
                    format!(
                        "<code>{}</code>",
                        value.as_str().map_or_else(|| value.to_string(), escaped)
                    )
                })
                .collect();
            return values.join(" or ");
        }
        if schema["items"].is_object() {
            let count = span(&schema["minItems"], &schema["maxItems"]);
            return format!("list of {count}{}", self.kind(&schema["items"]));
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.first().map(text).unwrap_or_default(),
            kind => text(kind),
        };
        match name {
            Some(name) if kind != "string" => format!("<code>{}</code>", escaped(name)),
            _ => kind + &bounds(schema),
        }
    }

    /// Follows a reference. Returns the name of its target, if it is one.
    pub(super) fn resolved(&self, value: &'a Value) -> (Option<&'a str>, &'a Value) {
        let Some(reference) = value["$ref"].as_str() else { return (None, value) };
        let target = self.openapi.pointer(reference.trim_start_matches('#'));
        (reference.rsplit('/').next(), target.unwrap_or(&Value::Null))
    }
}

/// The alternatives of a schema, without null.
fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    list(&schema["oneOf"]).chain(list(&schema["anyOf"])).filter(|choice| choice["type"] != "null")
}

/// The limits of a number or a string, for after its type.
fn bounds(schema: &Value) -> String {
    let mut words = String::new();
    let range = span(&schema["minimum"], &schema["maximum"]);
    if !range.is_empty() {
        let _ = write!(words, ", {}", range.trim_end());
    }
    if !schema["exclusiveMinimum"].is_null() {
        let _ = write!(words, ", more than {}", schema["exclusiveMinimum"]);
    }
    let length = span(&schema["minLength"], &schema["maxLength"]);
    if !length.is_empty() {
        let _ = write!(words, ", {length}characters");
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let _ = write!(words, ", <code>{}</code>", escaped(pattern));
    }
    words
}

/// A range for before a noun, or nothing.
fn span(least: &Value, most: &Value) -> String {
    match (least, most) {
        (Value::Null, Value::Null) => String::new(),
        (least, most) if least == most => format!("{least} "),
        (least, Value::Null) => format!("{least} or more "),
        (Value::Null, most) => format!("up to {most} "),
        (least, most) => format!("{least} to {most} "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
