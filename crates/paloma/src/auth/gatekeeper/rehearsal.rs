//! What other files would change for clients that are connected, without putting them in force.

use std::sync::{Arc, PoisonError};

use paloma_broker::{Action, Authorizer, Grant, Identity};
use paloma_topic::{TargetRef, TopicLimits};

use super::{Expulsions, Gatekeeper, Welcome};
use crate::auth::files::{Door, Security};
use crate::auth::rules::{Policy, Rules};
use crate::few::Few;

/// What other files would change.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    expulsions: Expulsions,
    /// The rules of each listener that stays, as they are held by its clients, as they are and as they would be.
    policies: Few<u16, (Arc<Rules>, Policy, Policy)>,
}

impl Gatekeeper {
    /// What would come of [`apply`](Self::apply). Nothing changes.
    pub(crate) fn rehearse(&self, security: &Security, doors: &Few<u16, usize>) -> Rehearsal {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = Few::default();
        let mut policies = Few::default();
        for (number, place) in doors {
            let (Some(door), Some(open)) = (security.door(*place), state.realms.get(number)) else {
                continue;
            };
            after.insert(*number, Welcome::of(security, door));
            let change = (
                Arc::clone(&open.rules),
                open.rules.policy(),
                security.policy(door),
            );
            policies.insert(*number, change);
        }
        let judges_alike = state.realms.iter().all(|(number, old)| {
            let door = doors.get(number).and_then(|place| security.door(*place));
            door.is_none_or(|door| {
                old.judges_admissions_by(security.jwt(door).as_ref(), door.hook.as_ref())
            })
        });
        Rehearsal {
            expulsions: Expulsions {
                before: state.welcomes(),
                after,
                concern_admissions: !judges_alike,
            },
            policies,
        }
    }
}

impl Welcome {
    /// As files say that are not in force.
    fn of(security: &Security, door: &Door) -> Self {
        let passwords = door
            .password_file()
            .and_then(|path| security.passwords().get(path));
        let scram = door
            .scram_file()
            .and_then(|path| security.scram().get(path));
        Self {
            passwords: passwords.cloned(),
            scram: scram.cloned(),
            allow_anonymous: door.allow_anonymous,
            takes_certificates: door.takes_certificates,
        }
    }
}

impl Rehearsal {
    /// Why a client would be cut off, if it would.
    pub(crate) fn expels(&self, listener: u16, identity: &Identity) -> Option<&'static str> {
        self.expulsions.reason(listener, identity)
    }

    /// Whether those whom tokens and hooks let in would be asked about again.
    pub(crate) const fn asks_again(&self) -> bool {
        self.expulsions.concern_admissions
    }

    /// What a client would lose that holds these rules: rights, and what would be left of its subscriptions.
    pub(crate) fn losses(
        &self,
        listener: u16,
        rules: Option<&Arc<dyn Authorizer>>,
        (identity, client_id): (&Identity, &str),
        filters: &[String],
    ) -> Vec<String> {
        let Some((own, before, after)) = self.policies.get(&listener) else {
            return Vec::new();
        };
        // Rules that came with a token or from a hook do not change with files.
        let follows_files =
            rules.is_none_or(|rules| std::ptr::addr_eq(Arc::as_ptr(rules), Arc::as_ptr(own)));
        if !follows_files {
            return Vec::new();
        }
        let rights = before
            .lost(after, identity, client_id)
            .into_iter()
            .map(|right| {
                let action = match right.action {
                    Action::Read => "read",
                    Action::Write => "write",
                };
                let part = if right.is_whole { "" } else { " in part" };
                format!("the right to {action} {:?}{part}", right.filter)
            });
        let subscriptions = filters.iter().filter_map(|filter| {
            let target = TargetRef::parse_with_limits(filter, &TopicLimits::STANDARD).ok()?;
            let grant = |policy: &Policy| {
                policy
                    .authorizer()
                    .grant(identity, client_id, target.filter())
            };
            match (grant(before), grant(after)) {
                (Grant::Denied, _)
                | (Grant::CheckEach, Grant::CheckEach)
                | (_, Grant::AllAllowed) => None,
                (_, Grant::Denied) => Some(format!("its subscription {filter:?}")),
                (_, Grant::CheckEach) => Some(format!("its subscription {filter:?} in part")),
            }
        });
        rights.chain(subscriptions).collect()
    }
}
