//! Shared subscriptions: one message to one member of each group.

use std::num::NonZeroU32;

use bytestring::ByteString;
use paloma_topic::{HashSeed, Hashed, Hashing, Index, ShareName, TopicFilter};

use crate::session::SessionKey;
use crate::slab::{Key, Slab};
use crate::subscriptions::Subscription;
use crate::tag::GROUP_NUMBER_MAX;

pub(crate) type GroupKey = Key<Group>;

/// How many members are weighed against each other for one message; bounds the cost of a choice in a large group.
const CANDIDATES: usize = 8;

/// How many members are looked at for a ready one once a busy one is known.
const LOOKED_AT_MAX: usize = 64;

/// All who share one filter under one name.
#[derive(Debug)]
pub(crate) struct Group {
    /// `$share/name/filter`.
    pub(crate) target: ByteString,
    /// What queued messages carry of it; no other group has it while messages of this one may be queued.
    pub(crate) number: NonZeroU32,
    pub(crate) filter: TopicFilter,
    pub(crate) members: Vec<Subscription>,
    /// Where the next choice begins.
    next: usize,
}

/// How ready a member is to take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Connected, its window open; `load` is waiting and unacknowledged messages in 1/256 of its window.
    Ready { load: u64 },
    /// Connected, but its window is full.
    Busy { load: u64 },
    /// Not connected; its session keeps messages.
    Absent,
    /// Cannot take anything.
    Gone,
}

impl Group {
    /// Chooses who gets the next message: of the ready members the one with the least load for its window, so that a
    /// client that takes twice as many gets twice as many; of equals the one whose turn it is. Without a ready one a
    /// busy one queues it, and without a connected one an absent one.
    pub(crate) fn choose(
        &mut self,
        mut readiness: impl FnMut(&Subscription) -> Readiness,
    ) -> Option<Subscription> {
        let count = self.members.len();
        let start = if self.next < count { self.next } else { 0 };
        let mut ready: Option<(u64, usize)> = None;
        let mut busy: Option<(u64, usize)> = None;
        let mut absent = None;
        let mut weighed = 0;
        for (looked, position) in (start..count).chain(0..start).enumerate() {
            if looked >= LOOKED_AT_MAX && busy.is_some() {
                break;
            }
            let Some(member) = self.members.get(position) else {
                break;
            };
            match readiness(member) {
                Readiness::Ready { load } => {
                    weighed += 1;
                    if ready.is_none_or(|(least, _)| load < least) {
                        ready = Some((load, position));
                    }
                    if weighed == CANDIDATES {
                        break;
                    }
                }
                Readiness::Busy { load } => {
                    if busy.is_none_or(|(least, _)| load < least) {
                        busy = Some((load, position));
                    }
                }
                Readiness::Absent => absent = absent.or(Some(position)),
                Readiness::Gone => {}
            }
        }
        let position = ready.or(busy).map(|(_, position)| position).or(absent)?;
        self.next = position + 1;
        self.members.get(position).copied()
    }
}

/// Every group, by number and by name.
#[derive(Debug)]
pub(crate) struct Groups {
    slab: Slab<Group>,
    members: usize,
    by_target: Index,
    by_number: Index,
    hashing: Hashing,
    last_number: u32,
}

impl Groups {
    pub(crate) fn new(seed: HashSeed) -> Self {
        Self {
            slab: Slab::default(),
            members: 0,
            by_target: Index::new(),
            by_number: Index::new(),
            hashing: Hashing::new(seed),
            last_number: 0,
        }
    }

    fn target_for(share: &ShareName, filter: &TopicFilter) -> ByteString {
        // A share name holds no '/', so that the next one ends it.
        ByteString::from(format!("$share/{}/{}", share.as_str(), filter.as_str()))
    }

    pub(crate) fn get(&self, key: GroupKey) -> Option<&Group> {
        self.slab.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: GroupKey) -> Option<&mut Group> {
        self.slab.get_mut(key)
    }

