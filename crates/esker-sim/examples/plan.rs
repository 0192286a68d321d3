//! Prints the plan of a seed: `cargo run -p esker-sim --example plan -- SEED [NODES]`.

use std::process::ExitCode;

use esker_sim::plan::{Plan, PlanOptions};

fn main() -> ExitCode {
    let numbers: Result<Vec<u64>, _> = std::env::args().skip(1).map(|text| text.parse()).collect();
    match numbers.as_deref() {
        Ok([seed]) => print(*seed, PlanOptions::default().nodes),
        Ok([seed, nodes]) if *nodes >= 2 => print(*seed, *nodes),
        _ => {
            eprintln!("usage: plan SEED [NODES], with two nodes at least");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn print(seed: u64, nodes: u64) {
    print!("{}", Plan::draw(seed, &PlanOptions { nodes, ..PlanOptions::default() }));
}
