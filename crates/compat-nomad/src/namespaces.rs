//! `/v1/namespaces` and `/v1/namespace/:name`: there is one, `default`.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, put};
use cos_http::{ApiError, ReadOptions};
use serde_json::{Value, json};

use crate::context::Nomad;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/namespaces", get(list))
        .route("/v1/namespace", put(change).post(change))
        .route("/v1/namespace/{name}", get(read).put(change).post(change).delete(change))
}

fn default_namespace() -> Value {
    json!({
        "Name": "default",
        "Description": "Default shared namespace",
        "Quota": "",
        "Capabilities": null,
        "NodePoolConfiguration": null,
        "VaultConfiguration": null,
        "ConsulConfiguration": null,
        "Meta": null,
        "Hash": null,
        "CreateIndex": 1,
        "ModifyIndex": 1,
    })
}

async fn list(State(nomad): State<Nomad>, options: ReadOptions) -> Result<Response, ApiError> {
    let is_wanted = "default".starts_with(&options.prefix);
    let read = |_: &_| Ok((1, if is_wanted { vec![default_namespace()] } else { Vec::new() }));
    nomad.api.read(&options, &[], read).await
}

async fn read(
    State(nomad): State<Nomad>,
    Path(name): Path<String>,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    if name != "default" {
        return Err(ApiError::not_found("Namespace not found"));
    }
    nomad.api.read(&options, &[], |_| Ok((1, default_namespace()))).await
}

async fn change() -> ApiError {
    std::future::ready(ApiError::unsupported(
        "cos does not support namespaces other than `default` yet",
    ))
    .await
}
