//! The client against a broker that says only what the test tells it to.
//!
//! Time is virtual: it jumps to the next timer whenever everybody waits.

mod support;

use std::time::Duration;

use paloma_client::codec::{
    ConnAck, ConnAckReason, Delivery, Disconnect, DisconnectReason, Packet, ProtocolVersion,
    PubAck, PubAckReason, PubComp, PubCompReason, PubRec, PubRecReason, PubRel, PubRelReason, Qos,
    SubAck, SubAckReason, UnsubAck, UnsubAckReason,
};
use paloma_client::topic::Target;
use paloma_client::{
    Backoff, Client, ConnectionError, DropCause, Options, PublishError, QueueLimits, RequestError,
    State, Violation, WhenFull,
};

use support::{connected, failure, filter, message, options, packet_id, publish, streams, text};

/// [MQTT-3.1.3-1] [MQTT-3.1.3-3]
#[tokio::test(start_paused = true)]
async fn the_connect_is_sent_as_it_was_given() {
    for version in [
        ProtocolVersion::V3_1,
        ProtocolVersion::V3_1_1,
        ProtocolVersion::V5,
    ] {
        let (duplexes, mut peers) = streams();
        let mut options = Options::default();
        options.connect.version = version;
        options.connect.client_id = "me".into();
        options.connect.username = Some("user".into());
        options.connect.password = Some("secret".into());
        options.connect.keep_alive_seconds = 7;
        let expected = options.connect.clone();
        let (client, (peer, connect)) =
            tokio::join!(Client::connect_with(duplexes, options), peers.accept(false));
        assert_eq!(connect, expected);
        assert!(matches!(client.unwrap().0.state(), State::Connected(_)));
        drop(peer);
    }
}

