//! The Paloma MQTT broker and its command line.

fn main() {}
