//! MQTT topic names, topic filters, matching and a wildcard trie.
