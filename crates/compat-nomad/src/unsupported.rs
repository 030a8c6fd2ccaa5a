//! Routes that Nomad has and cos does not have yet: each is refused by name.
//!
//! One table; a line leaves it when the route is built.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::any;
use cos_http::ApiError;

use crate::context::Nomad;

/// Routes by what they belong to.
const MISSING: [(&str, &[&str]); 13] = [
    ("job statuses", &["/v1/jobs/statuses"]),
    ("node pools", &["/v1/node/pools", "/v1/node/pool/{*rest}"]),
    (
        "native service discovery routes (the catalog is on the Consul port)",
        &["/v1/services", "/v1/service/{*rest}", "/v1/allocation/{id}/services"],
    ),
    (
        "allocation checks by this route (they are in the catalog on the Consul port)",
        &["/v1/allocation/{id}/checks"],
    ),
    (
        "volumes and plugins",
        &[
            "/v1/volumes",
            "/v1/volumes/{*rest}",
            "/v1/volume/{*rest}",
            "/v1/plugins",
            "/v1/plugin/{*rest}",
        ],
    ),
    ("the event stream", &["/v1/event/stream"]),
    ("fuzzy search", &["/v1/search/fuzzy"]),
    ("scaling policies", &["/v1/scaling/policies", "/v1/scaling/policy/{*rest}"]),
    ("variables", &["/v1/vars", "/v1/var/{*rest}"]),
    ("multiregion deployments", &["/v1/deployment/unblock/{id}"]),
    (
        "this operator route",
        &[
            "/v1/operator/keyring/{*rest}",
            "/v1/operator/upgrade-check/{*rest}",
            "/v1/operator/utilization",
        ],
    ),
    (
        "this agent route",
        &[
            "/v1/agent/host",
            "/v1/agent/monitor/export",
            "/v1/agent/reload",
            "/v1/agent/schedulers",
            "/v1/agent/schedulers/config",
            "/v1/agent/pprof/{*rest}",
        ],
    ),
    ("workload identities", &["/.well-known/jwks.json", "/.well-known/openid-configuration"]),
];

/// Routes that Nomad itself has only in its enterprise edition.
const ENTERPRISE: [&str; 10] = [
    "/v1/sentinel/policies",
    "/v1/sentinel/policy/{name}",
    "/v1/quotas",
    "/v1/quota-usages",
    "/v1/quota",
    "/v1/quota/{*rest}",
    "/v1/recommendation",
    "/v1/recommendations",
    "/v1/recommendations/apply",
    "/v1/recommendation/{id}",
];

pub(crate) fn routes() -> Router<Nomad> {
    let mut routes = Router::new();
    for (what, paths) in MISSING {
        let refusal = ApiError::unsupported(format!("cos does not support {what} yet"));
        for path in paths {
            routes = routes.route(path, refuse(refusal.clone()));
        }
    }
    let enterprise = ApiError::unsupported("Nomad Enterprise only endpoint");
    for path in ENTERPRISE {
        routes = routes.route(path, refuse(enterprise.clone()));
    }
    let no_access_control = ApiError::new(StatusCode::BAD_REQUEST, "ACL support disabled");
    routes.route("/v1/acl/{*rest}", refuse(no_access_control))
}

fn refuse(refusal: ApiError) -> axum::routing::MethodRouter<Nomad> {
    any(move || std::future::ready(refusal.clone()))
}
