//! Conditions and updates as expressions of `DynamoDB`. Names and values are always replaced by placeholders.

use std::collections::HashMap;
use std::fmt::Write as _;

use mintkey_store::json::push_string;
use mintkey_store::{Action, Comparison, Condition, Name, Number, Path, Step, Value};

use crate::wire::json;

/// The longest expression, in bytes.
const MAX_EXPRESSION: usize = 4096;

/// The names and values that the placeholders of one call stand for.
#[derive(Debug, Default)]
pub struct Placeholders {
    names: Vec<Name>,
    /// Where each name is in `names`.
    positions: HashMap<Name, usize>,
    values: String,
    count: usize,
}

impl Placeholders {
    /// Appends the placeholder of a name.
    pub fn name(&mut self, name: &Name, to: &mut String) {
        let position = *self.positions.entry(name.clone()).or_insert_with(|| {
            self.names.push(name.clone());
            self.names.len() - 1
        });
        let _ = write!(to, "#{position}");
    }

    /// Appends the placeholder of a value.
    pub fn value(&mut self, value: &Value, to: &mut String) {
        let _ = write!(to, ":{}", self.count);
        if self.count > 0 {
            self.values.push(',');
        }
        let _ = write!(self.values, "\":{}\":", self.count);
        json::push_value(value, &mut self.values);
        self.count += 1;
    }

    /// Appends the placeholders of a path.
    pub fn path(&mut self, path: &Path, to: &mut String) {
        for (depth, step) in path.0.iter().enumerate() {
            match step {
                Step::Name(name) => {
                    if depth > 0 {
                        to.push('.');
                    }
                    self.name(name, to);
                }
                Step::Index(index) => {
                    let _ = write!(to, "[{index}]");
                }
            }
        }
    }

    /// Appends the entries of a body that say what the placeholders stand for.
    pub fn push(&self, body: &mut String) {
        if !self.names.is_empty() {
            body.push_str(",\"ExpressionAttributeNames\":{");
            for (index, name) in self.names.iter().enumerate() {
                if index > 0 {
                    body.push(',');
                }
                let _ = write!(body, "\"#{index}\":");
                push_string(name, body);
            }
            body.push('}');
        }
        if self.count > 0 {
            body.push_str(",\"ExpressionAttributeValues\":{");
            body.push_str(&self.values);
            body.push('}');
        }
    }

    /// Appends a condition, which must not be a constant.
    pub fn condition(&mut self, condition: &Condition, to: &mut String) {
        self.nested(condition, Parent::Nothing, to);
    }

    fn nested(&mut self, condition: &Condition, parent: Parent, to: &mut String) {
        match condition {
            Condition::And(parts) => self.joined(parts, Parent::And, parent, to),
            Condition::Or(parts) => self.joined(parts, Parent::Or, parent, to),
            Condition::Not(inner) => match &**inner {
                Condition::Not(inner) => self.nested(inner, parent, to),
                inner => {
                    to.push_str("NOT ");
                    self.nested(inner, Parent::Not, to);
                }
            },
            leaf => self.leaf(leaf, to),
        }
    }

    /// Joins the parts that are not constants: a constant part changes nothing here.
    fn joined(&mut self, parts: &[Condition], own: Parent, parent: Parent, to: &mut String) {
        let variable: Vec<&Condition> = parts
            .iter()
            .filter(|part| part.constant().is_none())
            .collect();
        if let [only] = variable[..] {
            return self.nested(only, parent, to);
        }
        // DynamoDB refuses redundant parentheses.
        let wrapped = parent > own;
        if wrapped {
            to.push('(');
        }
        for (index, part) in variable.into_iter().enumerate() {
            if index > 0 {
                to.push_str(if own == Parent::And { " AND " } else { " OR " });
            }
            self.nested(part, own, to);
        }
        if wrapped {
            to.push(')');
        }
    }

