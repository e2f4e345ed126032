//! Two clients that go on exchanging messages while others misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::eventually;
use crate::peer::Version;
use crate::raw::RawClient;

/// A publisher and a subscriber in a thread of their own; each message must arrive before the next is sent.
#[derive(Debug)]
pub struct Canary {
    stop: Arc<AtomicBool>,
    beats: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Canary {
    /// Connects both and starts.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let beats = Arc::new(AtomicUsize::new(0));
        let mut subscriber = RawClient::connect(address, Version::V5, "canary-subscriber");
        assert_eq!(subscriber.subscribe(&[("canary", 2)]), [2]);
        let mut publisher = RawClient::connect(address, Version::V311, "canary-publisher");
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&beats));
        let thread = thread::spawn(move || {
            let mut number: u64 = 0;
            while !stopped.load(Ordering::SeqCst) {
                let qos = (number % 3) as u8;
                publisher.publish_fully(qos, 1, "canary", &number.to_be_bytes());
                let message = subscriber.message();
                assert_eq!(message.payload, number.to_be_bytes(), "in order, once");
                assert_eq!(message.qos, qos);
                number += 1;
                counted.store(number as usize, Ordering::SeqCst);
                // Paced, not waited: a canary that never rests would load the machine.
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            stop,
            beats,
            thread: Some(thread),
        }
    }

    /// Asserts that messages still arrive, and ends.
    ///
    /// # Panics
    /// If a message was lost, came twice or came late.
    pub fn stop(mut self) {
        let before = self.beats.load(Ordering::SeqCst);
        let thread = self.thread.take().expect("stopped once");
        eventually("three more messages of the canary", || {
            let beats = self.beats.load(Ordering::SeqCst);
            (beats >= before + 3 || thread.is_finished()).then_some(())
        });
        self.stop.store(true, Ordering::SeqCst);
        thread.join().expect("the canary's messages all arrived");
    }
}
