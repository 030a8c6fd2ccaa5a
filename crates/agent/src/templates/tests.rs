//! What follows from changed templates.

use super::*;

fn template(change_mode: ChangeMode) -> Template {
    Template { change_mode, ..Template::default() }
}

fn script() -> ChangeMode {
    ChangeMode::Script {
        command: "/bin/reload".to_owned(),
        args: vec!["now".to_owned()],
        timeout: Duration::from_secs(5),
        fail_on_error: false,
    }
}

#[test]
fn a_restart_makes_everything_else_needless() {
    let hup = || ChangeMode::Signal("SIGHUP".to_owned());
    let run = Consequence::Script {
        command: vec!["/bin/reload".to_owned(), "now".to_owned()],
        timeout: Duration::from_secs(5),
        fail_on_error: false,
    };
    let signal = Consequence::Signal("SIGHUP".to_owned());
    let rows: [(Vec<ChangeMode>, Vec<Consequence>); 4] = [
        (vec![ChangeMode::Noop], vec![Consequence::Environment]),
        (vec![hup(), hup()], vec![Consequence::Environment, signal.clone()]),
        (vec![hup(), script()], vec![Consequence::Environment, signal, run]),
        (
            vec![hup(), ChangeMode::Restart, script()],
            vec![Consequence::Environment, Consequence::Restart],
        ),
    ];
    for (modes, expected) in rows {
        let templates: Vec<Template> = modes.into_iter().map(template).collect();
        assert_eq!(consequences(templates.iter()), expected);
    }
}

#[test]
fn the_splay_is_never_longer_than_asked() {
    assert_eq!(random_part(Duration::ZERO), Duration::ZERO);
    assert!(random_part(Duration::from_secs(2)) <= Duration::from_secs(2));
}
