//! Rules that a node must meet: one side names a fact of the node, the other what it must be.
//!
//! A [`Rule`] is compiled once per plan, so that expressions are parsed once and not per node.
//!
//! # Invariants
//!
//! - A missing fact meets no rule except `is_not_set` and `!=`.
//! - An expression that cannot be parsed is met by no node; the rule's own words are the reason.
//!
//! # Deliberately absent
//!
//! - `distinct_hosts` and `distinct_property`. They look at other instances, not at facts; see
//!   `demand` and `ranking`.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use cos_model::{Node, Operator};
use regex::Regex;

mod target;
mod version;

pub(crate) use target::Target;
use version::{Dialect, Requirements, Version};

/// A compiled constraint or affinity.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    left: Target,
    right: Target,
    operator: Operator,
    /// The right side as an expression, where it is the same for all nodes.
    expression: Option<Expression>,
    /// The rule in the words of the job file.
    text: Arc<str>,
}

/// A parsed right side.
#[derive(Clone, Debug)]
enum Expression {
    Pattern(Regex),
    Versions(Requirements),
    /// It cannot be parsed.
    Broken,
}

impl Rule {
    /// Compiles a rule.
    pub(crate) fn new(attribute: &str, operator: Operator, value: &str) -> Self {
        let right = Target::parse(value);
        let expression = match &right {
            Target::Literal(text) => Expression::parse(operator, text),
            _ => None,
        };
        let text = format!("{attribute} {} {value}", operator.name());
        Self {
            left: Target::parse(attribute),
            right,
            operator,
            expression,
            text: text.trim().into(),
        }
    }

    /// The rule in the words of the job file, which is the reason that is counted.
    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Whether a node meets the rule.
    pub(crate) fn is_met_by(&self, node: &Node) -> bool {
        let left = self.left.resolve(node);
        let right = self.right.resolve(node);
        match self.operator {
            Operator::IsSet => left.is_some(),
            Operator::IsNotSet => left.is_none(),
            Operator::NotEqual => left != right,
            Operator::DistinctHosts | Operator::DistinctProperty => true,
            _ => left.zip(right).is_some_and(|(left, right)| self.compare(&left, &right)),
        }
    }

    fn compare(&self, left: &str, right: &str) -> bool {
        match self.operator {
            Operator::Equal => left == right,
            Operator::Less => order(left, right) == Ordering::Less,
            Operator::LessOrEqual => order(left, right) != Ordering::Greater,
            Operator::Greater => order(left, right) == Ordering::Greater,
            Operator::GreaterOrEqual => order(left, right) != Ordering::Less,
            Operator::SetContains => elements(left).is_superset(&elements(right)),
            Operator::SetContainsAny => !elements(left).is_disjoint(&elements(right)),
            Operator::Regexp | Operator::Version | Operator::Semver => match &self.expression {
                Some(expression) => expression.accepts(self.operator, left),
                None => Expression::parse(self.operator, right)
                    .is_some_and(|expression| expression.accepts(self.operator, left)),
            },
            Operator::NotEqual
            | Operator::IsSet
            | Operator::IsNotSet
            | Operator::DistinctHosts
            | Operator::DistinctProperty => true,
        }
    }
}

impl Expression {
    /// Parses the right side of those operators that have an expression there.
    fn parse(operator: Operator, text: &str) -> Option<Self> {
        match operator {
            Operator::Regexp => Some(Regex::new(text).map_or(Self::Broken, Self::Pattern)),
            Operator::Version | Operator::Semver => Some(
                Requirements::parse(text, dialect(operator)).map_or(Self::Broken, Self::Versions),
            ),
            _ => None,
        }
    }

    fn accepts(&self, operator: Operator, left: &str) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.is_match(left),
            Self::Versions(requirements) => Version::parse(left, dialect(operator))
                .is_some_and(|version| requirements.accept(&version)),
            Self::Broken => false,
        }
    }
}

fn dialect(operator: Operator) -> Dialect {
    if operator == Operator::Semver { Dialect::Semantic } else { Dialect::Lenient }
}

/// Orders as numbers if both sides are numbers, else as text.
fn order(left: &str, right: &str) -> Ordering {
    if let (Ok(left), Ok(right)) = (left.parse::<i64>(), right.parse::<i64>()) {
        return left.cmp(&right);
    }
    match (left.parse::<f64>(), right.parse::<f64>()) {
        (Ok(left), Ok(right)) => left.total_cmp(&right),
        _ => left.cmp(right),
    }
}

