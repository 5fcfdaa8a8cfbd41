"""The database's schema, as peewee models.

The hot path writes through `store.py`'s statements; these models make the tables and read the history. The shape
follows what was measured: an append-only log (`message`), and beside it a small hot table of what is still owed
(`delivery`), so that an acknowledgement touches few pages. Times are milliseconds since 1970.
"""

from __future__ import annotations

from typing import Final

from peewee import (
    SQL,
    BlobField,
    CompositeKey,
    DatabaseProxy,
    IntegerField,
    Model,
    TextField,
)

database: Final = DatabaseProxy()


class _Table(Model):
    class Meta:
        database = database
        legacy_table_names = False
        strict_tables = True


class Hub(_Table):
    """One row: how often this database was opened, and how far it was accounted for when that was last saved.

    `saved_seq`: the saved origins know of all sends up to it, and no seq up to it is given out again. `open_seq`: no
    task before it is unfinished. `removed`: how many messages and tasks retention removed from the log so far.
    `uid`: a random name by which tokens know this hub. `next_key`: the public key (Z85) that takes over at
    `next_key_ms`, or "".
    """

    boot = IntegerField()
    saved_seq = IntegerField()
    open_seq = IntegerField()
    removed = IntegerField()
    uid = TextField(constraints=[SQL("DEFAULT ''")])
    next_key = TextField(constraints=[SQL("DEFAULT ''")])
    next_key_ms = IntegerField(constraints=[SQL("DEFAULT 0")])


class Address(_Table):
    """Every peer, queue and channel that was ever spoken of; other tables hold its number."""

    id = IntegerField(primary_key=True)
    text = TextField(unique=True)


class Peer(_Table):
    """An address with a key. `generation` counts its lives, `epoch` is the random number of the last one.

    `is_connected` is null for one that never came. Who was connected when the hub ended stays so here until it goes.
    `away_ms` and `away_text` are what was said by hand. `grants`, parted by spaces, are null for those of its kind.
    """

    id = IntegerField(primary_key=True)
    generation = IntegerField()
    epoch = BlobField(null=True)
    seen_ms = IntegerField()
    is_connected = IntegerField(null=True)
    away_ms = IntegerField(null=True)
    away_text = TextField(null=True)
    grants = TextField(null=True)


class Key(_Table):
    """A public key (Z85) and the peer it proves; `until_ms` where it was replaced and is still let in for a while."""

    public = TextField(primary_key=True)
    peer = IntegerField()
    since_ms = IntegerField()
    until_ms = IntegerField(null=True)

    class Meta:
        without_rowid = True


class Invite(_Table):
    """An invitation by its one-time public key (Z85): who may join with it, how often, until when, with what grants."""

    public = TextField(primary_key=True)
    address = TextField()
    uses_left = IntegerField()
    expires_ms = IntegerField()
    made_ms = IntegerField()
    made_by = TextField()
    grants = TextField()

    class Meta:
        without_rowid = True


class Token(_Table):
    """What a token of the gateway says, until it is over: whom it lets in, until when, with which grants.

    `grants`, parted by spaces, are null where it may do what its peer may; `revoked_ms` is when it was let in no more.
    """

    id = TextField(primary_key=True)
    address = TextField()
    made_ms = IntegerField()
    ends_ms = IntegerField()
    made_by = TextField()
    grants = TextField(null=True)
    revoked_ms = IntegerField(null=True)

    class Meta:
        without_rowid = True


class TokenFloor(_Table):
    """The tokens of `peer` that were issued before `before_ms` let nobody in."""

    peer = IntegerField(primary_key=True)
    before_ms = IntegerField()


class Audit(_Table):
    """The audit log; `orchestra.audit` says what the columns mean and how `digest` is made."""

    n = IntegerField(primary_key=True)
    at_ms = IntegerField()
    actor = TextField()
    action = TextField()
    subject = TextField()
    detail = TextField()
    digest = BlobField()


class Origin(_Table):
    """One life of one client: the highest number it used for a send, and the seqs its sends lie between."""

    id = IntegerField(primary_key=True)
    peer = IntegerField()
    epoch = BlobField()
    last_n = IntegerField()
    first_seq = IntegerField()
    last_seq = IntegerField()
    used_ms = IntegerField()


class Message(_Table):
    """The log: every message and task as it was sent. `kind` is 0 for a message, 1 for a task."""

    seq = IntegerField(primary_key=True)
    origin = IntegerField()
    n = IntegerField()
    recipient = IntegerField()
    kind = IntegerField()
    rank = IntegerField()
    sent_ms = IntegerField()
    options = BlobField(null=True)
    body = BlobField()


class Delivery(_Table):
    """A message that `recipient` has not read. `delivered_ms` is when it was delivered, null while it still waits."""

    recipient = IntegerField()
    rank = IntegerField()
    seq = IntegerField()
    attempt = IntegerField(constraints=[SQL("DEFAULT 0")])
    delivered_ms = IntegerField(null=True)

    class Meta:
        primary_key = CompositeKey("recipient", "rank", "seq")
        without_rowid = True


class Receipt(_Table):
    """The messages to `recipient` from `first_seq` to `last_seq` came to `stage` (`orchestra.stage`) at once.

    Only what was said is kept: a later stage implies the earlier ones. Every seq of a range is of this recipient, so
    the ranges of one recipient and stage never overlap. `session` is the number of the session that said it, of that
    `generation` of its peer (0 where an earlier release did not write it down).
    """

    recipient = IntegerField()
    stage = IntegerField()
    first_seq = IntegerField()
    last_seq = IntegerField()
    at_ms = IntegerField()
    session = IntegerField()
    generation = IntegerField(constraints=[SQL("DEFAULT 0")])

    class Meta:
        primary_key = CompositeKey("recipient", "stage", "first_seq")
        without_rowid = True


