//! More connections than a broker may open files.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use paloma_interop::broker::{Broker, Setup};
use paloma_interop::peer::Version::V311;
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{self, Connect};
use paloma_load::probe;

use crate::answer::{ANSWER_MAX, Answer};
use crate::attack::Attack;

/// The files that the broker of this actor may open.
const FILES_MAX: u32 = 128;

/// Connections that want to be accepted.
const COUNT: usize = 400;

/// How long the shortage is watched.
const WATCH: Duration = Duration::from_secs(2);

/// Far more than the rests between attempts cost, far less than a loop without rests.
const CORES_MAX: f64 = 0.8;

pub(super) fn run(attack: &mut Attack<'_>) {
    let setup = Setup {
        configuration: "[limits]\nconnect_timeout_ms = 60_000\n[log]\nlevel = \"error\"\n"
            .to_owned(),
        files_max: Some(FILES_MAX),
        ..Setup::default()
    };
    let broker = Broker::of_program(attack.program, &setup);
    let mut early = RawClient::connect(broker.address(), V311, "early");
    for round in 0.. {
        if !attack.goes_on(round, 1) {
            break;
        }
        let crowd: Vec<TcpStream> = (0..COUNT)
            .filter_map(|_| TcpStream::connect(broker.address()).ok())
            .collect();
        attack.tally.attempts += crowd.len() as u64;
        let cpu = probe::cpu_time(broker.pid()).unwrap_or_default();
        let begin = Instant::now();
        thread::sleep(WATCH);
        let used = probe::cpu_time(broker.pid()).unwrap_or_default();
        let cores = used.saturating_sub(cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
        attack
            .tally
            .require(cores < CORES_MAX, || format!("{cores:.2} cores busy"));
        // Who was there before goes on.
        attack.ping(&mut early, |tally, answer| {
            tally.expect("PINGREQ", answer, &[]);
        });
        drop(crowd);
        let waited = reconnect(attack, &broker);
        attack.tally.notes = vec![format!(
            "{cores:.2} cores while out of files; accepts again after {} ms",
            waited.as_millis()
        )];
    }
    let status = broker.terminate();
    attack.tally.require(status.success(), || {
        format!("its broker ended with {status}")
    });
}

/// A newcomer is accepted once files are free.
fn reconnect(attack: &mut Attack<'_>, broker: &Broker) -> Duration {
    let begin = Instant::now();
    let accepted = TcpStream::connect(broker.address()).and_then(|mut stream| {
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(&Connect::new(V311, "late").encode())?;
        let mut answer = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut answer)?;
        stream.write_all(&wire::DISCONNECT)?;
        Ok(answer == [0x20, 2, 0, 0])
    });
    match accepted {
        Ok(true) => attack.tally.count(Answer::ConnAck(0)),
        other => attack.tally.complain(format!("a newcomer got {other:?}")),
    }
    begin.elapsed()
}
