//! What a catalog becomes as a table, written as text.

use std::collections::BTreeMap;

use cos_model::catalog::{CatalogChange, CatalogCheck, CatalogNode, ServiceInstance};
use proptest::prelude::*;

use super::*;

/// Builds a catalog from lines `node service port status tag…`; a status of `none` has no check.
fn catalog(text: &str) -> Catalog {
    let mut catalog = Catalog::default();
    let mut index = 0;
    let mut apply = |change: CatalogChange| {
        index += 1;
        catalog.apply(index, &change).unwrap();
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let node: Arc<str> = words[0].into();
        let id: Arc<str> = format!("{}-{}", words[1], words[2]).into();
        apply(CatalogChange::PutNode(CatalogNode {
            name: Arc::clone(&node),
            id: String::new(),
            address: format!("10.0.0.{}", node.len()),
            tagged_addresses: BTreeMap::new(),
            meta: BTreeMap::new(),
            create_index: 0,
            modify_index: 0,
        }));
        apply(CatalogChange::PutService(ServiceInstance {
            node: Arc::clone(&node),
            id: Arc::clone(&id),
            name: words[1].into(),
            tags: words[4].split(", ").map(str::to_owned).collect(),
            address: String::new(),
            port: words[2].parse().unwrap(),
            meta: BTreeMap::new(),
            tagged_addresses: BTreeMap::new(),
            weight_passing: 1,
            weight_warning: 1,
            enable_tag_override: false,
            create_index: 0,
            modify_index: 0,
        }));
        let status = match words[3] {
            "passing" => Health::Passing,
            "warning" => Health::Warning,
            "critical" => Health::Critical,
            _ => continue,
        };
        apply(CatalogChange::PutCheck(CatalogCheck {
            node,
            id: format!("check-{id}").into(),
            name: "check".to_owned(),
            status,
            notes: String::new(),
            output: String::new(),
            service_id: id,
            service_name: "".into(),
            definition: None,
            create_index: 0,
            modify_index: 0,
        }));
    }
    catalog
}

/// Looks a host and path up in a table and writes the targets with their shares.
#[track_caller]
fn check(text: &str, host: &str, path: &str, expected: &str) {
    let table = Table::build(&catalog(text), "dc1");
    let actual = table.candidates(host, path).next().map_or_else(
        || "none".to_owned(),
        |route| {
            let targets: Vec<String> =
                route.targets.iter().map(|t| format!("{} {:.2}", t.address, t.share)).collect();
            targets.join(", ")
        },
    );
    assert_eq!(actual, expected, "{host}{path} in {text}");
}

#[test]
fn only_healthy_instances_are_targets() {
    check("n a 1 passing urlprefix-/a", "", "/a", "10.0.0.1:1 1.00");
    check("n a 1 critical urlprefix-/a", "", "/a", "none");
    check("n a 1 warning urlprefix-/a", "", "/a", "none");
    check("n a 1 none urlprefix-/a", "", "/a", "none");
    check(
        "n a 1 passing urlprefix-/a\nnn a 2 critical urlprefix-/a\nnnn a 3 passing urlprefix-/a",
        "",
        "/a",
        "10.0.0.1:1 0.50, 10.0.0.3:3 0.50",
    );
}

#[test]
fn the_most_specific_host_and_the_longest_path_win() {
    let text = "n a 1 passing urlprefix-/
                n b 2 passing urlprefix-/api
                n c 3 passing urlprefix-x.example.com/
                n d 4 passing urlprefix-*.example.com/";
    check(text, "other", "/api/v1", "10.0.0.1:2 1.00");
    check(text, "other", "/ap", "10.0.0.1:1 1.00");
    check(text, "x.example.com", "/api", "10.0.0.1:3 1.00");
    check(text, "y.example.com", "/api", "10.0.0.1:4 1.00");
}

#[test]
fn weights_are_shares_and_the_rest_is_split_evenly() {
    check(
        "n a 1 passing urlprefix-/a weight=0.2\nn b 2 passing urlprefix-/a\nn c 3 passing urlprefix-/a",
        "",
        "/a",
        "10.0.0.1:1 0.20, 10.0.0.1:2 0.40, 10.0.0.1:3 0.40",
    );
    check(
        "n a 1 passing urlprefix-/a weight=3\nn b 2 passing urlprefix-/a weight=1",
        "",
        "/a",
        "10.0.0.1:1 0.75, 10.0.0.1:2 0.25",
    );
}

#[test]
fn a_tag_that_cannot_be_served_is_told_and_spares_the_others() {
    let table =
        Table::build(&catalog("n a 1 passing urlprefix-/a proto=grpc, urlprefix-/b"), "dc1");
    assert_eq!(table.refused().len(), 1);
    assert_eq!(table.routes().count(), 1);
}

proptest! {
    /// Over all points a target is picked as often as its share says, within rounding.
    #[test]
    fn picking_follows_the_shares(weights in prop::collection::vec(0_u32..5, 1..6)) {
        let text: String = weights.iter().enumerate()
            .map(|(i, w)| format!("n s{i} {} passing urlprefix-/a weight={w}\n", i + 1))
            .collect();
        let table = Table::build(&catalog(&text), "dc1");
        let route = table.routes().next().unwrap();
        let total: u32 = weights.iter().sum();
        let mut counts = vec![0_u32; weights.len()];
        for step in 0..1000_u64 {
            let Some(target) = route.pick(step * (PARTS / 1000)) else {
                prop_assert_eq!(total, 0);
                return Ok(());
            };
            let port: usize = target.address.rsplit(':').next().unwrap().parse().unwrap();
            counts[port - 1] += 1;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            let wanted = weight * 1000 / total;
            prop_assert!(count.abs_diff(wanted) <= 5, "{counts:?} for {weights:?}");
        }
    }

    /// The glob agrees with the definition by recursion.
    #[test]
    fn globs_match_by_their_definition(pattern in "[ab*?.]{0,8}", text in "[ab.]{0,8}") {
        fn plain(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) => {
                    plain(rest, text) || (!text.is_empty() && plain(pattern, &text[1..]))
                }
                (Some((b'?', rest)), Some((_, after))) => plain(rest, after),
                (Some((p, rest)), Some((t, after))) => p == t && plain(rest, after),
                _ => false,
            }
        }
        prop_assert_eq!(
            glob_matches(pattern.as_bytes(), text.as_bytes()),
            plain(pattern.as_bytes(), text.as_bytes())
        );
    }
}
