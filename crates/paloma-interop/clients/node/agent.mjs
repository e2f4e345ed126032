// Drives one MQTT.js client: JSON commands come in on stdin, JSON events go out on stdout, one a line.
//
// usage: node agent.mjs URL VERSION [CA]     (VERSION: 4 for MQTT 3.1.1, 5 for MQTT 5.0; CA: a PEM file)

import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

// A CommonJS lookup, because it honours NODE_PATH: the package is installed outside of the source tree.
const mqtt = createRequire(import.meta.url)('mqtt')

const url = process.argv[2]
const protocolVersion = Number(process.argv[3])
const isV5 = protocolVersion === 5
const authority = process.argv[4]
const publishNames = {
  content_type: 'contentType',
  response_topic: 'responseTopic',
  expiry: 'messageExpiryInterval',
  alias: 'topicAlias',
  delay: 'willDelayInterval'
}
let client
let reconnects = false

function report (event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
}

function publishProperties (command) {
  const properties = {}
  for (const [key, name] of Object.entries(publishNames)) {
    if (key in command) properties[name] = command[key]
  }
  if ('format' in command) properties.payloadFormatIndicator = command.format === 1
  if ('correlation' in command) properties.correlationData = Buffer.from(command.correlation, 'hex')
  if (command.user?.length) {
    properties.userProperties = {}
    for (const [name, value] of command.user) {
      const earlier = properties.userProperties[name]
      properties.userProperties[name] = earlier === undefined ? value : [earlier, value].flat()
    }
  }
  return properties
}

function receivedProperties (properties = {}) {
  const fields = {}
  if ('contentType' in properties) fields.content_type = properties.contentType
  if ('responseTopic' in properties) fields.response_topic = properties.responseTopic
  if ('messageExpiryInterval' in properties) fields.expiry = properties.messageExpiryInterval
  if ('payloadFormatIndicator' in properties) fields.format = properties.payloadFormatIndicator ? 1 : 0
  if ('correlationData' in properties) fields.correlation = properties.correlationData.toString('hex')
  if ('userProperties' in properties) {
    fields.user = Object.entries(properties.userProperties)
      .flatMap(([name, values]) => [values].flat().map(value => [name, value]))
  }
  if ('subscriptionIdentifier' in properties) {
    fields.subscription_ids = [properties.subscriptionIdentifier].flat()
  }
  return fields
}

function connect (command) {
  const options = {
    protocolVersion,
    clientId: command.client_id,
    clean: command.clean,
    keepalive: command.keep_alive,
    reconnectPeriod: command.reconnect ? 20 : 0,
    connectTimeout: command.reconnect ? 3_000 : 30_000,
    resubscribe: false
  }
  if (isV5) {
    options.properties = { sessionExpiryInterval: command.expiry }
    if ('topic_alias_maximum' in command) options.properties.topicAliasMaximum = command.topic_alias_maximum
    if ('receive_maximum' in command) options.properties.receiveMaximum = command.receive_maximum
  }
  if ('user' in command) {
    options.username = command.user
    options.password = command.password
  }
  if (command.will) {
    const { topic, payload, qos, retain } = command.will
    options.will = { topic, payload: Buffer.from(payload, 'hex'), qos, retain }
    if (isV5) options.will.properties = publishProperties(command.will)
  }
  let reason = null
  reconnects = command.reconnect
  if (authority) options.ca = readFileSync(authority)
  client = mqtt.connect(url, options)
  client.on('connect', connack => {
    reason = null
    report('connected', { session_present: connack.sessionPresent })
  })
  client.on('message', (topic, payload, packet) => report('message', {
    topic,
    payload: payload.toString('hex'),
    qos: packet.qos,
    retain: packet.retain,
    ...receivedProperties(packet.properties)
  }))
  client.on('disconnect', packet => { reason = packet.reasonCode })
  client.on('close', () => report('closed', { reason }))
  client.on('error', error => {
    if (error.message.startsWith('Connection refused') && typeof error.code === 'number') {
      report('refused', { reason: error.code })
    }
  })
}

function subscribe (command) {
  const options = { qos: command.qos }
  if (isV5) {
    options.nl = command.no_local
    options.rap = command.retain_as_published
    options.rh = command.retain_handling
    if ('subscription_id' in command) {
      options.properties = { subscriptionIdentifier: command.subscription_id }
    }
  }
  client.subscribe(command.filter, options, (error, granted, packet) => {
    const reasons = packet ? packet.granted : error ? [0x80] : granted.map(grant => grant.qos)
    report('subscribed', { reasons })
  })
}

function publish (command) {
  const options = { qos: command.qos, retain: command.retain }
  if (isV5) options.properties = publishProperties(command)
  client.publish(command.topic, Buffer.from(command.payload, 'hex'), options, (error, packet) => {
    // A publish that was asked for while the session was being resumed, and was never sent: it is ours to repeat.
    if (error?.message === 'Connection closed' && reconnects) return setImmediate(publish, command)
    report('published', { reason: error ? error.code ?? 0x80 : 0 })
  })
}

const commands = {
  connect,
  subscribe,
  publish,
  unsubscribe: command => client.unsubscribe(command.filter, () => report('unsubscribed')),
  disconnect: () => client.end()
}

createInterface({ input: process.stdin }).on('line', line => {
  const command = JSON.parse(line)
  commands[command.do](command)
}).on('close', () => process.exit(0))
