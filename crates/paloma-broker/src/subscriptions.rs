//! Who subscribed to what.

use std::fmt;

use paloma_codec::{Qos, RetainHandling, SubscribeOptions, SubscriptionId};
use paloma_topic::{FilterId, FilterTrie, HashSeed, Hashed, Index, TopicFilterRef, TopicNameRef};

use crate::auth::Grant;
use crate::session::SessionKey;
use crate::shared::GroupKey;

/// Above so many subscribers of one filter a hash index finds them.
const SCAN_MAX: usize = 16;

/// One session's subscription to one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) session: SessionKey,
    pub(crate) id: Option<SubscriptionId>,
    /// The rules' epoch in which `grant` was given.
    epoch: u16,
    flags: u8,
    /// Has values to spare, which tell [`Subscribers`] apart.
    qos: Qos,
}

const NO_LOCAL: u8 = 1;
const RETAIN_AS_PUBLISHED: u8 = 1 << 1;
const CHECK_EACH: u8 = 1 << 2;
const DENIED: u8 = 1 << 3;

impl Subscription {
    pub(crate) fn new(
        session: SessionKey,
        options: &SubscribeOptions,
        id: Option<SubscriptionId>,
        granted: (Grant, u16),
    ) -> Self {
        let mut flags = 0;
        if options.no_local {
            flags |= NO_LOCAL;
        }
        if options.retain_as_published {
            flags |= RETAIN_AS_PUBLISHED;
        }
        let mut subscription = Self {
            session,
            id,
            epoch: 0,
            flags,
            qos: options.qos,
        };
        subscription.set_granted(granted);
        subscription
    }

    pub(crate) fn qos(&self) -> Qos {
        self.qos
    }

    pub(crate) fn no_local(&self) -> bool {
        self.flags & NO_LOCAL != 0
    }

    pub(crate) fn retain_as_published(&self) -> bool {
        self.flags & RETAIN_AS_PUBLISHED != 0
    }

    /// What the rules said of the filter, and in which epoch.
    pub(crate) fn granted(&self) -> (Grant, u16) {
        let grant = if self.flags & DENIED != 0 {
            Grant::Denied
        } else if self.flags & CHECK_EACH != 0 {
            Grant::CheckEach
        } else {
            Grant::AllAllowed
        };
        (grant, self.epoch)
    }

    pub(crate) fn set_granted(&mut self, (grant, epoch): (Grant, u16)) {
        self.epoch = epoch;
        self.flags &= !(CHECK_EACH | DENIED);
        match grant {
            Grant::AllAllowed => {}
            Grant::CheckEach => self.flags |= CHECK_EACH,
            Grant::Denied => self.flags |= DENIED,
        }
    }
}

/// All subscribers of one filter. Nearly every filter has one, who is kept in place: so it costs no allocation, and a match
/// follows no pointer for it.
#[derive(Debug, Default)]
pub(crate) enum Subscribers {
    #[default]
    None,
    One(Subscription),
    Many(Box<Crowd>),
}

/// Several subscribers of one filter, or groups of them.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    plain: Vec<Subscription>,
    /// Positions in `plain` by session, once a scan would take too long.
    index: Option<Box<Index>>,
    groups: Vec<GroupKey>,
}

impl Subscribers {
    pub(crate) fn plain(&self) -> &[Subscription] {
        match self {
            Self::None => &[],
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(crowd) => &crowd.plain,
        }
    }

    fn plain_mut(&mut self) -> &mut [Subscription] {
        match self {
            Self::None => &mut [],
            Self::One(only) => std::slice::from_mut(only),
            Self::Many(crowd) => &mut crowd.plain,
        }
    }

    pub(crate) fn groups(&self) -> &[GroupKey] {
        match self {
            Self::None | Self::One(_) => &[],
            Self::Many(crowd) => &crowd.groups,
        }
    }

    const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    fn position(&self, session: SessionKey) -> Option<usize> {
        match self {
            Self::None => None,
            Self::One(only) => (only.session == session).then_some(0),
            Self::Many(crowd) => crowd.position(session),
        }
    }

    fn insert(&mut self, subscription: Subscription) -> Option<Subscription> {
        match self {
            Self::None => {
                *self = Self::One(subscription);
                None
            }
            Self::One(only) if only.session == subscription.session => {
                Some(std::mem::replace(only, subscription))
            }
            Self::One(_) | Self::Many(_) => self.crowd().insert(subscription),
        }
    }

    fn remove(&mut self, session: SessionKey) -> Option<Subscription> {
        let removed = match self {
            Self::None => None,
            Self::One(only) if only.session == session => {
                let removed = *only;
                *self = Self::None;
                Some(removed)
            }
            Self::One(_) => None,
            Self::Many(crowd) => crowd.remove(session),
        };
        self.shrink();
        removed
    }

