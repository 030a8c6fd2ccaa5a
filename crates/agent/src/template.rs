//! Renders a task's templates from its environment, the key-value store and the catalog.
//!
//! Rendering is a question that may be answered "not yet": it names the keys that it needs, and the
//! caller fetches what is new and asks again. The functions are those of consul-template; a function
//! that cos does not have is an error that names it.
//!
//! # Invariants
//!
//! - **Pure.** Everything that can be read is in [`Facts`].
//! - **No half results.** A text with a key that is missing is never handed out.
//!
//! # Deliberately absent
//!
//! - Writing files, waiting and acting on changes; see `templates`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use cos_model::Timestamp;
use cos_model::catalog::Catalog;
use cos_model::kv::KvEntry;
use gotmpl::{MissingKey, Template, TemplateError, Value};

mod functions;
mod lookups;
#[cfg(test)]
mod tests;

/// Something outside of the task that a template reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// One key.
    Key(String),
    /// All keys that begin so.
    Tree(String),
    /// A file of the task.
    File(String),
}

/// Everything that a template can read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The task's environment.
    pub env: BTreeMap<String, String>,
    /// What was fetched of the key-value store; a key that does not exist has no entries.
    pub keys: BTreeMap<Need, Arc<[KvEntry]>>,
    /// What was read of files; absent content means that there is no such file.
    pub files: BTreeMap<String, Option<String>>,
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// The datacenter of this node.
    pub datacenter: String,
    /// The moment, for `timestamp`.
    pub now: Timestamp,
}

/// A template's text and how it is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// What is shown in errors, usually the destination.
    pub name: String,
    /// The text.
    pub text: String,
    /// Opening delimiter; empty is `{{`.
    pub left: String,
    /// Closing delimiter; empty is `}}`.
    pub right: String,
    /// Whether a missing key of a map is an error.
    pub strict: bool,
}

/// What rendering gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text, unless something is missing.
    pub text: Option<String>,
    /// What it reads, known or not.
    pub needs: BTreeSet<Need>,
    /// What it waits for, as shown: `kv.block(a/b)`.
    pub waits_for: BTreeSet<String>,
    /// Whether it reads the catalog.
    pub reads_catalog: bool,
}

/// Why a template cannot be rendered, whatever comes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// It uses a function that cos does not have.
    #[error("template {template}: function \"{function}\" is not supported")]
    Unsupported {
        /// The template.
        template: String,
        /// The function.
        function: String,
    },
    /// It is wrong, or does not fit what it reads.
    #[error("template {template}: {why}")]
    Failed {
        /// The template.
        template: String,
        /// What is wrong.
        why: String,
    },
}

/// What a run of a template asked for.
#[derive(Debug, Default)]
struct Trace {
    needs: BTreeSet<Need>,
    waits_for: BTreeSet<String>,
    unknown: bool,
    reads_catalog: bool,
}

/// What the functions of one run share.
#[derive(Debug)]
struct Context {
    facts: Facts,
    trace: Mutex<Trace>,
}

/// Renders a template.
pub fn render(source: &Source, facts: &Facts) -> Result<Rendered, RenderError> {
    let context = Arc::new(Context { facts: facts.clone(), trace: Mutex::default() });
    let or = |text: &str, default: &'static str| {
        if text.is_empty() { default.to_owned() } else { text.to_owned() }
    };
    let missing = if source.strict { MissingKey::Error } else { MissingKey::default() };
    let template = Template::new(&source.name)
        .delims(&or(&source.left, "{{"), &or(&source.right, "}}"))
        .missing_key(missing)
        .funcs(functions::all())
        .funcs(lookups::all(&context));
    let text = template
        .parse(&source.text)
        .and_then(|template| template.execute_to_string(&Value::Map(Arc::default())));
    let trace = context.take_trace();
    let incomplete = trace.unknown || !trace.waits_for.is_empty();
    let text = match text {
        Ok(text) => (!incomplete).then_some(text),
        // What is missing may be all that is wrong.
        Err(_) if incomplete => None,
        Err(error) => return Err(explain(&source.name, &error)),
    };
    Ok(Rendered {
        text,
        needs: trace.needs,
        waits_for: trace.waits_for,
        reads_catalog: trace.reads_catalog,
    })
}

/// Reads lines `KEY=value` of a rendered template. Comments and empty lines are passed over, quotes
/// around a value are taken away.
pub fn parse_env(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| format!("line {}: expected KEY=value", index + 1))?;
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| {
            value.strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote))
        });
        variables.insert(name.trim().to_owned(), quoted.unwrap_or(value).to_owned());
    }
    Ok(variables)
}

fn explain(template: &str, error: &TemplateError) -> RenderError {
    match error {
        TemplateError::UndefinedFunction(function) => {
            RenderError::Unsupported { template: template.to_owned(), function: function.clone() }
        }
        error => RenderError::Failed { template: template.to_owned(), why: error.to_string() },
    }
}

impl Context {
    fn trace(&self, record: impl FnOnce(&mut Trace)) {
        // A poisoned trace is still a trace: a panicking function ends the rendering anyway.
        record(&mut self.trace.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn take_trace(&self) -> Trace {
        std::mem::take(&mut *self.trace.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks a need up and records it. `None` means that it is not known yet.
    fn keys(&self, need: Need) -> Option<Arc<[KvEntry]>> {
        let known = self.facts.keys.get(&need).cloned();
        self.trace(|trace| {
            trace.unknown |= known.is_none();
            trace.needs.insert(need);
        });
        known
    }

    fn wait_for(&self, what: String) {
        self.trace(|trace| {
            trace.waits_for.insert(what);
        });
    }
}
