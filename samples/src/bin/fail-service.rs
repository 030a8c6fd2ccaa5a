//! `fail-service`: healthy and unhealthy by plan, to show what an orchestrator does about it.
//!
//! `HEALTHY_IN`, `HEALTHY_FOR` and `UNHEALTHY_FOR` are seconds; a negative value is for ever.
//! `GET /health` answers 200 or 504. `PUT /sethealthy` and `PUT /setunhealthy` freeze the state.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::time::Instant;

use cos_samples::flags::Flags;
use cos_samples::net::{self, Answer};

/// "For ever": fifty years.
const FOR_EVER: Duration = Duration::from_hours(50 * 365 * 24);

#[derive(Debug)]
struct State {
    healthy: bool,
    /// When the state flips.
    until: Instant,
    /// Whether a user froze it.
    frozen: bool,
}

#[derive(Debug)]
struct Plan {
    healthy_for: Duration,
    unhealthy_for: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let flags = Flags::from_args();
    let seconds =
        |name: &str| u64::try_from(flags.number(name, 0)).map_or(FOR_EVER, Duration::from_secs);
    let healthy_in = seconds("healthy-in");
    let plan =
        Plan { healthy_for: seconds("healthy-for"), unhealthy_for: seconds("unhealthy-for") };
    let healthy = healthy_in.is_zero();
    let phase = if healthy { plan.healthy_for } else { healthy_in };
    let state = Arc::new(Mutex::new(State { healthy, until: now() + phase, frozen: false }));
    let port = u16::try_from(flags.number("p", 8080)).unwrap_or(8080);

    let ticking = tick(Arc::clone(&state), plan);
    let serving = net::serve(port, move |request| {
        let answer = answer(&state, request.method(), request.uri().path());
        async move { answer }
    });
    tokio::select! {
        result = serving => result, // dropping the server only drops open connections
        () = ticking => Ok(()),
        () = net::until_told_to_end() => Ok(()),
    }
}

/// Flips the state when its phase is over, looking once a second.
async fn tick(state: Arc<Mutex<State>>, plan: Plan) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        let mut state = state.lock().expect("no holder of the lock can panic");
        if !state.frozen && now() > state.until {
            state.healthy = !state.healthy;
            let phase = if state.healthy { plan.healthy_for } else { plan.unhealthy_for };
            state.until = now() + phase;
        }
    }
}

fn answer(state: &Mutex<State>, method: &Method, path: &str) -> Answer {
    let mut state = state.lock().expect("no holder of the lock can panic");
    match path {
        "/health" => report(state.healthy),
        "/sethealthy" | "/setunhealthy" if method == Method::PUT => {
            state.healthy = path == "/sethealthy";
            state.frozen = true;
            net::answer(StatusCode::OK, JSON, message("Ok", true))
        }
        "/sethealthy" | "/setunhealthy" => {
            net::answer(StatusCode::BAD_REQUEST, JSON, message("Only PUT is supported", false))
        }
        _ => net::answer(StatusCode::NOT_FOUND, JSON, message("Not found", false)),
    }
}

fn report(healthy: bool) -> Answer {
    if healthy {
        net::answer(StatusCode::OK, JSON, message("Ok", true))
    } else {
        net::answer(StatusCode::GATEWAY_TIMEOUT, JSON, message("Error", false))
    }
}

fn message(text: &str, ok: bool) -> String {
    serde_json::json!({ "message": text, "ok": ok }).to_string()
}

fn now() -> Instant {
    Instant::now()
}

const JSON: &str = "application/json";
