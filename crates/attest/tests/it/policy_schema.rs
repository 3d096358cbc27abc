//! `docs/policy.schema.json` and the reader agree: what the reader accepts the schema accepts, and what has a wrong form the
//! schema refuses.
//!
//! The schema is written by hand, because the reader is: it knows places, near misses and reasons that no derived schema
//! has. It is judged by the small part of JSON Schema below, which refuses a keyword that it does not know, so that no rule
//! of the schema is passed over. A library for all of it would bring some thirty crates for this one test.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use attest::PolicyDocument;
use proptest::prelude::*;
use serde_json::Value;

use crate::policy_document::{FORM, azure, nitro, snp, tdx, vtpm};

struct Schema(Value);

impl Schema {
    fn read() -> Self {
        Self(serde_json::from_str(include_str!("../../../../docs/policy.schema.json")).unwrap())
    }

    fn accepts(&self, value: &Value) -> Result<(), String> {
        self.check(&self.0, value, "")
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{at}: {what}"));
        let schema = schema.as_object().unwrap();
        let count = |limit: &Value| usize::try_from(limit.as_u64().unwrap()).unwrap();
        // what the other keywords are about depends on the type
        let mut keywords: Vec<_> = schema.iter().collect();
        keywords.sort_by_key(|(keyword, _)| *keyword != "type");
        for (keyword, rule) in keywords {
            match keyword.as_str() {
                "$schema" | "title" | "description" | "$defs" => {}
                // read with the keyword that decides between them
                "then" | "else" => assert!(schema.contains_key("if")),
                "if" => {
                    let branch = match self.check(rule, value, at) {
                        Ok(()) => "then",
                        Err(_) => "else",
                    };
                    self.check(&schema[branch], value, at)?;
                }
                "$ref" => {
                    let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                    self.check(&self.0["$defs"][name], value, at)?;
                }
                "type" => {
                    let is = match rule.as_str().unwrap() {
                        "object" => value.is_object(),
                        "array" => value.is_array(),
                        "string" => value.is_string(),
                        "boolean" => value.is_boolean(),
                        "integer" => value.is_i64() || value.is_u64(),
                        other => panic!("type {other}"),
                    };
                    if !is {
                        return wrong(&format!("is no {rule}"));
                    }
                }
                "enum" => {
                    if !rule.as_array().unwrap().contains(value) {
                        return wrong("is not listed");
                    }
                }
                "minimum" if value.as_i64() < rule.as_i64() => return wrong("is too low"),
                "maximum" if value.as_i64() > rule.as_i64() => return wrong("is too high"),
                "minItems" if value.as_array().unwrap().len() < count(rule) => {
                    return wrong("has too few items");
                }
                "maxItems" if value.as_array().unwrap().len() > count(rule) => {
                    return wrong("has too many items");
                }
                "minimum" | "maximum" | "minItems" | "maxItems" => {}
                "uniqueItems" => {
                    let items = value.as_array().unwrap();
                    let different: BTreeSet<String> = items.iter().map(Value::to_string).collect();
                    if different.len() != items.len() {
                        return wrong("lists an item twice");
                    }
                }
                "pattern" => {
                    if !matches(rule.as_str().unwrap(), value.as_str().unwrap_or_default()) {
                        return wrong("has another pattern");
                    }
                }
                "prefixItems" => {
                    for (rule, item) in rule
                        .as_array()
                        .unwrap()
                        .iter()
                        .zip(value.as_array().unwrap())
                    {
                        self.check(rule, item, at)?;
                    }
                }
                "items" => {
                    let first = schema
                        .get("prefixItems")
                        .map_or(0, |items| items.as_array().unwrap().len());
                    for (n, item) in value.as_array().unwrap().iter().enumerate().skip(first) {
                        self.check(rule, item, &format!("{at}[{n}]"))?;
                    }
                }
                "required" => {
                    for name in rule.as_array().unwrap() {
                        if value.get(name.as_str().unwrap()).is_none() {
                            return wrong(&format!("{name} is missing"));
                        }
                    }
                }
                "properties" => {
                    for (name, rule) in rule.as_object().unwrap() {
                        if let Some(value) = value.get(name) {
                            self.check(rule, value, &format!("{at}.{name}"))?;
                        }
                    }
                }
                "additionalProperties" => {
                    assert_eq!(rule, &Value::Bool(false));
                    let known = schema["properties"].as_object().unwrap();
                    for name in value
                        .as_object()
                        .into_iter()
                        .flat_map(|object| object.keys())
                    {
                        if !known.contains_key(name) {
                            return wrong(&format!("{name} is unknown"));
                        }
                    }
                }
                "anyOf" => {
                    let ways = rule.as_array().unwrap();
                    if !ways.iter().any(|way| self.check(way, value, at).is_ok()) {
                        return wrong("is none of the forms");
                    }
                }
                "allOf" => {
                    for rule in rule.as_array().unwrap() {
                        self.check(rule, value, at)?;
                    }
                }
                other => panic!("{at}: this test does not know the keyword {other}"),
            }
        }
        Ok(())
    }
}

