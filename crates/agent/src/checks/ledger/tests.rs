//! Rows about thresholds, time-outs and what is reported when.

use std::collections::BTreeMap;

use cos_model::catalog::{CatalogNode, ServiceInstance};

use super::*;

const SECOND: i64 = 1_000_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp((second + 1) * SECOND)
}

fn definition(probe: Probe) -> CheckDefinition {
    CheckDefinition {
        probe,
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        deregister_after: Duration::ZERO,
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

fn catalog(status: Health, definition: CheckDefinition) -> Catalog {
    let node: Arc<str> = Arc::from("n");
    let mut catalog = Catalog::default();
    let changes = [
        CatalogChange::PutNode(CatalogNode {
            name: Arc::clone(&node),
            id: String::new(),
            address: "127.0.0.1".to_owned(),
            tagged_addresses: BTreeMap::new(),
            meta: BTreeMap::new(),
            create_index: 0,
            modify_index: 0,
        }),
        CatalogChange::PutService(ServiceInstance {
            node: Arc::clone(&node),
            id: Arc::from("s"),
            name: Arc::from("s"),
            tags: Vec::new(),
            address: String::new(),
            port: 80,
            meta: BTreeMap::new(),
            tagged_addresses: BTreeMap::new(),
            weight_passing: 1,
            weight_warning: 1,
            enable_tag_override: false,
            create_index: 0,
            modify_index: 0,
        }),
        CatalogChange::PutCheck(CatalogCheck {
            node,
            id: Arc::from("c"),
            name: "c".to_owned(),
            status,
            notes: String::new(),
            output: String::new(),
            service_id: Arc::from("s"),
            service_name: Arc::from("s"),
            definition: Some(definition),
            create_index: 0,
            modify_index: 0,
        }),
    ];
    for change in changes {
        catalog.apply(1, &change).unwrap();
    }
    catalog
}

/// Feeds results at seconds and writes what is reported after each.
fn check(definition: CheckDefinition, rows: &[(i64, Health, &str)], expected: &[&str]) {
    let mut catalog = catalog(Health::Critical, definition);
    let mut ledger = Ledger::new(Arc::from("n"));
    ledger.sync(&catalog, at(0));
    let mut told = Vec::new();
    for (index, (second, result, output)) in rows.iter().enumerate() {
        ledger.observe("c", *result, (*output).to_owned(), at(*second));
        let changes = ledger.changes(&catalog, at(*second));
        let words: Vec<String> = changes
            .iter()
            .map(|change| match change {
                CatalogChange::SetCheck { status, output, .. } => format!("{status:?} {output}"),
                CatalogChange::RemoveService { id, .. } => format!("remove {id}"),
                _ => "unexpected".to_owned(),
            })
            .collect();
        told.push(words.join("; "));
        for change in changes {
            catalog.apply(u64::try_from(index).unwrap() + 2, &change).unwrap();
        }
    }
    assert_eq!(told, expected);
}

fn tcp() -> CheckDefinition {
    definition(Probe::Tcp("127.0.0.1:1".to_owned()))
}

#[test]
fn a_change_of_status_is_reported_at_once() {
    check(
        tcp(),
        &[(1, Health::Passing, "up"), (2, Health::Critical, "down")],
        &["Passing up", "Critical down"],
    );
}

#[test]
fn words_alone_wait() {
    check(
        tcp(),
        &[
            (1, Health::Passing, "a"),
            (2, Health::Passing, "b"),
            (299, Health::Passing, "c"),
            (302, Health::Passing, "d"),
        ],
        &["Passing a", "", "", "Passing d"],
    );
}

#[test]
fn thresholds_count_results_in_a_row() {
    let definition =
        CheckDefinition { success_before_passing: 2, failures_before_critical: 2, ..tcp() };
    check(
        definition,
        &[
            (1, Health::Passing, "1"),
            (2, Health::Passing, "2"),
            (3, Health::Critical, "3"),
            (4, Health::Passing, "4"),
            (5, Health::Critical, "5"),
            (6, Health::Critical, "6"),
        ],
        &["", "Passing 2", "", "", "", "Critical 6"],
    );
}

#[test]
fn a_service_that_stays_critical_is_deregistered() {
    let definition = CheckDefinition { deregister_after: Duration::from_mins(1), ..tcp() };
    check(
        definition,
        &[(1, Health::Critical, ""), (59, Health::Critical, ""), (61, Health::Critical, "")],
        &["", "", "remove s"],
    );
}

#[test]
fn a_silent_ttl_check_expires() {
    let definition = definition(Probe::Ttl(Duration::from_secs(5)));
    let catalog = catalog(Health::Critical, definition);
    let mut ledger = Ledger::new(Arc::from("n"));
    ledger.sync(&catalog, at(0));
    ledger.report_ttl("c", Health::Passing, "fine".to_owned(), at(1)).unwrap();
    assert_eq!(ledger.changes(&catalog, at(1)).len(), 1);
    assert!(ledger.expire(at(5)).is_empty());
    assert_eq!(ledger.expire(at(6)).len(), 1);
    assert!(ledger.report_ttl("x", Health::Passing, String::new(), at(7)).is_err());
}

#[test]
fn an_unanswered_report_is_repeated() {
    let catalog = catalog(Health::Critical, tcp());
    let mut ledger = Ledger::new(Arc::from("n"));
    ledger.sync(&catalog, at(0));
    ledger.observe("c", Health::Passing, String::new(), at(1));
    let counts: Vec<usize> =
        [1, 2, 3].iter().map(|s| ledger.changes(&catalog, at(*s)).len()).collect();
    assert_eq!(counts, [1, 0, 1]);
}
