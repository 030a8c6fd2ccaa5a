//! The language in which faults are asked for: one rule in a line.

use std::time::Duration;

/// What is to fail, for whom, and from when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which operations it is about.
    pub operation: Operation,
    /// What becomes of them.
    pub action: Action,
    /// Only files whose names begin so; all if it is empty.
    pub files: String,
    /// How many operations go well before.
    pub after: u64,
}

/// What is done to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file is opened.
    Open,
    /// Content is read.
    Read,
    /// Content is written, or room is taken.
    Write,
    /// Content, or names, are made durable. The directory itself is a file without a name.
    Sync,
    /// A file gets another name; the rule is about the new one.
    Rename,
    /// A file is removed.
    Remove,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It fails with an input/output error.
    InputOutput,
    /// It fails because the disk is full.
    Full,
    /// It takes so much longer.
    Slow(Duration),
    /// A write reaches the disk only with the next sync of its file, and is lost if the process
    /// ends before, as if the machine had lost its power.
    Hold,
}

/// Why a text is no list of rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct RuleError {
    line: usize,
    problem: String,
}

impl Rule {
    /// Whether it is about a file of this name.
    pub fn concerns(&self, name: &str) -> bool {
        name.starts_with(&self.files)
    }
}

/// Reads rules: `OPERATION ACTION [FILES] [after=N]` in each line; empty lines and what follows a
/// `#` are passed over.
pub fn parse(text: &str) -> Result<Vec<Rule>, RuleError> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let rules = lines.filter_map(|(line, text)| {
        let rule = text.split('#').next().unwrap_or_default();
        let words: Vec<&str> = rule.split_whitespace().collect();
        (!words.is_empty()).then(|| rule_of(&words).map_err(|problem| RuleError { line, problem }))
    });
    rules.collect()
}

fn rule_of(words: &[&str]) -> Result<Rule, String> {
    let [operation, action, rest @ ..] = words else {
        return Err("a rule is OPERATION ACTION [FILES] [after=N]".to_owned());
    };
    let operation = match *operation {
        "open" => Operation::Open,
        "read" => Operation::Read,
        "write" => Operation::Write,
        "sync" => Operation::Sync,
        "rename" => Operation::Rename,
        "remove" => Operation::Remove,
        other => return Err(format!("there is no operation `{other}`")),
    };
    let action = match *action {
        "io" => Action::InputOutput,
        "full" => Action::Full,
        "hold" if operation == Operation::Write => Action::Hold,
        "hold" => return Err("only a write can be held".to_owned()),
        other => Action::Slow(slow(other)?),
    };
    let mut rule = Rule { operation, action, files: String::new(), after: 0 };
    for word in rest {
        match word.strip_prefix("after=") {
            Some(count) => {
                rule.after = count.parse().map_err(|_odd| format!("`{count}` is no number"))?;
            }
            None if rule.files.is_empty() => (*word).clone_into(&mut rule.files),
            None => return Err(format!("`{word}` is one word too many")),
        }
    }
    Ok(rule)
}

/// `slow=` and milliseconds.
fn slow(word: &str) -> Result<Duration, String> {
    let millis = word.strip_prefix("slow=").and_then(|text| text.strip_suffix("ms"));
    let millis = millis.ok_or_else(|| format!("there is no action `{word}`"))?;
    let millis = millis.parse().map_err(|_odd| format!("`{millis}` is no number"))?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match parse(text) {
            Ok(rules) => rules
                .iter()
                .map(|r| format!("{:?} {:?} `{}` {}", r.operation, r.action, r.files, r.after))
                .collect::<Vec<_>>()
                .join("; "),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn rules_are_read() {
        check("", "");
        check("# nothing\n\n", "");
        check("sync io", "Sync InputOutput `` 0");
        check("write full log- after=7 # soon", "Write Full `log-` 7");
        check("sync slow=20ms\nread io snap-", "Sync Slow(20ms) `` 0; Read InputOutput `snap-` 0");
        check("write hold after=1", "Write Hold `` 1");
    }

    #[test]
    fn what_is_no_rule_is_named() {
        check("sync", "line 1: a rule is OPERATION ACTION [FILES] [after=N]");
        check("\nfsync io", "line 2: there is no operation `fsync`");
        check("sync eio", "line 1: there is no action `eio`");
        check("sync slow=many", "line 1: there is no action `slow=many`");
        check("sync slow=manyms", "line 1: `many` is no number");
        check("sync hold", "line 1: only a write can be held");
        check("sync io a b", "line 1: `b` is one word too many");
        check("sync io after=-1", "line 1: `-1` is no number");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            drop(parse(&text));
        }
    }
}
