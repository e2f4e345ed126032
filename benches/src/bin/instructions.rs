//! Runs one scenario by name, or lists those of the gate as `name<TAB>units<TAB>counted calls`.

use std::process::ExitCode;

use paloma_bench::{COUNTED, scenarios};

#[expect(
    clippy::print_stdout,
    reason = "its output is what this program is for"
)]
fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        for scenario in scenarios::all().filter(|scenario| scenario.is_gated) {
            println!("{}\t{}\t{COUNTED}", scenario.name, scenario.units);
        }
        return ExitCode::SUCCESS;
    };
    let Some(scenario) = scenarios::all().find(|scenario| scenario.name == name) else {
        eprintln!("no scenario is named {name}");
        return ExitCode::FAILURE;
    };
    scenario.run();
    ExitCode::SUCCESS
}
