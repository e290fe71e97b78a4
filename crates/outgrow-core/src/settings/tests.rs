//! Tests of the settings language on trees built by hand.

use std::collections::BTreeMap;

use super::*;

mod forms;

crate::choice! {
    /// A colour.
    pub enum Colour {
        /// Like blood.
        Red = "red",
        /// Like grass.
        Green = "green",
    }
}

crate::settings! {
    /// A table
    /// of two lines.
    #[check = check_sample]
    pub struct Sample {
        /// How many.
        pub count: u32 = 3, in 1..=10;
        /// Which.
        pub colour: Colour = Colour::Red;
        /// Perhaps.
        pub limit: Option<u16> = None, in Some(1)..=Some(9), shown = "it depends";
        /// Must be.
        pub name: String = "x".to_owned(), required = true;
        /// Inside.
        pub inner: Inner = Inner::default();
    }
}

crate::settings! {
    /// Inside.
    pub struct Inner {
        /// A list.
        pub list: OneOrMany<bool> = OneOrMany::default();
        /// Free keys.
        pub free: BTreeMap<Name, Percent> = BTreeMap::new();
        /// Hidden.
        pub secret: Secret = Secret::default();
    }
}

fn check_sample(sample: &Sample, table: &mut TableReader<'_, '_>) {
    if sample.name == "wrong" {
        table.problem("name", "it is wrong", "write something else");
    }
}

/// Builds trees whose spans are numbered in the order of the building.
#[derive(Default)]
struct Builder {
    next: usize,
}

impl Builder {
    fn span(&mut self) -> Span {
        self.next += 1;
        Span::new(self.next, self.next + 1)
    }

    fn node(&mut self, value: Value) -> Node {
        let span = self.span();
        Node { span, value }
    }

    fn string(&mut self, text: &str) -> Node {
        let span = self.span();
        Node::string(span, text)
    }

    fn outside(&mut self, text: &str) -> Node {
        let text = text.to_owned();
        self.node(Value::String {
            text,
            from_environment: true,
        })
    }

    fn table(&mut self, entries: Vec<(&str, Node)>) -> Node {
        let entry = |(key, node): (&str, Node)| Entry {
            key: key.to_owned(),
            key_span: node.span,
            node,
        };
        let entries = entries.into_iter().map(entry).collect();
        self.node(Value::Table(entries))
    }
}

fn read<T: Setting>(node: &Node) -> Result<T, Vec<String>> {
    let mut reader = Reader::new();
    let value = T::read(node, &mut reader);
    let problems = reader.into_problems();
    let told = |problem: &Problem| {
        format!(
            "{} {}: {}",
            problem.span.start, problem.path, problem.message
        )
    };
    match value {
        Some(value) => {
            assert_eq!(problems, [], "a value and problems");
            Ok(value)
        }
        None => {
            assert!(!problems.is_empty(), "no value and no problem");
            Err(problems.iter().map(told).collect())
        }
    }
}

#[test]
fn a_table_is_read_with_its_defaults() {
    let mut build = Builder::default();
    let name = build.string("y");
    let node = build.table(vec![("name", name)]);
    let sample: Sample = read(&node).unwrap();
    assert_eq!(
        sample,
        Sample {
            name: "y".to_owned(),
            ..Sample::default()
        }
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let mut build = Builder::default();
    let count = build.node(Value::Integer(11));
    let colour = build.string("gren");
    let limit = build.node(Value::Integer(0));
    let yes = build.node(Value::Boolean(true));
    let no = build.string("true");
    let list = build.node(Value::Array(vec![yes, no]));
    let percent = build.node(Value::Integer(-1));
    let free = build.table(vec![("a", percent)]);
    let inner = build.table(vec![
        ("list", list),
        ("free", free),
        ("sekret", Node::string(Span::new(40, 41), "s")),
    ]);
    let node = build.table(vec![
        ("count", count),
        ("colour", colour),
        ("limit", limit),
        ("inner", inner),
    ]);
    let told = read::<Sample>(&node).unwrap_err();
    let expected = [
        "1 count: 11 is outside of what is possible: 1 to 10",
        "2 colour: \"gren\" is not one of \"red\", \"green\"",
        "3 limit: 0 is outside of what is possible: 1 to 9",
        "5 inner.list.1: expected true or false, found a string",
        "7 inner.free.a: -1 is outside of what is possible: 0 to 100",
        "10 : `name` is missing",
        "40 inner.sekret: unknown key \"sekret\"",
    ];
    assert_eq!(told, expected);
}

#[test]
fn rules_between_keys_are_checked_when_the_keys_are_right() {
    let mut build = Builder::default();
    let name = build.string("wrong");
    let node = build.table(vec![("name", name.clone())]);
    assert_eq!(read::<Sample>(&node).unwrap_err(), ["1 name: it is wrong"]);
    let count = build.node(Value::Boolean(true));
    let node = build.table(vec![("name", name), ("count", count)]);
    assert_eq!(read::<Sample>(&node).unwrap_err().len(), 1);
}

#[test]
fn two_tables_may_share_their_keys() {
    let mut build = Builder::default();
    let (name, list) = (build.string("y"), build.node(Value::Boolean(true)));
    let other = build.string("z");
    let node = build.table(vec![("name", name), ("list", list), ("nmae", other)]);
    let mut reader = Reader::new();
    let mut table = TableReader::new(&node, &mut reader).unwrap();
    let sample = Sample::read_fields(&mut table);
    let inner = Inner::read_fields(&mut table);
    table.finish();
    assert_eq!((sample.name.as_str(), inner.list.0), ("y", vec![true]));
    let problems = reader.into_problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].hint.as_deref(), Some("did you mean `name`?"));
}

