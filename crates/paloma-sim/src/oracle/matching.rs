//! Which of the things that are owed a delivery is. Several can look the same: then any of them is right.

use paloma_broker::ConnectionId;
use paloma_codec::{Publish, Qos};
use paloma_session::Now;
use paloma_topic::TopicName;

use super::Oracle;
use super::inputs::number_of;
use super::model::{Copy, Form, Gate, Life, Message, Replay, SharedCopy, Subscription};
use crate::violation::Invariant;

/// A delivery as it was seen.
pub(super) struct Sight<'p> {
    pub(super) id: ConnectionId,
    pub(super) client_id: &'p str,
    pub(super) topic: &'p str,
    /// The message's number; an empty one has none.
    pub(super) number: Option<u64>,
    form: Form,
    /// The lifetime that it came with.
    said: Option<u64>,
    is_v5: bool,
}

impl Sight<'_> {
    fn fits(&self, form: &Form) -> bool {
        (form.qos, form.retain) == (self.form.qos, self.form.retain)
            && (!self.is_v5 || form.ids == self.form.ids)
    }

    /// Two copies of a message that its publisher has repeated differ in their age.
    fn fits_life(&self, now: Now, life: Option<Life>) -> bool {
        match life {
            None => self.said.is_none(),
            Some(life) => {
                let wall = now.wall.as_millis();
                let fits = |said| life.may_have_left(wall, said);
                !life.is_over(wall) && (!self.is_v5 || self.said.is_some_and(fits))
            }
        }
    }
}

/// Which of the things that are owed a delivery is.
pub(super) enum Owed {
    /// The copy at this place of the session's list.
    Waiting(usize),
    /// A group's.
    Shared(usize),
    /// A group's, after what each of these places holds has gone to the one before, and the first's to its holder's own.
    Exchanged(Vec<usize>, Option<String>),
    /// The retained message for this replay.
    Retained(usize, Form),
}

