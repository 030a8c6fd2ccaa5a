//! Images: fetched if needed, counted while used, removed some time after their last use.
//!
//! # Invariants
//!
//! - An image with a tag other than `latest` that the engine has is used as it is, never pulled.
//! - Concurrent tasks with one image cause one pull.
//! - Only images that cos pulled are removed; what was on the machine before stays, because there
//!   may be no registry to get it back from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{CreateImageOptions, RemoveImageOptions};
use cos_platform::{Fate, Tasks};
use futures_util::StreamExt;

/// The images of one driver. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Images {
    counts: Arc<Mutex<BTreeMap<String, Use>>>,
    pulls: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// How an image is used.
#[derive(Debug, Default)]
struct Use {
    tasks: u64,
    pulled: bool,
    /// Grows with each new use, so that a removal planned before it is void.
    generation: u64,
}

impl Images {
    /// Makes sure that the engine has an image and returns the engine's id for it.
    pub(super) async fn ensure(
        &self,
        docker: &Docker,
        name: &str,
        force_pull: bool,
        credentials: Option<DockerCredentials>,
        time_max: Duration,
    ) -> Result<String, String> {
        let may_be_local = !force_pull && tag_of(name) != Some("latest");
        if may_be_local && let Some(image) = inspect(docker, name).await? {
            return Ok(image);
        }
        let gate = Arc::clone(lock(&self.pulls).entry(name.to_owned()).or_default());
        let _turn = gate.lock().await;
        // Somebody else may have pulled it during the wait.
        if may_be_local && let Some(image) = inspect(docker, name).await? {
            return Ok(image);
        }
        tokio::time::timeout(time_max, pull(docker, name, credentials))
            .await
            .map_err(|_elapsed| format!("not complete after {} s", time_max.as_secs()))??;
        lock(&self.pulls).remove(name);
        let image = inspect(docker, name).await?;
        let image = image.ok_or_else(|| "the engine does not have it after the pull".to_owned())?;
        lock(&self.counts).entry(image.clone()).or_default().pulled = true;
        Ok(image)
    }

    /// Whether cos pulled an image.
    pub(super) fn was_pulled(&self, id: &str) -> bool {
        lock(&self.counts).get(id).is_some_and(|image| image.pulled)
    }

    /// Counts a task that uses an image. `pulled` is what an earlier agent knew of the image.
    pub(super) fn use_by_task(&self, id: &str, pulled: bool) {
        let mut counts = lock(&self.counts);
        let image = counts.entry(id.to_owned()).or_default();
        image.tasks += 1;
        image.generation += 1;
        image.pulled |= pulled;
    }

    /// Counts a task's end and plans the image's removal if it was the last.
    /// Without a delay images are kept.
    pub(super) fn release(
        &self,
        docker: &Docker,
        id: &str,
        delay: Option<Duration>,
        tasks: &Tasks,
    ) {
        let planned = {
            let mut counts = lock(&self.counts);
            let Some(image) = counts.get_mut(id) else { return };
            image.tasks = image.tasks.saturating_sub(1);
            (image.tasks == 0 && image.pulled).then_some(image.generation)
        };
        let (Some(generation), Some(delay)) = (planned, delay) else { return };
        let (images, docker, id) = (self.clone(), docker.clone(), id.to_owned());
        let stopping = tasks.stopping();
        tasks.spawn("image removal", Fate::Ends, async move {
            tokio::select! {
                // An agent that ends leaves its images.
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(delay) => images.remove(&docker, &id, generation).await,
            }
        });
    }

    async fn remove(&self, docker: &Docker, id: &str, generation: u64) {
        {
            let mut counts = lock(&self.counts);
            let is_unused = counts
                .get(id)
                .is_some_and(|image| image.tasks == 0 && image.generation == generation);
            if !is_unused {
                return;
            }
            counts.remove(id);
        }
        match docker.remove_image(id, None::<RemoveImageOptions>, None).await {
            Ok(_) => tracing::info!(image = id, "unused image removed"),
            // Another container, not of cos, may use it.
            Err(error) => tracing::debug!(image = id, %error, "unused image kept"),
        }
    }
}

/// Returns the tag; `None` for an image named by its digest.
fn tag_of(name: &str) -> Option<&str> {
    if name.contains('@') {
        return None;
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    Some(last.split_once(':').map_or("latest", |(_, tag)| tag))
}

async fn inspect(docker: &Docker, name: &str) -> Result<Option<String>, String> {
    match docker.inspect_image(name).await {
        Ok(found) => Ok(found.id),
        Err(error) if super::engine::is_not_found(&error) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

async fn pull(
    docker: &Docker,
    name: &str,
    credentials: Option<DockerCredentials>,
) -> Result<(), String> {
    let options = CreateImageOptions {
        from_image: Some(match tag_of(name) {
            Some("latest") if !name.ends_with(":latest") => format!("{name}:latest"),
            _ => name.to_owned(),
        }),
        ..CreateImageOptions::default()
    };
    let mut progress = Box::pin(docker.create_image(Some(options), None, credentials));
    while let Some(step) = progress.next().await {
        let step = step.map_err(|error| error.to_string())?;
        if let Some(message) = step.error_detail.and_then(|detail| detail.message) {
            return Err(message);
        }
    }
    Ok(())
}

/// A panic elsewhere leaves counts that are still counts.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_told_from_a_port_and_a_digest() {
        for (name, want) in [
            ("redis", Some("latest")),
            ("redis:3", Some("3")),
            ("reg:5000/redis", Some("latest")),
            ("reg:5000/a/redis:1.0", Some("1.0")),
            ("redis@sha256:00", None),
            ("redis:3@sha256:00", None),
        ] {
            assert_eq!(tag_of(name), want, "{name}");
        }
    }
}
