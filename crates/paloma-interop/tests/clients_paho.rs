//! Every scenario with Python's paho-mqtt on both sides.

use paloma_interop::peer::Library::Paho;

paloma_interop::scenario_tests!(Paho);
