//! `/v1/jobs`: the list, registration, and reading of job files.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use cos_http::body::RawBody;
use cos_http::{ApiError, Body, PageKey, Params, ReadOptions, Reply, params};
use cos_model::{Job, JobKey, Trigger};
use cos_state::{Command, Reply as Outcome, Topic};
use serde_json::json;

use crate::context::{DEFAULT_NAMESPACE, Listing, Nomad, registered};
use crate::spec::{self, ReadJob, job_json};
use crate::wire::job::JobStub;
use crate::write;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/jobs", get(list).put(register).post(register))
        .route("/v1/jobs/parse", write(parse))
        .route("/v1/validate/job", write(validate))
}

/// What a list of jobs depends on: each is shown with the count of its instances.
const LIST_TOPICS: [Topic; 3] = [Topic::Jobs, Topic::Allocs, Topic::Evals];

async fn list(
    State(nomad): State<Nomad>,
    params: Params,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let with_meta = params.flag("meta")?;
    let listing = Listing {
        items: |state, options| {
            let wanted = |job: &&Arc<Job>| {
                options.wants_namespace(&job.key.namespace)
                    && job.key.id.starts_with(&options.prefix)
            };
            state.jobs().filter(wanted).cloned().collect()
        },
        key: |job| PageKey::text(format!("{}.{}", job.key.namespace, job.key.id)),
        full: job_json,
    };
    let show = |state: &cos_state::State, job: &Job| JobStub::new(state, job, with_meta);
    nomad.list(&options, &LIST_TOPICS, listing, show).await
}

/// Registers a job named in the body; also for `PUT /v1/job/:id`.
async fn register(
    State(nomad): State<Nomad>,
    params: Params,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    register_body(&nomad, &params, &bytes, None).await
}

/// Registers the job of a body, which must have the id of the path if there is one.
pub(crate) async fn register_body(
    nomad: &Nomad,
    params: &Params,
    bytes: &[u8],
    path_id: Option<&str>,
) -> Result<Response, ApiError> {
    let body = Body::parse(bytes)?;
    let read = job_of(&body, params)?;
    if path_id.is_some_and(|id| *id != *read.job.key.id) {
        return Err(ApiError::bad_request("Job ID does not match name"));
    }
    read.check()?;
    let ReadJob { mut job, warnings, .. } = read;
    if body.flag("PreserveCounts")? {
        preserve_counts(nomad, &mut job).await?;
    }
    let expected = if body.flag("EnforceIndex")? {
        Some(body.unsigned("JobModifyIndex")?.unwrap_or(0))
    } else {
        None
    };
    let priority = body.integer("EvalPriority")?;
    let submission = Submission { job, expected, trigger: Trigger::JobRegister, priority };
    submit(nomad, submission, &warnings).await
}

/// Reads the `Job` of a body. A namespace in the query wins where the job names none.
pub(crate) fn job_of(body: &Body, params: &Params) -> Result<ReadJob, ApiError> {
    let job = body.get("Job").ok_or_else(|| ApiError::bad_request("Job must be specified"))?;
    let mut read = spec::read_job(job)?;
    let named = body.object("Job")?.map(|job| job.text("Namespace").map(str::to_owned));
    let named = named.transpose()?.filter(|name| !name.is_empty());
    if let (None, Some(namespace)) = (named, params.text("namespace").filter(|name| *name != "*")) {
        read.job.key = JobKey::new(namespace, Arc::clone(&read.job.key.id));
    }
    if &*read.job.key.namespace != DEFAULT_NAMESPACE {
        let JobKey { namespace, id } = &read.job.key;
        let message = format!("job \"{id}\" is in nonexistent namespace \"{namespace}\"");
        return Err(ApiError::bad_request(message));
    }
    Ok(read)
}

/// A job to register and under which conditions.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) job: Job,
    /// The `job_modify_index` that the caller expects.
    pub(crate) expected: Option<u64>,
    pub(crate) trigger: Trigger,
    /// The priority of the evaluation, if not the job's.
    pub(crate) priority: Option<i64>,
}

/// Registers a job with its evaluation.
pub(crate) async fn submit(
    nomad: &Nomad,
    submission: Submission,
    warnings: &str,
) -> Result<Response, ApiError> {
    let Submission { mut job, expected, trigger, priority } = submission;
    if nomad.api.control()?.state().scheduler_config().reject_job_registration {
        return Err(ApiError::new(
            axum::http::StatusCode::FORBIDDEN,
            "job registration, dispatch, and scale are disabled by the scheduler configuration",
        ));
    }
    job.submit_time = nomad.now()?;
    let mut eval = nomad.evaluation(&job, trigger)?;
    if let (Some(eval), Some(priority)) = (&mut eval, priority.filter(|wanted| *wanted != 0)) {
        eval.priority = u8::try_from(priority)
            .ok()
            .filter(|p| (1..=100).contains(p))
            .ok_or_else(|| ApiError::bad_request("EvalPriority must be between 1 and 100"))?;
    }
    let command =
        Command::RegisterJob { job: Box::new(job), expected_index: expected, eval: eval.clone() };
    let committed = nomad.propose(command).await?;
    let job_modify_index = match committed.reply {
        Outcome::Job { job_modify_index, .. } => job_modify_index,
        _ => committed.index,
    };
    Ok(registered(&committed, eval.as_ref(), job_modify_index, warnings))
}

/// Keeps the counts that scaling gave to groups that exist already.
async fn preserve_counts(nomad: &Nomad, job: &mut Job) -> Result<(), ApiError> {
    let state = nomad.current().await?;
    if let Some(known) = state.job(&job.key) {
        for group in &mut job.groups {
            if let Some(known) = known.group(&group.name) {
                group.count = known.count;
            }
        }
    }
    Ok(())
}

async fn parse(params: Params, RawBody(bytes): RawBody) -> Result<Response, ApiError> {
    let body = Body::parse(&bytes)?;
    let source = body.text("JobHCL")?;
    if source.trim().is_empty() {
        return Err(ApiError::bad_request("Job spec is empty"));
    }
    // The answer is complete in any case: a job is only ever read with its defaults.
    let _canonical = body.flag("Canonicalize")?;
    let mut job = spec::parse_hcl(source.to_owned(), body.text("Variables")?.to_owned()).await?;
    if let Some(namespace) =
        params.text("namespace").filter(|_| &*job.key.namespace == DEFAULT_NAMESPACE)
    {
        job.key = JobKey::new(namespace, Arc::clone(&job.key.id));
    }
    Ok(Reply::default().pretty(params::is_pretty(&params)).json(&job_json(&job)))
}

async fn validate(params: Params, RawBody(bytes): RawBody) -> Result<Response, ApiError> {
    let body = Body::parse(&bytes)?;
    if body.get("Job").is_none() {
        return Err(ApiError::bad_request("Job must be specified"));
    }
    let (errors, warnings) = match job_of(&body, &params) {
        Ok(read) => (read.errors, read.warnings),
        Err(error) => (vec![error.message], String::new()),
    };
    Ok(Reply::default().pretty(params::is_pretty(&params)).json(&json!({
        "DriverConfigValidated": errors.is_empty(),
        "ValidationErrors": if errors.is_empty() { None } else { Some(&errors) },
        "Error": spec::joined(&errors),
        "Warnings": warnings,
    })))
}