    /// Adds or replaces a member; says which group and whether it is a new one, and what was replaced.
    pub(crate) fn join(
        &mut self,
        share: &ShareName,
        filter: &TopicFilter,
        member: Subscription,
    ) -> Joined {
        let target = Self::target_for(share, filter);
        let Some(key) = self.by_target(&target) else {
            let number = self.next_number();
            let hash = self.hashing.text(&target);
            let group = Group {
                target,
                number,
                filter: filter.clone(),
                members: vec![member],
                next: 0,
            };
            let key = self.slab.insert(group);
            self.by_target.insert(hash, key.index);
            self.by_number.insert(hash_of(number), key.index);
            self.members += 1;
            return Joined {
                key,
                is_new_group: true,
                replaced: false,
            };
        };
        let mut replaced = false;
        if let Some(group) = self.slab.get_mut(key) {
            match group
                .members
                .iter_mut()
                .find(|other| other.session == member.session)
            {
                Some(other) => {
                    *other = member;
                    replaced = true;
                }
                None => {
                    group.members.push(member);
                    self.members += 1;
                }
            }
        }
        Joined {
            key,
            is_new_group: false,
            replaced,
        }
    }

    pub(crate) fn find(&self, share: &ShareName, filter: &TopicFilter) -> Option<GroupKey> {
        self.by_target(&Self::target_for(share, filter))
    }

    /// Members of all groups together.
    pub(crate) fn members(&self) -> usize {
        self.members
    }

    /// Removes a member; hands over the group if that leaves nobody.
    pub(crate) fn leave(&mut self, key: GroupKey, session: SessionKey) -> Left {
        let Some(group) = self.slab.get_mut(key) else {
            return Left::NotAMember;
        };
        let Some(position) = group
            .members
            .iter()
            .position(|other| other.session == session)
        else {
            return Left::NotAMember;
        };
        group.members.remove(position);
        self.members -= 1;
        if position < group.next {
            group.next -= 1;
        }
        if !group.members.is_empty() {
            return Left::Member;
        }
        let Some(group) = self.slab.remove(key) else {
            return Left::NotAMember;
        };
        self.by_target
            .remove(self.hashing.text(&group.target), key.index);
        self.by_number.remove(hash_of(group.number), key.index);
        Left::LastMember(group.filter)
    }
}

pub(crate) struct Joined {
    pub(crate) key: GroupKey,
    pub(crate) is_new_group: bool,
    pub(crate) replaced: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    NotAMember,
    Member,
    LastMember(TopicFilter),
}

impl Groups {
    /// The group's target, `$share/…` included.
    pub(crate) fn target(&self, key: GroupKey) -> Option<ByteString> {
        Some(self.slab.get(key)?.target.clone())
    }

    /// What the group with this number is subscribed to, `$share/…` included.
    pub(crate) fn target_of(&self, number: NonZeroU32) -> Option<ByteString> {
        self.target(self.find_by_number(number)?)
    }

    /// The number of the group that is subscribed to `$share/name/filter`.
    pub(crate) fn number_of(&self, target: &str) -> Option<NonZeroU32> {
        Some(self.slab.get(self.by_target(target)?)?.number)
    }

    /// The group with this number, if it has members.
    pub(crate) fn find_by_number(&self, number: NonZeroU32) -> Option<GroupKey> {
        let found = self.by_number.find(hash_of(number), |index| {
            (self.slab.at(index)).is_some_and(|group| group.number == number)
        });
        self.slab.key_at(found?)
    }

    fn by_target(&self, target: &str) -> Option<GroupKey> {
        let found = self.by_target.find(self.hashing.text(target), |index| {
            (self.slab.at(index)).is_some_and(|group| *group.target == *target)
        });
        self.slab.key_at(found?)
    }

    /// A number that no group has. They come again after 2^31 groups.
    fn next_number(&mut self) -> NonZeroU32 {
        loop {
            self.last_number = self.last_number % GROUP_NUMBER_MAX + 1;
            if let Some(number) = NonZeroU32::new(self.last_number)
                && self.find_by_number(number).is_none()
            {
                return number;
            }
        }
    }
}

