//! What comes before a task's start (directories, artifacts, templates) and the watch over its
//! templates afterwards.

use std::sync::Arc;
use std::time::Duration;

use cos_model::{AllocId, Task, Timestamp};
use tokio::sync::mpsc;

use super::{Host, Message, Runner, run_in_task};
use crate::artifacts;
use crate::directories::AllocDirectory;
use crate::task_machine::Input;
use crate::templates::{Consequence, Surroundings, Templates};
use crate::words;

/// How many sentences about missing data wait.
const NOTES_MAX: usize = 4;

/// The wait for a template's script if the job names none.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(5);

impl Runner {
    /// Begins the preparation of a task; an earlier one is given up.
    pub(super) fn prepare(&mut self, name: &str) {
        self.end_preparation(name);
        let alloc = self.machine.alloc();
        let Some(task) = alloc.task_group().and_then(|group| group.task(name)).cloned() else {
            return;
        };
        let work = prepare(
            task,
            self.directory.clone(),
            self.surroundings(name),
            Arc::clone(&self.host),
            self.messages.clone(),
            self.id(),
        );
        self.spawn_preparation(name, work);
    }

    /// Begins to watch the templates of a task that runs already.
    pub(super) fn watch_templates(&mut self, name: &str) {
        self.end_preparation(name);
        let alloc = self.machine.alloc();
        let Some(task) = alloc.task_group().and_then(|group| group.task(name)).cloned() else {
            return;
        };
        if task.templates.is_empty() {
            return;
        }
        let (surroundings, host, messages, id) =
            (self.surroundings(name), Arc::clone(&self.host), self.messages.clone(), self.id());
        self.spawn_preparation(name, async move {
            match Templates::new(surroundings, &task.templates) {
                Ok(templates) => watch(templates, task.name, host, messages, id).await,
                Err(why) => tracing::warn!(alloc = %id, task = %task.name, %why, "templates lost"),
            }
        });
    }

    pub(super) fn end_preparation(&mut self, name: &str) {
        if let Some(token) = self.preparations.remove(name) {
            token.cancel();
        }
    }

    fn spawn_preparation(&mut self, name: &str, work: impl Future<Output = ()> + Send + 'static) {
        let token = self.host.tasks.stopping().child_token();
        self.preparations.insert(name.to_owned(), token.clone());
        self.spawn("task preparation", async move {
            // It may be given up at any moment: everything it makes is made again or removed with
            // the allocation's directory.
            tokio::select! {
                () = token.cancelled() => {}
                () = work => {}
            }
        });
    }

    fn surroundings(&self, name: &str) -> Surroundings {
        Surroundings {
            link: self.host.link.clone(),
            clock: Arc::clone(&self.host.clock),
            tasks: self.host.tasks.clone(),
            dirs: self.directory.of_task(name),
            environment: self.environments.get(name).cloned().unwrap_or_default(),
            datacenter: self.host.config.datacenter.clone(),
        }
    }
}

/// Prepares a task, tells the runner, and goes on watching its templates.
async fn prepare(
    task: Task,
    directory: AllocDirectory,
    surroundings: Surroundings,
    host: Arc<Host>,
    messages: mpsc::Sender<Message>,
    id: AllocId,
) {
    let name = task.name.clone();
    let now = || Timestamp(host.clock.unix_nanos());
    let tell = async |input: Input| drop(messages.send(Message::Task(name.clone(), input)).await);
    let made = {
        let name = name.clone();
        tokio::task::spawn_blocking(move || directory.make(&name)).await
    };
    let made =
        made.map_or_else(|error| Err(error.to_string()), |made| made.map_err(|e| e.to_string()));
    if let Err(why) = made {
        let event = words::setup_failure(now(), &format!("failed to build task directory: {why}"));
        return tell(Input::PreparationFailed { event, recoverable: true }).await;
    }
    if !task.artifacts.is_empty() {
        tell(Input::Note(words::downloading_artifacts(now()))).await;
        let fetched = artifacts::fetch(&task, &surroundings.environment, &surroundings.dirs).await;
        if let Err(failure) = fetched {
            let event = words::artifact_failed(now(), &failure.why);
            let recoverable = failure.recoverable;
            return tell(Input::PreparationFailed { event, recoverable }).await;
        }
    }
    if task.templates.is_empty() {
        return tell(Input::Prepared).await;
    }
    match render_first(surroundings, &task, &messages, now).await {
        Ok(templates) => {
            tell_variables(&templates, &name, &messages).await;
            tell(Input::Prepared).await;
            watch(templates, name.clone(), Arc::clone(&host), messages.clone(), id).await;
        }
        Err(why) => {
            let event = words::template(now(), &why);
            tell(Input::PreparationFailed { event, recoverable: false }).await;
        }
    }
}

