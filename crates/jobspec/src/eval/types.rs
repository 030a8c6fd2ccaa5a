//! Types of variables: what `type = list(string)` says, and conversion to it.

use std::collections::BTreeMap;

use cos_model::Value;
use hcl_edit::expr::Expression;

use super::{to_bool, to_number, to_text};

/// The type of a variable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    /// Whatever is given.
    Any,
    /// Text.
    Text,
    /// A number.
    Number,
    /// A truth value.
    Bool,
    /// A list.
    List(Box<Type>),
    /// A sorted list without repetitions.
    Set(Box<Type>),
    /// A map with values of one type.
    Map(Box<Type>),
    /// A map with given keys; `true` marks an optional one.
    Object(BTreeMap<String, (Type, bool)>),
    /// A list of given types.
    Tuple(Vec<Type>),
}

impl Type {
    /// Reads a type expression, which is never evaluated.
    pub(crate) fn read(expression: &Expression) -> Result<Self, String> {
        match expression {
            Expression::Variable(name) => match name.as_str() {
                "any" => Ok(Self::Any),
                "string" => Ok(Self::Text),
                "number" => Ok(Self::Number),
                "bool" => Ok(Self::Bool),
                "list" => Ok(Self::List(Box::new(Self::Any))),
                "set" => Ok(Self::Set(Box::new(Self::Any))),
                "map" => Ok(Self::Map(Box::new(Self::Any))),
                other => Err(format!("`{other}` is not a type")),
            },
            // Old files put the name of the type in quotes.
            Expression::String(name) => match name.as_str() {
                "string" => Ok(Self::Text),
                "number" => Ok(Self::Number),
                "bool" => Ok(Self::Bool),
                "list" => Ok(Self::List(Box::new(Self::Any))),
                "map" => Ok(Self::Map(Box::new(Self::Any))),
                other => Err(format!("`{other}` is not a type")),
            },
            Expression::Parenthesis(inner) => Self::read(inner.inner()),
            Expression::FuncCall(call) => {
                let argument = call.args.iter().next().ok_or("this type needs an argument")?;
                match call.name.name.as_str() {
                    "list" => Ok(Self::List(Box::new(Self::read(argument)?))),
                    "set" => Ok(Self::Set(Box::new(Self::read(argument)?))),
                    "map" => Ok(Self::Map(Box::new(Self::read(argument)?))),
                    "object" => Self::read_object(argument),
                    "tuple" => match argument {
                        Expression::Array(items) => {
                            items.iter().map(Self::read).collect::<Result<_, _>>().map(Self::Tuple)
                        }
                        _ => Err("`tuple` needs a list of types".to_owned()),
                    },
                    other => Err(format!("`{other}` is not a type")),
                }
            }
            _ => Err("this is not a type".to_owned()),
        }
    }

    fn read_object(argument: &Expression) -> Result<Self, String> {
        let Expression::Object(object) = argument else {
            return Err("`object` needs keys with their types in `{ … }`".to_owned());
        };
        let mut fields = BTreeMap::new();
        for (key, value) in object {
            let name = match (key.as_ident(), key.as_expr().and_then(Expression::as_str)) {
                (Some(name), _) => name.as_str(),
                (None, Some(name)) => name,
                _ => return Err("a key of an object type must be a name".to_owned()),
            };
            let field = match value.expr() {
                Expression::FuncCall(call) if call.name.name.as_str() == "optional" => {
                    let inner = call.args.iter().next().ok_or("`optional` needs a type")?;
                    (Self::read(inner)?, true)
                }
                other => (Self::read(other)?, false),
            };
            fields.insert(name.to_owned(), field);
        }
        Ok(Self::Object(fields))
    }

    /// The type of a default value, which a variable without `type` has.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::Text,
            Value::Int(_) | Value::Float(_) => Self::Number,
            Value::Bool(_) => Self::Bool,
            _ => Self::Any,
        }
    }

    /// Whether a value from the command line is text rather than an expression.
    pub(crate) fn reads_text(&self) -> bool {
        matches!(self, Self::Text | Self::Number)
    }

    /// The type in the words of job files.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Any => "any value".to_owned(),
            Self::Text => "string".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::List(inner) => format!("list({})", inner.name()),
            Self::Set(inner) => format!("set({})", inner.name()),
            Self::Map(inner) => format!("map({})", inner.name()),
            Self::Object(fields) => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                format!("an object with {}", names.join(", "))
            }
            Self::Tuple(items) => format!("a list of {} values", items.len()),
        }
    }

    /// Converts a value to this type.
    pub(crate) fn convert(&self, value: Value) -> Option<Value> {
        if value == Value::Null {
            return Some(value);
        }
        match (self, value) {
            (Self::Any, value) => Some(value),
            (Self::Text, value) => to_text(&value).map(Value::String),
            (Self::Number, value) => to_number(&value),
            (Self::Bool, value) => to_bool(&value).map(Value::Bool),
            (Self::List(inner), Value::List(items)) => items
                .into_iter()
                .map(|item| inner.convert(item))
                .collect::<Option<_>>()
                .map(Value::List),
            (Self::Set(inner), Value::List(items)) => {
                let items: Option<Vec<Value>> =
                    items.into_iter().map(|item| inner.convert(item)).collect();
                items.map(|items| Value::List(sorted_set(items)))
            }
            (Self::Tuple(types), Value::List(items)) if types.len() == items.len() => types
                .iter()
                .zip(items)
                .map(|(kind, item)| kind.convert(item))
                .collect::<Option<_>>()
                .map(Value::List),
            (Self::Map(inner), Value::Map(map)) => map
                .into_iter()
                .map(|(key, value)| Some((key, inner.convert(value)?)))
                .collect::<Option<_>>()
                .map(Value::Map),
            (Self::Object(fields), Value::Map(mut map)) => {
                let mut converted = BTreeMap::new();
                for (name, (kind, optional)) in fields {
                    let value = match map.remove(name) {
                        Some(value) => kind.convert(value)?,
                        None if *optional => Value::Null,
                        None => return None,
                    };
                    converted.insert(name.clone(), value);
                }
                Some(Value::Map(converted))
            }
            _ => None,
        }
    }
}

/// Sorts and removes repetitions. Text sorts as text, numbers by amount.
pub(crate) fn sorted_set(mut items: Vec<Value>) -> Vec<Value> {
    items.sort_by(|a, b| match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => super::operators::compare(a, b),
    });
    items.dedup();
    items
}
