"""The attack suite: what strangers and peers try that they may not, on real sockets."""
