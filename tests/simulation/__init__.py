"""The whole system without sockets: the real decider, store and client core under faults that a seed chooses.

`script` makes a list of steps from a seed, `world` takes them, `invariants` judge each one, and `shrink` looks for the
shortest list that still fails. Everything a run does follows from its list: the same list gives the same run.
"""
