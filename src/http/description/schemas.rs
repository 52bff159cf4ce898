//! Schemas of documents, completed.

use bipedalnet_core::identity::FALSE_MATCH_RATES;
use serde_json::{Value, json};

use super::super::problem::ProblemType;

/// A simulated walk that is long enough for every endpoint.
const EXAMPLE_WALK: &str = include_str!("example_walk.json");

/// Examples of documents by the name of their schema.
const EXAMPLES: &str = include_str!("examples.json");

/// Adds what the types cannot say.
pub(super) fn complete_schemas(schemas: &mut Value) {
    for (name, schema) in schemas.as_object_mut().into_iter().flatten() {
        // Requests may have null for a field that is not set. Responses leave the field out.
        let is_request = name.ends_with("Document") || name.ends_with("Item");
        complete_schema(!is_request, schema);
    }
    // Must agree with `identity::UserId` and `CollectionId`.
    schemas["Id"] = json!({
        "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._~-]+$",
        "not": {"enum": [".", ".."]}, "examples": ["ann"],
    });
    let walk = &mut schemas["WalkDocument"];
    let example: Value = serde_json::from_str(EXAMPLE_WALK).expect("the file is JSON");
    walk["examples"] = json!([example]);
    let examples: Value = serde_json::from_str(EXAMPLES).expect("the file is JSON");
    for list in ["acceleration", "angular_rate"] {
        let sample = &mut walk["properties"][list]["items"];
        sample["minItems"] = 3.into();
        sample["maxItems"] = 3.into();
    }
    for (name, example) in examples.as_object().into_iter().flatten() {
        schemas[name]["examples"] = json!([example]);
    }
    for item in schemas["BatchItem"]["oneOf"].as_array_mut().into_iter().flatten() {
        item["additionalProperties"] = false.into();
    }
    // At most one of them.
    schemas["TrainDocument"]["not"] = json!({
        "required": ["epochs", "budget_seconds"],
        "properties": {"epochs": {"type": "integer"}, "budget_seconds": {"type": "integer"}},
    });
    let types = ProblemType::all().map(|kind| {
        // 0 stands for any status.
        let status = kind.status().map_or(0, |status| status.as_u16());
        json!({"type": kind.uri(), "status": status, "meaning": kind.meaning()})
    });
    let problem = &mut schemas["Problem"];
    problem["x-types"] = types.collect();
    problem["properties"]["type"]["format"] = "uri".into();
}

fn complete_schema(is_response: bool, schema: &mut Value) {
    for parts in ["allOf", "oneOf"] {
        for part in schema.get_mut(parts).and_then(Value::as_array_mut).into_iter().flatten() {
            complete_schema(is_response, part);
        }
    }
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required =
        |name: &str| required.as_array().is_some_and(|all| all.contains(&name.into()));
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        if is_response && !is_required(name) {
            never_null(property);
        }
        complete_named(name, property);
    }
}

pub(super) fn never_null(schema: &mut Value) {
    if let Some([kind, Value::String(null)]) = schema["type"].as_array().map(Vec::as_slice)
        && null == "null"
    {
        schema["type"] = kind.clone();
    } else if let Some([value, null]) = schema["oneOf"].as_array().map(Vec::as_slice)
        && null["type"] == "null"
    {
        *schema = value.clone();
    }
}

/// Restricts the values of a field or parameter that has the same meaning everywhere.
pub(super) fn complete_named(name: &str, schema: &mut Value) {
    let id = json!({"$ref": "#/components/schemas/Id"});
    let values = match name {
        // The numbers of the audit trail have the names "after" and "next", too.
        "user" | "collection" | "session" | "after" | "next" if is_text(schema) => {
            return refer(schema, id);
        }
        "among" => {
            schema["items"] = id;
            return;
        }
        // Inline, as generators for Go make constants of all enums, and two decisions have the same
        // name. utoipa adds a second part with the field's description and a wrong type.
        "decision" => {
            *schema = schema["allOf"][0].take();
            return;
        }
        "acceleration_unit" => json!(["m/s^2", "g"]),
        "acceleration_at_rest" => json!(["up", "down"]),
        "angular_rate_unit" => json!(["rad/s", "deg/s"]),
        "fmr" => {
            // Not an enum: many generators cannot make one of numbers.
            let [highest, .., lowest] = FALSE_MATCH_RATES;
            schema["minimum"] = lowest.into();
            schema["maximum"] = highest.into();
            schema["examples"] = json!([0.01]);
            return;
        }
        _ => return,
    };
    let null = schema["type"].is_array().then_some(Value::Null);
    schema["enum"] = values.as_array().into_iter().flatten().cloned().chain(null).collect();
}

fn is_text(schema: &Value) -> bool {
    let kinds = schema["type"].as_array();
    schema["type"] == "string" || kinds.is_some_and(|kinds| kinds.contains(&"string".into()))
}

/// Replaces a string schema, or one of a string or null, by a reference.
fn refer(schema: &mut Value, reference: Value) {
    let may_be_null = schema["type"].is_array();
    let description = schema["description"].take();
    *schema = if may_be_null { json!({"anyOf": [reference, {"type": "null"}]}) } else { reference };
    if description.is_string() {
        schema["description"] = description;
    }
}
