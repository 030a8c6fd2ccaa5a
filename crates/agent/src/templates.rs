//! Keeps a task's templates rendered: waits for what they need, writes the files, and says what
//! has to be done when a result changes.
//!
//! # Invariants
//!
//! - A file is replaced whole, by a rename, and only if its content changes. What is on disk is the
//!   memory of what was rendered last, so a restarted agent acts on changes that happened meanwhile.
//! - The task does not start before every template could be rendered.
//!
//! # Deliberately absent
//!
//! - `wait`: a change is rendered when it is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cos_drivers::TaskDirs;
use cos_model::catalog::Catalog;
use cos_model::kv::KvEntry;
use cos_model::link::Answer;
use cos_model::{ChangeMode, Template, Timestamp};
use cos_platform::{Clock, Fate, Tasks, entropy};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::directories::destination;
use crate::environment::Environment;
use crate::link::Link;
use crate::template::{self, Facts, Need, Rendered, Source};

/// How long a query for a key waits for a change.
const QUERY_WAIT: Duration = Duration::from_mins(1);

/// The wait after a query that failed.
const QUERY_RETRY: Duration = Duration::from_secs(1);

/// How long nothing is said about missing data.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many answers wait to be looked at.
const ANSWERS_MAX: usize = 64;

/// What the templates of a task need of their surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) link: Link,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) dirs: TaskDirs,
    pub(crate) environment: Environment,
    pub(crate) datacenter: String,
}

/// What follows from a change, in the order of severity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Consequence {
    /// Nothing but that the environment is now so.
    Environment,
    /// A script has to be run in the task.
    Script { command: Vec<String>, timeout: Duration, fail_on_error: bool },
    /// The task gets a signal.
    Signal(String),
    /// The task is restarted.
    Restart,
}

/// The templates of one task.
pub(crate) struct Templates {
    surroundings: Surroundings,
    list: Vec<Prepared>,
    facts: Facts,
    catalog: watch::Receiver<Arc<Catalog>>,
    watched: BTreeSet<Need>,
    answers: mpsc::Receiver<(Need, Vec<KvEntry>)>,
    answer_sender: mpsc::Sender<(Need, Vec<KvEntry>)>,
    stop: CancellationToken,
}

/// A template, ready to be rendered.
struct Prepared {
    template: Template,
    source: Source,
    path: PathBuf,
    /// What is in the file.
    current: Option<String>,
    /// Whether that could be rendered with what is known now.
    rendered: bool,
}

impl Drop for Templates {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Templates {
    /// Reads the templates of a task. Blocks for template files.
    pub(crate) fn new(surroundings: Surroundings, templates: &[Template]) -> Result<Self, String> {
        let environment = &surroundings.environment;
        let prepared = templates
            .iter()
            .map(|template| prepare(template, environment, &surroundings.dirs))
            .collect::<Result<Vec<Prepared>, String>>()?;
        let (answer_sender, answers) = mpsc::channel(ANSWERS_MAX);
        let catalog = surroundings.link.catalog();
        let facts = Facts {
            env: environment.variables().clone(),
            datacenter: surroundings.datacenter.clone(),
            ..Facts::default()
        };
        let stop = surroundings.tasks.stopping().child_token();
        Ok(Self {
            surroundings,
            list: prepared,
            facts,
            catalog,
            watched: BTreeSet::new(),
            answers,
            answer_sender,
            stop,
        })
    }

    /// Renders everything for the first time, waiting for what is missing. `notes` gets a sentence
    /// when the wait is long. Returns the variables that templates give.
    pub(crate) async fn first(
        &mut self,
        notes: &mpsc::Sender<String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut said = String::new();
        loop {
            let waits_for = self.render_all()?;
            if self.is_complete() {
                return self.variables();
            }
            // An answer that is cancelled here is still in the queue.
            tokio::select! {
                () = self.news() => {}
                () = tokio::time::sleep(PATIENCE) => {
                    let missing: Vec<String> = waits_for.into_iter().collect();
                    let sentence = format!("Missing: {}", missing.join(", "));
                    if !missing.is_empty() && sentence != said {
                        said.clone_from(&sentence);
                        // Whoever listened may have gone.
                        drop(notes.send(sentence).await);
                    }
                }
            }
        }
    }

