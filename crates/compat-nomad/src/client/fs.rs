//! Files and logs of an allocation.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cos_http::local::{ByteStream, LogStream, Origin, StreamFile, StreamLogs};
use cos_http::params::is_pretty;
use cos_http::{ApiError, LocalError, Params, Reply};

use super::{alloc_id, frames};
use crate::context::Nomad;
use crate::wire::usage::FileInfo;

pub(super) async fn list(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let path = params.text("path").unwrap_or("/");
    let files = nomad.api.local()?.list(alloc_id(&alloc)?, path).await?;
    let shown: Vec<FileInfo> = files.iter().map(FileInfo::from).collect();
    Ok(Reply::default().pretty(is_pretty(&params)).json(&shown))
}

fn required_path(params: &Params) -> Result<&str, ApiError> {
    params.text("path").ok_or_else(|| ApiError::bad_request("must provide a file path"))
}

pub(super) async fn stat(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let path = required_path(&params)?;
    let file = nomad.api.local()?.stat(alloc_id(&alloc)?, path).await?;
    Ok(Reply::default().pretty(is_pretty(&params)).json(&FileInfo::from(&file)))
}

pub(super) async fn cat(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    read(&nomad, &alloc, required_path(&params)?, 0, None).await
}

pub(super) async fn read_at(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let offset: Option<u64> = params.number("offset")?;
    let offset = offset.ok_or_else(|| ApiError::bad_request("must provide an offset"))?;
    let limit = params.number::<u64>("limit")?.filter(|limit| *limit > 0);
    read(&nomad, &alloc, required_path(&params)?, offset, limit).await
}

async fn read(
    nomad: &Nomad,
    alloc: &str,
    path: &str,
    offset: u64,
    limit: Option<u64>,
) -> Result<Response, ApiError> {
    let local = nomad.api.local()?;
    let alloc = alloc_id(alloc)?;
    let file = local.stat(alloc, path).await.map_err(unreadable)?;
    let bytes: ByteStream = local.read(alloc, path, offset, limit).await.map_err(unreadable)?;
    let headers = [
        (header::CONTENT_TYPE, harmless(&file.content_type)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

/// A file to be read that is not there is a wrong request to Nomad's clients, not a wrong address.
fn unreadable(error: LocalError) -> ApiError {
    match error {
        LocalError::NotFound(words) => ApiError::bad_request(words),
        other => other.into(),
    }
}

/// A task wrote the file: no browser should run what is in it as a page of this cluster.
fn harmless(content_type: &str) -> &'static str {
    let is_text = content_type.starts_with("text/") || content_type.contains("json");
    let is_active = ["html", "svg", "xml", "script"].iter().any(|kind| content_type.contains(kind));
    if is_text || is_active { "text/plain; charset=utf-8" } else { "application/octet-stream" }
}

fn origin(params: &Params) -> Result<Origin, ApiError> {
    match params.text("origin") {
        None | Some("start") => Ok(Origin::Start),
        Some("end") => Ok(Origin::End),
        Some(_) => Err(ApiError::bad_request("origin must be start or end")),
    }
}

pub(super) async fn stream(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let request = StreamFile {
        path: required_path(&params)?.to_owned(),
        offset: params.number("offset")?.unwrap_or(0),
        origin: origin(&params)?,
        follow: !params.has("follow") || params.flag("follow")?,
    };
    let pieces = nomad.api.local()?.stream(alloc_id(&alloc)?, request).await.map_err(unreadable)?;
    Ok(frames::framed(pieces))
}

pub(super) async fn logs(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let task =
        params.text("task").ok_or_else(|| ApiError::bad_request("must provide task name"))?;
    let stream = match params.text("type") {
        None | Some("stdout") => LogStream::Stdout,
        Some("stderr") => LogStream::Stderr,
        Some(_) => {
            return Err(ApiError::bad_request("must provide log type (stdout/stderr)"));
        }
    };
    let request = StreamLogs {
        task: task.to_owned(),
        stream,
        offset: params.number("offset")?.unwrap_or(0),
        origin: origin(&params)?,
        follow: params.flag("follow")?,
    };
    let plain = params.flag("plain")?;
    let pieces = nomad.api.local()?.logs(alloc_id(&alloc)?, request).await?;
    Ok(if plain { frames::plain(pieces) } else { frames::framed(pieces) })
}
