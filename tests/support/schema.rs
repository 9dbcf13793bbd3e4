//! Holds answers against the OpenAPI document, with the part of JSON Schema (2020-12) that the document uses.
//! A keyword that is not known here fails the test rather than go unchecked.

use super::http::Reply;
use mqs::domain::id::{LeaseId, NodeId};
use serde_json::{Map, Value};
use std::sync::LazyLock;

pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../src/inbound/http/openapi.json")).expect("valid JSON")
});

/// Panics unless the document says that this request may have this answer.
pub fn documented(method: &str, path: &str, body: &str, reply: &Reply) {
    let what = format!("{method} {path} -> {} {}", reply.status, reply.body);
    let path = path.split('?').next().unwrap_or("");
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let Some(item) = paths.iter().find(|(template, _)| fits(template, path)).map(|(_, item)| item) else {
        return assert_eq!(reply.problem()["code"], "NOPATH", "{what}");
    };
    let Some(operation) = item.get(method.to_ascii_lowercase()) else {
        return assert_eq!(reply.problem()["code"], "METHOD", "{what}");
    };
    let response = resolve(&operation["responses"][reply.status.to_string()]);
    assert!(response.is_object(), "an answer that the document does not have: {what}");
    for name in response["headers"].as_object().into_iter().flat_map(Map::keys) {
        assert!(reply.header(&name.to_ascii_lowercase()).is_some(), "without {name}: {what}");
    }
    match response["content"].as_object() {
        None => assert_eq!(reply.body, "", "{what}"),
        Some(content) => {
            let said = reply.header("content-type").expect("a content type");
            let essence = said.split(';').next().unwrap_or("");
            let schema = &content.get(essence).unwrap_or_else(|| panic!("{said}: {what}"))["schema"];
            if essence.ends_with("json") {
                let value = serde_json::from_str(&reply.body).expect("JSON");
                check(schema, &value).unwrap_or_else(|wrong| panic!("{wrong}: {what}"));
            }
        }
    }
    if reply.status < 300 && !body.is_empty() {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let value = serde_json::from_str(body).expect("JSON");
        check(schema, &value).unwrap_or_else(|wrong| panic!("{wrong}, but taken: {method} {path} {body}"));
    }
}

fn fits(template: &str, path: &str) -> bool {
    if let Some(rest) = template.strip_suffix("{call_id}") {
        return path.strip_prefix(rest).is_some_and(|call_id| !call_id.is_empty());
    }
    let (mine, its): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    mine.len() == its.len()
        && mine.iter().zip(&its).all(|(m, i)| m == i || (m.starts_with('{') && !i.is_empty()))
}

pub fn resolve(value: &Value) -> &Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(place) => {
            let pointer = place.strip_prefix('#').expect("a place in this document");
            resolve(DOCUMENT.pointer(pointer).unwrap_or_else(|| panic!("{place} is not there")))
        }
        None => value,
    }
}

/// What is wrong with a value, and where.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    check_at("$", schema, value)
}

fn check_at(at: &str, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolve(schema).as_object().expect("a schema");
    for (keyword, wanted) in schema {
        let fits = match keyword.as_str() {
            "description" | "default" => true,
            "type" => match wanted {
                Value::Array(any) => any.iter().any(|t| is(t, value)),
                one => is(one, value),
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().expect("a list").contains(value),
            "minimum" => value.as_f64().is_none_or(|n| n >= number(wanted)),
            "maximum" => value.as_f64().is_none_or(|n| n <= number(wanted)),
            "minLength" => value.as_str().is_none_or(|s| s.chars().count() as f64 >= number(wanted)),
            "maxLength" => value.as_str().is_none_or(|s| s.chars().count() as f64 <= number(wanted)),
            "minItems" => value.as_array().is_none_or(|a| a.len() as f64 >= number(wanted)),
            "maxItems" => value.as_array().is_none_or(|a| a.len() as f64 <= number(wanted)),
            "pattern" => value.as_str().is_none_or(|s| matches(wanted.as_str().expect("a text"), s)),
            "required" => value.as_object().is_none_or(|o| {
                wanted
                    .as_array()
                    .expect("a list")
                    .iter()
                    .all(|name| o.contains_key(name.as_str().expect("a text")))
            }),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check_at(&format!("{at}[{i}]"), wanted, item)?;
                }
                true
            }
            "properties" => {
                for (name, schema) in wanted.as_object().expect("schemas") {
                    if let Some(member) = value.get(name) {
                        check_at(&format!("{at}.{name}"), schema, member)?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, member) in value.as_object().into_iter().flatten() {
                    match wanted {
                        _ if known.is_some_and(|k| k.contains_key(name)) => {}
                        Value::Bool(allowed) if !allowed => {
                            return Err(format!("{at}.{name} is not in the schema"));
                        }
                        Value::Bool(_) => {}
                        schema => check_at(&format!("{at}.{name}"), schema, member)?,
                    }
                }
                true
            }
            unknown => panic!("{at}: keyword {unknown} is not checked"),
        };
        if !fits {
            return Err(format!("{at}: {value} is against {keyword} {wanted}"));
        }
    }
    Ok(())
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a type's name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("type {other}"),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// The patterns of the document are the spellings of two types.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$" => text.parse::<NodeId>().is_ok(),
        "^[0-9a-f]{32}$" => text.parse::<LeaseId>().is_ok(),
        other => panic!("pattern {other} is not checked"),
    }
}