/// `^literal[class]{n,m}$`, which is what the schema has.
fn matches(pattern: &str, text: &str) -> bool {
    let inner = pattern
        .strip_prefix('^')
        .unwrap()
        .strip_suffix('$')
        .unwrap();
    let (literal, class) = inner.split_once('[').unwrap();
    let (class, count) = class.split_once("]{").unwrap();
    let count = count.strip_suffix('}').unwrap();
    let (least, most) = count.split_once(',').unwrap_or((count, count));
    let counts: (usize, usize) = (least.parse().unwrap(), most.parse().unwrap());
    let Some(rest) = text.strip_prefix(literal) else {
        return false;
    };
    let class: Vec<char> = class.chars().collect();
    let in_class = |c: char| {
        let mut left = &class[..];
        while let Some((first, rest)) = left.split_first() {
            if let ['-', last, ..] = rest {
                if (*first..=*last).contains(&c) {
                    return true;
                }
                left = &rest[2..];
            } else {
                if *first == c {
                    return true;
                }
                left = rest;
            }
        }
        false
    };
    (counts.0..=counts.1).contains(&rest.chars().count()) && rest.chars().all(in_class)
}

/// The JSON value of a YAML document; hexadecimal words that look like numbers are texts, as JSON has them.
fn value(yaml: &str) -> Result<Value, String> {
    fn of(node: &attest::yaml::Node, yaml: &str) -> Value {
        use attest::yaml::Kind;
        let word = || {
            let line = yaml
                .lines()
                .nth(usize::try_from(node.at.line).unwrap() - 1)
                .unwrap();
            let rest = &line[usize::try_from(node.at.column).unwrap() - 1..];
            rest.split(|c: char| !c.is_ascii_alphanumeric())
                .next()
                .unwrap()
        };
        match &node.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Integer(value) if value.to_string() == word() => {
                serde_json::json!(i64::try_from(*value).unwrap())
            }
            Kind::Integer(_) | Kind::Float(_) => Value::String(word().to_owned()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(|item| of(item, yaml)).collect(),
            Kind::Map(map) => map
                .iter()
                .map(|(key, _, value)| (key.clone(), of(value, yaml)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
    attest::yaml::parse(yaml)
        .map(|node| of(&node, yaml))
        .map_err(|problem| problem.what)
}

#[test]
fn patterns_are_understood() {
    for (pattern, text, expected) in [
        ("^[0-9a-fA-F]{2}$", "aF", true),
        ("^[0-9a-fA-F]{2}$", "ag", false),
        ("^[0-9a-fA-F]{2}$", "a", false),
        ("^[!-~]{1,3}$", "v 1", false),
        ("^[!-~]{1,3}$", "v~1", true),
        ("^[a-z0-9.-]{1,4}$", "a-.1", true),
        ("^INTEL-SA-[0-9]{1,8}$", "INTEL-SA-00837", true),
        ("^INTEL-SA-[0-9]{1,8}$", "INTEL-DOC-1", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn what_the_reader_writes_the_schema_accepts() {
    let schema = Schema::read();
    for text in [azure(), tdx(), snp(), vtpm(), nitro()] {
        let document = PolicyDocument::parse("p", &text).unwrap();
        let json = serde_json::from_str(&document.to_json().unwrap()).unwrap();
        schema
            .accepts(&json)
            .unwrap_or_else(|why| panic!("{why}\n{json:#}"));
    }
}

#[test]
fn what_is_empty_is_nothing_to_both() {
    let schema = Schema::read();
    for (good, place) in [
        (azure(), "    - image: v0.2.0\n"),
        (tdx(), "    - image: v0.2.0\n"),
        (nitro(), "    - image: v0.2.0\n"),
    ] {
        for (name, empty) in [("components", "[]"), ("rtmrs", "{}")] {
            if good.contains(&format!("      {name}:")) {
                continue;
            }
            let text = good.replacen(place, &format!("{place}      {name}: {empty}\n"), 1);
            assert_ne!(text, good);
            let document = PolicyDocument::parse("p", &text)
                .unwrap_or_else(|problems| panic!("{problems}\n{text}"));
            assert_eq!(document, PolicyDocument::parse("p", &good).unwrap());
            schema
                .accepts(&value(&text).unwrap())
                .unwrap_or_else(|why| panic!("{why}\n{text}"));
        }
    }
}

#[test]
fn a_wrong_form_is_refused_by_both() {
    let schema = Schema::read();
    for (what, good, from, to, _) in FORM {
        let right = value(&good()).unwrap();
        schema
            .accepts(&right)
            .unwrap_or_else(|why| panic!("{why}\n{right:#}"));
        let bad = good().replacen(from, to, 1);
        assert!(PolicyDocument::parse("p", &bad).is_err(), "{what}");
        let value = value(&bad).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!(
            schema.accepts(&value).is_err(),
            "{what}: the schema accepts\n{value:#}"
        );
    }
}

/// Every place of a document.
fn places(value: &Value, path: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    all.push(path.clone());
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, value)| (n.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        path.push(key);
        places(child, path, all);
        path.pop();
    }
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::read);

static JSON: LazyLock<[Value; 5]> = LazyLock::new(|| {
    [azure, tdx, snp, vtpm, nitro].map(|text| {
        let document = PolicyDocument::parse("p", &text()).unwrap();
        serde_json::from_str(&document.to_json().unwrap()).unwrap()
    })
});

proptest! {
    /// Documents with something put in some place: whatever the reader still accepts, the schema accepts.
    #[test]
    fn what_the_reader_accepts_the_schema_accepts(
        which in 0..5_usize,
        place in any::<prop::sample::Index>(),
        what in prop::sample::select(vec![
            "null", "true", "0", "1", "2", "255", "256", "\"\"", "\"smt\"", "\"either\"", "[]", "{}", "[0]", "[\"smt\"]",
            "[\"pks\"]", "[\"UpToDate\"]", "[\"INTEL-SA-1\"]", "remove", "rename", "[\"amd-strict-2026-10\"]", "[1, 2]",
        ]),
    ) {
        let mut json: Value = JSON[which].clone();
        let mut all = Vec::new();
        places(&json, &mut Vec::new(), &mut all);
        let path = place.get(&all);
        if let Some((last, parents)) = path.split_last() {
            let parent = json.pointer_mut(&parents.iter().map(|key| format!("/{key}")).collect::<String>()).unwrap();
            match (parent, what) {
                (Value::Object(map), "remove") => drop(map.remove(last)),
                (Value::Object(map), "rename") => {
                    let value = map.remove(last).unwrap();
                    map.insert(format!("{last}x"), value);
                }
                (Value::Object(map), what) => drop(map.insert(last.clone(), serde_json::from_str(what).unwrap())),
                (Value::Array(items), what) => {
                    let n: usize = last.parse().unwrap();
                    match serde_json::from_str(what) {
                        Ok(value) => items[n] = value,
                        Err(_) => drop(items.remove(n)),
                    }
                }
                _ => unreachable!(),
            }
        }
        if PolicyDocument::parse("p", &json.to_string()).is_ok() {
            let verdict = SCHEMA.accepts(&json);
            prop_assert!(verdict.is_ok(), "{:?}\n{json:#}", verdict);
        }
    }
}
