//! As much of JSON Schema (2020-12) as `openapi.json` uses. A keyword that is not known here is a fault of the document:
//! nobody shall believe that it is checked.

use serde_json::{Map, Value};

/// What does not fit.
pub(super) type Faults = Vec<String>;

/// Checks values against the schemas of a document.
pub(super) struct Schemas<'a>(pub(super) &'a Value);

impl<'a> Schemas<'a> {
    /// The schema of a component.
    pub(super) fn named(&self, name: &str) -> &'a Value {
        &self.0["components"]["schemas"][name]
    }

    /// Checks a value against a component.
    pub(super) fn check(&self, name: &str, value: &Value) -> Faults {
        let mut faults = Faults::new();
        self.value(self.named(name), value, name, &mut faults);
        faults
    }

    fn value(&self, schema: &Value, value: &Value, at: &str, faults: &mut Faults) {
        let Some(schema) = schema.as_object() else {
            faults.push(format!("{at}: there is no schema"));
            return;
        };
        for (keyword, rule) in schema {
            let holds = match keyword.as_str() {
                "$ref" => {
                    let name = rule.as_str().and_then(|path| path.strip_prefix("#/components/schemas/"));
                    self.value(self.named(name.unwrap_or_default()), value, at, faults);
                    true
                }
                "oneOf" => self.fitting(rule, value, at) == 1,
                "type" => is_type(rule, value),
                "const" => rule == value,
                "enum" => rule.as_array().is_some_and(|all| all.contains(value)),
                "properties" => {
                    self.properties(rule, value, at, faults);
                    true
                }
                "required" => has_all(rule, value),
                "additionalProperties" => *rule == Value::Bool(false) && is_closed(schema, value),
                "items" => {
                    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.value(rule, item, &format!("{at}[{place}]"), faults);
                    }
                    true
                }
                "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= number(rule)),
                "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= number(rule)),
                "minimum" => integer(value).is_none_or(|value| value >= number(rule).into()),
                "maximum" => integer(value).is_none_or(|value| value <= number(rule).into()),
                "pattern" => {
                    value.as_str().is_none_or(|text| matches(rule.as_str().unwrap_or_default(), text))
                }
                "description" | "examples" | "contentMediaType" => true,
                _ => false,
            };
            if !holds {
                faults.push(format!("{at}: {keyword} {rule} against {value}"));
            }
        }
    }

    fn fitting(&self, all: &Value, value: &Value, at: &str) -> usize {
        let fits = |schema: &&Value| {
            let mut faults = Faults::new();
            self.value(schema, value, at, &mut faults);
            faults.is_empty()
        };
        all.as_array().into_iter().flatten().filter(fits).count()
    }

    fn properties(&self, rules: &Value, value: &Value, at: &str, faults: &mut Faults) {
        for (name, rule) in rules.as_object().into_iter().flatten() {
            if let Some(value) = value.get(name) {
                self.value(rule, value, &format!("{at}.{name}"), faults);
            }
        }
    }
}

fn number(rule: &Value) -> u64 {
    rule.as_u64().unwrap()
}

fn integer(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

fn is_type(rule: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    match rule {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().any(|name| name.as_str().is_some_and(is)),
        _ => false,
    }
}

fn has_all(rule: &Value, value: &Value) -> bool {
    let names = rule.as_array().into_iter().flatten();
    names.map(|name| name.as_str().unwrap()).all(|name| value.get(name).is_some())
}

fn is_closed(schema: &Map<String, Value>, value: &Value) -> bool {
    let known = |name: &String| schema["properties"].get(name).is_some();
    value.as_object().is_none_or(|object| object.keys().all(known))
}

/// Anchored patterns of literals, classes `[a-z-]`, groups with `|`, and the repetitions `+`, `{n}`, `{n,m}`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let inner = pattern.strip_prefix('^').and_then(|pattern| pattern.strip_suffix('$'));
    let inner = inner.unwrap_or_else(|| panic!("{pattern} is not anchored"));
    ends(inner.as_bytes(), text.as_bytes(), 0).contains(&text.len())
}

/// Where the pattern may end in the text if it starts at `from`.
fn ends(pattern: &[u8], text: &[u8], from: usize) -> Vec<usize> {
    let mut all = Vec::new();
    for choice in split(pattern) {
        let (mut at, mut rest) = (vec![from], choice);
        while !rest.is_empty() {
            let (atom, after) = rest.split_at(atom_len(rest));
            let (low, high, after) = repetition(after);
            at = at.into_iter().flat_map(|at| repeated(atom, text, at, low, high)).collect();
            at.sort_unstable();
            at.dedup();
            rest = after;
        }
        all.extend(at);
    }
    all
}

