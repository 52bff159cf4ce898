//! JSON for readers: short lists and objects on one line.

use serde_json::Value;

/// Most characters on a line, if the values allow it.
const WIDTH: usize = 80;

/// Several lists of this length share a line.
const SHORT: usize = 24;

pub(super) fn layout(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, 0, &mut text);
    text
}

/// Writes a value that begins at a column. Its further lines are indented.
fn write(value: &Value, indent: usize, column: usize, text: &mut String) {
    let all = line(value);
    if column + all.len() <= WIDTH {
        text.push_str(&all);
        return;
    }
    let margin = format!("\n{:1$}", "", indent + 2);
    match value {
        Value::Array(items) if items.iter().all(is_short) => {
            text.push('[');
            let mut column = WIDTH;
            for (index, item) in items.iter().enumerate() {
                let item = line(item) + if index + 1 < items.len() { "," } else { "" };
                if column + 1 + item.len() > WIDTH {
                    text.push_str(&margin);
                    column = indent + 2;
                } else {
                    text.push(' ');
                    column += 1;
                }
                column += item.len();
                text.push_str(&item);
            }
            text.extend([&margin[..=indent], "]"]);
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.extend([if index > 0 { "," } else { "" }, &margin]);
                write(item, indent + 2, indent + 2, text);
            }
            text.extend([&margin[..=indent], "]"]);
        }
        Value::Object(entries) => {
            text.push('{');
            for (index, (name, item)) in entries.iter().enumerate() {
                let name = format!("{}: ", Value::from(name.as_str()));
                text.extend([if index > 0 { "," } else { "" }, &margin, &name]);
                write(item, indent + 2, indent + 2 + name.len(), text);
            }
            text.extend([&margin[..=indent], "}"]);
        }
        _ => text.push_str(&all),
    }
}

fn is_short(value: &Value) -> bool {
    !value.is_object() && line(value).len() <= SHORT
}

/// A value on one line.
fn line(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(line).collect::<Vec<_>>().join(", "))
        }
        Value::Object(entries) => {
            let entry =
                |(name, value): (&String, _)| format!("{}: {}", Value::from(&**name), line(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn short_values_share_a_line() {
        let long = "a word ".repeat(8);
        let sample = [-12.5, 0.1, 9.8];
        let value = json!({
            "short": {"user": "ann", "walks": [1, 2]},
            "samples": [sample, sample, sample, sample, sample],
            "users": [{"text": long}, {"text": long}, {"empty": [], "text": "\"quoted\""}],
        });
        let text = layout(&value);
        let expected = r#"{
  "short": {"user": "ann", "walks": [1, 2]},
  "samples": [
    [-12.5, 0.1, 9.8], [-12.5, 0.1, 9.8], [-12.5, 0.1, 9.8], [-12.5, 0.1, 9.8],
    [-12.5, 0.1, 9.8]
  ],
  "users": [
    {"text": "LONG"},
    {"text": "LONG"},
    {"empty": [], "text": "\"quoted\""}
  ]
}"#;
        assert_eq!(text, expected.replace("LONG", &long));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
