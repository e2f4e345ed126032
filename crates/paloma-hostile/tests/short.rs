//! Every actor's small turn against the real broker: judged by counts, not by time.

use paloma_hostile::{ACTORS, Plan, run};
use paloma_interop::broker::{paloma, skips_other_brokers};

#[test]
fn the_broker_and_its_clients_survive_every_actor() {
    if skips_other_brokers("the actors know Paloma's limits") {
        return;
    }
    let plan = Plan {
        program: paloma().to_owned(),
        duration: None,
        only: None,
        seed: 1,
    };
    let record = run(&plan, |turn| {
        eprintln!("{} in {:?}", turn.name, turn.elapsed)
    })
    .expect("loopback sockets and threads are there");
    eprintln!("{record}");
    assert_eq!(record.findings(), Vec::<String>::new());
    assert_eq!(record.rows.len(), ACTORS.len());
}
