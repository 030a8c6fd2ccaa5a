//! Flags as Go programs take them: `-name value`, `-name=value`, with one dash or two. A flag that
//! is not given is read from the environment, in upper case with `_` for `-`, and else defaulted.

/// Flags given on the command line, to be asked for by name.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    given: Vec<(String, String)>,
}

impl Flags {
    /// Reads the program's own arguments.
    pub fn from_args() -> Self {
        Self::parse(std::env::args().skip(1))
    }

    /// Reads arguments. A flag without a value counts as `true`.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Self {
        let mut given = Vec::new();
        let mut args = args.into_iter().peekable();
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix('-') else { continue };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (name, args.next().unwrap_or_else(|| "true".to_owned())),
            };
            given.push((name.to_owned(), value));
        }
        Self { given }
    }

    /// Returns a flag's value: given, from the environment, or `default`.
    pub fn text(&self, name: &str, default: &str) -> String {
        let variable = name.to_uppercase().replace('-', "_");
        self.given
            .iter()
            .rev()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.clone())
            .or_else(|| std::env::var(variable).ok())
            .unwrap_or_else(|| default.to_owned())
    }

    /// Returns a whole number; text that is none counts as not given.
    pub fn number(&self, name: &str, default: i64) -> i64 {
        self.text(name, "").parse().unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_both_dashes_are_read_and_the_last_one_wins() {
        let args = ["-p", "1", "--service-name=a", "-p=2"].map(str::to_owned);
        let flags = Flags::parse(args);
        assert_eq!(flags.number("p", 8080), 2);
        assert_eq!(flags.text("service-name", "foo"), "a");
        assert_eq!(flags.text("provider", ""), "");
    }
}
