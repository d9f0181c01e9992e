use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use wire::api::{AuthenticateRequest, CardKeysRequest, LoadRequest, MacsVerify, ScriptRequest};

use super::examples::{self, Sample};
use super::schema::Schemas;
use super::*;
use crate::policy::Operation;
use crate::problem::table::{BLOCKS, METHOD};
use crate::routes::endpoint::Endpoint;

/// The sources of the JSON types, so that a type that is added there is missed here.
const SOURCES: [&str; 2] =
    [include_str!("../../../../wire/src/api.rs"), include_str!("../../../../wire/src/api/calls.rs")];

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

/// Every operation of the document: path, method, and what stands there.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let each = |(path, item): (&String, &Value)| {
        let item = item.as_object().unwrap().clone();
        let path = path.clone();
        item.into_iter().map(move |(method, operation)| (path.clone(), method, operation)).collect::<Vec<_>>()
    };
    paths.iter().flat_map(each).collect()
}

#[test]
fn the_document_has_the_routes_and_no_others() {
    let named =
        |operations: &[Operation]| operations.iter().map(|it| it.as_str().into()).collect::<Vec<Value>>();
    let of_code: BTreeSet<_> = Endpoint::ALL
        .iter()
        .map(|it| {
            let method = if it.is_post() { "post" } else { "get" };
            (it.path().to_owned(), method.to_owned(), Value::from(named(it.operations())).to_string())
        })
        .collect();
    let of_document: BTreeSet<_> = operations(&document())
        .into_iter()
        .map(|(path, method, operation)| (path, method, operation["x-operations"].to_string()))
        .collect();
    assert_eq!(of_document, of_code);
    let granted: BTreeSet<_> = Endpoint::ALL.iter().flat_map(|it| it.operations()).collect();
    assert_eq!(granted, Operation::ALL.iter().collect(), "an operation without a route");
}

#[test]
fn every_operation_is_described_and_its_parameters_are_its_paths() {
    let (document, mut ids) = (document(), BTreeSet::new());
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["security"], json!([{"mutualTLS": []}]));
    assert_eq!(document["components"]["securitySchemes"]["mutualTLS"]["type"], "mutualTLS");
    for (path, method, operation) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}");
        let summary = operation["summary"].as_str().unwrap();
        assert!(summary.chars().any(|letter| letter >= '\u{4e00}') && summary.is_char_boundary(3), "{at}");
        assert!(operation["description"].as_str().unwrap().ends_with('.'), "{at}");
        assert_eq!(operation.get("requestBody").is_some(), method == "post", "{at}");
        assert!(operation.get("security").is_none(), "{at}: the same security for all");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let of_path: Vec<_> = parameters.iter().filter(|it| it["in"] == "path").collect();
        let name = path.split_once('{').and_then(|(_, name)| name.strip_suffix('}'));
        assert_eq!(of_path.first().and_then(|it| it["name"].as_str()), name, "{at}");
        assert!(of_path.len() <= 1 && of_path.iter().all(|it| it["required"] == true), "{at}");
        let tags = document["tags"].as_array().unwrap();
        assert!(tags.iter().any(|tag| tag["name"] == operation["tags"][0]), "{at}");
    }
}

#[test]
fn every_problem_code_stands_at_its_status_and_every_one_stands_somewhere() {
    let rows: BTreeMap<_, _> =
        BLOCKS.iter().flat_map(|(_, rows)| rows.iter()).map(|row| (row.code, row.status)).collect();
    let mut seen = BTreeSet::new();
    for (path, method, operation) in operations(&document()) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let codes = response["x-problem-codes"].as_array().cloned().unwrap_or_default();
            assert_eq!(codes.is_empty(), status == "200", "{method} {path} {status}");
            for code in &codes {
                let code = code.as_str().unwrap();
                let of_table = rows.get(code).map(ToString::to_string);
                assert_eq!(of_table.as_ref(), Some(status), "{method} {path} {code}");
                assert!(response["description"].as_str().unwrap().contains(&format!("`{code}`")));
                seen.insert(code.to_owned());
            }
            let of_problem = response["content"]["application/problem+json"]["schema"]["$ref"].as_str();
            assert_eq!(of_problem.is_some(), status != "200", "{method} {path} {status}");
            let waits = response["headers"].get("Retry-After").is_some();
            assert_eq!(waits, ["429", "503"].contains(&status.as_str()), "{method} {path} {status}");
        }
    }
    // What is answered to a method that no operation has stands in the document's description.
    assert!(document()["info"]["description"].as_str().unwrap().contains(METHOD.code));
    seen.insert(METHOD.code.to_owned());
    assert_eq!(seen, rows.keys().map(ToString::to_string).collect());
}

#[test]
fn every_json_type_has_a_schema_and_every_schema_a_type() {
    let declared = SOURCES.iter().flat_map(|source| source.lines()).filter_map(|line| {
        let rest = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "))?;
        rest.split([' ', '<', '(', ';']).next()
    });
    let declared: BTreeSet<_> = declared.map(str::to_owned).collect();
    assert!(declared.len() > 25, "{declared:?}");
    let sampled: BTreeSet<_> = examples::all().iter().map(|sample| sample.name.to_owned()).collect();
    assert_eq!(sampled, declared);
    assert_eq!(keys(&document()["components"]["schemas"]), declared);
}