    fn add_group(&mut self, group: GroupKey) {
        self.crowd().groups.push(group);
    }

    fn remove_group(&mut self, group: GroupKey) {
        if let Self::Many(crowd) = self {
            crowd.groups.retain(|other| *other != group);
        }
        self.shrink();
    }

    /// Makes room for more than one.
    fn crowd(&mut self) -> &mut Crowd {
        if !matches!(self, Self::Many(_)) {
            let plain = self.plain().to_vec();
            *self = Self::Many(Box::new(Crowd {
                plain,
                ..Crowd::default()
            }));
        }
        let Self::Many(crowd) = self else {
            unreachable!("it was made above");
        };
        crowd
    }

    /// A crowd that is none any more goes back into place.
    fn shrink(&mut self) {
        if let Self::Many(crowd) = self
            && crowd.groups.is_empty()
        {
            match *crowd.plain {
                [] => *self = Self::None,
                [only] => *self = Self::One(only),
                [_, _, ..] => {}
            }
        }
    }
}

impl Crowd {
    fn position(&self, session: SessionKey) -> Option<usize> {
        let is_it = |subscription: &Subscription| subscription.session == session;
        match &self.index {
            Some(index) => {
                let at = |position: u32| self.plain.get(position as usize).is_some_and(is_it);
                let found = index.find(hash(session), at);
                found.map(|position| position as usize)
            }
            None => self.plain.iter().position(is_it),
        }
    }

    fn insert(&mut self, subscription: Subscription) -> Option<Subscription> {
        if let Some(position) = self.position(subscription.session)
            && let Some(slot) = self.plain.get_mut(position)
        {
            return Some(std::mem::replace(slot, subscription));
        }
        self.plain.push(subscription);
        if let Some(index) = &mut self.index {
            index.insert(hash(subscription.session), to_u32(self.plain.len() - 1));
        } else if self.plain.len() > SCAN_MAX {
            let mut index = Index::new();
            for (other, position) in self.plain.iter().zip(0..) {
                index.insert(hash(other.session), position);
            }
            self.index = Some(Box::new(index));
        }
        None
    }

    fn remove(&mut self, session: SessionKey) -> Option<Subscription> {
        let position = self.position(session)?;
        let removed = self.plain.swap_remove(position);
        if let Some(index) = &mut self.index {
            index.remove(hash(session), to_u32(position));
            if let Some(moved) = self.plain.get(position) {
                index.replace(
                    hash(moved.session),
                    to_u32(self.plain.len()),
                    to_u32(position),
                );
            }
        }
        Some(removed)
    }
}

/// Keys are the broker's own.
const fn hash(session: SessionKey) -> Hashed {
    Hashed::of_number((session.generation as u64) << 32 | session.index as u64)
}

fn to_u32(position: usize) -> u32 {
    u32::try_from(position).expect("limits keep tables below 2^32 entries")
}

/// Every subscription, by filter. Sessions keep the ids of their filters, not the text.
pub(crate) struct Subscriptions {
    filters: FilterTrie<Subscribers>,
    count: usize,
    version: u64,
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Subscriptions {
    pub(crate) fn new(seed: HashSeed) -> Self {
        Self {
            filters: FilterTrie::new(seed),
            count: 0,
            version: 0,
        }
    }

    /// Subscriptions that are not shared.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Counts changes: while it is the same, a topic's subscribers are too, and who they are.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Takes note that a subscriber is gone or acts for somebody else.
    pub(crate) fn note_changed_session(&mut self) {
        self.version += 1;
    }

    /// About how many bytes the filters own, subscribers not counted.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.filters.heap_bytes()
    }

    pub(crate) fn id(&self, filter: TopicFilterRef<'_>) -> Option<FilterId> {
        self.filters.id(filter)
    }

    /// Whether the session subscribes to the filter.
    pub(crate) fn contains(&self, filter: TopicFilterRef<'_>, session: SessionKey) -> bool {
        self.filters
            .get(filter)
            .is_some_and(|subscribers| subscribers.position(session).is_some())
    }

    /// Adds or replaces; says under which id, and whether it replaced. [MQTT-3.8.4-3]
    pub(crate) fn insert(
        &mut self,
        filter: TopicFilterRef<'_>,
        subscription: Subscription,
    ) -> (FilterId, bool) {
        self.version += 1;
        let (id, subscribers) = self.filters.insert_with(filter, Subscribers::default);
        let replaced = subscribers.insert(subscription).is_some();
        self.count += usize::from(!replaced);
        (id, replaced)
    }

    /// Takes the session off the filter; false if it was not on it.
    pub(crate) fn remove(&mut self, id: FilterId, session: SessionKey) -> bool {
        let Some(subscribers) = self.filters.get_mut_by_id(id) else {
            return false;
        };
        if subscribers.remove(session).is_none() {
            return false;
        }
        self.count -= 1;
        self.version += 1;
        if subscribers.is_empty() {
            self.filters.remove_by_id(id);
        }
        true
    }

