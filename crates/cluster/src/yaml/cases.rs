//! Bad documents made from a good one, so that a field which is added has its cases without anybody thinking of them.

use attest::yaml::{self as tree, Kind, Node};

use super::{Position, Problem, Problems};

/// The name that no field has.
const NOBODY: &str = "zzz";

/// A field of the good document.
struct Field {
    path: String,
    section: String,
    key: Position,
    section_at: Position,
    /// Where its value is, if that is not a section.
    leaf: Option<Position>,
    /// Every field of its section.
    siblings: Vec<String>,
    is_last: bool,
}

/// The fields of a document, in its order.
fn fields(text: &str) -> Vec<Field> {
    let mut fields = Vec::new();
    walk("", &tree::parse(text).unwrap(), &mut fields);
    fields
}

fn walk(path: &str, node: &Node, fields: &mut Vec<Field>) {
    match &node.kind {
        Kind::Map(map) => {
            for (index, (key, at, value)) in map.iter().enumerate() {
                let child = join(path, key);
                fields.push(Field {
                    path: child.clone(),
                    section: path.to_owned(),
                    key: *at,
                    section_at: node.at,
                    leaf: (!matches!(value.kind, Kind::Map(_))).then_some(value.at),
                    siblings: map.iter().map(|(key, ..)| key.clone()).collect(),
                    is_last: index + 1 == map.len(),
                });
                walk(&child, value, fields);
            }
        }
        Kind::List(list) => {
            for (index, item) in list.iter().enumerate() {
                walk(&format!("{path}[{index}]"), item, fields);
            }
        }
        _ => {}
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Whether a section has keys of its user's.
type IsOpen = fn(&str) -> bool;

/// Runs every case that can be made of a good document: each field missing, each of a wrong type, and a field that
/// nobody knows in each section. `read` gives the problems of a document. What must be there in a section of its user's
/// is for the caller to test.
pub(crate) fn check(
    good: &str,
    optional: &[&str],
    is_open: IsOpen,
    read: impl Fn(&str) -> Option<Problems>,
) {
    let fields = fields(good);
    for path in optional {
        assert!(
            fields.iter().any(|field| field.path == *path),
            "{path} is not in the good document"
        );
    }
    let problems = |text: &str, case: &str| {
        read(text)
            .unwrap_or_else(|| panic!("{case}: accepted\n{text}"))
            .list()
            .to_vec()
    };
    for field in &fields {
        if !is_open(&field.section) {
            let case = format!("{} missing", field.path);
            let found = problems(&insert(good, field.key, &format!("{NOBODY}-")), &case);
            if !optional.contains(&field.path.as_str()) {
                expect(&found, &case, &field.path, field.section_at.line, |what| {
                    what == "missing"
                });
            }
            let last = field.path.rsplit('.').next().unwrap();
            let renamed = join(&field.section, &format!("{NOBODY}-{last}"));
            let problem = expect(&found, &case, &renamed, field.key.line, |what| {
                what.starts_with("unknown field")
            });
            for sibling in &field.siblings {
                assert!(problem.allowed.contains(sibling), "{case}: {problem:?}");
            }
        }
        if let Some(value) = field.leaf {
            let case = format!("{} of a wrong type", field.path);
            let found = problems(&replace_line(good, value, "{zzz: 1}"), &case);
            expect(&found, &case, &field.path, value.line, |what| {
                what.contains("is not allowed here")
            });
        }
        if field.is_last {
            let case = format!("a field nobody knows in {:?}", field.section);
            let indent = " ".repeat(usize::try_from(field.key.column).unwrap() - 1);
            let start = Position {
                column: 1,
                ..field.key
            };
            let found = problems(
                &insert(good, start, &format!("{indent}{NOBODY}: 1\n")),
                &case,
            );
            let open = is_open(&field.section);
            let path = join(&field.section, NOBODY);
            expect(&found, &case, &path, field.key.line, |what| {
                open || what == "unknown field"
            });
        }
    }
}

fn expect<'p>(
    found: &'p [Problem],
    case: &str,
    field: &str,
    line: u64,
    what: impl Fn(&str) -> bool,
) -> &'p Problem {
    let problem = found
        .iter()
        .find(|problem| problem.field == field && what(&problem.what))
        .unwrap_or_else(|| panic!("{case}: {found:#?}"));
    assert_eq!(problem.at.line, line, "{case}: {problem:?}");
    assert!(!problem.allowed.is_empty(), "{case}: {problem:?}");
    problem
}

/// The place of a position in a text.
fn offset(text: &str, at: Position) -> usize {
    let lines = text.split_inclusive('\n');
    let before: usize = lines
        .take(usize::try_from(at.line).unwrap() - 1)
        .map(str::len)
        .sum();
    before + usize::try_from(at.column).unwrap() - 1
}

fn insert(text: &str, at: Position, what: &str) -> String {
    let (before, after) = text.split_at(offset(text, at));
    format!("{before}{what}{after}")
}

/// Replaces what stands from a position to the end of its line, and the items of a list below it.
fn replace_line(text: &str, at: Position, what: &str) -> String {
    let start = offset(text, at);
    let (before, after) = text.split_at(start);
    let indent = before.len() - before.rfind('\n').map_or(0, |end| end + 1);
    let mut rest = after.split_inclusive('\n').skip(1);
    if after.starts_with('-') {
        let rest: String = rest
            .skip_while(|line| line.len() - line.trim_start().len() >= indent)
            .collect();
        return format!("{before}{what}\n{rest}");
    }
    let rest: String = rest.by_ref().collect();
    format!("{before}{what}\n{rest}")
}