/// What a schema says of one of its object forms.
fn holds_for_object(form: &Value, sample: &Sample, values: &[&Value]) {
    let name = sample.name;
    let all: BTreeSet<_> = values.iter().flat_map(|value| keys(value)).collect();
    assert_eq!(keys(&form["properties"]), all, "{name}: the schema's properties are the type's fields");
    let always = all.iter().filter(|key| values.iter().all(|value| value.get(key).is_some()));
    let required = form["required"].as_array().into_iter().flatten();
    let required: BTreeSet<_> = required.map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(required, always.cloned().collect(), "{name}: what is required is what is always there");
    for value in values {
        let mut more = (*value).clone();
        more["zz"] = json!(1);
        let closed = (sample.through)(&more).is_err();
        assert_eq!(form["additionalProperties"] == json!(false), closed, "{name}: closed in both or in none");
        for field in &required {
            let mut less = (*value).clone();
            less.as_object_mut().unwrap().remove(field);
            let nullable = form["properties"][field]["type"].is_array();
            assert_eq!((sample.through)(&less).is_ok(), nullable, "{name}.{field}");
        }
    }
}

#[test]
fn every_type_and_its_schema_say_the_same() {
    let document = document();
    let schemas = Schemas(&document);
    for sample in examples::all() {
        let schema = schemas.named(sample.name);
        for value in &sample.values {
            assert_eq!(schemas.check(sample.name, value), Vec::<String>::new());
            assert_eq!((sample.through)(value).as_ref(), Ok(value), "{}", sample.name);
        }
        let Some(forms) = schema.get("oneOf") else {
            holds_for_object(schema, &sample, &sample.values.iter().collect::<Vec<_>>());
            continue;
        };
        // Each form has its value.
        let forms = forms.as_array().unwrap();
        assert_eq!(forms.len(), sample.values.len(), "{}", sample.name);
        for form in forms.iter().filter(|form| form.get("$ref").is_none()) {
            let of_form = |value: &&Value| {
                let kind = &form["properties"]["kind"]["const"];
                if kind.is_null() { keys(value) == keys(&form["properties"]) } else { value["kind"] == *kind }
            };
            let values: Vec<_> = sample.values.iter().filter(of_form).collect();
            assert_eq!(values.len(), 1, "{}", sample.name);
            holds_for_object(form, &sample, &values);
        }
    }
}

#[test]
fn every_body_has_examples_and_they_go_through_the_types() {
    let document = document();
    let schemas = Schemas(&document);
    let samples = examples::all();
    let mut bodies = BTreeSet::from(["Problem".to_owned(), "Trailer".to_owned()]);
    for (_, _, operation) in operations(&document) {
        let ok = &operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        let sent = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        for name in [ok, sent].into_iter().filter_map(Value::as_str) {
            bodies.insert(name.rsplit('/').next().unwrap().to_owned());
        }
    }
    assert!(bodies.len() > 15, "{bodies:?}");
    for name in &bodies {
        let sample = samples.iter().find(|sample| sample.name == name).unwrap();
        let shown = schemas.named(name)["examples"].as_array().cloned().unwrap_or_default();
        assert!(!shown.is_empty(), "{name} has no example");
        for example in shown {
            assert_eq!(schemas.check(name, &example), Vec::<String>::new());
            assert_eq!((sample.through)(&example), Ok(example.clone()), "{name}");
        }
    }
}

/// The forms of fields: what the schema takes, the code takes, and the other way round.
#[test]
fn patterns_are_the_codes_own() {
    let document = document();
    let schemas = Schemas(&document);
    let takes = |name: &str, value: &Value| match name {
        "CardKeysRequest" => serde_json::from_value::<CardKeysRequest>(value.clone())
            .is_ok_and(|it| it.to_frame("spiffe://a/b").is_ok()),
        "LoadRequest" => serde_json::from_value::<LoadRequest>(value.clone())
            .is_ok_and(|it| it.to_frame("spiffe://a/b").is_ok()),
        "ScriptRequest" => serde_json::from_value::<ScriptRequest>(value.clone())
            .is_ok_and(|it| it.to_frame("spiffe://a/b").is_ok()),
        "AuthenticateRequest" => serde_json::from_value::<AuthenticateRequest>(value.clone())
            .is_ok_and(|it| it.to_frame("spiffe://a/b").is_ok()),
        _ => serde_json::from_value::<MacsVerify>(value.clone()).is_ok(),
    };
    let mut tried = 0;
    for name in ["CardKeysRequest", "LoadRequest", "ScriptRequest", "AuthenticateRequest", "MacsVerify"] {
        let sample = examples::all().into_iter().find(|sample| sample.name == name).unwrap();
        for value in &sample.values {
            assert!(takes(name, value), "{name} {value}");
            for field in keys(value) {
                for other in others(&value[&field]) {
                    let mut changed = value.clone();
                    changed[&field] = other;
                    let fits = schemas.check(name, &changed).is_empty();
                    assert_eq!(fits, takes(name, &changed), "{name}.{field}: {}", changed[&field]);
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 200, "{tried}");
}

/// Values near this one, most of them wrong.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) => {
            let longer = format!("{text}{}", text.chars().last().unwrap());
            let shorter: String = text.chars().skip(1).collect();
            let all = [
                longer,
                shorter,
                text.to_lowercase(),
                text.to_uppercase(),
                format!("{text} "),
                text.replacen('5', "G", 1),
            ];
            all.into_iter().map(Value::from).chain([Value::Null, json!(1)]).collect()
        }
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            vec![
                json!(number.saturating_sub(1)),
                json!(number + 1),
                json!(-1),
                json!(1.5),
                json!("1"),
                Value::Null,
            ]
        }
        Value::Array(_) => vec![json!("x"), json!([1]), Value::Null],
        _ => vec![json!("x"), json!(1), json!([]), Value::Null],
    }
}
