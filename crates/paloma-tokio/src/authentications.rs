//! How authentications that may block are run: off the core, a few at a time.

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use paloma_broker::{AuthOutcome, AuthRequest, Authenticator};
use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// Most authentications at a time that only wait for somebody else, each of which holds a thread.
const WAITING_CALLS_MAX: usize = 256;

/// How much less important to the system than the others a thread is that judges.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// The authenticator, and who may ask it when.
#[derive(Debug)]
pub(crate) struct Authentications {
    authenticator: Arc<dyn Authenticator>,
    permits: Arc<Semaphore>,
    /// Permits among them that are not for cores.
    waiting_calls: AtomicUsize,
}

impl Authentications {
    pub(crate) fn new(authenticator: Arc<dyn Authenticator>, cores: usize) -> Self {
        Self {
            authenticator,
            permits: Arc::new(Semaphore::new(cores)),
            waiting_calls: AtomicUsize::new(0),
        }
    }

    /// Judges on this thread what takes no time.
    pub(crate) fn judge_here(&self, request: &AuthRequest) -> Option<AuthOutcome> {
        self.authenticator.authenticate_at_once(request)
    }

    /// Judges on a thread of its own, when there is room.
    ///
    /// # Errors
    /// The authenticator has panicked.
    pub(crate) async fn judge(&self, request: Box<AuthRequest>) -> Result<AuthOutcome, JoinError> {
        self.make_room();
        // The semaphore is never closed, so a permit always comes.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let authenticator = Arc::clone(&self.authenticator);
        let judged = tokio::task::spawn_blocking(move || {
            stand_back();
            let outcome = authenticator.authenticate(&request);
            drop(permit);
            outcome
        });
        judged.await
    }

    /// As many at a time as there are cores, and those besides that only wait. Their number may grow while the broker runs;
    /// it does not shrink.
    fn make_room(&self) {
        let wanted = self.authenticator.waiting_calls_max();
        let wanted = wanted.min(WAITING_CALLS_MAX);
        let had = self.waiting_calls.fetch_max(wanted, Ordering::Relaxed);
        if wanted > had {
            self.permits.add_permits(wanted - had);
        }
    }
}

/// Lets this thread do with what the others leave: a password costs a core for a while, and those who are in already are not
/// to wait for it. Threads of the runtime that may block do nothing else while it runs.
#[cfg(target_os = "linux")]
fn stand_back() {
    thread_local!(static HAS_STOOD_BACK: Cell<bool> = const { Cell::new(false) });
    if !HAS_STOOD_BACK.replace(true) {
        // Where it is refused, hashes are as important as everything else.
        let _unchanged = rustix::process::nice(NICE);
    }
}

/// Elsewhere niceness is a whole process's.
#[cfg(not(target_os = "linux"))]
const fn stand_back() {}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use paloma_broker::{Broker, BrokerConfig, ConnectionInfo, Identity};
    use paloma_codec::ProtocolVersion;
    use paloma_session::{Monotonic, Now, Wall};

    /// Answers when this many ask at the same time.
    #[derive(Debug)]
    struct Together(Barrier, usize);

    impl Authenticator for Together {
        fn authenticate(&self, _: &AuthRequest) -> AuthOutcome {
            self.0.wait();
            AuthOutcome::allow(Identity::ANONYMOUS)
        }

        fn waiting_calls_max(&self) -> usize {
            self.1
        }
    }

    #[tokio::test]
    async fn who_only_waits_needs_no_core() {
        let authenticator = Arc::new(Together(Barrier::new(9), 8));
        let authentications = Authentications::new(authenticator, 1);
        let mut broker = Broker::new(BrokerConfig::new([0; 32]));
        let now = Now::new(Monotonic::default(), Wall::default());
        let request = AuthRequest {
            connection: broker.open(now, ConnectionInfo::default()).unwrap(),
            info: ConnectionInfo::default(),
            version: ProtocolVersion::V5,
            client_id: "c".into(),
            username: None,
            password: None,
            method: None,
        };
        let ask = || authentications.judge(Box::new(request.clone()));
        let answers = tokio::join!(
            ask(),
            ask(),
            ask(),
            ask(),
            ask(),
            ask(),
            ask(),
            ask(),
            ask()
        );
        assert!(answers.0.is_ok() && answers.8.is_ok());
    }
}
