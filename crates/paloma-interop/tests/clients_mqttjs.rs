//! Every scenario with MQTT.js on both sides.

use paloma_interop::peer::Library::MqttJs;

paloma_interop::scenario_tests!(MqttJs);
