//! The actors: each a function that does one kind of harm, and leaves nothing behind that its limits do not allow.

mod claims;
mod files;
mod handshakes;
mod inflight;
mod logins;
mod malformed;
mod quarrels;
mod queues;
mod receivers;
mod retained;
mod sessions;
mod slow;
mod subscriptions;
mod websockets;

use crate::attack::Attack;

/// One kind of hostile client.
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    /// As `--only` takes it.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Does it.
    pub run: fn(&mut Attack<'_>),
}

const fn actor(name: &'static str, about: &'static str, run: fn(&mut Attack<'_>)) -> Actor {
    Actor { name, about, run }
}

/// Every actor, in the order in which they take turns.
pub const ACTORS: &[Actor] = &[
    actor(
        "malformed",
        "malformed packets before and after CONNECT, whole, in two parts and byte by byte",
        malformed::run,
    ),
    actor(
        "claims",
        "packets that claim 268,435,455 bytes, or as many as are allowed, of which five come",
        claims::huge,
    ),
    actor(
        "not-connect",
        "other packets than CONNECT first, and noise",
        claims::not_connect,
    ),
    actor(
        "wills",
        "CONNECT with a will of up to 32 KiB, then gone at once, dropped or with DISCONNECT",
        sessions::wills,
    ),
    actor(
        "sessions",
        "random client ids that ask for sessions of the longest expiry, beyond their limit",
        sessions::random_ids,
    ),
    actor(
        "expiry",
        "sessions with queues that expire at once, by the hundred",
        sessions::expiring,
    ),
    actor(
        "half-qos2",
        "QoS 2 without PUBREL: all 65,535 identifiers, and whole windows at once",
        inflight::half_qos2,
    ),
    actor(
        "aliases",
        "topic aliases that are 0, too large, unknown, too long, or redefined without end",
        inflight::aliases,
    ),
    actor(
        "pings",
        "PINGREQ by the thousand in one write",
        inflight::pings,
    ),
    actor(
        "no-ack",
        "subscribers that read and never acknowledge",
        receivers::never_acknowledge,
    ),
    actor(
        "no-read",
        "subscribers that never read",
        receivers::never_read,
    ),
    actor(
        "amplify",
        "one large message to hundreds of subscribers that read late",
        receivers::amplify,
    ),
    actor(
        "queues",
        "floods to the queues of clients that are away",
        queues::run,
    ),
    actor(
        "retained",
        "retained messages on ever new topics, kept and expiring, beyond their limit",
        retained::run,
    ),
    actor(
        "filters",
        "more filters than a packet or a client may have",
        subscriptions::bombs,
    ),
    actor(
        "deep",
        "filters and topics of up to 65,535 levels, and publishes that meet the deep ones",
        subscriptions::deep,
    ),
    actor(
        "slow",
        "connections that send nothing, half a CONNECT, or a byte now and then",
        slow::half_connects,
    ),
    actor(
        "silent",
        "clients that fall silent with a will, and keep alives that nobody should be granted",
        slow::silent,
    ),
    actor(
        "quarrel",
        "one client id from two sockets in turn, subscribing and publishing",
        quarrels::run,
    ),
    actor(
        "churn",
        "connect, subscribe, publish, leave, over and over",
        quarrels::churn,
    ),
    actor(
        "logins",
        "wrong passwords in the name of one address and of thousands",
        logins::run,
    ),
    actor(
        "half-tls",
        "TLS handshakes that stop anywhere, are none, or are followed by nothing",
        handshakes::half_tls,
    ),
    actor(
        "websocket",
        "upgrades that are none, broken frames, floods of pings, messages in parts of one byte",
        websockets::run,
    ),
    actor(
        "proxy",
        "PROXY headers that are broken, unfinished, of the other version or not there",
        handshakes::proxy,
    ),
    actor(
        "files",
        "more connections than the broker may open files, against a broker of its own",
        files::run,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (place, actor) in ACTORS.iter().enumerate() {
            let others = ACTORS.iter().skip(place + 1);
            assert!(others.into_iter().all(|other| other.name != actor.name));
        }
    }
}