/// [MQTT-4.13.2-1]
#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_brokers_reason() {
    let refused = failure(options(), async |mut peer| {
        let mut refusal = ConnAck::refused(ConnAckReason::NotAuthorized);
        refusal.reason_string = Some("not you".into());
        peer.send(refusal).await;
        peer
    });
    let error = refused.await;
    assert_eq!(
        error,
        ConnectionError::Refused {
            reason: ConnAckReason::NotAuthorized,
            reason_string: Some("not you".into())
        }
    );
    assert_eq!(
        error.to_string(),
        "the broker refused the connection: not authorized (not you)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_goes_wrong_is_named() {
    let silent = failure(options(), async |peer| peer).await;
    assert_eq!(silent, ConnectionError::TimedOut);
    let out_of_turn = failure(options(), async |mut peer| {
        peer.send(Packet::PingResp).await;
        peer
    });
    assert_eq!(
        out_of_turn.await,
        ConnectionError::Violation(Violation::ConnAckExpected)
    );
    let garbage = failure(options(), async |mut peer| {
        peer.send_bytes(&[0; 10]).await;
        peer
    });
    assert!(matches!(garbage.await, ConnectionError::Invalid(_)));
    let unknown_session = failure(options(), async |mut peer| {
        peer.send(ConnAck {
            session_present: true,
            ..ConnAck::default()
        })
        .await;
        peer
    });
    assert_eq!(
        unknown_session.await,
        ConnectionError::Violation(Violation::SessionUnknown)
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_closed_before_the_connack_is_named() {
    let (duplexes, mut peers) = streams();
    let hang_up = async { drop(peers.next().await) };
    let (outcome, ()) = tokio::join!(Client::connect_with(duplexes, options()), hang_up);
    assert_eq!(outcome.unwrap_err(), ConnectionError::Closed);
}

/// [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5]
#[tokio::test(start_paused = true)]
async fn messages_are_acknowledged_at_each_qos() {
    let (client, _messages, _peers, mut peer) = connected(options()).await;

    let zero = client.publish(message("0", Qos::AtMostOnce)).await.unwrap();
    assert_eq!(zero.await, Ok(PubAckReason::Success));
    assert_eq!(peer.recv_publish().await.delivery, Delivery::AtMostOnce);

    let one = client
        .publish(message("1", Qos::AtLeastOnce).with_retain(true))
        .await
        .unwrap();
    let sent = peer.recv_publish().await;
    assert_eq!((text(&sent), sent.retain), ("1", true));
    peer.send_pub_ack(&sent).await;
    assert_eq!(one.await, Ok(PubAckReason::Success));

    let two = client
        .publish(message("2", Qos::ExactlyOnce))
        .await
        .unwrap();
    let id = peer.recv_publish().await.delivery.id().unwrap();
    peer.send(PubRec::new(id, PubRecReason::Success)).await;
    assert_eq!(
        peer.recv().await,
        Packet::PubRel(PubRel::new(id, PubRelReason::Success))
    );
    peer.send(PubComp::new(id, PubCompReason::Success)).await;
    assert_eq!(two.await, Ok(PubAckReason::Success));
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_names_the_reason() {
    let (client, _messages, _peers, mut peer) = connected(options()).await;
    let one = client
        .publish(message("1", Qos::AtLeastOnce))
        .await
        .unwrap();
    let id = peer.recv_publish().await.delivery.id().unwrap();
    peer.send(PubAck::new(id, PubAckReason::NotAuthorized))
        .await;
    assert_eq!(
        one.await,
        Err(PublishError::Refused(PubAckReason::NotAuthorized))
    );

    let two = client
        .publish(message("2", Qos::ExactlyOnce))
        .await
        .unwrap();
    let id = peer.recv_publish().await.delivery.id().unwrap();
    peer.send(PubRec::new(id, PubRecReason::QuotaExceeded))
        .await;
    assert_eq!(
        two.await,
        Err(PublishError::Refused(PubAckReason::QuotaExceeded))
    );
}

/// [MQTT-3.2.2-15]
#[tokio::test(start_paused = true)]
async fn a_message_that_the_broker_cannot_take_is_not_sent() {
    let (duplexes, mut peers) = streams();
    let accept = async {
        let (mut peer, _) = peers.next().await;
        let terms = ConnAck {
            maximum_packet_size: std::num::NonZeroU32::new(20),
            ..ConnAck::default()
        };
        peer.send(terms).await;
        peer
    };
    let (client, mut peer) = tokio::join!(Client::connect_with(duplexes, options()), accept);
    let (client, _messages) = client.unwrap();
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let large = client
            .publish(message("far too long for this", qos))
            .await
            .unwrap();
        assert_eq!(large.await, Err(PublishError::Dropped(DropCause::TooLarge)));
    }
    let small = client
        .publish(message("ok", Qos::AtMostOnce))
        .await
        .unwrap();
    assert_eq!(small.await, Ok(PubAckReason::Success));
    assert_eq!(text(&peer.recv_publish().await), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_message_larger_than_the_queue_is_refused() {
    let mut small = options();
    small.queue.bytes_max = 100;
    let (client, _messages, _peers, _peer) = connected(small).await;
    let large = client
        .publish(message(&"x".repeat(200), Qos::AtMostOnce))
        .await
        .unwrap();
    assert_eq!(large.await, Err(PublishError::LargerThanQueue));
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_answered_filter_by_filter() {
    let (client, _messages, _peers, mut peer) = connected(options()).await;
    let reasons = vec![SubAckReason::GrantedQos1, SubAckReason::NotAuthorized];
    let answer = async {
        let Packet::Subscribe(subscribe) = peer.recv().await else {
            panic!("a SUBSCRIBE was expected");
        };
        assert_eq!(subscribe.filters.len(), 2);
        peer.send(SubAck::new(subscribe.id, reasons.clone())).await;
    };
    let filters = vec![
        filter("a/+", Qos::AtLeastOnce),
        filter("b", Qos::AtMostOnce),
    ];
    let (ack, ()) = tokio::join!(client.subscribe(filters), answer);
    assert_eq!(ack.unwrap().reasons, reasons);

    let answer = async {
        let Packet::Unsubscribe(unsubscribe) = peer.recv().await else {
            panic!("an UNSUBSCRIBE was expected");
        };
        peer.send(UnsubAck::new(unsubscribe.id, vec![UnsubAckReason::Success]))
            .await;
    };
    let targets = vec![Target::parse("a/+").unwrap()];
    let (ack, ()) = tokio::join!(client.unsubscribe(targets), answer);
    assert_eq!(ack.unwrap().reasons, [UnsubAckReason::Success]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_sent_is_refused() {
    let (client, _messages, _peers, _peer) = connected(options()).await;
    let outcome = client.subscribe(Vec::new()).await;
    assert!(
        matches!(outcome, Err(RequestError::Unsent(_))),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_in_once_at_qos_2() {
    let (_client, mut messages, _peers, mut peer) = connected(options()).await;
    let id = packet_id(9);
    for dup in [false, true, true] {
        peer.send(publish("x", Delivery::ExactlyOnce { id, dup }))
            .await;
        assert_eq!(
            peer.recv().await,
            Packet::PubRec(PubRec::new(id, PubRecReason::Success))
        );
    }
    peer.send(PubRel::new(id, PubRelReason::Success)).await;
    assert_eq!(
        peer.recv().await,
        Packet::PubComp(PubComp::new(id, PubCompReason::Success))
    );
    peer.send(publish("y", Delivery::AtMostOnce)).await;
    for expected in ["x", "y"] {
        assert_eq!(messages.recv().await.unwrap().payload, expected);
    }
}

/// [MQTT-4.2-1]
#[tokio::test(start_paused = true)]
async fn packets_may_come_byte_by_byte() {
    let (_client, mut messages, _peers, mut peer) = connected(options()).await;
    let mut bytes = Vec::new();
    for payload in ["a", "b"] {
        publish(payload, Delivery::AtMostOnce)
            .encode(ProtocolVersion::V5, &mut bytes)
            .unwrap();
    }
    for byte in bytes {
        peer.send_bytes(&[byte]).await;
        tokio::task::yield_now().await;
    }
    for expected in ["a", "b"] {
        assert_eq!(messages.recv().await.unwrap().payload, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_stops_reading_and_loses_nothing() {
    let (_client, mut messages, _peers, mut peer) = connected(Options {
        inbox_max: 2,
        ..options()
    })
    .await;
    for number in 1..=5 {
        let delivery = Delivery::AtLeastOnce {
            id: packet_id(number),
            dup: false,
        };
        peer.send(publish(&number.to_string(), delivery)).await;
    }
    for number in 1..=2 {
        let ack = PubAck::new(packet_id(number), PubAckReason::Success);
        assert_eq!(peer.recv().await, Packet::PubAck(ack));
    }
    // An hour passes: nothing more is acknowledged, and no missing PINGRESP is held against the broker.
    let more = tokio::time::timeout(Duration::from_secs(3_600), async {
        while matches!(peer.recv().await, Packet::PingReq) {}
    });
    assert!(more.await.is_err());
    for number in 1..=5 {
        assert_eq!(messages.recv().await.unwrap().payload, number.to_string());
    }
}

/// [MQTT-4.5.0-2]
#[tokio::test(start_paused = true)]
async fn what_comes_after_the_inbox_is_dropped_is_acknowledged() {
    let (_client, messages, _peers, mut peer) = connected(options()).await;
    drop(messages);
    let id = packet_id(3);
    peer.send(publish("x", Delivery::AtLeastOnce { id, dup: false }))
        .await;
    assert_eq!(
        peer.recv().await,
        Packet::PubAck(PubAck::new(id, PubAckReason::Success))
    );
}

/// [MQTT-4.1.0-1] [MQTT-3.1.3-2]
#[tokio::test(start_paused = true)]
async fn a_resumed_session_goes_on_where_it_was() {
    let (client, _messages, mut peers, mut peer) = connected(options()).await;
    let one = client
        .publish(message("1", Qos::AtLeastOnce))
        .await
        .unwrap();
    let two = client
        .publish(message("2", Qos::ExactlyOnce))
        .await
        .unwrap();
    let three = client
        .publish(message("3", Qos::ExactlyOnce))
        .await
        .unwrap();
    let ids = [(); 3].map(|()| ());
    let mut sent = Vec::new();
    for () in ids {
        sent.push(peer.recv_publish().await.delivery.id().unwrap());
    }
    peer.send(PubRec::new(sent[2], PubRecReason::Success)).await;
    assert_eq!(
        peer.recv().await,
        Packet::PubRel(PubRel::new(sent[2], PubRelReason::Success))
    );
    drop(peer);

    let (mut peer, connect) = peers.accept(true).await;
    assert!(!connect.clean_start);
    let again = peer.recv_publish().await;
    assert_eq!(
        again.delivery,
        Delivery::AtLeastOnce {
            id: sent[0],
            dup: true
        }
    );
    let again_two = peer.recv_publish().await;
    assert_eq!(
        again_two.delivery,
        Delivery::ExactlyOnce {
            id: sent[1],
            dup: true
        }
    );
    assert_eq!(
        peer.recv().await,
        Packet::PubRel(PubRel::new(sent[2], PubRelReason::Success))
    );
    peer.send_pub_ack(&again).await;
    peer.send(PubComp::new(sent[2], PubCompReason::Success))
        .await;
    peer.send(PubRec::new(sent[1], PubRecReason::Success)).await;
    assert_eq!(
        peer.recv().await,
        Packet::PubRel(PubRel::new(sent[1], PubRelReason::Success))
    );
    peer.send(PubComp::new(sent[1], PubCompReason::Success))
        .await;
    for outcome in [one.await, two.await, three.await] {
        assert_eq!(outcome, Ok(PubAckReason::Success));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_is_built_up_again_as_far_as_that_is_safe() {
    let (client, _messages, mut peers, mut peer) = connected(Options {
        in_flight_max: 2,
        ..options()
    })
    .await;
    let answer = async {
        let Packet::Subscribe(subscribe) = peer.recv().await else {
            panic!("a SUBSCRIBE was expected");
        };
        let reasons = vec![SubAckReason::GrantedQos0, SubAckReason::NotAuthorized];
        peer.send(SubAck::new(subscribe.id, reasons)).await;
    };
    let filters = vec![
        filter("granted", Qos::AtMostOnce),
        filter("refused", Qos::AtMostOnce),
    ];
    let (ack, ()) = tokio::join!(client.subscribe(filters), answer);
    assert!(ack.is_ok());
    let one = client
        .publish(message("1", Qos::AtLeastOnce))
        .await
        .unwrap();
    let two = client
        .publish(message("2", Qos::ExactlyOnce))
        .await
        .unwrap();
    let three = client
        .publish(message("3", Qos::AtLeastOnce))
        .await
        .unwrap();
    assert_eq!(text(&peer.recv_publish().await), "1");
    assert_eq!(text(&peer.recv_publish().await), "2");
    drop(peer);

    let (mut peer, _) = peers.accept(false).await;
    let Packet::Subscribe(subscribe) = peer.recv().await else {
        panic!("the subscription is made again first");
    };
    assert_eq!(subscribe.filters, [filter("granted", Qos::AtMostOnce)]);
    assert_eq!(two.await, Err(PublishError::SessionLost));
    for expected in ["1", "3"] {
        let publish = peer.recv_publish().await;
        assert_eq!(
            (text(&publish), publish.delivery.is_dup()),
            (expected, false)
        );
        peer.send_pub_ack(&publish).await;
    }
    assert_eq!(
        (one.await, three.await),
        (Ok(PubAckReason::Success), Ok(PubAckReason::Success))
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_in_flight_beside_a_full_queue_outlives_the_session() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let (client, _messages, mut peers, mut peer) = connected(Options {
            in_flight_max: 2,
            queue: QueueLimits {
                count_max: 2,
                when_full,
                ..QueueLimits::default()
            },
            ..options()
        })
        .await;
        let mut outcomes = Vec::new();
        for payload in ["1", "2", "3", "4"] {
            let message = message(payload, Qos::AtLeastOnce);
            outcomes.push(client.publish(message).await.unwrap());
        }
        // Two are in flight, and two wait for them.
        assert_eq!(text(&peer.recv_publish().await), "1");
        assert_eq!(text(&peer.recv_publish().await), "2");
        drop(peer);
        let (mut peer, _) = peers.accept(false).await;
        for expected in ["1", "2", "3", "4"] {
            let publish = peer.recv_publish().await;
            assert_eq!(text(&publish), expected);
            peer.send_pub_ack(&publish).await;
        }
        for outcome in outcomes {
            assert_eq!(outcome.await, Ok(PubAckReason::Success));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_request_is_repeated() {
    let (client, _messages, mut peers, mut peer) = connected(options()).await;
    let script = async {
        assert!(matches!(peer.recv().await, Packet::Subscribe(_)));
        drop(peer);
        let (mut peer, _) = peers.accept(true).await;
        let Packet::Subscribe(subscribe) = peer.recv().await else {
            panic!("the SUBSCRIBE is repeated");
        };
        peer.send(SubAck::new(subscribe.id, vec![SubAckReason::GrantedQos0]))
            .await;
        peer
    };
    let (ack, _peer) = tokio::join!(client.subscribe(vec![filter("a", Qos::AtMostOnce)]), script);
    assert_eq!(ack.unwrap().reasons, [SubAckReason::GrantedQos0]);
}

#[tokio::test(start_paused = true)]
async fn publishing_waits_while_the_queue_is_full() {
    let mut small = options();
    small.queue.count_max = 2;
    let (client, _messages, mut peers, peer) = connected(small).await;
    drop(peer);
    let mut state = client.watch();
    state
        .wait_for(|state| matches!(state, State::Waiting { .. }))
        .await
        .unwrap();
    // Two are queued, one is held, and more than any program sends stay in the channel of commands.
    let publishing = tokio::spawn({
        let client = client.clone();
        async move {
            let mut acknowledgements = Vec::new();
            for number in 0..100 {
                let message = message(&number.to_string(), Qos::AtLeastOnce);
                acknowledgements.push(client.publish(message).await.unwrap());
            }
            acknowledgements
        }
    });
    let (mut peer, _) = peers.next().await;
    assert!(!publishing.is_finished());
    peer.send(ConnAck {
        session_present: true,
        ..ConnAck::default()
    })
    .await;
    for number in 0..100 {
        let publish = peer.recv_publish().await;
        assert_eq!(publish.payload, number.to_string());
        peer.send_pub_ack(&publish).await;
    }
    for acknowledgement in publishing.await.unwrap() {
        assert_eq!(acknowledgement.await, Ok(PubAckReason::Success));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_answers_no_ping_is_left() {
    let mut brief = options();
    brief.connect.keep_alive_seconds = 5;
    let (client, _messages, mut peers, mut peer) = connected(brief).await;
    assert_eq!(peer.recv().await, Packet::PingReq);
    peer.send(Packet::PingResp).await;
    assert_eq!(peer.recv().await, Packet::PingReq);
    let mut state = client.watch();
    let waiting = state
        .wait_for(|state| matches!(state, State::Waiting { .. }))
        .await
        .unwrap()
        .clone();
    assert!(matches!(
        waiting,
        State::Waiting {
            error: ConnectionError::KeepAlive,
            ..
        }
    ));
    peers.accept(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_taken_over_is_not_taken_back() {
    let (client, mut messages, mut peers, mut peer) = connected(options()).await;
    peer.send(Disconnect::new(DisconnectReason::SessionTakenOver))
        .await;
    assert_eq!(messages.recv().await, None);
    let State::Ended(error) = client.state() else {
        panic!("the client has ended");
    };
    assert_eq!(
        error.to_string(),
        "the broker ended the connection: session taken over"
    );
    assert!(peers.is_empty());
    assert_eq!(
        client
            .publish(message("x", Qos::AtMostOnce))
            .await
            .unwrap_err(),
        PublishError::Ended
    );
    let outcome = client.subscribe(vec![filter("a", Qos::AtMostOnce)]).await;
    assert_eq!(outcome.unwrap_err(), RequestError::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_busy_broker_is_asked_again_until_the_attempts_are_used_up() {
    let backoff = Backoff {
        attempts_max: Some(2),
        ..Backoff::default()
    };
    let (client, mut messages, mut peers, peer) = connected(Options {
        reconnect: Some(backoff),
        ..options()
    })
    .await;
    drop(peer);
    for _ in 0..2 {
        let (mut peer, _) = peers.next().await;
        peer.send(ConnAck::refused(ConnAckReason::ServerBusy)).await;
        assert!(peer.try_recv().await.is_none());
    }
    assert_eq!(messages.recv().await, None);
    assert!(matches!(
        client.state(),
        State::Ended(ConnectionError::Refused { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_may_not_reconnect_does_not() {
    let (client, mut messages, mut peers, peer) = connected(Options {
        reconnect: None,
        ..options()
    })
    .await;
    drop(peer);
    assert_eq!(messages.recv().await, None);
    assert!(matches!(
        client.state(),
        State::Ended(ConnectionError::Closed)
    ));
    assert!(peers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_assigned_id_is_used_again() {
    let (duplexes, mut peers) = streams();
    let mut anonymous = options();
    anonymous.connect.client_id = Default::default();
    let (_client, _messages) = Client::start(duplexes, anonymous);
    let (mut peer, connect) = peers.next().await;
    assert_eq!(connect.client_id, "");
    let assigned = ConnAck {
        assigned_client_id: Some("yours".into()),
        ..ConnAck::default()
    };
    peer.send(assigned).await;
    drop(peer);
    let (_, connect) = peers.accept(true).await;
    assert_eq!((&*connect.client_id, connect.clean_start), ("yours", false));
}

/// [MQTT-3.14.4-2]
#[tokio::test(start_paused = true)]
async fn leaving_waits_for_acknowledgements_and_says_goodbye() {
    let (client, _messages, _peers, mut peer) = connected(options()).await;
    let one = client
        .publish(message("1", Qos::AtLeastOnce))
        .await
        .unwrap();
    let zero = client.publish(message("0", Qos::AtMostOnce)).await.unwrap();
    let script = async {
        let publish = peer.recv_publish().await;
        assert_eq!(text(&peer.recv_publish().await), "0");
        peer.send_pub_ack(&publish).await;
        assert!(matches!(peer.recv().await, Packet::Disconnect(_)));
        assert!(peer.try_recv().await.is_none());
    };
    tokio::join!(client.disconnect(), script);
    assert!(matches!(
        client.state(),
        State::Ended(ConnectionError::Requested)
    ));
    assert_eq!(
        (one.await, zero.await),
        (Ok(PubAckReason::Success), Ok(PubAckReason::Success))
    );
}

#[tokio::test(start_paused = true)]
async fn leaving_does_not_wait_for_ever() {
    let (client, _messages, _peers, mut peer) = connected(options()).await;
    let one = client
        .publish(message("1", Qos::AtLeastOnce))
        .await
        .unwrap();
    let script = async {
        let _ = peer.recv_publish().await;
        assert!(matches!(peer.recv().await, Packet::Disconnect(_)));
    };
    tokio::join!(client.disconnect(), script);
    assert_eq!(one.await, Err(PublishError::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_client_without_handles_leaves() {
    let (client, mut messages, _peers, mut peer) = connected(options()).await;
    drop(client);
    assert!(matches!(peer.recv().await, Packet::Disconnect(_)));
    assert_eq!(messages.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn leaving_ends_the_wait_for_a_connection() {
    let (client, _messages, mut peers, peer) = connected(options()).await;
    drop(peer);
    let (peer, _) = peers.next().await;
    client.disconnect().await;
    drop(peer);
    assert!(matches!(
        client.state(),
        State::Ended(ConnectionError::Requested)
    ));
}

/// [MQTT-4.13.1-1]
#[tokio::test(start_paused = true)]
async fn a_broker_that_breaks_the_protocol_is_told() {
    let (_client, _messages, mut peers, mut peer) = connected(options()).await;
    peer.send(ConnAck::default()).await;
    let Packet::Disconnect(disconnect) = peer.recv().await else {
        panic!("the broker is told why");
    };
    assert_eq!(disconnect.reason, DisconnectReason::ProtocolError);
    peers.accept(true).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_will_take_is_not_acknowledged() {
    let (client, mut messages, _peers, mut peer) = connected(Options {
        inbox_max: 1,
        ..options()
    })
    .await;
    for number in 1..=3 {
        let delivery = Delivery::AtLeastOnce {
            id: packet_id(number),
            dup: false,
        };
        peer.send(publish(&number.to_string(), delivery)).await;
    }
    assert_eq!(messages.recv().await.unwrap().payload, "1");
    let ((), ()) = tokio::join!(client.disconnect(), async {
        let ack = PubAck::new(packet_id(1), PubAckReason::Success);
        assert_eq!(peer.recv().await, Packet::PubAck(ack));
        assert!(matches!(peer.recv().await, Packet::Disconnect(_)));
    });
    assert_eq!(messages.recv().await, None);
}
