//! Flags as Go programs take them: `-x`, `--x`, `-x=v`, `-x v`, before or between arguments.

use crate::command::{CONSUL_FLAGS, Command, Flag, NOMAD_FLAGS};

/// A command line that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parsed {
    values: Vec<(&'static str, String)>,
    /// What is no flag, in order.
    pub(crate) arguments: Vec<String>,
    /// Whether help was asked for.
    pub(crate) help: bool,
}

impl Parsed {
    /// Whether a switch is on.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| !matches!(value, "false" | "0" | "f"))
    }

    /// The last value of a flag.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a flag, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the arguments of a command.
pub(crate) fn parse(command: &'static Command, arguments: &[String]) -> Result<Parsed, String> {
    let general = NOMAD_FLAGS.iter().chain(&CONSUL_FLAGS);
    let known: Vec<&'static Flag> = command.flags.iter().chain(general).collect();
    let mut parsed = Parsed::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let bare = argument.strip_prefix('-').filter(|name| !name.is_empty());
        let Some(name) = bare else {
            parsed.arguments.push(argument.clone());
            if command.rest_is_verbatim {
                parsed.arguments.extend(rest.cloned());
                break;
            }
            continue;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() {
            parsed.arguments.extend(rest.cloned());
            break;
        }
        let (name, given) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        if matches!(name, "h" | "help") {
            parsed.help = true;
            return Ok(parsed);
        }
        let Some(flag) = known.iter().find(|flag| flag.name == name) else {
            let names = known.iter().map(|flag| flag.name);
            let hint = crate::suggest::nearest(name, names)
                .map_or_else(String::new, |near| format!(" (did you mean -{near}?)"));
            return Err(format!("flag provided but not defined: -{name}{hint}"));
        };
        let value = if flag.value.is_empty() {
            given.unwrap_or_else(|| "true".to_owned())
        } else {
            given
                .or_else(|| rest.next().cloned())
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?
        };
        parsed.values.push((flag.name, value));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Program, find};

    #[track_caller]
    fn check(command: &str, line: &str, expected: &str) {
        let command = find(Program::Nomad, command).unwrap();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let actual = match parse(command, &words) {
            Err(problem) => problem,
            Ok(parsed) => {
                let flags: Vec<String> =
                    parsed.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} | {}", flags.join(" "), parsed.arguments.join(" "))
            }
        };
        assert_eq!(actual, expected, "{line}");
    }

    #[test]
    fn all_forms_of_a_flag_are_read() {
        check("job run", "-detach --var=a=1 -var b=2 file", "detach=true var=a=1 var=b=2 | file");
        check("job stop", "name -purge", "purge=true | name");
        check("job run", "-", " | -");
        check("alloc exec", "-i=false abc ls -l /", "i=false | abc ls -l /");
        check(
            "job run",
            "-detahc x",
            "flag provided but not defined: -detahc (did you mean -detach?)",
        );
        check("job run", "-var", "flag needs an argument: -var");
    }
}