#[test]
fn what_comes_from_the_environment_may_be_a_number() {
    let mut build = Builder::default();
    assert_eq!(read::<u32>(&build.outside("17")), Ok(17));
    assert_eq!(read::<i64>(&build.outside(" -17 ")), Ok(-17));
    assert_eq!(read::<bool>(&build.outside("false")), Ok(false));
    assert_eq!(
        read::<Percent>(&build.outside("100")),
        Ok(Percent::new(100))
    );
    assert!(read::<u32>(&build.outside("x")).is_err());
    assert!(read::<u32>(&build.outside("")).is_err());
    assert!(read::<bool>(&build.outside("yes")).is_err());
    assert!(read::<u32>(&build.string("17")).is_err());
    assert!(read::<bool>(&build.string("true")).is_err());
}

#[test]
fn integers_have_the_range_of_their_type() {
    let mut build = Builder::default();
    let mut number = |number: i128| build.node(Value::Integer(number));
    assert_eq!(read::<u8>(&number(255)), Ok(255));
    assert_eq!(
        read::<u8>(&number(256)).unwrap_err(),
        ["2 : 256 is outside of what is possible: 0 to 255"]
    );
    assert_eq!(read::<u16>(&number(65_535)), Ok(65_535));
    assert_eq!(read::<u64>(&number(u64::MAX.into())), Ok(u64::MAX));
    assert!(read::<u64>(&number(i128::MAX)).is_err());
    assert!(read::<i64>(&number(i128::MIN)).is_err());
}

#[test]
fn descriptions_say_what_was_declared() {
    let described = Sample::describe();
    assert_eq!(described.name, "Sample");
    assert_eq!(described.doc, "A table\nof two lines.");
    let facts: Vec<_> = described
        .fields
        .iter()
        .map(|field| {
            let range = field
                .range
                .as_ref()
                .map(|(low, high)| format!("{low}..{high}"));
            (
                field.name,
                field.doc.as_str(),
                field.default.as_deref(),
                range,
                field.required,
            )
        })
        .collect();
    let range = |text: &str| Some(text.to_owned());
    let inner = "{ list = , free = {}, secret = \"\" }".replace("list = , ", "");
    let expected = [
        ("count", "How many.", Some("3"), range("1..10"), false),
        ("colour", "Which.", Some("\"red\""), None, false),
        (
            "limit",
            "Perhaps.",
            Some("it depends"),
            range("1..9"),
            false,
        ),
        ("name", "Must be.", Some("\"x\""), None, true),
        ("inner", "Inside.", Some(inner.as_str()), None, false),
    ];
    assert_eq!(facts, expected);
    let Kind::Choice(words) = &described.fields[1].kind else {
        panic!("{:?}", described.fields[1].kind);
    };
    let words: Vec<_> = words
        .iter()
        .map(|word| (word.name, word.doc.as_str()))
        .collect();
    assert_eq!(words, [("red", "Like blood."), ("green", "Like grass.")]);
}

#[test]
fn the_nearest_name_is_found() {
    let known = ["connect", "queue", "first_byte", "to", "drain_timeout"];
    let table = [
        ("conect", Some("connect")),
        ("Connect", Some("connect")),
        ("conncet", Some("connect")),
        ("first-byte", Some("first_byte")),
        ("firstByte", Some("first_byte")),
        ("ot", Some("to")),
        ("drain_time", Some("drain_timeout")),
        ("colour", None),
        ("xyz", None),
        ("", None),
    ];
    for (name, expected) in table {
        assert_eq!(nearest(name, known), expected, "{name}");
    }
}

#[test]
fn long_wrong_values_are_cut() {
    let mut build = Builder::default();
    let told = read::<Colour>(&build.string(&"x".repeat(10_000))).unwrap_err();
    assert!(told[0].len() < 200, "{told:?}");
}
