"""The hub: the one process that stores and routes."""
