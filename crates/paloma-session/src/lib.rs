//! The MQTT session protocol of one connection, both roles, without I/O.