async fn render_first(
    surroundings: Surroundings,
    task: &Task,
    messages: &mpsc::Sender<Message>,
    now: impl Fn() -> Timestamp,
) -> Result<Templates, String> {
    let mut templates = Templates::new(surroundings, &task.templates)?;
    let (notes, mut sentences) = mpsc::channel(NOTES_MAX);
    {
        let mut rendering = std::pin::pin!(templates.first(&notes));
        loop {
            // The rendering is only looked at, not cancelled; a sentence is taken whole.
            tokio::select! {
                rendered = &mut rendering => {
                    rendered?;
                    break;
                }
                Some(sentence) = sentences.recv() => {
                    let input = Input::Note(words::template(now(), &sentence));
                    drop(messages.send(Message::Task(task.name.clone(), input)).await);
                }
            }
        }
    }
    Ok(templates)
}

/// Acts on changes of a task's templates until it is given up.
async fn watch(
    mut templates: Templates,
    task: String,
    host: Arc<Host>,
    messages: mpsc::Sender<Message>,
    id: AllocId,
) {
    let now = || Timestamp(host.clock.unix_nanos());
    let tell = async |input: Input| drop(messages.send(Message::Task(task.clone(), input)).await);
    loop {
        let consequences = match templates.next().await {
            Ok(consequences) => consequences,
            Err(why) => {
                tell(Input::Note(words::template(now(), &why))).await;
                return;
            }
        };
        for consequence in consequences {
            match consequence {
                Consequence::Environment => tell_variables(&templates, &task, &messages).await,
                Consequence::Restart => {
                    tell(Input::Restart(words::TEMPLATE_RESTART.to_owned())).await;
                }
                Consequence::Signal(signal) => {
                    let reason = words::TEMPLATE_SIGNAL.to_owned();
                    tell(Input::Signal { signal, reason }).await;
                }
                Consequence::Script { command, timeout, fail_on_error } => {
                    let timeout = if timeout.is_zero() { SCRIPT_TIMEOUT } else { timeout };
                    let Err(why) = run_script(&host, id, &task, &command, timeout).await else {
                        continue;
                    };
                    let sentence = format!("Template failed to run script {command:?}: {why}");
                    if fail_on_error {
                        tell(Input::CheckFailed(sentence)).await;
                    } else {
                        tell(Input::Note(words::hook_failed(now(), &sentence))).await;
                    }
                }
            }
        }
    }
}

async fn run_script(
    host: &Host,
    id: AllocId,
    task: &str,
    command: &[String],
    timeout: Duration,
) -> Result<(), String> {
    let handle = host.table.handle(id, task).ok_or("the task is not running")?;
    let driver = host.drivers.get(&handle.driver).ok_or("its driver is gone")?;
    match run_in_task(driver, &handle, command, timeout).await? {
        (0, _) => Ok(()),
        (code, output) => Err(format!("exit code {code}: {output}")),
    }
}

async fn tell_variables(templates: &Templates, task: &str, messages: &mpsc::Sender<Message>) {
    if let Ok(variables) = templates.variables() {
        drop(messages.send(Message::Variables(task.to_owned(), variables)).await);
    }
}
