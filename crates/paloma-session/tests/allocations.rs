//! In steady state, neither a delivery nor an answer allocates.

mod rig;

use allocation_counter::measure;
use paloma_codec::{
    Ack, ConnAck, Connect, DecodeLimits, Decoder, Delivery, Packet, PacketId, PacketRef,
    ProtocolVersion, PubAckReason, PubCompReason, PubRecReason, Qos, SubscriptionId,
};
use paloma_session::{Gate, Outbound};
use rig::{Rig, connect, id, message, publish};

/// Runs the step until everything has grown, then counts the allocations of 100 more.
fn check(step: &mut dyn FnMut()) {
    for _ in 0..200 {
        step();
    }
    let info = measure(|| {
        for _ in 0..100 {
            step();
        }
    });
    assert_eq!(info.count_total, 0);
}

/// A server whose client takes aliases.
fn server() -> Rig {
    let connect = Connect {
        topic_alias_maximum: 8,
        ..connect(ProtocolVersion::V5)
    };
    let conn_ack = ConnAck {
        topic_alias_maximum: 8,
        ..ConnAck::default()
    };
    Rig::server_with(&connect, &conn_ack)
}

fn oldest(rig: &Rig) -> Option<PacketId> {
    rig.session.window().iter().next().map(|(id, _)| id)
}

#[test]
fn a_delivery_of_any_qos_allocates_nothing() {
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut rig = server();
        // More topics than aliases, and several identifiers: both tables are in use.
        let messages: Vec<_> = (0..12)
            .map(|number| message(&format!("topic/{number}"), b"x", Some(60)))
            .collect();
        let ids = [1, 2, 3].map(|number| SubscriptionId::new(number).unwrap());
        let mut turn = 0;
        check(&mut || {
            turn += 1;
            for message in messages.iter().cycle().skip(turn % 12).take(8) {
                let outbound = Outbound::new(message.clone(), qos);
                let _ = rig.session.enqueue(outbound, &ids, |_| {});
            }
            let _ = rig.transmit();
            while let Some(id) = oldest(&rig) {
                if qos == Qos::AtLeastOnce {
                    let ack = PacketRef::PubAck(Ack::new(id, PubAckReason::Success));
                    rig.handle(ack, Gate::Open).unwrap();
                } else {
                    let received = PacketRef::PubRec(Ack::new(id, PubRecReason::Success));
                    rig.handle(received, Gate::Open).unwrap();
                    let completed = PacketRef::PubComp(Ack::new(id, PubCompReason::Success));
                    rig.handle(completed, Gate::Open).unwrap();
                }
            }
            let _ = rig.transmit();
        });
    }
}

#[test]
fn an_inbound_publish_and_its_answers_allocate_nothing() {
    let mut rig = server();
    let version = ProtocolVersion::V5;
    let mut bytes = Vec::new();
    for packet in [
        publish("topic", Delivery::AtMostOnce),
        publish(
            "topic",
            Delivery::AtLeastOnce {
                id: id(1),
                dup: false,
            },
        ),
        publish(
            "topic",
            Delivery::ExactlyOnce {
                id: id(2),
                dup: false,
            },
        ),
        Packet::PubRel(Ack::new(id(2), Default::default())),
        Packet::PubRel(Ack::new(id(3), Default::default())),
    ] {
        packet.encode(version, &mut bytes).unwrap();
    }
    // The decoder of a client's connection takes what both sides send.
    let mut decoder = Decoder::client(version, DecodeLimits::default());
    check(&mut || {
        let mut rest = bytes.as_slice();
        while let Some((packet, used)) = decoder.decode(rest).unwrap() {
            rest = rest.get(used..).unwrap();
            let event = rig
                .connection
                .handle_packet(rig.now, &mut rig.session, packet, Gate::Open);
            if let paloma_session::Event::Publish(inbound) = event.unwrap()
                && let Some(receipt) = inbound.receipt
            {
                rig.acknowledge(receipt, PubAckReason::NoMatchingSubscribers, Gate::Open);
            }
        }
        let _ = rig.transmit();
    });
}