/// Numbers are the broker's own.
const fn hash_of(number: NonZeroU32) -> Hashed {
    Hashed::of_number(number.get() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Grant;
    use paloma_codec::SubscribeOptions;

    fn member(n: u32) -> Subscription {
        let options = SubscribeOptions::default();
        Subscription::new(
            SessionKey::from_parts(n, 0),
            &options,
            None,
            (Grant::AllAllowed, 0),
        )
    }

    fn group(members: u32) -> Group {
        Group {
            target: "$share/g/t".into(),
            number: NonZeroU32::MIN,
            filter: TopicFilter::new("t").unwrap(),
            members: (0..members).map(member).collect(),
            next: 0,
        }
    }

    fn check(group: &mut Group, readiness: &[Readiness], expected: &[Option<u32>]) {
        for expected in expected {
            let chosen = group.choose(|member| readiness[member.session.index as usize]);
            assert_eq!(chosen.map(|member| member.session.index), *expected);
        }
    }

    #[test]
    fn equal_members_take_turns() {
        let ready = Readiness::Ready { load: 0 };
        check(
            &mut group(3),
            &[ready; 3],
            &[Some(0), Some(1), Some(2), Some(0)],
        );
    }

    #[test]
    fn a_member_whose_window_is_full_is_skipped() {
        let ready = Readiness::Ready { load: 9 };
        let full = Readiness::Busy { load: 0 };
        check(&mut group(3), &[full, ready, full], &[Some(1), Some(1)]);
    }

    #[test]
    fn the_least_loaded_member_comes_first() {
        let load = |load| Readiness::Ready { load };
        check(
            &mut group(3),
            &[load(5), load(1), load(3)],
            &[Some(1), Some(1)],
        );
    }

    #[test]
    fn absent_members_are_the_last_resort() {
        let busy = Readiness::Busy { load: 7 };
        check(&mut group(2), &[Readiness::Absent, busy], &[Some(1)]);
        check(
            &mut group(2),
            &[Readiness::Gone, Readiness::Absent],
            &[Some(1)],
        );
        check(&mut group(2), &[Readiness::Gone; 2], &[None]);
    }

    #[test]
    fn the_last_member_takes_the_group_along() {
        let share = ShareName::new("g").unwrap();
        let filter = TopicFilter::new("a/+").unwrap();
        let mut groups = Groups::new(HashSeed::new(1));
        assert!(groups.join(&share, &filter, member(1)).is_new_group);
        assert!(groups.join(&share, &filter, member(1)).replaced);
        let joined = groups.join(&share, &filter, member(2));
        assert!(!joined.is_new_group && !joined.replaced);
        assert_eq!(groups.find(&share, &filter), Some(joined.key));
        assert_eq!(
            groups.leave(joined.key, member(3).session),
            Left::NotAMember
        );
        assert_eq!(groups.leave(joined.key, member(1).session), Left::Member);
        assert_eq!(
            groups.leave(joined.key, member(2).session),
            Left::LastMember(filter.clone())
        );
        assert_eq!(
            groups.leave(joined.key, member(2).session),
            Left::NotAMember
        );
        assert_eq!((groups.find(&share, &filter), groups.members()), (None, 0));
    }

    #[test]
    fn turns_go_on_where_they_were_when_a_member_leaves() {
        let share = ShareName::new("g").unwrap();
        let filter = TopicFilter::new("t").unwrap();
        // Who leaves after two turns, and who is next then.
        for (leaver, next) in [(0, 2), (1, 2), (2, 3), (3, 2)] {
            let mut groups = Groups::new(HashSeed::new(1));
            let joined: Vec<_> = (0..4)
                .map(|n| groups.join(&share, &filter, member(n)).key)
                .collect();
            let ready = |_: &Subscription| Readiness::Ready { load: 0 };
            let group = groups.slab.get_mut(joined[0]).unwrap();
            group.choose(ready);
            group.choose(ready);
            assert_eq!(
                groups.leave(joined[0], member(leaver).session),
                Left::Member
            );
            let group = groups.slab.get_mut(joined[0]).unwrap();
            let chosen = group.choose(ready).map(|member| member.session.index);
            assert_eq!(chosen, Some(next), "{leaver} left");
        }
    }
}
