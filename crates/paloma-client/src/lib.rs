//! A small MQTT client on tokio, over the client role of paloma-session.
