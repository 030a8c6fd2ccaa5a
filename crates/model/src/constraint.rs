//! What a job demands of a node (constraints) and what it would prefer (affinities, spread).

use serde::{Deserialize, Serialize};

/// A rule that a node must meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Constraint {
    /// The left side, such as `${attr.kernel.name}`.
    pub attribute: String,
    /// How the sides are compared.
    pub operator: Operator,
    /// The right side, such as `linux`.
    pub value: String,
}

/// How two sides of a constraint or affinity are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// `=`, also written `==` and `is`.
    Equal,
    /// `!=`, also written `not`.
    NotEqual,
    /// `<`: numeric when both sides are numbers, else lexical; so are the next three.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
    /// The left side matches a regular expression.
    Regexp,
    /// The left side meets a version constraint such as `>= 1.2, < 2`.
    Version,
    /// As `Version`, by the rules of Semantic Versioning.
    Semver,
    /// The left side, a comma-separated set, contains every element of the right.
    SetContains,
    /// The left side contains at least one element of the right.
    SetContainsAny,
    /// The attribute exists.
    IsSet,
    /// The attribute does not exist.
    IsNotSet,
    /// No two instances of the group (or job) share a node.
    DistinctHosts,
    /// At most `value` instances share one value of the attribute.
    DistinctProperty,
}

/// Every operator with its names, the first of which is the canonical one.
const OPERATORS: [(Operator, &[&str]); 15] = [
    (Operator::Equal, &["=", "==", "is", ""]),
    (Operator::NotEqual, &["!=", "not"]),
    (Operator::Less, &["<"]),
    (Operator::LessOrEqual, &["<="]),
    (Operator::Greater, &[">"]),
    (Operator::GreaterOrEqual, &[">="]),
    (Operator::Regexp, &["regexp"]),
    (Operator::Version, &["version"]),
    (Operator::Semver, &["semver"]),
    (Operator::SetContains, &["set_contains", "set_contains_all"]),
    (Operator::SetContainsAny, &["set_contains_any"]),
    (Operator::IsSet, &["is_set"]),
    (Operator::IsNotSet, &["is_not_set"]),
    (Operator::DistinctHosts, &["distinct_hosts"]),
    (Operator::DistinctProperty, &["distinct_property"]),
];

impl Operator {
    /// Finds the operator that a job file names.
    pub fn from_name(name: &str) -> Option<Self> {
        OPERATORS.iter().find(|(_, names)| names.contains(&name)).map(|(operator, _)| *operator)
    }

    /// Returns the canonical name.
    pub fn name(self) -> &'static str {
        OPERATORS.iter().find(|(operator, _)| *operator == self).map_or("=", |(_, names)| names[0])
    }
}

/// A preference for nodes that match, or against them if the weight is negative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinity {
    /// The left side.
    pub attribute: String,
    /// How the sides are compared.
    pub operator: Operator,
    /// The right side.
    pub value: String,
    /// From -100 to 100, not 0.
    pub weight: i8,
}

/// A wish to distribute instances over the values of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The attribute, such as `${node.datacenter}`.
    pub attribute: String,
    /// From 0 to 100.
    pub weight: i8,
    /// Wanted shares. Empty means evenly.
    pub targets: Vec<SpreadTarget>,
}

/// The share of instances that one value should get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadTarget {
    /// A value of the attribute.
    pub value: String,
    /// Its share, in percent of the group's count.
    pub percent: u8,
}
