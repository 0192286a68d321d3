//! CHECKS 32 to 34 on every front of the real binary: clients that send half, without end or nothing at all, announce a GiB, or
//! never read. They cost bounded memory, are cut off in time, and honest clients are served meanwhile.
//!
//! Here in short; at length, with crowds of thousands and latencies compared, by `bench/abuse.sh` ([`bench`]).

mod answers;
mod bench;
mod crowd;
mod fronts;
mod honest;
mod http2;
use crate::support;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use fronts::{Front, MIB, PATIENCE, fronts};
use honest::{
    BUDGET, Cost, GROWTH_MAX, GROWTH_OF_BOTH_MAX, SHORT, beside, files, memory, start, wait_for_files,
};
use support::Server;

/// Runs an abuse beside honest clients: memory stays within bounds, and nobody waits without end.
fn beside_honest_clients(server: &Server, abuse: impl FnOnce()) -> Cost {
    let cost = beside(server, abuse);
    let (longest, p50, p99) = (cost.longest(), cost.quantile(0.5), cost.quantile(0.99));
    println!("honest clients: longest {longest:?}, p99 {p99:?}; memory grew by {} KiB", cost.grown >> 10);
    assert!(longest < PATIENCE, "an honest client waited {longest:?}");
    // Loaded machines are slow, now and then very. Who is queued behind a crowd waits for time-outs of seconds again and again;
    // bench/abuse.sh looks closely.
    assert!(p50.iter().all(|p50| *p50 < Duration::from_secs(1)), "of each front, p50 was {p50:?}");
    assert!(p99.iter().all(|p99| *p99 < Duration::from_secs(10)), "of each front, p99 was {p99:?}");
    assert!(cost.grown < GROWTH_MAX, "memory grew by {} bytes", cost.grown);
    cost
}

/// CHECKS 32: half requests are cut off by the time-outs, on every front.
#[test]
fn half_requests_are_cut_off() {
    let (server, _dir) = start(&SHORT);
    for front in fronts(&server) {
        beside_honest_clients(&server, || {
            let halves = front.halves.iter().flat_map(|half| (0..50).map(move |_| half));
            let mut crowd: Vec<_> = halves
                .map(|half| {
                    let mut stream = front.connect();
                    stream.write_all(half).unwrap();
                    stream
                })
                .collect();
            crowd.iter_mut().for_each(|stream| drop(front.rest(stream)));
        });
    }
    // None of what was begun is there.
    assert_eq!(server.run(&["get", "abuse"]).status.code(), Some(3));
}

/// CHECKS 33: what never ends is refused after a bounded number of bytes, on every front.
#[test]
fn endless_requests_are_refused() {
    let (server, _dir) = start(&SHORT);
    for front in fronts(&server) {
        beside_honest_clients(&server, || {
            for _ in 0..10 {
                let mut stream = front.connect();
                stream.write_all(&front.endless).unwrap();
                let filler = vec![b'a'; MIB];
                // Beyond what both sockets hold somebody must have read it: it is discarded or refused, and ends.
                let sent = (0..256).take_while(|_| stream.write_all(&filler).is_ok()).count();
                assert!(sent < 256, "{}: it takes {sent} MiB", front.name);
                drop(front.rest(&mut stream));
            }
        });
    }
}

/// CHECKS 33, 35: a GiB that is announced is refused by its announcement, on every front.
#[test]
fn announced_lengths_are_refused() {
    let (server, _dir) = start(&SHORT);
    for front in fronts(&server) {
        beside_honest_clients(&server, || {
            let (request, refusal) = &front.announced;
            let mut crowd: Vec<_> = (0..50)
                .map(|_| {
                    let mut stream = front.connect();
                    stream.write_all(request).unwrap();
                    stream
                })
                .collect();
            for stream in &mut crowd {
                let said = front.rest(stream);
                assert!(said.contains(refusal), "{}: {said}", front.name);
            }
        });
    }
}

/// So many clients ask for so much and read nothing: until they are cut off.
fn nobody_reads(server: &Server, clients: usize, asks: impl Fn(&Front) -> &[Vec<u8>]) {
    for front in fronts(server) {
        let (mut crowd, files_before) = (Vec::new(), files(server) + 4);
        beside_honest_clients(server, || {
            for _ in 0..clients {
                let mut stream = front.connect();
                asks(&front).iter().for_each(|asked| stream.write_all(asked).unwrap());
                crowd.push(stream);
            }
            // Those who waited for room have it one after another, and are cut off in their turn.
            wait_for_files(server, |now| now <= files_before + clients / 8);
        });
        drop(crowd);
        wait_for_files(server, |now| now <= files_before);
    }
}

/// CHECKS 33: clients that ask for much and read nothing hold no more than the budget, and are cut off, on every front.
#[test]
fn who_never_reads_holds_no_more_than_the_budget() {
    let (server, _dir) = start(&SHORT);
    nobody_reads(&server, 40, |front| &front.flood);
}

/// What is counted of a range is what is held of it, also where its first values are small and the later ones are not.
#[test]
fn a_range_counts_what_it_holds_and_not_how_it_began() {
    let (server, _dir) = start(&SHORT);
    nobody_reads(&server, 64, |front| &front.growing);
}

/// SPEC 5.1: what requests under way hold has its bound, with many connections on all fronts that read and write slowly.
#[test]
fn a_crowd_of_slow_readers_and_writers_holds_no_more_than_the_budgets() {
    let (server, _dir) = start(&SHORT);
    let fronts = fronts(&server);
    let cost = beside(&server, || {
        let (start, before) = (Instant::now(), memory(&server));
        // For some seconds, and until they have asked for more than there is.
        let is_enough = || memory(&server).saturating_sub(before) > BUDGET / 3;
        crowd::trickle(&fronts, 200, || match start.elapsed().as_secs() {
            0..5 => true,
            5..60 => !is_enough(),
            60.. => false,
        });
    });
    println!("honest clients: p99 {:?}; memory grew by {} KiB", cost.quantile(0.99), cost.grown >> 10);
    assert!(cost.longest() < PATIENCE, "an honest client waited {:?}", cost.longest());
    assert!(cost.grown < GROWTH_OF_BOTH_MAX, "memory grew by {} bytes", cost.grown);
    // They did ask for more than there is.
    assert!(cost.grown > BUDGET / 4, "it took {} bytes", cost.grown);
}

/// CHECKS 32: those who connect and say nothing cost a few KiB each, and go, on every front.
#[test]
fn a_crowd_that_says_nothing_costs_little() {
    /// Of the server's memory, for one connection.
    const EACH_MAX: usize = 32 << 10;
    const CROWD: usize = 400;
    let (server, _dir) = start(&SHORT);
    for front in fronts(&server) {
        let cost = beside_honest_clients(&server, || {
            let mut crowd: Vec<_> = (0..CROWD).map(|_| front.connect()).collect();
            crowd.iter_mut().for_each(|stream| drop(front.rest(stream)));
        });
        let most = CROWD * EACH_MAX + (8 << 20);
        assert!(cost.grown < most, "{}: {CROWD} connections took {} bytes", front.name, cost.grown);
    }
}
