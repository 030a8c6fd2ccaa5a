//! Scenarios of the life of jobs that run on every node.

use super::script::check;

#[test]
fn a_system_job_is_on_every_node_and_on_those_that_come_later() {
    check(
        "node n1\nnode n2 dc=other\nnode n3 attr.x=y\njob a kind=system dc=dc1\nplan\nwhere\nplan\n\
         node n4\nplan\nwhere\nineligible n1\nplan\ndown n3\nplan\nplan\nwhere",
        &[
            "place 0,0",
            "n1=1 n3=1",
            "nothing",
            "place 0",
            "n1=1 n3=1 n4=1",
            "nothing",
            "stop 0: alloc is lost since its node is down (lost)",
            "nothing",
            "n1=1 n4=1",
        ],
    );
    check(
        "node n1\nnode n2 attr.x=y\njob a kind=system rule=attr.x=y\nplan\nwhere",
        &["place 0", "n2=1"],
    );
    check(
        "node n1\nnode n2\njob a kind=system\nplan\nrun\ndrain n1\nplan\nwhere",
        &["place 0,0", "stop 0: alloc not needed as node is tainted", "n2=1"],
    );
}

#[test]
fn a_system_job_waits_for_full_nodes_and_says_when_it_runs_nowhere() {
    check("node n1 cpu=50\nnode n2\njob a kind=system\nplan", &["place 0; blocked 1: cpu x1"]);
    check("node n1\njob a kind=system driver=docker\nplan", &["failed 0: missing drivers x1"]);
    check("node n1\njob a kind=system count=0\nplan", &["nothing"]);
}

#[test]
fn a_system_job_is_updated_at_its_pace() {
    let job = "job a kind=system port=http=80 max_parallel=1 stagger=5";
    check(
        &format!(
            "node n1\nnode n2\n{job}\nplan\nrun\n{job} rev=2\nplan\nrun\nplan\nplan\nwait 5\nplan\n\
             run\nplan\nplan\nlive"
        ),
        &[
            "place 0,0",
            "stop 0: alloc is being updated due to job update; rolling-update in 5s; blocked 1: \
             network: reserved port collision http=80 x1",
            "place 0; rolling-update in 5s",
            "rolling-update in 5s",
            "stop 0: alloc is being updated due to job update; blocked 1: network: reserved port \
             collision http=80 x1",
            "place 0",
            "nothing",
            "0:v1 0:v1",
        ],
    );
    check(
        "node n1\njob a kind=system\nplan\njob a kind=system max_parallel=1\nplan",
        &["place 0", "in-place 0"],
    );
}

#[test]
fn a_sysbatch_job_runs_once_per_node_and_version() {
    check(
        "node n1\njob a kind=sysbatch\nplan\nrun\ncomplete 0\nplan\nnode n2\nplan\n\
         job a kind=sysbatch rev=2\nplan",
        &[
            "place 0",
            "nothing",
            "place 0",
            "stop 0: alloc is being updated due to job update; place 0,0",
        ],
    );
}
