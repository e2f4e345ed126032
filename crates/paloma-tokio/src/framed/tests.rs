//! The codec over a pipe: whole, in pieces, and wrong.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use paloma_codec::{Connect, DisconnectReason, Publish, UserProperties};
use paloma_topic::TopicName;
use tokio::io::{AsyncWriteExt, duplex};
use tokio_util::codec::Framed;

use super::*;

fn publish(payload: &'static [u8]) -> Packet {
    let topic = TopicName::new("t").unwrap();
    Packet::Publish(Box::new(Publish::new(topic, Bytes::from_static(payload))))
}

#[tokio::test]
async fn packets_pass_between_two_ends() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        // A pipe of seven bytes splits everything.
        let (here, there) = duplex(7);
        let mut client = Framed::new(here, MqttCodec::client(version));
        let mut server = Framed::new(there, MqttCodec::server(DecodeLimits::default()));
        let connect = Connect {
            version,
            client_id: "c".into(),
            ..Connect::default()
        };
        let sender = tokio::spawn(async move {
            client
                .send(Packet::Connect(Box::new(connect)))
                .await
                .unwrap();
            client
                .send(&publish(b"a payload longer than the pipe"))
                .await
                .unwrap();
            client.send(Packet::PingReq).await.unwrap();
            client
        });
        assert!(matches!(server.next().await, Some(Ok(Packet::Connect(_)))));
        assert_eq!(server.codec().version(), Some(version));
        let Some(Ok(Packet::Publish(message))) = server.next().await else {
            panic!("a message comes");
        };
        assert_eq!(&message.payload[..], b"a payload longer than the pipe");
        assert!(matches!(server.next().await, Some(Ok(Packet::PingReq))));
        let mut client = sender.await.unwrap();
        server.send(Packet::PingResp).await.unwrap();
        assert!(matches!(client.next().await, Some(Ok(Packet::PingResp))));
    }
}

#[tokio::test]
async fn broken_rule_comes_out_as_the_error() {
    let (mut here, there) = duplex(64);
    let mut server = Framed::new(there, MqttCodec::server(DecodeLimits::default()));
    here.write_all(&[0xC0, 0x00]).await.unwrap();
    let error = server.next().await.unwrap().unwrap_err();
    assert!(
        matches!(error, FramedError::Decode(DecodeError::ConnectExpected)),
        "{error}"
    );
}

#[test]
fn packet_larger_than_the_peer_accepts_is_an_error_and_writes_nothing() {
    // [MQTT-3.1.2-24]
    let mut codec = MqttCodec::client(ProtocolVersion::V5);
    codec.set_packet_bytes_max(8);
    let mut out = BytesMut::new();
    let error = codec::Encoder::encode(&mut codec, publish(b"too long"), &mut out).unwrap_err();
    assert!(
        matches!(error, FramedError::Encode(EncodeError::MaximumPacketSize)),
        "{error}"
    );
    assert!(out.is_empty());
}

#[test]
fn what_may_be_left_out_is_left_out_for_a_small_peer() {
    // [MQTT-3.14.2-3]
    let mut codec = MqttCodec::client(ProtocolVersion::V5);
    codec.set_packet_bytes_max(8);
    let mut disconnect = paloma_codec::Disconnect::new(DisconnectReason::UnspecifiedError);
    disconnect.reason_string = Some("a long story".into());
    disconnect.user_properties = UserProperties::new();
    let mut out = BytesMut::new();
    codec::Encoder::encode(
        &mut codec,
        Packet::Disconnect(Box::new(disconnect)),
        &mut out,
    )
    .unwrap();
    assert_eq!(out[..], [0xE0, 0x01, 0x80]);
}
