//! `backend`: tells four facts about itself as JSON, each from the environment.

use hyper::StatusCode;

use cos_samples::flags::Flags;
use cos_samples::net;

/// The facts; one that is not set shows its own name.
const FACTS: [&str; 4] = ["variable", "git_short_commit", "branch", "node"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let flags = Flags::from_args();
    let port = u16::try_from(flags.number("port", 8080)).unwrap_or(8080);
    let facts: serde_json::Map<String, serde_json::Value> =
        FACTS.iter().map(|name| ((*name).to_owned(), flags.text(name, name).into())).collect();
    let body = serde_json::Value::Object(facts).to_string();
    let serving = net::serve(port, move |_| {
        let answer = net::answer(StatusCode::OK, "application/json", body.clone());
        async move { answer }
    });
    tokio::select! {
        result = serving => result, // dropping the server only drops open connections
        () = net::until_told_to_end() => Ok(()),
    }
}
