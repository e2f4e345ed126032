"""Drives one paho-mqtt client: JSON commands come in on stdin, JSON events go out on stdout, one a line.

usage: agent.py URL VERSION [CA]      (VERSION: 4 for MQTT 3.1.1, 5 for MQTT 5.0; CA: a PEM file)
"""

import json
import sys
import threading
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

URL = urlsplit(sys.argv[1])
V5 = sys.argv[2] == "5"
AUTHORITY = sys.argv[3] if len(sys.argv) > 3 else None
TRANSPORTS = {"mqtt": "tcp", "mqtts": "tcp", "ws": "websockets", "wss": "websockets", "unix": "unix"}
PUBLISH_PROPERTIES = {
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "expiry": "MessageExpiryInterval",
    "format": "PayloadFormatIndicator",
    "alias": "TopicAlias",
}

stdout_lock = threading.Lock()


def report(event, **fields):
    with stdout_lock:
        print(json.dumps({"event": event, **fields}), flush=True)


def publish_properties(fields, packet_type=PacketTypes.PUBLISH):
    properties = Properties(packet_type)
    for key, name in PUBLISH_PROPERTIES.items():
        if key in fields:
            setattr(properties, name, fields[key])
    if "correlation" in fields:
        properties.CorrelationData = bytes.fromhex(fields["correlation"])
    if fields.get("user"):
        properties.UserProperty = [tuple(pair) for pair in fields["user"]]
    if "delay" in fields:
        properties.WillDelayInterval = fields["delay"]
    return properties


def received_properties(properties):
    fields = {}
    for key, name in PUBLISH_PROPERTIES.items():
        if key != "alias" and hasattr(properties, name):
            fields[key] = getattr(properties, name)
    if hasattr(properties, "CorrelationData"):
        fields["correlation"] = properties.CorrelationData.hex()
    if hasattr(properties, "UserProperty"):
        fields["user"] = [list(pair) for pair in properties.UserProperty]
    if hasattr(properties, "SubscriptionIdentifier"):
        identifiers = properties.SubscriptionIdentifier
        fields["subscription_ids"] = identifiers if isinstance(identifiers, list) else [identifiers]
    return fields


class Agent:
    """One client and the commands that drive it."""

    def __init__(self):
        self.client = None

    def connect(self, command):
        reconnect = command["reconnect"]
        arguments = {} if V5 else {"clean_session": command["clean"]}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=command["client_id"],
            protocol=mqtt.MQTTv5 if V5 else mqtt.MQTTv311,
            transport=TRANSPORTS[URL.scheme],
            reconnect_on_failure=reconnect,
            **arguments,
        )
        client = self.client
        client.on_connect = self.on_connect
        client.on_message = self.on_message
        client.on_publish = lambda c, u, mid, reason, p: report("published", reason=reason.value)
        client.on_subscribe = lambda c, u, mid, reasons, p: report(
            "subscribed", reasons=[reason.value for reason in reasons]
        )
        client.on_unsubscribe = lambda c, u, mid, reasons, p: report("unsubscribed")
        client.on_disconnect = lambda c, u, flags, reason, p: report(
            "closed", reason=reason.value if flags.is_disconnect_packet_from_server else None
        )
        client.reconnect_delay_set(min_delay=0.02, max_delay=0.05)
        # Bad networks are slow by delay, not by window: let a whole flood be on its way at once.
        client.max_inflight_messages_set(command["window"])
        if "user" in command:
            client.username_pw_set(command["user"], command["password"])
        will = command.get("will")
        if will:
            extra = {"properties": publish_properties(will, PacketTypes.WILLMESSAGE)} if V5 else {}
            client.will_set(
                will["topic"], bytes.fromhex(will["payload"]), will["qos"], will["retain"], **extra
            )
        if V5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = command["expiry"]
            if "receive_maximum" in command:
                properties.ReceiveMaximum = command["receive_maximum"]
            arguments = {"clean_start": command["clean"], "properties": properties}
        else:
            arguments = {}
        if AUTHORITY:
            client.tls_set(ca_certs=AUTHORITY)
        if URL.scheme == "unix":
            host, port = URL.path, 1
        else:
            host, port = URL.hostname, URL.port
        client.connect_async(host, port, keepalive=command["keep_alive"], **arguments)
        client.loop_start()

    def on_connect(self, client, userdata, flags, reason, properties):
        if reason.is_failure:
            report("refused", reason=reason.value)
        else:
            report("connected", session_present=flags.session_present)

    def on_message(self, client, userdata, message):
        report(
            "message",
            topic=message.topic,
            payload=message.payload.hex(),
            qos=message.qos,
            retain=message.retain,
            **(received_properties(message.properties) if V5 else {}),
        )

    def subscribe(self, command):
        if not V5:
            self.client.subscribe(command["filter"], command["qos"])
            return
        options = SubscribeOptions(
            qos=command["qos"],
            noLocal=command["no_local"],
            retainAsPublished=command["retain_as_published"],
            retainHandling=command["retain_handling"],
        )
        properties = Properties(PacketTypes.SUBSCRIBE)
        if "subscription_id" in command:
            properties.SubscriptionIdentifier = command["subscription_id"]
        self.client.subscribe(command["filter"], options=options, properties=properties)

    def unsubscribe(self, command):
        self.client.unsubscribe(command["filter"])

    def publish(self, command):
        extra = {"properties": publish_properties(command)} if V5 else {}
        self.client.publish(
            command["topic"],
            bytes.fromhex(command["payload"]),
            command["qos"],
            command["retain"],
            **extra,
        )

    def disconnect(self, command):
        self.client.disconnect()


agent = Agent()
for line in sys.stdin:
    command = json.loads(line)
    getattr(agent, command["do"])(command)
