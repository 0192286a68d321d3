//! The table is well-formed, and says what errors say.

use esker_wire::resp::{Commands, Parser, ParserLimits};

use super::{missing::MISSING, *};

fn with(line: &str, check: impl FnOnce(Args<'_>)) {
    let (mut commands, input) = (Commands::default(), format!("{line}\r\n").into_bytes());
    assert_eq!(Parser::new(ParserLimits::default()).parse(&input, &mut commands), Ok(true));
    check(commands.get(0, &input));
}

fn all() -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands()))
}

#[test]
fn rows_are_well_formed() {
    let mut names: Vec<_> = all().map(|spec| spec.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    for spec in all() {
        assert_eq!(spec.name, spec.name.to_ascii_lowercase());
        assert!(spec.arity != 0 && !spec.summary.is_empty() && !spec.since.is_empty(), "{}", spec.name);
        let writes = spec.flags.contains(&"write");
        assert!(!(writes && spec.only_reads()), "{}", spec.name);
        assert!(spec.plain.is_none() || writes, "{}", spec.name);
        // What is told of its arguments is as many as it takes. Subcommands have their own.
        if spec.subcommands().is_empty() {
            let words = 1 + usize::from(spec.name.contains('|'));
            let arguments = spec.arguments();
            let least: usize = words + arguments.iter().map(Argument::words_min).sum::<usize>();
            let varies = arguments.iter().any(|argument| argument.is_optional || argument.is_multiple);
            let is_told = least <= spec.arity.unsigned_abs() as usize && (spec.arity < 0 || !varies);
            assert!(is_told, "{}: {}", spec.name, spec.syntax);
        }
        // Whatever its keys are, they are there if the number of arguments is right.
        let least = spec.arity.unsigned_abs() as i32;
        assert!(spec.keys.first < least && spec.keys.last < least, "{}", spec.name);
    }
    for (_, names) in MISSING {
        for name in names.split(' ') {
            assert!(!name.is_empty() && place_of(name.as_bytes()).is_none(), "{name:?}");
        }
    }
}

#[test]
fn every_command_is_found_in_whatever_case() {
    for (place, spec) in TABLE.iter().enumerate() {
        assert_eq!(place_of(spec.name.as_bytes()), Some(place));
        assert_eq!(place_of(spec.name.to_ascii_uppercase().as_bytes()), Some(place));
    }
    for name in ["", "ge", "gett", "\u{0}et", "client|id"] {
        assert_eq!(place_of(name.as_bytes()), None);
    }
}

#[test]
fn errors_name_what_was_asked_for() {
    for (line, expected) in [
        ("get", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "ERR wrong number of arguments for 'get' command"),
        ("client", "ERR wrong number of arguments for 'client' command"),
        ("CLIENT SETNAME", "ERR wrong number of arguments for 'client|setname' command"),
        ("client nonsense", "ERR unknown subcommand 'nonsense'. Try CLIENT HELP."),
        ("Foo", "ERR unknown command 'Foo', with args beginning with: "),
        ("foo a b", "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
    ] {
        with(line, |args| assert_eq!(find(args).err().unwrap().text(), expected));
    }
    with(&format!("foo {} b", "a".repeat(200)), |args| {
        let text = find(args).err().unwrap().text().to_owned();
        assert!(text.ends_with(&format!("'{}' ", "a".repeat(128))), "{text}");
    });
    for line in ["lpush k v", "EVAL s 0", "SUBSCRIBE c"] {
        with(line, |args| assert!(find(args).err().unwrap().text().contains("is not supported")));
    }
}

#[test]
fn keys_are_where_the_table_says() {
    for (line, expected) in [
        ("get a", vec!["a"]),
        ("mset a 1 b 2", vec!["a", "b"]),
        ("del a b c", vec!["a", "b", "c"]),
        ("rename a b", vec!["a", "b"]),
        ("object encoding a", vec!["a"]),
        ("ping a", vec![]),
    ] {
        with(line, |args| {
            let keys: Vec<_> = find(args).ok().unwrap().1.keys.of(args).collect();
            assert_eq!(keys, expected.iter().map(|key| key.as_bytes()).collect::<Vec<_>>(), "{line}");
        });
    }
}