    fn leaf(&mut self, leaf: &Condition, to: &mut String) {
        match leaf {
            Condition::Compare { path, op, value } => {
                self.path(path, to);
                to.push_str(operator(*op));
                self.value(value, to);
            }
            Condition::CompareValues { path, op, other } => {
                self.path(path, to);
                to.push_str(operator(*op));
                self.path(other, to);
            }
            Condition::Between { path, low, high } => {
                self.path(path, to);
                to.push_str(" BETWEEN ");
                self.value(low, to);
                to.push_str(" AND ");
                self.value(high, to);
            }
            Condition::IsIn { path, values } => {
                self.path(path, to);
                to.push_str(" IN (");
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    self.value(value, to);
                }
                to.push(')');
            }
            Condition::BeginsWith { path, prefix } => {
                self.function("begins_with", path, Some(prefix), to);
            }
            Condition::Contains { path, value } => self.function("contains", path, Some(value), to),
            Condition::Exists(path) => self.function("attribute_exists", path, None, to),
            Condition::Missing(path) => self.function("attribute_not_exists", path, None, to),
            Condition::IsType(path, wanted) => {
                let code = Value::from(wanted.code());
                self.function("attribute_type", path, Some(&code), to);
            }
            Condition::Size { path, op, value } => {
                self.function("size", path, None, to);
                to.push_str(operator(*op));
                self.value(&Value::Number(*value), to);
            }
            // No expression compares JSON: such conditions are evaluated here, or refused.
            Condition::IsJson { .. } | Condition::And(_) | Condition::Or(_) | Condition::Not(_) => {
            }
        }
    }

    fn function(&mut self, name: &str, path: &Path, value: Option<&Value>, to: &mut String) {
        to.push_str(name);
        to.push('(');
        self.path(path, to);
        if let Some(value) = value {
            to.push(',');
            self.value(value, to);
        }
        to.push(')');
    }

    /// Appends the actions of an update.
    pub fn update(&mut self, actions: &[Action], to: &mut String) {
        for word in ["SET ", "REMOVE ", "ADD ", "DELETE "] {
            let mut first = true;
            for action in actions.iter().filter(|action| clause(action) == word) {
                if first && !to.is_empty() {
                    to.push(' ');
                }
                to.push_str(if first { word } else { "," });
                first = false;
                self.action(action, to);
            }
        }
    }

    fn action(&mut self, action: &Action, to: &mut String) {
        let path = action.path();
        self.path(path, to);
        match action {
            Action::Remove(_) => {}
            Action::Set(_, value) => {
                to.push_str(" = ");
                self.value(value, to);
            }
            Action::SetFrom(_, from) => {
                to.push_str(" = ");
                self.path(from, to);
            }
            Action::SetIfAbsent(_, value) => {
                to.push_str(" = ");
                self.or_else(path, value, to);
            }
            Action::Add(_, number) => {
                to.push_str(" = ");
                self.or_else(path, &Value::Number(Number::ZERO), to);
                to.push_str(" + ");
                self.value(&Value::Number(*number), to);
            }
            Action::Append(_, values) => {
                to.push_str(" = list_append(");
                self.or_else(path, &Value::List(Vec::new()), to);
                to.push(',');
                self.value(&Value::List(values.clone()), to);
                to.push(')');
            }
            Action::Prepend(_, values) => {
                to.push_str(" = list_append(");
                self.value(&Value::List(values.clone()), to);
                to.push(',');
                self.or_else(path, &Value::List(Vec::new()), to);
                to.push(')');
            }
            Action::AddToSet(_, set) | Action::DeleteFromSet(_, set) => {
                to.push(' ');
                self.value(set, to);
            }
        }
    }

    fn or_else(&mut self, path: &Path, value: &Value, to: &mut String) {
        to.push_str("if_not_exists(");
        self.path(path, to);
        to.push(',');
        self.value(value, to);
        to.push(')');
    }
}

/// What a condition is a part of, in order of precedence.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Parent {
    Nothing,
    Or,
    And,
    Not,
}

/// The clause of an update expression that an action belongs to.
const fn clause(action: &Action) -> &'static str {
    match action {
        Action::Set(..)
        | Action::SetFrom(..)
        | Action::SetIfAbsent(..)
        | Action::Add(..)
        | Action::Append(..)
        | Action::Prepend(..) => "SET ",
        Action::Remove(_) => "REMOVE ",
        Action::AddToSet(..) => "ADD ",
        Action::DeleteFromSet(..) => "DELETE ",
    }
}

