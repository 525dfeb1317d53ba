//! `tessera schema`: the JSON schema of pipeline files.

use std::io::Write;

use anyhow::Result;
use serde_json::{Map, Value, json};
use tessera_operators::OPERATORS;
use tessera_operators::operator::PortKind;
use tessera_operators::spec::Spec;

/// Prints the JSON schema of pipeline files.
pub fn schema(out: &mut dyn Write) -> Result<()> {
    Ok(writeln!(out, "{}", serde_json::to_string_pretty(&file())?)?)
}

fn file() -> Value {
    let whole = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    let text = |about: &str| json!({ "type": "string", "description": about });
    let names: Vec<&str> = OPERATORS.iter().map(|operator| operator.name()).collect();
    let by_operator: Vec<Value> = OPERATORS.iter().map(|operator| of_operator(*operator)).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Tessera pipeline",
        "type": "object",
        "required": ["stage"],
        "additionalProperties": false,
        "properties": {
            "pipeline": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "name": text("What its folder in the store is called. Default: as the file."),
                    "store": text("Where its tables are kept: a folder, or the URL of a bucket. Default: `.tessera`."),
                    "seed": whole("What random numbers are drawn by. Default: 0."),
                    "part_rows": whole("The most rows of a part of a table. Default: by the width of its rows."),
                },
            },
            "stage": {
                "type": "object",
                "propertyNames": { "pattern": "^[a-z][a-z0-9_]*$" },
                "additionalProperties": {
                    "type": "object",
                    "required": ["op"],
                    "properties": { "op": { "enum": names, "description": "The operator." } },
                    "allOf": by_operator,
                },
            },
            "sweep": {
                "type": "object",
                "description": "Lists of values, by the stage and the key that have them: `\"clusters.k\" = [500, 1000]`.",
            },
        },
    })
}

/// What holds for a stage if it is of that operator.
fn of_operator(operator: &dyn Spec) -> Value {
    let (mut properties, mut required) = operator.properties();
    let text = json!({ "type": "string" });
    let ports = operator.inputs();
    let is_named = ports.iter().any(|port| port.kind == PortKind::Named);
    let named: Map<String, Value> =
        ports.iter().filter(|_| !is_named).map(|port| (port.name.to_owned(), text.clone())).collect();
    let shared = [
        ("op", json!({ "const": operator.name() })),
        ("input", json!({ "type": "string", "description": "The stage that it reads, if it reads one." })),
        (
            "inputs",
            json!({
                "type": "object", "description": "The stages that it reads, by the names of its inputs.",
                "properties": named, "additionalProperties": if is_named { text.clone() } else { json!(false) },
            }),
        ),
        ("keep", json!({ "type": "boolean", "description": "Whether its table is kept. Default: false for a view." })),
        ("seed", json!({ "type": "integer", "minimum": 0, "description": "In place of the pipeline's." })),
    ];
    properties.extend(shared.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    required.push(json!("op"));
    json!({
        "if": { "properties": { "op": { "const": operator.name() } } },
        "then": {
            "description": operator.summary(), "properties": properties, "required": required, "additionalProperties": false,
        },
    })
}
