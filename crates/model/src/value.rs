//! Free-form values: a task's driver configuration and blocks that cos keeps but does not run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A value as job files and JSON bodies carry it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Absent on purpose.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text, with `${…}` references to be resolved on the node.
    String(String),
    /// A list.
    List(Vec<Value>),
    /// A map, or a block.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// Returns the text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the map, if this is one.
    pub fn as_map(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the list, if this is one.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// Returns a whole number, also from text such as `"8080"`, as old job files quote numbers.
    pub fn to_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Returns a truth value, also from `"true"`, `"1"`, `"false"` and `"0"`.
    pub fn to_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            Self::String(text) if text == "true" || text == "1" => Some(true),
            Self::String(text) if text == "false" || text == "0" => Some(false),
            _ => None,
        }
    }

    /// Names the kind of value for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Float(_) => "number",
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }
}
