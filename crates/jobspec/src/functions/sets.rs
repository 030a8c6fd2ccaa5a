//! Functions on sets, which are lists without repetitions.

use cos_model::Value;

use super::collections::{check_product, set, without_repetition};
use super::{Answer, Function, Host, MANY, function, list};
use crate::eval::equal;

pub(super) const TABLE: &[Function] = &[
    function("setintersection", 1, MANY, intersection),
    function("setproduct", 2, MANY, product),
    function("setunion", 1, MANY, union),
];

fn intersection(arguments: &[Value], _: &Host<'_>) -> Answer {
    let mut common = without_repetition(list(arguments, 0)?)?;
    for position in 1..arguments.len() {
        let other = without_repetition(list(arguments, position)?)?;
        common.retain(|item| other.iter().any(|candidate| equal(candidate, item)));
    }
    Ok(Value::List(set(&common)))
}

fn union(arguments: &[Value], _: &Host<'_>) -> Answer {
    let mut all = Vec::new();
    for position in 0..arguments.len() {
        all.extend_from_slice(list(arguments, position)?);
    }
    Ok(Value::List(set(&without_repetition(&all)?)))
}

fn product(arguments: &[Value], _: &Host<'_>) -> Answer {
    let mut lists = Vec::new();
    for position in 0..arguments.len() {
        lists.push(list(arguments, position)?);
    }
    check_product(lists.iter().map(|items| items.len()))?;
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for items in lists {
        rows = rows
            .iter()
            .flat_map(|row| {
                items.iter().map(move |item| {
                    let mut row = row.clone();
                    row.push(item.clone());
                    row
                })
            })
            .collect();
    }
    Ok(Value::List(rows.into_iter().map(Value::List).collect()))
}
