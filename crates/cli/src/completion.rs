//! Completion for shells, made from the table of commands.

use clap::{Arg, ArgAction, Command as Grammar};
use clap_complete::Shell;

use crate::command::{self, Program};

/// Prints the completion script of a shell.
pub(crate) fn run(program: Program, arguments: &[String]) -> u8 {
    let shell = arguments.first().and_then(|name| name.parse::<Shell>().ok());
    let Some(shell) = shell else {
        eprintln!(
            "Usage: {0} completion <bash|zsh|fish>\n\n  For example: source <({0} completion bash)",
            program.name()
        );
        return 1;
    };
    let mut grammar = grammar(program);
    clap_complete::generate(shell, &mut grammar, program.name(), &mut std::io::stdout());
    0
}

fn grammar(program: Program) -> Grammar {
    // These are not in the table of commands: the program itself has them.
    let own: &[&'static str] = match program {
        Program::Cos => &["agent", "bench", "ingress"],
        Program::Nomad => &["agent"],
        Program::Consul => &[],
    };
    let mut root = Grammar::new(program.name()).subcommands(own.iter().copied().map(Grammar::new));
    for found in command::all(program) {
        let words: Vec<&'static str> = found.name.split(' ').collect();
        root = add(root, &words, found);
    }
    root
}

/// Adds a command under its words, making the groups on the way.
fn add(parent: Grammar, words: &[&'static str], found: &'static command::Command) -> Grammar {
    let Some((first, rest)) = words.split_first() else { return parent };
    let exists = parent.find_subcommand(first).is_some();
    let change = |child: Grammar| {
        if rest.is_empty() {
            let flags = found.flags.iter().map(|flag| {
                let action =
                    if flag.value.is_empty() { ArgAction::SetTrue } else { ArgAction::Append };
                Arg::new(flag.name).long(flag.name).help(flag.help).action(action)
            });
            child.about(found.summary).args(flags).arg(Arg::new("arguments").num_args(0..))
        } else {
            add(child, rest, found)
        }
    };
    if exists {
        parent.mut_subcommand(first, change)
    } else {
        parent.subcommand(change(Grammar::new(*first)))
    }
}
