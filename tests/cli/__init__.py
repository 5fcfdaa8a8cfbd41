"""The command line, as people and scripts see it: real processes against a real hub."""
