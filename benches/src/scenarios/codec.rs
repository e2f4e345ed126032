//! Scenarios of `paloma-codec`.

use crate::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[];
