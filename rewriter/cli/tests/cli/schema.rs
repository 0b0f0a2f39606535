//! Just enough of JSON Schema (draft 2020-12) for docs/schema: a keyword that is not known here is an error,
//! so that no rule of a schema is passed over.

use serde_json::Value;

/// What is wrong with `value` by the part of `schema` at `pointer`; empty if nothing is.
pub(crate) fn errors(schema: &Value, pointer: &str, value: &Value) -> Vec<String> {
    let part = schema.pointer(pointer).expect("a part of the schema");
    let mut errors = Vec::new();
    check(schema, part, value, "", &mut errors);
    errors
}

fn check(root: &Value, part: &Value, value: &Value, place: &str, errors: &mut Vec<String>) {
    let error = |rule: &str| format!("{place}: {rule} does not hold for {value}");
    let rules = part.as_object().expect("a schema is an object");
    for (keyword, rule) in rules {
        match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "properties" => {}
            "$ref" => {
                let target = rule.as_str().and_then(|name| name.strip_prefix('#')).expect("a local reference");
                check(root, root.pointer(target).expect("what it refers to"), value, place, errors);
            }
            "const" if value == rule => {}
            "enum" if rule.as_array().expect("a list").contains(value) => {}
            "type" => {
                let names: Vec<&str> = match rule {
                    Value::Array(names) => names.iter().map(|name| name.as_str().expect("a name")).collect(),
                    name => vec![name.as_str().expect("a name")],
                };
                if !names.iter().any(|name| is_of(value, name)) {
                    errors.push(error("type"));
                }
            }
            "pattern" => {
                assert_eq!(rule, "^[0-9a-f]{64}$", "the only pattern that is known here");
                let fits = |text: &str| text.len() == 64 && text.chars().all(|c| "0123456789abcdef".contains(c));
                if !value.as_str().is_none_or(fits) {
                    errors.push(error("pattern"));
                }
            }
            "minimum" if value.as_u64() >= rule.as_u64() => {}
            "minItems" if value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().expect("a number")) => {}
            "maxItems" if value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().expect("a number")) => {}
            "required" => {
                for name in rule.as_array().expect("a list") {
                    if value.is_object() && value.get(name.as_str().expect("a name")).is_none() {
                        errors.push(error(&format!("required {name}")));
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(rule, false, "nothing else is known here");
                for name in value.as_object().into_iter().flat_map(|object| object.keys()) {
                    if part["properties"].get(name).is_none() {
                        errors.push(error(&format!("no other property than those named, so not {name},")));
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{place}/{index}"), errors);
                }
            }
            "anyOf" => {
                let holds = |one: &Value| {
                    let mut inner = Vec::new();
                    check(root, one, value, place, &mut inner);
                    inner.is_empty()
                };
                if !rule.as_array().expect("a list").iter().any(holds) {
                    errors.push(error("anyOf"));
                }
            }
            "const" | "enum" | "minimum" | "minItems" | "maxItems" => errors.push(error(keyword)),
            _ => unreachable!("{keyword} is not known here"),
        }
    }
    for (name, rule) in part["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            check(root, rule, value, &format!("{place}/{name}"), errors);
        }
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => unreachable!("{name} is no type that is known here"),
    }
}