    /// Waits for a change of any result and returns what follows. A change that happened while
    /// nobody looked counts as one that happens now.
    pub(crate) async fn next(&mut self) -> Result<Vec<Consequence>, String> {
        loop {
            let before: Vec<Option<String>> =
                self.list.iter().map(|template| template.current.clone()).collect();
            self.render_all()?;
            let changed: Vec<&Prepared> = self
                .list
                .iter()
                .zip(before)
                .filter(|(template, before)| template.current != *before)
                .map(|(template, _)| template)
                .collect();
            if changed.is_empty() {
                self.news().await;
                continue;
            }
            let splay = changed.iter().map(|prepared| prepared.template.splay).max();
            let consequences = consequences(changed.iter().map(|prepared| &prepared.template));
            if consequences.iter().any(|c| *c != Consequence::Environment) {
                tokio::time::sleep(random_part(splay.unwrap_or_default())).await;
            }
            return Ok(consequences);
        }
    }

    /// The variables that templates give now.
    pub(crate) fn variables(&self) -> Result<BTreeMap<String, String>, String> {
        let mut variables = BTreeMap::new();
        for prepared in self.list.iter().filter(|prepared| prepared.template.env) {
            let text = prepared.current.as_deref().unwrap_or_default();
            let parsed = template::parse_env(text)
                .map_err(|why| format!("template {}: {why}", prepared.source.name))?;
            variables.extend(parsed);
        }
        Ok(variables)
    }

    fn is_complete(&self) -> bool {
        self.list.iter().all(|prepared| prepared.rendered)
    }

    /// Renders all and writes what changed. Returns what is waited for.
    fn render_all(&mut self) -> Result<BTreeSet<String>, String> {
        let mut waits_for = BTreeSet::new();
        self.facts.catalog = Arc::clone(&self.catalog.borrow_and_update());
        self.facts.now = Timestamp(self.surroundings.clock.unix_nanos());
        for index in 0..self.list.len() {
            let rendered = loop {
                let source = &self.list[index].source;
                let rendered =
                    template::render(source, &self.facts).map_err(|error| error.to_string())?;
                if !self.learn(&rendered) {
                    break rendered;
                }
            };
            waits_for.extend(rendered.waits_for);
            let prepared = &mut self.list[index];
            prepared.rendered = rendered.text.is_some();
            let fixed = prepared.template.once && prepared.current.is_some();
            if let Some(text) = rendered.text
                && !fixed
                && prepared.current.as_ref() != Some(&text)
            {
                write(prepared, &text)?;
                prepared.current = Some(text);
            }
        }
        Ok(waits_for)
    }

    /// Reads files and begins to watch keys that are new. Returns whether something was learned
    /// at once.
    fn learn(&mut self, rendered: &Rendered) -> bool {
        let mut learned = false;
        for need in &rendered.needs {
            match need {
                Need::File(path) if !self.facts.files.contains_key(path) => {
                    let content = destination(&self.surroundings.dirs, path)
                        .ok()
                        .and_then(|path| std::fs::read_to_string(path).ok());
                    self.facts.files.insert(path.clone(), content);
                    learned = true;
                }
                Need::File(_) => {}
                Need::Key(_) | Need::Tree(_) => {
                    if self.watched.insert(need.clone()) {
                        let work = watch_key(
                            need.clone(),
                            self.surroundings.link.clone(),
                            self.answer_sender.clone(),
                        );
                        let stop = self.stop.clone();
                        self.surroundings.tasks.spawn("template key", Fate::Ends, async move {
                            // A query may be given up at any moment.
                            tokio::select! {
                                () = stop.cancelled() => {}
                                () = work => {}
                            }
                        });
                    }
                }
            }
        }
        learned
    }

