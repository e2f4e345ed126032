//! Scenarios of `paloma-topic`.

use crate::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[];
