//! Entries of the log in a few words, for traces that somebody reads.

use cos_state::{Applied, Command, Event, Request};

/// A command and what it did.
pub(crate) fn command(request: &Request, applied: &Applied) -> String {
    let mut words = match &request.command {
        Command::ApplyPlan { plan } => {
            let (stops, placements) = (plan.stops.len(), plan.placements.len());
            let job = &plan.eval.job.id;
            format!("plan for {job} on {}, {stops} stops, {placements} placements", plan.based_on)
        }
        Command::RegisterJob { job, .. } => format!("register {}", job.key.id),
        Command::StopJob { key, purge, .. } => format!("stop {}, purge {purge}", key.id),
        Command::RegisterNode { node, .. } => format!("register {}", node.name),
        Command::SetNodeStatus { id, status, .. } => format!("{} is {}", id.short(), status.name()),
        Command::UpdateAllocs { updates, .. } => {
            let list = updates
                .iter()
                .map(|update| format!(" {} {}", update.id.short(), update.client_status.name()));
            list.fold("reports".to_owned(), |all, next| all + &next)
        }
        Command::Collect { allocs, .. } => format!("collect {} allocations", allocs.len()),
        other => {
            let text = format!("{other:?}");
            text.split([' ', '(']).next().unwrap_or_default().to_owned()
        }
    };
    if let Err(refused) = &applied.reply {
        words.push_str(": refused, ");
        words.push_str(&refused.to_string());
    } else if let Ok(cos_state::Reply::Plan(outcome)) = &applied.reply
        && !outcome.refused.is_empty()
    {
        words += ", refused in part:";
        for reason in outcome.refused.values() {
            words.extend([" ", reason]);
        }
    }
    for event in &applied.events {
        let (Event::AllocPlanned(alloc) | Event::AllocReported(alloc)) = event else { continue };
        let (name, id, node) = (alloc.name(), alloc.id.short(), &alloc.node_name);
        let (desired, status) = (alloc.desired.name(), alloc.client_status.name());
        let version = alloc.job.version;
        words.extend([format!("; {name} {id} v{version} on {node}: {desired}, {status}")]);
    }
    words
}