impl Oracle {
    pub(super) fn sight<'p>(
        &self,
        id: ConnectionId,
        client_id: &'p str,
        topic: &'p str,
        publish: &Publish,
    ) -> Sight<'p> {
        let ids = publish.properties.subscription_ids.iter();
        let mut ids: Vec<u32> = ids.map(|id| id.get()).collect();
        ids.sort_unstable();
        Sight {
            id,
            client_id,
            topic,
            number: number_of(&publish.payload),
            form: Form {
                qos: publish.delivery.qos(),
                retain: publish.retain,
                ids,
            },
            said: publish.properties.message_expiry_seconds.map(u64::from),
            is_v5: self.links.get(&id).is_some_and(|link| link.version.is_v5()),
        }
    }

    /// Whether this may be the message with a number.
    fn may_be(&self, sight: &Sight<'_>, number: u64) -> bool {
        let Some(message) = self.messages.get(&number) else {
            return false;
        };
        let is_it = sight.number == Some(number) || sight.number.is_none() && message.is_empty;
        is_it && message.topic == sight.topic
    }

    pub(super) fn find_owed(&self, now: Now, sight: &Sight<'_>) -> Option<Owed> {
        let session = self.state.sessions.get(sight.client_id)?;
        let shared = || self.find_free(now, sight).map(Owed::Shared);
        let exchanged = || self.find_exchanged(sight);
        let replay = || {
            self.find_replay(sight)
                .map(|(place, form)| Owed::Retained(place, form))
        };
        let message = sight.number.and_then(|number| self.messages.get(&number));
        let owes_retained = message.is_some_and(|message| {
            let mut replays = session.replays.iter();
            replays.any(|replay| {
                replay.owed.contains(sight.topic) && sight.fits(&form_of(replay, message))
            })
        });
        let Some(place) = self.find_waiting(now, sight) else {
            return if owes_retained {
                replay().or_else(shared).or_else(exchanged)
            } else {
                shared().or_else(replay).or_else(exchanged)
            };
        };
        let mut earlier = session.waiting.iter().take(place);
        let is_next = earlier.all(|copy| {
            copy.form.qos != sight.form.qos || self.is_excused(now, sight.id, sight.client_id, copy)
        });
        if is_next {
            return Some(Owed::Waiting(place));
        }
        let has_full_drops = self.full_drops > self.full_drops_found;
        let other = if owes_retained || !has_full_drops {
            shared().or_else(replay).or_else(exchanged)
        } else {
            shared().or_else(exchanged)
        };
        other.or(Some(Owed::Waiting(place)))
    }

    /// Where among the session's own copies one waits that this may be.
    fn find_waiting(&self, now: Now, sight: &Sight<'_>) -> Option<usize> {
        let session = self.state.sessions.get(sight.client_id)?;
        let fits = |copy: &Copy| self.may_be(sight, copy.number) && sight.fits(&copy.form);
        let mut waiting = session.waiting.iter();
        waiting
            .position(|copy| fits(copy) && sight.fits_life(now, copy.life))
            .or_else(|| session.waiting.iter().position(fits))
    }

    /// A group's copy that nobody has: by what the member asks for today rather than by what it asked for when it was
    /// chosen, and one that has to come rather than one that need not.
    fn find_free(&self, now: Now, sight: &Sight<'_>) -> Option<usize> {
        let is_free = |copy: &SharedCopy| {
            copy.holder.is_none() && !copy.is_done && self.may_be(sight, copy.number)
        };
        let is_alive = |copy: &SharedCopy| is_free(copy) && sight.fits_life(now, copy.life);
        let is_certain = |copy: &SharedCopy| is_alive(copy) && !copy.is_excused;
        let find = |is_candidate: &dyn Fn(&SharedCopy) -> bool| {
            let (client_id, form) = (sight.client_id, &sight.form);
            self.find_shared(client_id, is_candidate, form, sight.is_v5, true)
                .or_else(|| self.find_shared(client_id, is_candidate, form, sight.is_v5, false))
        };
        find(&is_certain)
            .or_else(|| find(&is_alive))
            .or_else(|| find(&is_free))
    }

    fn find_exchanged(&self, sight: &Sight<'_>) -> Option<Owed> {
        let mut shared = self.state.shared.iter();
        let number = shared.find(|copy| self.may_be(sight, copy.number))?.number;
        let (client_id, form) = (sight.client_id, &sight.form);
        let (moves, plain) =
            self.find_place(client_id, form, sight.is_v5, number, &mut Vec::new())?;
        Some(Owed::Exchanged(moves, plain))
    }

    /// A group's copy that the client may have been given in this form.
    fn find_shared(
        &self,
        client_id: &str,
        is_candidate: &dyn Fn(&SharedCopy) -> bool,
        seen: &Form,
        is_v5: bool,
        is_today: bool,
    ) -> Option<usize> {
        let session = self.state.sessions.get(client_id)?;
        self.state.shared.iter().position(|copy| {
            let Some(message) = self.messages.get(&copy.number) else {
                return false;
            };
            let Some(forms) = session.group_forms.get(&copy.target) else {
                return false;
            };
            let passed_over = if is_today {
                forms.len().saturating_sub(1)
            } else {
                0
            };
            is_candidate(copy)
                && forms.iter().skip(passed_over).any(|subscription| {
                    let form = form_for(subscription, message, copy.retain);
                    // Handed on, it keeps what an earlier member made of it.
                    let may_differ =
                        copy.is_handed_on || self.rules.changed_since(copy.rules_version);
                    let qos_fits = form.qos == seen.qos || may_differ && seen.qos < form.qos;
                    let retain_fits = form.retain == seen.retain || may_differ && !seen.retain;
                    qos_fits && retain_fits && (!is_v5 || form.ids == seen.ids)
                })
        })
    }

    /// Whether two messages are one, or cannot be told apart.
    fn look_alike(&self, one: u64, other: u64) -> bool {
        let messages = self.messages.get(&one).zip(self.messages.get(&other));
        one == other
            || messages.is_some_and(|(one, other)| {
                one.is_empty && other.is_empty && one.topic == other.topic
            })
    }

    /// Groups' copies of one message look alike. Finds one for this client, even if others have to be thought of as having
    /// been given another one than it seemed: the places from the one that is free to the one for this client. The first
    /// may be free only if its holder was given its own copy, not the group's: then that client is named.
    fn find_place(
        &self,
        client_id: &str,
        form: &Form,
        is_v5: bool,
        number: u64,
        looked_at: &mut Vec<usize>,
    ) -> Option<(Vec<usize>, Option<String>)> {
        loop {
            let is_candidate = |copy: &SharedCopy| {
                let is_new = looked_at.iter().all(|place| {
                    !self
                        .state
                        .shared
                        .get(*place)
                        .is_some_and(|other| std::ptr::eq(other, copy))
                });
                is_new && self.look_alike(copy.number, number)
            };
            let place = self.find_shared(client_id, &is_candidate, form, is_v5, false)?;
            looked_at.push(place);
            let copy = self.state.shared.get(place)?;
            if copy.holder.is_none() && !copy.is_done {
                return Some((vec![place], None));
            }
            let Some(((holder, instance), held_as)) =
                copy.holder.as_ref().zip(copy.held_as.as_ref())
            else {
                continue;
            };
            if self.instance(holder) != Some(*instance) {
                continue;
            }
            if self.waiting_like(holder, held_as, number).is_some() {
                return Some((vec![place], Some(holder.clone())));
            }
            if let Some((mut moves, plain)) =
                self.find_place(holder, held_as, true, number, looked_at)
            {
                moves.push(place);
                return Some((moves, plain));
            }
        }
    }

    /// A replay that this may belong to, and the form that it gives it.
    fn find_replay(&self, sight: &Sight<'_>) -> Option<(usize, Form)> {
        let number = sight.number.filter(|_| sight.form.retain)?;
        let session = self.state.sessions.get(sight.client_id)?;
        let message = self.messages.get(&number)?;
        let name = TopicName::new(sight.topic.to_owned()).ok()?;
        let until = self.state.retained_until.get(&number);
        let retained = self.state.retained.get(sight.topic);
        if until.is_none() && retained.map(|retained| retained.number) != Some(number) {
            return None;
        }
        let fits = |(_, replay): &(usize, &Replay)| {
            replay.target.filter().matches(name.borrowed())
                && until.is_none_or(|until| *until >= replay.since)
                && sight.fits(&form_of(replay, message))
        };
        let replays = || session.replays.iter().enumerate();
        let fitting: Vec<_> = replays().filter(fits).collect();
        let is_new = |(_, replay): &(usize, &Replay)| !replay.brought.contains(sight.topic);
        let owing = fitting
            .iter()
            .find(|(_, replay)| replay.owed.contains(sight.topic));
        let new = owing.or_else(|| fitting.iter().find(|replay| is_new(replay)));
        // What another replay brought may have been this one's, so that this is the other one's.
        let other = || {
            fitting.first()?;
            replays()
                .find(|replay| is_new(replay) && replay.1.target.filter().matches(name.borrowed()))
        };
        // Whichever it is, it came in the form of one that fits.
        let (place, _) = new.copied().or_else(other)?;
        Some((place, sight.form.clone()))
    }

    /// Takes what was owed off its list; what came before it has to be missing for a reason that counts.
    pub(super) fn take_owed(&mut self, now: Now, sight: &Sight<'_>, owed: Owed) -> Option<Copy> {
        match owed {
            Owed::Waiting(place) => {
                let session = self.state.sessions.get_mut(sight.client_id)?;
                let (copy, passed) = session.take_waiting(place)?;
                for other in passed {
                    self.account_for(now, sight.id, sight.client_id, &other);
                }
                Some(copy)
            }
            Owed::Exchanged(moves, plain) => {
                if let Some(holder) = plain {
                    self.came_as_own(now, &holder, *moves.first()?);
                }
                for pair in moves.windows(2) {
                    if let [free, held] = pair {
                        self.exchange(*held, *free);
                    }
                }
                self.take_shared(sight, *moves.last()?)
            }
            Owed::Shared(place) => self.take_shared(sight, place),
            Owed::Retained(place, form) => {
                let session = self.state.sessions.get_mut(sight.client_id)?;
                let replay = session.replays.get_mut(place)?;
                replay.brought.insert(sight.topic.to_owned());
                replay.owed.remove(sight.topic);
                let target = replay.target.clone();
                let later = session.replays.iter_mut().skip(place);
                for rest in later.filter(|later| later.is_rest && later.target == target) {
                    rest.owed.remove(sight.topic);
                }
                let is_stored = session.is_durable && form.qos != Qos::AtMostOnce;
                let number = sight.number?;
                Some(Copy {
                    number,
                    form,
                    life: self.messages.get(&number).and_then(|message| message.life),
                    rules_version: self.rules.version(),
                    has_expired: false,
                    gate: if is_stored { Gate::Stored } else { Gate::Open },
                    shared: None,
                })
            }
        }
    }

    fn take_shared(&mut self, sight: &Sight<'_>, place: usize) -> Option<Copy> {
        let instance = self.instance(sight.client_id)?;
        let copy = self.state.shared.get_mut(place)?;
        let form = sight.form.clone();
        copy.holder = Some((sight.client_id.to_owned(), instance));
        copy.held_as = Some(form.clone());
        copy.is_done |= form.qos == Qos::AtMostOnce;
        Some(Copy {
            number: copy.number,
            form,
            life: copy.life,
            rules_version: copy.rules_version,
            has_expired: false,
            gate: Gate::Open,
            shared: Some(place),
        })
    }

    /// What was taken for one group's copy was another one's.
    fn exchange(&mut self, place: usize, other: usize) {
        let Some(first) = self.state.shared.get_mut(place) else {
            return;
        };
        let (holder, held_as) = (first.holder.take(), first.held_as.take());
        let is_done = std::mem::take(&mut first.is_done);
        let client_id = holder.as_ref().map(|(client_id, _)| client_id.clone());
        if let Some(second) = self.state.shared.get_mut(other) {
            second.holder = holder;
            second.held_as = held_as;
            second.is_done = is_done;
        }
        let session = client_id.and_then(|client_id| self.state.sessions.get_mut(&client_id));
        for flight in session.into_iter().flat_map(|session| &mut session.flights) {
            if flight.copy.shared == Some(place) {
                flight.copy.shared = Some(other);
            }
        }
    }

    /// Whether there is a reason for a copy to be missing, that of a full queue left aside.
    fn is_excused(&self, now: Now, id: ConnectionId, client_id: &str, copy: &Copy) -> bool {
        let Some(message) = self.messages.get(&copy.number) else {
            return false;
        };
        let wall = now.wall.as_millis();
        copy.has_expired
            || copy.life.is_some_and(|life| life.is_over(wall))
            || message.is_large && self.takes_small_only(id)
            || self
                .rules
                .was_unreadable(client_id, &message.topic, copy.rules_version)
    }

    /// A copy did not come: there has to be a reason.
    pub(super) fn account_for(&mut self, now: Now, id: ConnectionId, client_id: &str, copy: &Copy) {
        if self.is_excused(now, id, client_id, copy) || self.came_as_shared(client_id, copy) {
            return;
        }
        if self.full_drops > self.full_drops_found {
            self.full_drops_found += 1;
            return;
        }
        let what = format!("{} did not come to {client_id}", copy.number);
        self.violated(now, Invariant::I1, what);
    }

    /// Whether a group's copy has come, and was taken for one of another group's that need not come.
    pub(super) fn came_as_another(&mut self, place: usize) -> bool {
        let Some(number) = self.state.shared.get(place).map(|copy| copy.number) else {
            return false;
        };
        let other = (0..self.state.shared.len()).find(|other| {
            let Some(copy) = self.state.shared.get(*other) else {
                return false;
            };
            let Some(((holder, _), form)) = copy.holder.as_ref().zip(copy.held_as.as_ref()) else {
                return false;
            };
            let is_this = |candidate: &SharedCopy| {
                self.state
                    .shared
                    .get(place)
                    .is_some_and(|this| std::ptr::eq(this, candidate))
            };
            copy.is_excused
                && self.look_alike(copy.number, number)
                && self
                    .find_shared(holder, &is_this, form, true, false)
                    .is_some()
        });
        if let Some(other) = other {
            self.exchange(other, place);
        }
        other.is_some()
    }

    /// Where among a client's own copies one waits that looks like this.
    fn waiting_like(&self, client_id: &str, form: &Form, number: u64) -> Option<usize> {
        let session = self.state.sessions.get(client_id)?;
        session
            .waiting
            .iter()
            .position(|copy| copy.form == *form && self.look_alike(copy.number, number))
    }

    /// What a group's member got was its own copy: the group's is free.
    fn came_as_own(&mut self, now: Now, client_id: &str, place: usize) {
        let Some(shared) = self.state.shared.get_mut(place) else {
            return;
        };
        let number = shared.number;
        let Some(form) = shared.held_as.take() else {
            return;
        };
        shared.holder = None;
        shared.is_done = false;
        let Some(position) = self.waiting_like(client_id, &form, number) else {
            return;
        };
        let Some(session) = self.state.sessions.get_mut(client_id) else {
            return;
        };
        for flight in &mut session.flights {
            if flight.copy.shared == Some(place) {
                flight.copy.shared = None;
            }
        }
        let id = session.connection;
        let passed = session
            .take_waiting(position)
            .map_or_else(Vec::new, |(_, passed)| passed);
        for other in passed {
            if let Some(id) = id {
                self.account_for(now, id, client_id, &other);
            }
        }
    }

    /// Whether the copy has come, and was taken for one of a group's that looks the same. That one is then still to come.
    fn came_as_shared(&mut self, client_id: &str, copy: &Copy) -> bool {
        let whom = (
            client_id.to_owned(),
            self.instance(client_id).unwrap_or_default(),
        );
        let place = self.state.shared.iter().position(|shared| {
            shared.holder.as_ref() == Some(&whom)
                && shared.held_as.as_ref() == Some(&copy.form)
                && self.look_alike(shared.number, copy.number)
        });
        let Some(place) = place else {
            return false;
        };
        if let Some(shared) = self.state.shared.get_mut(place) {
            shared.holder = None;
            shared.held_as = None;
            shared.is_done = false;
        }
        let session = self.state.sessions.get_mut(client_id);
        for flight in session.into_iter().flat_map(|session| &mut session.flights) {
            if flight.copy.shared == Some(place) {
                flight.copy.shared = None;
            }
        }
        true
    }
}

/// What a replay makes of a retained message.
fn form_of(replay: &Replay, message: &Message) -> Form {
    Form {
        qos: replay.qos.min(message.qos),
        retain: true,
        ids: replay.id.into_iter().collect(),
    }
}

/// What a member's subscription makes of its group's copy.
fn form_for(subscription: &Subscription, message: &Message, retain: bool) -> Form {
    Form {
        qos: subscription.options.qos.min(message.qos),
        retain: retain && subscription.options.retain_as_published,
        ids: subscription.id.into_iter().collect(),
    }
}
