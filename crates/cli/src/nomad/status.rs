//! `status`: whatever has this id.

use super::find::{ALLOCATION, DEPLOYMENT, EVALUATION, NODE};
use super::{alloc, deployment, evaluation, find, job, node};
use crate::client::escape;
use crate::command::{Context, Failure, Running};
use crate::output::{structured, text};

pub(super) fn run(context: Context) -> Running {
    Box::pin(async move {
        let id = match context.flags.arguments.as_slice() {
            [] => return job::overview(&context).await,
            [id] => id.clone(),
            _ => {
                return Err(Failure::Usage(
                    "This command takes either no arguments or one: <id>".to_owned(),
                ));
            }
        };
        let verbose = context.flags.on("verbose");
        // A job whose id is exactly this goes before anything whose id only begins so.
        let exact = context.client.find(&format!("/v1/job/{}", escape(&id))).await?;
        if let Some(exact) = exact {
            return job::show(&context, &exact.body).await;
        }
        if looks_like_id(&id) {
            for kind in [ALLOCATION, NODE, EVALUATION, DEPLOYMENT] {
                let path = format!("/v1/{}s?prefix={}", kind.path, escape(&id));
                let found = context.client.get(&path).await?.body;
                let Some([only]) = found.as_array().map(Vec::as_slice) else { continue };
                let path = format!("/v1/{}/{}", kind.path, text(only, "ID"));
                let whole = context.client.get(&path).await?.body;
                if structured(&context.flags, &whole)? {
                    return Ok(0);
                }
                match kind.path {
                    "allocation" => println!("{}", alloc::describe(&whole, verbose, true)),
                    "node" => return node::show(&context, &whole).await,
                    "evaluation" => println!("{}", evaluation::describe(&whole, verbose)),
                    _ => println!("{}", deployment::describe(&whole, verbose)),
                }
                return Ok(0);
            }
        }
        let job = find::job(&context.client, &id).await.map_err(|failure| match failure {
            Failure::Failed { message, code } if message.starts_with("No job(s)") => {
                Failure::Failed { message: format!("No matches found for id \"{id}\""), code }
            }
            other => other,
        })?;
        job::show(&context, &job).await
    })
}

fn looks_like_id(id: &str) -> bool {
    id.len() >= 2 && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}
