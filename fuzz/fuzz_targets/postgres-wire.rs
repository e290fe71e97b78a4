//! The wire protocol of the Postgres tier: nothing panics, whatever is read; a frame is no longer
//! than what it says; what is written can be read; a cut never changes what was certain before it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outgrow_postgres::wire::frame::{self, Frame, HEADER_BYTES};
use outgrow_postgres::wire::startup;
use outgrow_postgres::wire::{Opening, read, write};

fuzz_target!(|input: &[u8]| {
    first_packets(input);
    let mut rest = input;
    while let Ok(Frame::Whole(header)) = frame::look(rest) {
        let whole = &rest[..header.whole()];
        for cut in [0, HEADER_BYTES - 1, HEADER_BYTES, whole.len() - 1] {
            match frame::look(&whole[..cut.min(whole.len() - 1)]) {
                Ok(Frame::NoHeader) => assert!(cut < HEADER_BYTES || whole.len() == HEADER_BYTES),
                Ok(Frame::Partial(part)) => assert_eq!(part, header),
                other => panic!("{other:?} of a part of {header:?}"),
            }
        }
        bodies(&whole[HEADER_BYTES..]);
        rest = &rest[header.whole()..];
    }
});

fn first_packets(input: &[u8]) {
    let Ok(Some((opening, length))) = startup::look(input) else {
        return;
    };
    assert!(length <= input.len() && length <= startup::LIMIT);
    assert!(!matches!(startup::look(&input[..length - 1]), Ok(Some(_))));
    let Opening::Session(session) = opening else {
        return;
    };
    let mut out = Vec::new();
    write::startup(&mut out, session.parameters.iter());
    let again = startup::look(&out).expect("what is written is good");
    let Some((Opening::Session(again), _)) = again else {
        panic!("a session was written");
    };
    assert_eq!(again.parameters, session.parameters);
}

fn bodies(body: &[u8]) {
    let problem = read::Problem::read(body);
    assert!(problem.code.len() <= body.len());
    if let Some(parse) = read::Parse::read(body) {
        let mut out = Vec::new();
        write::parse(&mut out, parse.name, parse.query, parse.types);
        assert_eq!(read::Parse::read(&out[HEADER_BYTES..]), Some(parse));
    }
    if let Some((portal, statement, length)) = read::bind(body) {
        assert_eq!(portal.len() + statement.len() + 2, length);
    }
    if let Some((kind, name)) = read::target(body) {
        let mut out = Vec::new();
        write::describe(&mut out, kind, name);
        assert_eq!(read::target(&out[HEADER_BYTES..]), Some((kind, name)));
    }
    if let Some((name, value)) = read::parameter(body) {
        let mut out = Vec::new();
        write::parameter_status(&mut out, name, value);
        assert_eq!(read::parameter(&out[HEADER_BYTES..]), Some((name, value)));
    }
}