class FailedDelivery(_Table):
    """An attempt at delivering a message that came to nothing: `session` was lost, silent, or did not take it (`why`).

    The rows of a message are as many as its attempts at most, and go with it.
    """

    seq = IntegerField()
    recipient = IntegerField()
    attempt = IntegerField()
    session = IntegerField()
    generation = IntegerField()
    at_ms = IntegerField()
    why = TextField()

    class Meta:
        primary_key = CompositeKey("seq", "recipient", "attempt")
        without_rowid = True


class SendKey(_Table):
    """What a peer sent under an idempotency key: the same key again is answered with the same seq."""

    peer = IntegerField()
    key = TextField()
    seq = IntegerField(index=True)
    at_ms = IntegerField()

    class Meta:
        primary_key = CompositeKey("peer", "key")
        without_rowid = True


class Reply(_Table):
    """A message that replies to another of `thread`, which is named by the seq of its first message."""

    thread = IntegerField()
    seq = IntegerField(index=True)

    class Meta:
        primary_key = CompositeKey("thread", "seq")
        without_rowid = True


class Expiry(_Table):
    """A message that is dead for `recipient` if it is not delivered by `at_ms`. The row goes when that time comes."""

    at_ms = IntegerField()
    seq = IntegerField()
    recipient = IntegerField()

    class Meta:
        primary_key = CompositeKey("at_ms", "seq", "recipient")
        without_rowid = True


class Channel(_Table):
    """A named log. `mode` says what becomes of entries without a name; `trimmed_seq` is the newest one retention took.

    `made_by` is null for those every hub has.
    """

    id = IntegerField(primary_key=True)
    mode = TextField()
    made_by = IntegerField(null=True)
    made_ms = IntegerField()
    trimmed_seq = IntegerField(constraints=[SQL("DEFAULT 0")])


class Entry(_Table):
    """The log of a channel as a reader from the start gets it: of each name the newest only.

    An entry that is overwritten leaves here, and stays in `message` until retention removes it. The newest entry of a
    name is what its channel holds, however old it is.
    """

    channel = IntegerField()
    seq = IntegerField()
    name = TextField(null=True)

    class Meta:
        primary_key = CompositeKey("channel", "seq")
        without_rowid = True


Entry.add_index(Entry.channel, Entry.name, where=Entry.name.is_null(False), name="entry_named")


class Cursor(_Table):
    """How far a peer has read a channel, under a name of its own."""

    peer = IntegerField()
    channel = IntegerField()
    name = TextField()
    seq = IntegerField()
    updated_ms = IntegerField()

    class Meta:
        primary_key = CompositeKey("peer", "channel", "name")
        without_rowid = True


class Task(_Table):
    """Where a task is; what was asked is its row in `message`.

    `lease` is the number under which its agent holds it. Of a finished task it is the one under which the result was
    taken, and `result_n` the number the agent gave that result; both are 0 and null where no result was taken.
    `session` and `began_ms` belong to the newest attempt. `extras` is null for a plain task (see `board.Extras`).
    """

    seq = IntegerField(primary_key=True)
    recipient = IntegerField()
    rank = IntegerField()
    state = TextField()
    attempt = IntegerField()
    losses = IntegerField()
    lease = IntegerField()
    holder = IntegerField(null=True)
    generation = IntegerField()
    session = IntegerField()
    began_ms = IntegerField()
    cancel_why = TextField(null=True)
    updated_ms = IntegerField()
    extras = BlobField(null=True)
    result_n = IntegerField(null=True)
    report = BlobField(null=True)
    output = BlobField(null=True)


class Attempt(_Table):
    """An attempt at a task that did not end it with its result: it failed, was lost or given back, or somebody asked
    for another try. The one whose result was taken is in the task's own row.

    `late_ms`: when its agent reported a result all the same, which was refused; `late_outcome` is what it said.
    """

    task = IntegerField()
    attempt = IntegerField()
    holder = IntegerField(null=True)
    generation = IntegerField()
    session = IntegerField()
    lease = IntegerField()
    began_ms = IntegerField()
    ended_ms = IntegerField()
    outcome = TextField()
    text = TextField()
    result_n = IntegerField(null=True)
    late_ms = IntegerField(null=True)
    late_outcome = TextField(null=True)

    class Meta:
        primary_key = CompositeKey("task", "attempt")
        without_rowid = True


class Checkpoint(_Table):
    """What an attempt at a task left for the next one. Gone when the task is completed."""

    task = IntegerField(primary_key=True)
    attempt = IntegerField()
    at_ms = IntegerField()
    data = BlobField()


class Dead(_Table):
    """A message that could not be delivered, or a task that could not be done, with the reason.

    `closed_ms` is when somebody (`closed_by`) dropped it, or sent it again as `resent_seq`; all null before.
    """

    seq = IntegerField()
    recipient = IntegerField()
    reason = TextField()
    at_ms = IntegerField()
    closed_ms = IntegerField(null=True)
    closed_by = IntegerField(null=True)
    resent_seq = IntegerField(null=True)

    class Meta:
        primary_key = CompositeKey("seq", "recipient")
        without_rowid = True


TABLES: Final[tuple[type[Model], ...]] = (
    Hub,
    Address,
    Peer,
    Key,
    Invite,
    Token,
    TokenFloor,
    Audit,
    Origin,
    Message,
    Delivery,
    Receipt,
    FailedDelivery,
    SendKey,
    Reply,
    Expiry,
    Channel,
    Entry,
    Cursor,
    Task,
    Attempt,
    Checkpoint,
    Dead,
)
