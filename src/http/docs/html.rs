//! Small pieces of HTML, and iterators over JSON.

use serde_json::Value;

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

pub(super) fn field(
    name: &str,
    kind: &str,
    required: bool,
    description: &Value,
    inner: &str,
) -> String {
    let required = if required { " <em>required</em>" } else { "" };
    let inner = match inner {
        "" => String::new(),
        inner => format!("<details><summary>{kind}</summary>{inner}</details>"),
    };
    let kind = if inner.is_empty() { format!(" <i>{kind}</i>") } else { String::new() };
    format!("<li><code>{name}</code>{kind}{required}{}{inner}</li>", prose(description))
}

pub(super) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A JSON string, escaped.
pub(super) fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            letter => html.push(letter),
        }
    }
    html
}

/// A block of text as it is.
pub(super) fn pre(text: &str) -> String {
    format!("<pre><code>{}</code></pre>", escaped(text))
}

/// Turns a description into paragraphs.
pub(super) fn prose(description: &Value) -> String {
    let paragraphs = description.as_str().into_iter().flat_map(|text| text.split("\n\n"));
    paragraphs.map(|paragraph| format!("<p>{}</p>", inline(paragraph))).collect()
}

/// Turns backticks into code.
pub(super) fn inline(text: &str) -> String {
    let mut html = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escaped(part);
        match index % 2 {
            0 => html.push_str(&part),
            _ => html.extend(["<code>", &part, "</code>"]),
        }
    }
    html
}
