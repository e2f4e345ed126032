//! An MQTT broker as one value: who gets what, without I/O.
