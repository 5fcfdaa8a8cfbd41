"""The tables of the memory as peewee models: what is written goes through them.

The schema itself is made by the steps of migrations.py, in literal SQL, and a test holds both against each other.
"""

from __future__ import annotations

from typing import Final

from peewee import IntegerField, Model, TextField


class _Table(Model):
    class Meta:
        legacy_table_names = False


class Memory(_Table):
    """Every memory of every kind, in one space of ids. A list is its items, one on each line."""

    id = IntegerField(primary_key=True)
    uid = TextField(unique=True)
    kind = TextField()
    title = TextField()
    body = TextField()
    created_ms = IntegerField()
    updated_ms = IntegerField()
    author = TextField()
    source = TextField()
    tags = TextField()
    visibility = TextField()
    project = TextField()
    supersedes = IntegerField(null=True)
    forgotten_ms = IntegerField(null=True)
    category = TextField()
    lesson = TextField()
    prevention = TextField()
    context = TextField()
    confidence = TextField()
    session = IntegerField(null=True)
    severity = TextField()
    component = TextField()
    repro = TextField()
    fix = TextField()
    link = TextField()
    closed_ms = IntegerField(null=True)
    sender = TextField()
    recipient = TextField()
    thread = TextField()
    read_ms = IntegerField(null=True)
    wins = TextField()
    challenges = TextField()
    learnings = TextField()
    next_steps = TextField()
    branch = TextField()
    commits = TextField()
    files = TextField()


class Validation(_Table):
    """Somebody found a memory to be true."""

    id = IntegerField(primary_key=True)
    memory = IntegerField(index=True)
    author = TextField()
    at_ms = IntegerField()
    note = TextField()


class Letter(_Table):
    """A message or context of this memory that a hub knows as `seq`. `is_told`: the hub knows that it was read here.

    `hub` is the begin of the fingerprint of its public key. The row stays when the memory is purged, so that what was
    removed here is not taken in again.
    """

    id = IntegerField(primary_key=True)
    hub = TextField()
    seq = IntegerField()
    memory = IntegerField(index=True)
    is_told = IntegerField()


class Unsent(_Table):
    """A memory that the hub is still to be told of; each change of it counts `rev` up.

    `base`: the seq that a message answers, or the version that a context was made from. `error`: why the hub refused
    it when it was said last.
    """

    id = IntegerField(primary_key=True)
    memory = IntegerField(unique=True)
    rev = IntegerField()
    base = IntegerField(null=True)
    error = TextField()


class Mailbox(_Table):
    """Up to which seq the messages of a hub were taken in."""

    id = IntegerField(primary_key=True)
    hub = TextField(unique=True)
    seq = IntegerField()


class Promotion(_Table):
    """An issue that may have been created on GitHub at that time or later, with the answer lost."""

    id = IntegerField(primary_key=True)
    memory = IntegerField(unique=True)
    began_ms = IntegerField()


TABLES: Final[tuple[type[Model], ...]] = (Memory, Validation, Letter, Unsent, Mailbox, Promotion)
