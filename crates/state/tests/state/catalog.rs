//! Examples: how nodes appear in the catalog, and what the catalog refuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::catalog::{CatalogChange, Health};
use cos_state::{Command, Event, Reply};

use crate::samples;
use crate::script::{World, check};

#[test]
fn a_client_node_has_one_check_of_its_own_and_one_service_with_one_check() {
    check(
        "node n1              -> done
         ? services node1     -> nomad-client [http] 10.0.0.1:4646
         ? checks node1       -> Nomad Client HTTP Check Passing; Serf Health Status Passing
         ? index catalog      -> 1
         node n1              -> done
         ? index catalog      -> 1
         node n1 http=[fd00::1]:80 -> done
         ? services node1     -> nomad-client [http] fd00::1:80
         ? index service:nomad-client -> 3",
    );
}

#[test]
fn the_checks_follow_the_heartbeats() {
    check(
        "node n1                 -> done
         status n1 down missed   -> done
         ? checks node1          -> Nomad Client HTTP Check Critical; Serf Health Status Critical
         ? index service:nomad-client -> 2
         node n1                 -> done
         ? checks node1          -> Nomad Client HTTP Check Passing; Serf Health Status Passing
         status n1 down missed   -> done
         status n1 ready back    -> done
         ? checks node1          -> Nomad Client HTTP Check Passing; Serf Health Status Passing",
    );
}

#[test]
fn a_name_belongs_to_the_node_that_registered_it_last() {
    check(
        "node n1 name=box        -> done
         status n1 down missed   -> done
         node n2 name=box        -> done
         ? services box          -> nomad-client [http] 10.0.0.2:4646
         ? checks box            -> Nomad Client HTTP Check Passing; Serf Health Status Passing
         status n1 ready late    -> done
         status n1 down missed   -> done
         collect n1              -> done
         ? node n1               -> none
         ? checks box            -> Nomad Client HTTP Check Passing; Serf Health Status Passing",
    );
}

#[test]
fn a_node_that_changes_its_name_leaves_the_old_one() {
    check(
        "node n1 name=old -> done
         node n1 name=new -> done
         ? services old   ->
         ? services new   -> nomad-client [http] 10.0.0.1:4646",
    );
}

#[test]
fn a_collected_node_leaves_the_catalog() {
    check(
        "node n1               -> done
         status n1 down missed -> done
         collect n1            -> done
         ? services node1      ->
         ? checks node1        ->
         ? index service:nomad-client -> 3",
    );
}

#[test]
fn a_server_under_the_same_name_stays_when_the_client_goes() {
    let mut world = World::default();
    let node = samples::node(1);
    world.apply(Command::RegisterNode { node: Box::new(node.clone()), evals: Vec::new() });
    let instance = world.state.catalog().services_on("node1").next().unwrap();
    let mut server = Arc::unwrap_or_clone(Arc::clone(instance));
    (server.id, server.name) = (Arc::from("server"), Arc::from("nomad"));
    world.apply(Command::Catalog { changes: vec![CatalogChange::PutService(server)] });
    world.apply(Command::SetNodeStatus {
        id: node.id,
        status: cos_model::NodeStatus::Down,
        message: "missed".to_owned(),
        evals: Vec::new(),
    });
    world.apply(Command::Collect {
        evals: Vec::new(),
        allocs: Vec::new(),
        deployments: Vec::new(),
        jobs: Vec::new(),
        nodes: vec![node.id],
    });
    let left: Vec<&str> = world.state.catalog().services_on("node1").map(|s| &*s.name).collect();
    assert_eq!(left, ["nomad"]);
}

#[test]
fn a_refused_change_does_not_stop_the_others() {
    let mut world = World::default();
    world.apply(Command::RegisterNode { node: Box::new(samples::node(1)), evals: Vec::new() });
    let set = |node: &str, id: &str| CatalogChange::SetCheck {
        node: Arc::from(node),
        id: Arc::from(id),
        status: Health::Warning,
        output: "so so".to_owned(),
    };
    let changes =
        vec![set("node1", "none"), set("node1", "serfHealth"), set("node9", "serfHealth")];
    let applied = world.apply(Command::Catalog { changes: changes.clone() });
    let expected = BTreeMap::from([
        (0, "unknown check ID `none` on node `node1`".to_owned()),
        (2, "unknown check ID `serfHealth` on node `node9`".to_owned()),
    ]);
    assert_eq!(applied.reply, Ok(Reply::Catalog(expected)));
    assert_eq!(applied.events, [Event::CatalogChanged(Arc::new(changes[1].clone()))]);
}
