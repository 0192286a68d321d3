//! The same at length, by `bench/abuse.sh`: what idle connections cost, and what crowds cost others. It prints tables for
//! docs/benchmarks.md, and fails where a bound is broken.
//!
//! `ESKER_ABUSE_CONNECTIONS` is how many are idle (10,000), `ESKER_ABUSE_SECONDS` how long each measurement takes (2), and
//! `ESKER_ABUSE_ROUNDS` how often it is taken (3). `ESKER_TEST_BINARY` names the server.

use std::{
    net::TcpStream,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use super::{
    crowd::{Abuse, Ends, trickle},
    fronts::{Front, fronts},
    honest::{Cost, GROWTH_MAX, GROWTH_OF_BOTH_MAX, SHORT, beside, files, memory, start, wait_for_files},
    support::pause,
};

/// Clients of each abuse.
const CROWD: usize = 50;
/// What nobody notices, whatever it is a multiple of.
const NEGLIGIBLE: Duration = Duration::from_micros(500);
/// Connections that read and write slowly.
const SLOW: usize = 2000;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

fn seconds() -> Duration {
    Duration::from_secs(setting("ESKER_ABUSE_SECONDS", 2) as u64)
}

fn median<T: Ord + Copy>(mut all: Vec<T>) -> T {
    all.sort_unstable();
    all[all.len() / 2]
}

/// Of each front, the median of a quantile over some rounds.
fn medians(rounds: &[Cost], share: f64) -> Vec<Duration> {
    let quantiles: Vec<_> = rounds.iter().map(|cost| cost.quantile(share)).collect();
    (0..quantiles[0].len()).map(|front| median(quantiles.iter().map(|of| of[front]).collect())).collect()
}

fn micros(times: &[Duration]) -> String {
    times.iter().map(|time| time.as_micros().to_string()).collect::<Vec<_>>().join(" / ")
}

/// A crowd that goes on until it is dropped.
fn with_crowd<T>(abuse: Abuse, front: &Front, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        (0..CROWD).for_each(|_| drop(scope.spawn(|| abuse.go_on(front, &over))));
        // They have all come.
        pause(Duration::from_millis(500));
        let _ends = Ends(&over);
        work()
    })
}

/// p99 of honest clients, without a crowd and beside it, in turns.
#[test]
#[ignore = "minutes, and an otherwise idle machine: bench/abuse.sh"]
fn honest_clients_wait_no_more_than_twice_as_long() {
    let (server, _dir) = start(&SHORT);
    let rounds = setting("ESKER_ABUSE_ROUNDS", 3);
    let mut broken = Vec::new();
    println!("p99 of honest clients in µs (http / resp / binary / grpc), medians of {rounds} rounds\n");
    println!(
        "| abuse | of | without | beside | ratio | memory grew by, MiB |\n| --- | --- | --- | --- | --- | --- |"
    );
    for abuse in Abuse::ALL {
        for front in fronts(&server) {
            let (mut without, mut with) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                without.push(beside(&server, || pause(seconds())));
                with.push(with_crowd(abuse, &front, || beside(&server, || pause(seconds()))));
                // What the crowd left behind is cut off.
                pause(Duration::from_millis(500));
            }
            let (without, beside) = (medians(&without, 0.99), medians(&with, 0.99));
            let ratio = without
                .iter()
                .zip(&beside)
                .map(|(without, beside)| beside.as_secs_f64() / without.max(&NEGLIGIBLE).as_secs_f64());
            let ratios: Vec<f64> = ratio.collect();
            let grown = with.iter().map(|cost| cost.grown).max().unwrap_or_default();
            let told: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.1}")).collect();
            let (name, of) = (abuse.name(), front.name);
            let (without, beside) = (micros(&without), micros(&beside));
            println!("| {name} | {of} | {without} | {beside} | {} | {} |", told.join(" / "), grown >> 20);
            if ratios.iter().any(|ratio| *ratio > 2.0) || grown > GROWTH_MAX {
                broken.push(format!("{name} of {of}: {}", told.join(" / ")));
            }
        }
    }
    assert!(broken.is_empty(), "more than twice as long:\n{}", broken.join("\n"));
}

/// Time-outs that nobody reaches.
const LONG: [&str; 10] = [
    "--header-timeout-ms",
    "600000",
    "--idle-timeout-ms",
    "600000",
    "--resp-idle-timeout-ms",
    "600000",
    "--grpc-idle-timeout-ms",
    "600000",
    "--max-connections",
    "100000",
];

/// What each of many idle connections costs, those that never spoke and those that asked once.
#[test]
#[ignore = "minutes, and an otherwise idle machine: bench/abuse.sh"]
fn idle_connections_cost_little_and_keep_nobody_waiting() {
    /// Of the server's memory, for one connection; HTTP/2 has the largest buffers, most of it the library's.
    const EACH_MAX: usize = 40 << 10;
    let crowd = setting("ESKER_ABUSE_CONNECTIONS", 10_000);
    let mut broken = Vec::new();
    println!("{crowd} idle connections; p50 and p99 of honest clients in µs (http / resp / binary / grpc)\n");
    println!(
        "| front | | bytes each | accepted a second | p50 before | with | after | p99 before | with | after |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for place in 0..4 {
        for asks in [false, true] {
            // A server of its own: what an allocator keeps of the last crowd would make the next one look cheap.
            let (server, _dir) = start(&LONG);
            let front = &fronts(&server)[place];
            let before = beside(&server, || pause(seconds()));
            let (files_before, memory_before, start) = (files(&server), memory(&server), Instant::now());
            let mut idle: Vec<TcpStream> = (0..crowd).map(|_| front.connect()).collect();
            // The honest clients of before may have been there yet.
            wait_for_files(&server, |files| files + 8 >= files_before + crowd);
            let rate = crowd as f64 / start.elapsed().as_secs_f64();
            if asks {
                for stream in &mut idle {
                    front.ask(stream, 0).unwrap();
                }
            }
            // What they have no use for is given back after a second of silence.
            pause(Duration::from_secs(3));
            let each = memory(&server).saturating_sub(memory_before) / crowd;
            let with = beside(&server, || pause(seconds()));
            drop(idle);
            wait_for_files(&server, |files| files < files_before + crowd / 100 + 10);
            let after = beside(&server, || pause(seconds()));
            let all = [&before, &with, &after];
            let [p50, p99] =
                [0.5, 0.99].map(|share| all.map(|cost| micros(&cost.quantile(share))).join(" | "));
            let kind = if asks { "asked once" } else { "silent" };
            println!("| {} | {kind} | {each} | {rate:.0} | {p50} | {p99} |", front.name);
            if each > EACH_MAX {
                broken.push(format!("{} {kind}: {each} bytes each", front.name));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The budgets hold with thousands who read and write slowly.
#[test]
#[ignore = "minutes, and an otherwise idle machine: bench/abuse.sh"]
fn thousands_of_slow_readers_and_writers_hold_no_more_than_the_budgets() {
    let (server, _dir) = start(&SHORT);
    let fronts = fronts(&server);
    let cost = beside(&server, || {
        let start = Instant::now();
        trickle(&fronts, SLOW, || start.elapsed() < 10 * seconds());
    });
    let p99 = micros(&cost.quantile(0.99));
    println!(
        "{SLOW} slow readers and writers: memory grew by {} MiB; p99 of honest clients in µs {p99}",
        cost.grown >> 20
    );
    assert!(cost.grown < GROWTH_OF_BOTH_MAX, "memory grew by {} bytes", cost.grown);
}
