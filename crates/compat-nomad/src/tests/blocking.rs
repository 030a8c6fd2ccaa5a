//! Reads that wait: they wake on a change, and give up in time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::support::{Agent, job, register};

#[tokio::test(start_paused = true)]
async fn a_waiting_read_wakes_when_its_object_changes() {
    let agent = Arc::new(Agent::with_job());
    let begin = Instant::now();
    let waiting = agent.ask("GET", "/v1/job/web?index=2&wait=5m", Vec::new());
    let changing = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Another job wakes the read, which finds nothing newer and goes on waiting.
        agent.control.apply(register(job("other", 1)));
        tokio::time::sleep(Duration::from_secs(3)).await;
        agent.control.apply(register(job("web", 9)))
    };
    let (answer, index) = tokio::join!(waiting, changing);
    assert_eq!(answer.headers["x-nomad-index"].to_str().unwrap(), index.to_string());
    assert_eq!(begin.elapsed(), Duration::from_secs(6));
    assert!(answer.text.contains("\"Count\":9"));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_read_gives_up_in_time_with_what_there_is() {
    let agent = Agent::with_job();
    let begin = Instant::now();
    let answer = agent.ask("GET", "/v1/jobs?index=2&wait=16s", Vec::new()).await;
    assert_eq!((answer.status.as_u16(), &answer.headers["x-nomad-index"]), (200, &2.into()));
    let waited = begin.elapsed();
    assert!((Duration::from_secs(16)..=Duration::from_secs(17)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_read_of_something_newer_does_not_wait() {
    let agent = Agent::with_job();
    let begin = Instant::now();
    for uri in ["/v1/jobs?index=1", "/v1/job/web?index=0&wait=5m", "/v1/job/none?index=99"] {
        agent.ask("GET", uri, Vec::new()).await;
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    agent.get("/v1/job/none?index=99", 404, &json!("job not found"));
}
