"""A hub with its gateway, as a process."""

from __future__ import annotations

from .programs import HUB, Place, Program


def hub_with_gateway(place: Place, *options: str) -> tuple[Program, str]:
    """Start one on free ports; return it, and where its gateway is."""
    words = (*HUB, "--port", "0", "--gateway-port", "0", "--durability", "fast", "--log-level", "warning", *options)
    hub = place.start(words, name="hub", env=place.env(ORCHESTRA_NO_GATEWAY="0"))
    ready = hub.wait_output("hub ready")
    (url,) = [word for word in ready.split() if word.startswith("http")]
    return hub, url