fn repeated(atom: &[u8], text: &[u8], from: usize, low: usize, high: usize) -> Vec<usize> {
    let (mut now, mut all) = (vec![from], Vec::new());
    for count in 0..=high {
        if count >= low {
            all.extend(&now);
        }
        now = now.into_iter().flat_map(|at| once(atom, text, at)).collect();
        now.sort_unstable();
        now.dedup();
        if now.is_empty() {
            break;
        }
    }
    all
}

fn once(atom: &[u8], text: &[u8], at: usize) -> Vec<usize> {
    match atom {
        [b'(', inner @ .., b')'] => ends(inner, text, at),
        [b'[', class @ .., b']'] => {
            text.get(at).filter(|byte| in_class(class, **byte)).map(|_| at + 1).into_iter().collect()
        }
        [literal] => text.get(at).filter(|byte| *byte == literal).map(|_| at + 1).into_iter().collect(),
        _ => panic!("{}", String::from_utf8_lossy(atom)),
    }
}

fn in_class(class: &[u8], byte: u8) -> bool {
    let mut rest = class;
    loop {
        rest = match rest {
            [low, b'-', high, after @ ..] if (*low..=*high).contains(&byte) || after.is_empty() => {
                return (*low..=*high).contains(&byte);
            }
            [_, b'-', _, after @ ..] => after,
            [one, after @ ..] => {
                if *one == byte {
                    return true;
                }
                after
            }
            [] => return false,
        };
    }
}

/// The choices of a group, none inside another group.
fn split(pattern: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in pattern.iter().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'|' if depth == 0 => {
                parts.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[start..]);
    parts
}

fn atom_len(pattern: &[u8]) -> usize {
    let end = match pattern.first() {
        Some(b'(') => pattern.iter().position(|byte| *byte == b')'),
        Some(b'[') => pattern.iter().position(|byte| *byte == b']'),
        _ => Some(0),
    };
    end.unwrap() + 1
}

fn repetition(pattern: &[u8]) -> (usize, usize, &[u8]) {
    match pattern {
        [b'+', after @ ..] => (1, usize::MAX - 1, after),
        [b'{', after @ ..] => {
            let end = after.iter().position(|byte| *byte == b'}').unwrap();
            let bounds = std::str::from_utf8(&after[..end]).unwrap();
            let (low, high) = bounds.split_once(',').unwrap_or((bounds, bounds));
            (low.parse().unwrap(), high.parse().unwrap(), &after[end + 1..])
        }
        _ => (1, 1, pattern),
    }
}

#[test]
fn patterns() {
    for (pattern, good, bad) in [
        ("^[0-9A-F]{4}$", ["0AF9", "0000"], ["0af9", "00000"]),
        ("^[a-z][a-z0-9-]{0,2}/x$", ["a/x", "a-9/x"], ["-a/x", "abcd/x"]),
        ("^([0-9A-F]{2})+$", ["AA", "AABB"], ["", "AAB"]),
        ("^(ab|c|[0-9]{2})$", ["c", "12"], ["abc", "1"]),
        ("^([0-9A-Fa-f]{2}){0,2}$", ["", "aAbB"], ["a", "aabbcc"]),
    ] {
        assert!(good.iter().all(|text| matches(pattern, text)), "{pattern}");
        assert!(!bad.iter().any(|text| matches(pattern, text)), "{pattern}");
    }
}

#[test]
fn schemas_refuse() {
    let document = serde_json::json!({"components": {"schemas": {
        "A": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 2, "maximum": 3}, "b": {"$ref": "#/components/schemas/B"}},
              "required": ["n"], "additionalProperties": false},
        "B": {"oneOf": [{"type": "string", "enum": ["x"]}, {"type": ["array", "null"], "items": {"const": 1}, "minItems": 1, "maxItems": 2}]},
        "C": {"type": "string", "format": "date"},
    }}});
    let schemas = Schemas(&document);
    for good in [r#"{"n":2}"#, r#"{"n":3,"b":"x"}"#, r#"{"n":3,"b":[1,1]}"#, r#"{"n":3,"b":null}"#] {
        assert_eq!(schemas.check("A", &serde_json::from_str(good).unwrap()), Faults::new(), "{good}");
    }
    for bad in [
        "{}",
        "[]",
        r#"{"n":1}"#,
        r#"{"n":-2}"#,
        r#"{"n":2.5}"#,
        r#"{"n":4}"#,
        r#"{"n":"2"}"#,
        r#"{"n":2,"c":1}"#,
        r#"{"n":2,"b":"y"}"#,
        r#"{"n":2,"b":[]}"#,
        r#"{"n":2,"b":[2]}"#,
        r#"{"n":2,"b":[1,1,1]}"#,
    ] {
        assert!(!schemas.check("A", &serde_json::from_str(bad).unwrap()).is_empty(), "{bad}");
    }
    assert!(!schemas.check("C", &"2026-01-01".into()).is_empty(), "a keyword that nobody checks");
    assert!(!schemas.check("D", &1.into()).is_empty(), "a schema that is not there");
}
