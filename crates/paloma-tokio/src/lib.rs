//! Paloma on tokio: listeners, connections, timers, and a broker to embed.
