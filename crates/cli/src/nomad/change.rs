//! Commands that change a job in the cluster: stop, promote, scale, revert, evaluate.

use serde_json::json;

use super::deployment::{self, follow};
use super::find;
use crate::client::escape;
use crate::command::{Context, Failure, Running};
use crate::output::{list, text};

pub(super) fn stop(context: Context) -> Running {
    Box::pin(async move {
        if context.flags.arguments.is_empty() {
            return Err(Failure::Usage(
                "This command takes at least one argument: <job>".to_owned(),
            ));
        }
        let mut worst = 0;
        for name in &context.flags.arguments {
            let id = find::job_id(&context.client, name).await?;
            let path = format!("/v1/job/{}?purge={}", escape(&id), context.flags.on("purge"));
            let answer = context.client.delete(&path).await?.body;
            worst = worst.max(follow(&context, &answer).await?);
        }
        Ok(worst)
    })
}

pub(super) fn promote(context: Context) -> Running {
    Box::pin(async move {
        let id = find::job_id(&context.client, context.one_argument("<job>")?).await?;
        let path = format!("/v1/job/{}/deployment", escape(&id));
        let latest = context.client.get(&path).await?.body;
        let deployment = text(&latest, "ID");
        if deployment.is_empty() {
            return Err(Failure::new(format!("Job \"{id}\" has no deployment to promote")));
        }
        if !deployment::has_canaries(&latest) {
            return Err(Failure::new(format!(
                "Error promoting deployment \"{deployment}\": it has no canaries"
            )));
        }
        deployment::promote_one(&context, &deployment).await
    })
}

pub(super) fn scale(context: Context) -> Running {
    Box::pin(async move {
        let (name, group, count) = match context.flags.arguments.as_slice() {
            [job, count] => (job, None, count),
            [job, group, count] => (job, Some(group.clone()), count),
            _ => {
                return Err(Failure::Usage(
                    "This command takes two or three arguments: <job> [<group>] <count>".to_owned(),
                ));
            }
        };
        let count: u32 = count.parse().ok().ok_or_else(|| {
            Failure::Usage(format!("Failed to convert count \"{count}\" to a whole number"))
        })?;
        let job = find::job(&context.client, name).await?;
        let groups: Vec<String> =
            list(&job, "TaskGroups").iter().map(|group| text(group, "Name")).collect();
        let group = match (group, groups.as_slice()) {
            (Some(group), _) => group,
            (None, [only]) => only.clone(),
            (None, many) => {
                return Err(Failure::new(format!(
                    "Group name required; the job has {}",
                    many.join(", ")
                )));
            }
        };
        let request = json!({
            "Count": count,
            "Target": { "Group": group },
            "Message": "submitted using the command line",
        });
        let path = format!("/v1/job/{}/scale", escape(&text(&job, "ID")));
        let answer = context.client.put(&path, &request).await?.body;
        follow(&context, &answer).await
    })
}

pub(super) fn revert(context: Context) -> Running {
    Box::pin(async move {
        let [name, version] = context.flags.arguments.as_slice() else {
            return Err(Failure::Usage(
                "This command takes two arguments: <job> <version>".to_owned(),
            ));
        };
        let version: u64 = version.parse().ok().ok_or_else(|| {
            Failure::Usage(format!("Failed to convert version \"{version}\" to a whole number"))
        })?;
        let id = find::job_id(&context.client, name).await?;
        let request = json!({ "JobID": id, "JobVersion": version });
        let path = format!("/v1/job/{}/revert", escape(&id));
        let answer = context.client.put(&path, &request).await?.body;
        follow(&context, &answer).await
    })
}

pub(super) fn evaluate(context: Context) -> Running {
    Box::pin(async move {
        let id = find::job_id(&context.client, context.one_argument("<job>")?).await?;
        let force = context.flags.on("force-reschedule");
        let request = json!({ "JobID": id, "EvalOptions": { "ForceReschedule": force } });
        let path = format!("/v1/job/{}/evaluate", escape(&id));
        let answer = context.client.put(&path, &request).await?.body;
        println!("Created eval ID: \"{}\"", text(&answer, "EvalID"));
        follow(&context, &answer).await
    })
}