const fn operator(op: Comparison) -> &'static str {
    match op {
        Comparison::Eq => " = ",
        Comparison::Ne => " <> ",
        Comparison::Lt => " < ",
        Comparison::Le => " <= ",
        Comparison::Gt => " > ",
        Comparison::Ge => " >= ",
    }
}

/// The names of the attributes that a condition refers to.
pub fn attributes(condition: &Condition) -> Vec<Name> {
    let mut names = Vec::new();
    collect(condition, &mut names);
    names
}

fn collect(condition: &Condition, names: &mut Vec<Name>) {
    match condition {
        Condition::And(parts) | Condition::Or(parts) => {
            for part in parts {
                collect(part, names);
            }
        }
        Condition::Not(inner) => collect(inner, names),
        test => {
            let paths = test.path().into_iter().chain(test.other_path());
            names.extend(paths.filter_map(Path::root).cloned());
        }
    }
}

/// Whether the conjunction of these conditions is too long for an expression.
pub fn is_too_long(parts: &[Condition]) -> bool {
    let mut text = String::new();
    let mut placeholders = Placeholders::default();
    for part in parts {
        placeholders.condition(part, &mut text);
        text.push_str(" AND ");
    }
    text.len() > MAX_EXPRESSION - 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(name: &str) -> Condition {
        Condition::Exists(Path::attribute(name))
    }

    fn written(condition: &Condition) -> String {
        let mut text = String::new();
        Placeholders::default().condition(condition, &mut text);
        text.replace("attribute_exists", "")
    }

    #[test]
    fn parentheses_are_written_only_where_needed() {
        let (a, b, c) = (is("a"), is("b"), is("c"));
        let and = Condition::And(vec![a.clone(), b.clone()]);
        let or = Condition::Or(vec![a.clone(), b.clone()]);
        let join = |inner: &Condition| vec![inner.clone(), c.clone()];
        assert_eq!(
            written(&Condition::And(join(&or))),
            "((#0) OR (#1)) AND (#2)"
        );
        assert_eq!(written(&Condition::Or(join(&and))), "(#0) AND (#1) OR (#2)");
        assert_eq!(
            written(&Condition::And(join(&and))),
            "(#0) AND (#1) AND (#2)"
        );
        let not = Condition::Not(Box::new(or.clone()));
        assert_eq!(written(&not), "NOT ((#0) OR (#1))");
        assert_eq!(written(&Condition::Not(Box::new(not))), "(#0) OR (#1)");
        assert_eq!(written(&Condition::And(vec![or])), "(#0) OR (#1)");
    }

    #[test]
    fn constants_are_left_out() {
        let none = Condition::Or(Vec::new());
        assert_eq!(written(&Condition::Or(vec![is("a"), none])), "(#0)");
    }

    #[test]
    fn actions_are_grouped_by_clause() {
        let path = |name: &str| Path::attribute(name);
        let actions = [
            Action::Remove(path("a")),
            Action::Set(path("b"), 1_i64.into()),
            Action::Add(path("c"), Number::from(2_i64)),
            Action::Append(path("d"), vec![]),
            Action::Prepend(path("e"), vec![]),
            Action::SetIfAbsent(path("f"), 1_i64.into()),
            Action::AddToSet(path("g"), Value::StringSet(["x".to_owned()].into())),
            Action::Set(
                Path(vec![
                    Step::Name("h".into()),
                    Step::Index(3),
                    Step::Name("a".into()),
                ]),
                true.into(),
            ),
            Action::DeleteFromSet(path("i"), Value::StringSet(["x".to_owned()].into())),
        ];
        let mut text = String::new();
        let mut placeholders = Placeholders::default();
        placeholders.update(&actions, &mut text);
        assert_eq!(
            text,
            "SET #0 = :0,#1 = if_not_exists(#1,:1) + :2,#2 = list_append(if_not_exists(#2,:3),:4),\
             #3 = list_append(:5,if_not_exists(#3,:6)),#4 = if_not_exists(#4,:7),#5[3].#6 = :8 REMOVE #6 \
             ADD #7 :9 DELETE #8 :10"
        );
        let mut body = String::new();
        placeholders.push(&mut body);
        assert!(body.contains("\"#6\":\"a\"") && body.contains("\":10\":{\"SS\":[\"x\"]}"));
    }
}