    /// Writes the filter's text at the end of `out`; false if there is no such filter.
    pub(crate) fn write_filter(&self, id: FilterId, out: &mut String) -> bool {
        self.filters.write_filter(id, out)
    }

    pub(crate) fn get(&self, id: FilterId, session: SessionKey) -> Option<&Subscription> {
        let subscribers = self.filters.get_by_id(id)?;
        subscribers.plain().get(subscribers.position(session)?)
    }

    pub(crate) fn get_mut(
        &mut self,
        id: FilterId,
        session: SessionKey,
    ) -> Option<&mut Subscription> {
        self.version += 1;
        let subscribers = self.filters.get_mut_by_id(id)?;
        let position = subscribers.position(session)?;
        subscribers.plain_mut().get_mut(position)
    }

    pub(crate) fn add_group(&mut self, filter: TopicFilterRef<'_>, group: GroupKey) {
        self.version += 1;
        self.filters
            .insert_with(filter, Subscribers::default)
            .1
            .add_group(group);
    }

    pub(crate) fn remove_group(&mut self, filter: TopicFilterRef<'_>, group: GroupKey) {
        let Some(subscribers) = self.filters.get_mut(filter) else {
            return;
        };
        self.version += 1;
        subscribers.remove_group(group);
        if subscribers.is_empty() {
            self.filters.remove(filter);
        }
    }

    pub(crate) fn for_each_match(&self, topic: TopicNameRef<'_>, each: impl FnMut(&Subscribers)) {
        self.filters.for_each_match(topic, each);
    }
}

/// Whether retained messages are sent for a subscription that `replaced` says was there before.
pub(crate) fn wants_retained(handling: RetainHandling, replaced: bool) -> bool {
    match handling {
        RetainHandling::Send => true,
        RetainHandling::SendIfNew => !replaced,
        RetainHandling::DoNotSend => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(n: u32) -> Subscription {
        let options = SubscribeOptions::default();
        Subscription::new(
            SessionKey::from_parts(n, 0),
            &options,
            None,
            (Grant::AllAllowed, 0),
        )
    }

    #[test]
    fn a_subscription_is_compact() {
        assert!(size_of::<Subscription>() <= 16);
        assert_eq!(size_of::<Subscribers>(), 16);
    }

    #[test]
    fn many_subscribers_of_one_filter_are_found_and_removed_by_index() {
        let mut subscribers = Subscribers::default();
        for n in 0..1_000 {
            assert_eq!(subscribers.insert(subscription(n)), None);
        }
        assert!(subscribers.insert(subscription(500)).is_some());
        for n in (0..1_000).step_by(3) {
            assert!(subscribers.remove(SessionKey::from_parts(n, 0)).is_some());
        }
        for n in 0..1_000 {
            let found = subscribers.position(SessionKey::from_parts(n, 0));
            assert_eq!(found.is_some(), n % 3 != 0);
            let session = found.map(|position| subscribers.plain()[position].session.index);
            assert_eq!(session, (n % 3 != 0).then_some(n));
        }
    }

    #[test]
    fn a_filter_goes_from_none_to_many_and_back() {
        let key = |n| SessionKey::from_parts(n, 0);
        let group = GroupKey::from_parts(9, 0);
        let mut subscribers = Subscribers::default();
        assert_eq!(subscribers.remove(key(1)), None);
        assert_eq!(subscribers.insert(subscription(1)), None);
        assert!(subscribers.insert(subscription(1)).is_some());
        assert!(matches!(subscribers, Subscribers::One(_)));
        assert_eq!(subscribers.remove(key(2)), None);
        assert_eq!(subscribers.insert(subscription(2)), None);
        assert_eq!(subscribers.plain(), [subscription(1), subscription(2)]);
        assert_eq!(subscribers.position(key(2)), Some(1));
        assert!(subscribers.remove(key(1)).is_some());
        assert!(matches!(subscribers, Subscribers::One(_)));
        subscribers.add_group(group);
        assert_eq!(subscribers.plain(), [subscription(2)]);
        assert!(subscribers.remove(key(2)).is_some());
        assert_eq!(subscribers.groups(), [group]);
        assert!(!subscribers.is_empty());
        subscribers.remove_group(group);
        assert!(subscribers.is_empty());
    }

    #[test]
    fn retain_handling_one_sends_for_new_subscriptions_only() {
        // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
        assert!(wants_retained(RetainHandling::Send, true));
        assert!(wants_retained(RetainHandling::SendIfNew, false));
        assert!(!wants_retained(RetainHandling::SendIfNew, true));
        assert!(!wants_retained(RetainHandling::DoNotSend, false));
    }
}