fn elements(set: &str) -> BTreeSet<&str> {
    set.split(',').map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    /// Checks one rule, `attribute operator value`, against a node with these facts.
    #[track_caller]
    fn check(facts: &str, rule: &str, expected: bool) {
        let mut parts = rule.splitn(3, ' ');
        let attribute = parts.next().unwrap();
        let operator = Operator::from_name(parts.next().unwrap()).unwrap();
        let rule = Rule::new(attribute, operator, parts.next().unwrap_or(""));
        assert_eq!(rule.is_met_by(&testing::node(facts)), expected, "{} on {facts}", rule.text());
    }

    #[test]
    fn equality_needs_both_sides() {
        check("attr.kernel.name=linux", "${attr.kernel.name} = linux", true);
        check("attr.kernel.name=linux", "${attr.kernel.name} is linux", true);
        check("attr.kernel.name=linux", "${attr.kernel.name} = windows", false);
        check("", "${attr.kernel.name} = linux", false);
        check("", "${attr.kernel.name} = ", false);
        check("", "${attr.kernel.name} != linux", true);
        check("attr.kernel.name=linux", "${attr.kernel.name} not linux", false);
        check("attr.a=x meta.b=x", "${attr.a} = ${meta.b}", true);
        check("attr.a=x", "${nonsense} = x", false);
    }

    #[test]
    fn order_is_numeric_for_numbers_and_lexical_for_words() {
        check("attr.n=9", "${attr.n} < 10", true);
        check("attr.n=9a", "${attr.n} < 10", false);
        check("attr.n=2.5", "${attr.n} >= 2.5", true);
        check("attr.n=10", "${attr.n} <= 9", false);
        check("attr.n=beta", "${attr.n} > alpha", true);
    }

    #[test]
    fn facts_of_the_node_itself_are_targets() {
        check("dc=backoffice", "${node.datacenter} = backoffice", true);
        check("class=big", "${node.class} = big", true);
        check("pool=gpu", "${node.pool} = gpu", true);
        check("name=n7", "${node.unique.name} = n7", true);
        check("id=7", "${node.unique.id} = 00000000-0000-0000-0000-000000000007", true);
        check("meta.rack=r1", "${meta.rack} is_set", true);
        check("meta.rack=r1", "${meta.row} is_not_set", true);
    }

    #[test]
    fn sets_are_separated_by_commas() {
        check("attr.s=a,b,c", "${attr.s} set_contains a, c", true);
        check("attr.s=a,b", "${attr.s} set_contains_all a,c", false);
        check("attr.s=a,b", "${attr.s} set_contains_any c,b", true);
        check("attr.s=a,b", "${attr.s} set_contains_any d", false);
    }

    #[test]
    fn patterns_and_versions_are_expressions() {
        check("attr.v=ubuntu-22", "${attr.v} regexp ^ubuntu-[0-9]+$", true);
        check("attr.v=x", "${attr.v} regexp (", false);
        check("attr.v=1.7.3", "${attr.v} version >= 1.6, < 2", true);
        check("attr.v=1.7.3-beta1", "${attr.v} version >= 1.6", false);
        check("attr.v=1.7.3-beta1", "${attr.v} semver >= 1.6", true);
        check("attr.v=words", "${attr.v} version >= 1", false);
        check("attr.v=1.2 attr.w=~>1.0", "${attr.v} version ${attr.w}", true);
    }

    proptest! {
        #[test]
        fn no_rule_panics(attribute in ".{0,20}", operator in 0_usize..15, value in ".{0,20}",
                          fact in ".{0,20}") {
            const ALL: [&str; 15] = ["=", "!=", "<", "<=", ">", ">=", "regexp", "version", "semver",
                "set_contains", "set_contains_any", "is_set", "is_not_set", "distinct_hosts",
                "distinct_property"];
            let mut node = testing::node("");
            node.attributes.insert("a".to_owned(), fact);
            let operator = Operator::from_name(ALL[operator]).unwrap();
            Rule::new(&attribute, operator, &value).is_met_by(&node);
            Rule::new("${attr.a}", operator, &value).is_met_by(&node);
        }

        #[test]
        fn set_not_set_and_not_equal_are_complements(fact in "[ab]?", value in "[ab]?") {
            let mut node = testing::node("");
            if !fact.is_empty() {
                node.attributes.insert("a".to_owned(), fact);
            }
            let met = |operator| Rule::new("${attr.a}", operator, &value).is_met_by(&node);
            prop_assert_ne!(met(Operator::IsSet), met(Operator::IsNotSet));
            prop_assert_ne!(met(Operator::Equal), met(Operator::NotEqual));
        }
    }
}
