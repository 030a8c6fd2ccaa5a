//! The page at `/ui/jobs`: the jobs there are, in plain HTML.
//!
//! # Deliberately absent
//!
//! - Scripts and anything to load. The real user interface comes with its own issue.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use cos_model::Job;
use cos_state::Topic;

use crate::api::Api;
use crate::error::ApiError;
use crate::params::ReadOptions;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Jobs - cos</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1c1e21; background: #fff; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #d8dbe0; }
.running { color: #11702b; } .dead { color: #6b6f76; } .pending { color: #8a5a00; }
.empty { padding: 2rem; border: 1px dashed #b4b8bf; text-align: center; }
@media (prefers-color-scheme: dark) { body { color: #e4e6ea; background: #16181c; }
  .running { color: #5fce7f; } .dead { color: #9aa0a8; } .pending { color: #e0b050; } }
</style></head><body>
<h1>Jobs</h1>
"#;

const EMPTY: &str = "<p class=\"empty\"><strong>No jobs.</strong> The cluster is empty.</p>\n";

const TABLE_HEAD: &str = "<table><thead><tr><th>Name</th><th>Status</th><th>Type</th>\
    <th>Priority</th><th>Groups</th></tr></thead><tbody>\n";

/// Answers with the jobs as this server has them.
pub(crate) async fn jobs(
    State(api): State<Api>,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    // A page that loads during an election is worth more than one that is certainly fresh.
    let options = ReadOptions { stale: true, index: 0, ..options };
    let topics = [Topic::Jobs];
    let (_, page) = api
        .read_with(&options, &topics, |state| {
            let jobs: Vec<&Arc<Job>> = state.jobs().collect();
            (state.topic_index(&Topic::Jobs), render(&jobs))
        })
        .await?;
    Ok(Html(page).into_response())
}

fn render(jobs: &[&Arc<Job>]) -> String {
    let mut page = HEAD.to_owned();
    if jobs.is_empty() {
        page.push_str(EMPTY);
    } else {
        page.push_str(TABLE_HEAD);
        for job in jobs {
            page.push_str(&row(job));
        }
        page.push_str("</tbody></table>\n");
    }
    page.push_str("</body></html>\n");
    page
}

fn row(job: &Job) -> String {
    let status = job.status.name();
    let stopped = if job.stop { " (stopped)" } else { "" };
    let mut groups = String::new();
    for (number, group) in job.groups.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        write!(groups, "{comma}{} \u{d7} {}", group.name, group.count)
            .expect("writing to a string cannot fail");
    }
    let cells = [
        escape(&job.name),
        format!("<span class=\"{status}\">{status}{stopped}</span>"),
        job.kind.name().to_owned(),
        job.priority.to_string(),
        escape(&groups),
    ];
    format!("<tr><td>{}</td></tr>\n", cells.join("</td><td>"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cluster_says_so() {
        assert!(render(&[]).contains("No jobs."));
    }

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
    }
}
