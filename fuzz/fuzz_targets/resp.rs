//! CHECKS 35: Any bytes in any pieces as commands of the Redis protocol: parsed alike whole and in pieces, or refused, within
//! the limits.
#![no_main]

use esker_wire::resp::{Commands, Parser, ParserLimits};
use libfuzzer_sys::fuzz_target;

const LIMITS: ParserLimits =
    ParserLimits { arguments: 64, argument_bytes: 256, command_bytes: 1024, line_bytes: 64 };

/// The commands of `input`, handed over in pieces of this length; and whether it ended with an error.
fn parse(input: &[u8], piece: usize) -> (Vec<Vec<Vec<u8>>>, bool) {
    let mut parser = Parser::new(LIMITS);
    let (mut buffer, mut commands, mut parsed) = (Vec::new(), Commands::default(), Vec::new());
    let mut failed = false;
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&buffer, &mut commands) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        for at in 0..commands.len() {
            let command: Vec<_> = commands.get(at, &buffer).from(0).map(<[u8]>::to_vec).collect();
            assert!((1..=LIMITS.arguments).contains(&command.len()));
            assert!(command.iter().all(|word| word.len() <= LIMITS.argument_bytes));
            parsed.push(command);
        }
        if failed {
            break;
        }
        commands.clear();
        buffer.drain(..parser.start());
        parser.forget();
        assert!(buffer.len() <= LIMITS.command_bytes + LIMITS.line_bytes + piece.len() + 2);
    }
    (parsed, failed)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = parse(bytes, bytes.len().max(1));
    assert_eq!(whole, parse(bytes, usize::from(piece) + 1));
});
