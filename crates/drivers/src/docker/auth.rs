//! Credentials for registries: from the task, from a configuration file of Docker's client, or from
//! a credential helper.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::options::{Credentials, TaskOptions};
use super::plugin::PluginOptions;

/// The registry of images that name none.
const HUB: &str = "docker.io";

/// The name under which client configurations keep the credentials of [`HUB`].
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// How long a helper may take; some ask a service on the network.
const HELPER_TIME_MAX: Duration = Duration::from_secs(30);

/// The user name with which a helper says that the secret is a token.
const TOKEN_USER: &str = "<token>";

/// The parts of Docker's client configuration that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClientConfig {
    auths: BTreeMap<String, ClientAuth>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClientAuth {
    auth: String,
    username: String,
    password: String,
    email: String,
    identitytoken: String,
}

/// What a helper answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Finds credentials for an image; `None` if there are none.
pub(super) async fn find(
    plugin: &PluginOptions,
    task: &TaskOptions,
) -> Result<Option<DockerCredentials>, String> {
    let registry = registry_of(&task.image);
    if let Some(auth) = &task.auth {
        return Ok(Some(from_task(auth, registry)));
    }
    if !plugin.auth_config.is_empty()
        && let Some(found) = from_config(&plugin.auth_config, registry).await?
    {
        return Ok(Some(found));
    }
    if plugin.auth_helper.is_empty() {
        return Ok(None);
    }
    ask_helper(&plugin.auth_helper, registry).await
}

/// Returns the registry that an image's name begins with.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => HUB,
    }
}

fn from_task(auth: &Credentials, registry: &str) -> DockerCredentials {
    let server = if auth.server_address.is_empty() { registry } else { &auth.server_address };
    DockerCredentials {
        username: Some(auth.username.clone()),
        password: Some(auth.password.clone()),
        email: (!auth.email.is_empty()).then(|| auth.email.clone()),
        serveraddress: Some(server.to_owned()),
        ..DockerCredentials::default()
    }
}

async fn from_config(path: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
    let bytes = fs::read(path).map_err(|error| format!("failed to read {path}: {error}"))?;
    let config: ClientConfig = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{path} is not a Docker configuration: {error}"))?;
    let helper = config.helpers.get(registry).unwrap_or(&config.store);
    if !helper.is_empty()
        && let Some(found) = ask_helper(helper, registry).await?
    {
        return Ok(Some(found));
    }
    let same = |key: &str| {
        let bare = key.trim_start_matches("https://").trim_start_matches("http://");
        bare.trim_end_matches('/') == registry || (registry == HUB && key == HUB_KEY)
    };
    match config.auths.iter().find(|(key, _)| same(key)) {
        Some((_, auth)) => from_entry(auth, registry).map(Some),
        None => Ok(None),
    }
}

fn from_entry(auth: &ClientAuth, registry: &str) -> Result<DockerCredentials, String> {
    let (mut username, mut password) = (auth.username.clone(), auth.password.clone());
    if !auth.auth.is_empty() {
        let decoded = STANDARD.decode(auth.auth.trim()).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (user, word) =
            pair.ok_or_else(|| format!("the credentials for {registry} are malformed"))?;
        (username, password) = (user.to_owned(), word.trim_end_matches('\0').to_owned());
    }
    Ok(DockerCredentials {
        username: Some(username),
        password: Some(password),
        email: (!auth.email.is_empty()).then(|| auth.email.clone()),
        identitytoken: (!auth.identitytoken.is_empty()).then(|| auth.identitytoken.clone()),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    })
}

/// Asks `docker-credential-<helper>`, which reads the registry and writes JSON.
async fn ask_helper(helper: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
    ask_program(&format!("docker-credential-{helper}"), registry).await
}

async fn ask_program(program: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("credential helper {program}: {error}");
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        let question = if registry == HUB { HUB_KEY } else { registry };
        stdin.write_all(question.as_bytes()).await.map_err(|error| failed(&error))?;
    }
    let output = tokio::time::timeout(HELPER_TIME_MAX, child.wait_with_output())
        .await
        .map_err(|_elapsed| failed(&"no answer in time"))?
        .map_err(|error| failed(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(&said.trim()));
    }
    let answer: HelperAnswer =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))?;
    let is_token = answer.username == TOKEN_USER;
    Ok(Some(DockerCredentials {
        username: (!is_token).then_some(answer.username),
        identitytoken: is_token.then(|| answer.secret.clone()),
        password: (!is_token).then_some(answer.secret),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_registry_is_on_the_hub() {
        for (image, want) in [
            ("redis:3.2", HUB),
            ("thobe/ping_service:0.0.9", HUB),
            ("localhost/x", "localhost"),
            ("registry:5000/a/b", "registry:5000"),
            ("1.dkr.ecr.eu.amazonaws.com/a", "1.dkr.ecr.eu.amazonaws.com"),
        ] {
            assert_eq!(registry_of(image), want, "{image}");
        }
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_registry() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("helper");
        let ask = async |answer: &str, registry: &str| {
            // Written by another process, so that no descriptor of ours keeps the script busy.
            let script = format!("#!/bin/sh\nread name\ntest \"$1\" = get\n{answer}\n");
            let written = Command::new("sh")
                .args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""])
                .arg(&path)
                .arg(script)
                .status();
            assert!(written.await.expect("sh runs").success());
            ask_program(&path.to_string_lossy(), registry).await
        };
        let answer =
            r#"echo "{\"ServerURL\":\"x\",\"Username\":\"AWS\",\"Secret\":\"for $name\"}""#;
        let found = ask(answer, "1.dkr.ecr.eu.amazonaws.com").await.expect("it answers");
        let found = found.expect("it has credentials");
        assert_eq!(found.username.as_deref(), Some("AWS"));
        assert_eq!(found.password.as_deref(), Some("for 1.dkr.ecr.eu.amazonaws.com"));
        let token = r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"t"}'"#;
        let found = ask(token, HUB).await.expect("it answers").expect("it has credentials");
        assert_eq!((found.username, found.identitytoken.as_deref()), (None, Some("t")));
        let none = "echo credentials not found in native keychain; exit 1";
        assert_eq!(ask(none, HUB).await.map(|found| found.is_none()), Ok(true));
        let error = ask("echo broken; exit 1", HUB).await.expect_err("it failed");
        assert!(error.ends_with("helper: broken"), "{error}");
    }

    #[tokio::test]
    async fn credentials_are_found_in_a_client_configuration() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("config.json");
        let entry = STANDARD.encode("me:secret");
        let text = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{entry}"}},
                "reg:5000": {{"username": "u", "password": "p"}}}}}}"#
        );
        fs::write(&path, text).expect("write");
        for (registry, want) in
            [(HUB, Some(("me", "secret"))), ("reg:5000", Some(("u", "p"))), ("other", None)]
        {
            let found = from_config(&path.to_string_lossy(), registry).await.expect("readable");
            let pair = found.and_then(|found| found.username.zip(found.password));
            let want = want.map(|(user, word)| (user.to_owned(), word.to_owned()));
            assert_eq!(pair, want, "{registry}");
        }
    }
}
