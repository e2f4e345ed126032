//! The listeners that are open: added and removed while the broker runs.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::bound::Bound;
use crate::listen::Acceptor;
use crate::listener::{ListenAddress, Listener};
use crate::shared::Shared;
use crate::tls::Tls;

/// The listeners of a broker that runs: a handle that may be kept and cloned.
#[derive(Clone, Debug)]
pub struct Listeners {
    shared: Arc<Shared>,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    is_closed: bool,
    /// In the order of their indices; a broker has few.
    active: Vec<(u16, Active)>,
}

#[derive(Debug)]
struct Active {
    address: ListenAddress,
    /// Also with its acceptor.
    bound: Arc<Bound>,
    tls: Option<Tls>,
    /// Has it take clients in; none once it does.
    go: Option<oneshot::Sender<()>>,
    acceptor: JoinHandle<()>,
}

impl Listeners {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            open: Arc::default(),
        }
    }

    /// Opens a further listener as number `index`, the [`ConnectionInfo::listener`] of what comes in through it, and
    /// says where it listens.
    ///
    /// # Errors
    /// It cannot be bound; a listener with this index is open ([`AlreadyExists`](io::ErrorKind::AlreadyExists)); it needs
    /// a feature that this build is without ([`Unsupported`](io::ErrorKind::Unsupported)); or the
    /// broker stops ([`NotConnected`](io::ErrorKind::NotConnected)).
    ///
    /// [`ConnectionInfo::listener`]: paloma_broker::ConnectionInfo::listener
    pub fn add(&self, index: u16, listener: Listener) -> io::Result<ListenAddress> {
        let address = self.bind(index, listener)?;
        self.accept(index);
        Ok(address)
    }

    /// The first half of [`add`](Self::add), all that can fail: nobody is taken in before [`accept`](Self::accept), and
    /// whoever connects meanwhile waits. For whoever has several things to change at once, rules before listeners.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn bind(&self, index: u16, listener: Listener) -> io::Result<ListenAddress> {
        self.open(index, listener, None)
    }

    /// As [`bind`](Self::bind), with the socket of the listener `from`, which has the same address; for port 0 it may have been
    /// given any. That one goes on as it was until it is [removed](Self::remove). Whoever waits then to be accepted waits for the
    /// new one, so that no client is refused meanwhile. If the file of a Unix socket is not where it was, another one is made.
    ///
    /// # Errors
    /// As for [`add`](Self::add); there is no listener `from` ([`NotFound`](io::ErrorKind::NotFound)), or it listens
    /// elsewhere ([`InvalidInput`](io::ErrorKind::InvalidInput)).
    pub fn take_over(
        &self,
        from: u16,
        index: u16,
        listener: Listener,
    ) -> io::Result<ListenAddress> {
        self.open(index, listener, Some(from))
    }

    fn open(&self, index: u16, listener: Listener, from: Option<u16>) -> io::Result<ListenAddress> {
        if let Some(feature) = listener.lacks() {
            let message = format!("built without `{feature}`");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let mut open = self.lock();
        if open.is_closed {
            let message = "the broker is stopping";
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        }
        let Err(place) = open.place(index) else {
            let message = format!("listener {index} is open already");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        };
        let _context = self.shared.runtime().enter();
        let shared = match from {
            Some(from) => open.share(from, &listener.address)?,
            None => None,
        };
        let bound = match shared {
            Some(bound) => bound,
            None => Bound::bind(&listener.address)?,
        };
        let address = bound.local_address(&listener.address)?;
        let name = listener.name.clone();
        let name = name.unwrap_or_else(|| address.to_string());
        self.shared.reporter.rename(index, &name);
        let tls = listener.tls.clone();
        let acceptor = Acceptor::new(Arc::clone(&self.shared), listener, index);
        let (go, gone) = oneshot::channel();
        let bound = Arc::new(bound);
        let active = Active {
            address: address.clone(),
            bound: Arc::clone(&bound),
            tls,
            go: Some(go),
            acceptor: self.shared.runtime().spawn(async move {
                if gone.await.is_ok() {
                    acceptor.run(&bound).await;
                }
            }),
        };
        open.active.insert(place, (index, active));
        Ok(address)
    }

    /// Has a listener that is bound take clients in, those first that wait. False if there is none with this index.
    #[expect(
        clippy::must_use_candidate,
        reason = "one that has been removed meanwhile is as it should be"
    )]
    pub fn accept(&self, index: u16) -> bool {
        let mut open = self.lock();
        let place = open.place(index).ok();
        let Some((_, active)) = place.and_then(|place| open.active.get_mut(place)) else {
            return false;
        };
        // Its task has ended only if the runtime is ending.
        let _ = active.go.take().map(|go| go.send(()));
        true
    }

    /// Gives a listener another name for the log and for [`certificates`](Self::certificates), clients that came in through
    /// it before included.
    pub fn rename(&self, index: u16, name: &str) {
        self.shared.reporter.rename(index, name);
    }

    /// When the certificates of listeners with TLS expire, by the listeners' names; of several with one name the first to expire.
    #[must_use]
    pub fn certificates(&self) -> Vec<(Arc<str>, SystemTime)> {
        let mut certificates: Vec<(Arc<str>, SystemTime)> = Vec::new();
        for (index, active) in &self.lock().active {
            let expires_at = active.tls.as_ref().and_then(Tls::expires_at);
            let name = self.shared.reporter.name(Some(*index));
            if let (Some(expires_at), Some(name)) = (expires_at, name) {
                match certificates.binary_search_by(|(known, _)| known.cmp(&name)) {
                    Err(place) => certificates.insert(place, (name, expires_at)),
                    Ok(place) => {
                        if let Some((_, first)) = certificates.get_mut(place) {
                            *first = expires_at.min(*first);
                        }
                    }
                }
            }
        }
        certificates
    }

    /// Closes a listener, and returns when its address is free; false if there is none with this index. Connections
    /// that came in through it stay.
    pub async fn remove(&self, index: u16) -> bool {
        let Some(active) = self.lock().remove(index) else {
            return false;
        };
        active.acceptor.abort();
        // It ends by being aborted, which is no error here.
        let _ = active.acceptor.await;
        true
    }

    /// The listeners that are open, by their indices.
    #[must_use]
    pub fn addresses(&self) -> Vec<(u16, ListenAddress)> {
        let open = self.lock();
        let active = open.active.iter();
        active
            .map(|(index, active)| (*index, active.address.clone()))
            .collect()
    }

    /// Where TCP listeners listen, in the order of their indices.
    pub(crate) fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.addresses().into_iter();
        addresses
            .filter_map(|(_, address)| match address {
                ListenAddress::Tcp(address) => Some(address),
                ListenAddress::Unix { .. } => None,
            })
            .collect()
    }

    /// Closes them all, and opens no more. They are gone once what this returns has ended.
    pub(crate) fn close(&self) -> Vec<JoinHandle<()>> {
        let mut open = self.lock();
        open.is_closed = true;
        let active = std::mem::take(&mut open.active).into_iter();
        active
            .map(|(_, active)| active.acceptor)
            .inspect(JoinHandle::abort)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing panics while the table is half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Where a listener is; if there is none with this index, where it would be.
    fn place(&self, index: u16) -> Result<usize, usize> {
        self.active
            .binary_search_by_key(&index, |(index, _)| *index)
    }

    /// The socket of a listener once more, if it has this address and can still be reached there.
    fn share(&self, index: u16, address: &ListenAddress) -> io::Result<Option<Bound>> {
        let place = self.place(index).ok();
        let Some((_, active)) = place.and_then(|place| self.active.get(place)) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such listener"));
        };
        if !address.is_at(&active.address) {
            let message = "the listener is elsewhere";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        active.bound.share()
    }

    fn remove(&mut self, index: u16) -> Option<Active> {
        let place = self.place(index).ok()?;
        Some(self.active.remove(place).1)
    }
}
