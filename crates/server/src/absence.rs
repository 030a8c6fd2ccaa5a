//! What becomes of a node of which nothing is heard: down, or only disconnected because a job there
//! waits for it?
//!
//! Pure: state and time in, an opinion out.

use cos_model::{ClientStatus, NodeId, NodeStatus, Timestamp};
use cos_state::State;

/// The status of a silent node, and when to look at it again.
pub fn status_of_silent(
    state: &State,
    node: NodeId,
    now: Timestamp,
) -> (NodeStatus, Option<Timestamp>) {
    let waiting = state.allocs_on_node(node).filter(|alloc| {
        let runs = matches!(alloc.client_status, ClientStatus::Running | ClientStatus::Unknown);
        runs && !alloc.is_desired_terminal()
    });
    let ends = waiting.filter_map(|alloc| {
        let lost_after = alloc.task_group()?.disconnect.as_ref()?.lost_after?;
        Some(alloc.unknown_since().unwrap_or(now) + lost_after)
    });
    match ends.filter(|end| *end > now).max() {
        Some(end) => (NodeStatus::Disconnected, Some(end)),
        None => (NodeStatus::Down, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cos_model::{Disconnect, JobKind};

    use super::*;
    use crate::testing::{self, World};

    #[test]
    fn a_silent_node_is_disconnected_while_a_job_waits_for_it() {
        let mut world = World::new();
        world.add_node(testing::node(1));
        let mut job = testing::job("web", JobKind::Service, 2);
        let lost_after = Some(Duration::from_secs(30));
        job.groups[0].disconnect = Some(Disconnect { lost_after, ..Disconnect::default() });
        world.register(&job);
        world.place("web", &[(1, 1), (2, 1)], None);
        let node = NodeId::from_bits(1);
        let status = |world: &mut World, later: u64| {
            world.draw(|state, now, _| {
                let (status, end) = status_of_silent(state, node, now + Duration::from_secs(later));
                (status, end.map(|end| end.since(now).as_secs()))
            })
        };
        // What has not begun to run is not waited for.
        assert_eq!(status(&mut world, 0), (NodeStatus::Down, None));
        world.report(1, ClientStatus::Running, None);
        assert_eq!(status(&mut world, 0), (NodeStatus::Disconnected, Some(30)));
        world.report(1, ClientStatus::Failed, None);
        assert_eq!(status(&mut world, 0), (NodeStatus::Down, None));
    }
}