    /// Waits until something that was read may have changed.
    async fn news(&mut self) {
        // Both arms wait for a queue or a level and take nothing before it is ready.
        tokio::select! {
            answer = self.answers.recv() => {
                if let Some((need, entries)) = answer {
                    self.facts.keys.insert(need, Arc::from(entries));
                }
            }
            changed = self.catalog.changed() => {
                if changed.is_err() {
                    // The link is gone, and the agent with it.
                    std::future::pending::<()>().await;
                }
            }
        }
        while let Ok((need, entries)) = self.answers.try_recv() {
            self.facts.keys.insert(need, Arc::from(entries));
        }
    }
}

fn prepare(
    template: &Template,
    environment: &Environment,
    dirs: &TaskDirs,
) -> Result<Prepared, String> {
    let given = environment.interpolate(&template.destination);
    let path = destination(dirs, &given)?;
    let text = if template.source.is_empty() {
        template.data.clone()
    } else {
        let source = destination(dirs, &environment.interpolate(&template.source))?;
        std::fs::read_to_string(&source)
            .map_err(|error| format!("template {}: {error}", template.source))?
    };
    // The program may have been started with what is there; a difference is a change.
    let current = std::fs::read_to_string(&path).ok();
    let source = Source {
        name: given,
        text,
        left: template.left_delimiter.clone(),
        right: template.right_delimiter.clone(),
        strict: template.error_on_missing_key,
    };
    Ok(Prepared { template: template.clone(), source, path, current, rendered: false })
}

fn write(prepared: &Prepared, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("template {}: {error}", prepared.source.name);
    let folder = prepared.path.parent().unwrap_or_else(|| Path::new("/"));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let temporary = temporary_name(&prepared.path);
    std::fs::write(&temporary, text).map_err(failed)?;
    let perms = if prepared.template.perms.is_empty() { "0644" } else { &prepared.template.perms };
    let mode = u32::from_str_radix(perms, 8)
        .map_err(|error| format!("template {}: perms `{perms}`: {error}", prepared.source.name))?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    let (uid, gid) = (prepared.template.uid, prepared.template.gid);
    if uid.is_some() || gid.is_some() {
        std::os::unix::fs::chown(&temporary, uid, gid).map_err(failed)?;
    }
    std::fs::rename(&temporary, &prepared.path).map_err(failed)
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    path.with_file_name(format!(".{}.new", name.unwrap_or_default()))
}

/// Sums up what follows from changed templates: a restart makes everything else needless.
fn consequences<'a>(changed: impl Iterator<Item = &'a Template>) -> Vec<Consequence> {
    let mut list = vec![Consequence::Environment];
    for template in changed {
        let consequence = match &template.change_mode {
            ChangeMode::Noop => continue,
            ChangeMode::Restart => return vec![Consequence::Environment, Consequence::Restart],
            ChangeMode::Signal(signal) => Consequence::Signal(signal.clone()),
            ChangeMode::Script { command, args, timeout, fail_on_error } => {
                let mut words = vec![command.clone()];
                words.extend(args.iter().cloned());
                Consequence::Script {
                    command: words,
                    timeout: *timeout,
                    fail_on_error: *fail_on_error,
                }
            }
        };
        if !list.contains(&consequence) {
            list.push(consequence);
        }
    }
    list
}

fn random_part(longest: Duration) -> Duration {
    let millis = u128::from(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
    Duration::from_millis(u64::try_from(entropy::draw() % (millis + 1)).unwrap_or(0))
}

/// Asks for a key again and again, each time until it changes.
async fn watch_key(need: Need, link: Link, answers: mpsc::Sender<(Need, Vec<KvEntry>)>) {
    let (key, recurse) = match &need {
        Need::Key(key) => (key.clone(), false),
        Need::Tree(prefix) => (prefix.clone(), true),
        Need::File(_) => return,
    };
    let mut after = 0;
    let mut last: Option<Vec<KvEntry>> = None;
    loop {
        match link.keys(&key, recurse, after, QUERY_WAIT).await {
            Ok(Answer::Kv { index, entries }) => {
                // An index that went back means another history; the next query must not wait.
                after = if index < after { 0 } else { index.max(1) };
                if last.as_ref() != Some(&entries) {
                    last = Some(entries.clone());
                    if answers.send((need.clone(), entries)).await.is_err() {
                        return;
                    }
                }
            }
            Ok(Answer::Error(why)) => {
                tracing::debug!(%key, %why, "key not read");
                tokio::time::sleep(QUERY_RETRY).await;
            }
            Err(error) => {
                tracing::debug!(%key, %error, "key not read");
                tokio::time::sleep(QUERY_RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
