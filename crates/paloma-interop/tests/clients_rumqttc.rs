//! Every scenario with rumqttc on both sides.

use paloma_interop::peer::Library::Rumqttc;

paloma_interop::scenario_tests!(Rumqttc);
