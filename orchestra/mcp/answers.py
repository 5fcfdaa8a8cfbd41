"""What the tools answer, as models of pydantic: the SDK makes their output schemas of them. Times are ISO 8601, UTC."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Hub(BaseModel):
    """Whether the hub is there."""

    is_connected: bool
    matrix: str = Field(description="the address this clone has at the hub")
    reason: str = Field(default="", description="why it is not connected")
    waiting: int = Field(default=0, description="how many messages, contexts and issues wait to be said to it")


class Letter(BaseModel):
    """One message."""

    id: int = Field(description="its number in this memory")
    sender: str
    recipient: str = Field(description="* is every matrix")
    sent_at: str
    is_unread: bool
    thread: str = Field(default="", description="number of the first message of its thread at the hub")
    text: str


class Inbox(BaseModel):
    """Messages, the newest first."""

    hub: Hub
    unread: int = Field(description="how many nobody has read, shown or not")
    messages: list[Letter]


class Sent(BaseModel):
    """What became of a message."""

    id: int
    recipient: str
    is_sent: bool = Field(description="false: it is kept, and sent once when the hub is there")
    seq: int | None = Field(description="its number at the hub")
    hub: Hub


class Shared(BaseModel):
    """What everybody should know under a name."""

    name: str
    text: str
    version: int = Field(description="at the hub; 0: this clone set it, and it waits to be published")
    set_by: str
    set_at: str
    is_live: bool = Field(description="false: the hub is not there, and this is what this memory knew last")
    note: str = ""
    hub: Hub


class Updated(BaseModel):
    """What became of a shared value."""

    name: str
    version: int = Field(description="at the hub; 0 while it waits")
    is_published: bool = Field(description="false: it is kept, and published when the hub is there")
    hub: Hub


class Assigned(BaseModel):
    """A task that the hub has on disk."""

    id: int
    recipient: str
    hub: Hub


class Task(BaseModel):
    """Where a task is."""

    id: int
    state: str = Field(description="blocked, scheduled, queued, working, input-required, completed, failed, ...")
    sender: str
    recipient: str
    agent: str = Field(default="", description="who works on it, or did last")
    attempt: int
    attempts_failed: int
    why: str = Field(default="", description="why it waits")
    question: str = Field(default="", description="what it asks; a person answers with: orchestra task answer")
    exit_code: int | None = None
    error: str = ""
    output: str = Field(default="", description="the output, its end where it is long")
    is_cut: bool = False


class Peer(BaseModel):
    """Somebody at the hub."""

    address: str
    state: str
    since: str | None = Field(description="since when it is online or offline; none: it never came")
    away: str = Field(default="", description="what it said when it went away")
    serves: list[str] = Field(description="the queues whose tasks it takes")
    busy: int
    slots: int
    unread: int


class Peers(BaseModel):
    """Everybody the hub knows."""

    peers: list[Peer]
    hub: Hub


class Memory(BaseModel):
    """One memory. `text` is all it says beside its title, or the begin of it."""

    id: int
    kind: str
    title: str
    about: str = Field(description="category, confidence, severity, age: how far to trust it")
    text: str
    project: str
    score: float = Field(default=1.0, description="how much of the question it answers, 0 to 1")
    also: list[int] = Field(default_factory=list, description="ids of memories that say nearly the same")


class Recalled(BaseModel):
    """An answer of the memory."""

    sources: list[str] = Field(description="which ways of searching answered")
    notes: list[str]
    found: list[Memory]


class Learned(BaseModel):
    """A learning that is on the disk."""

    id: int
    category: str
    confidence: str


class Reported(BaseModel):
    """An issue that is on the disk."""

    id: int
    severity: str
    component: str
    is_published: bool = Field(description="false: other matrices are told when the hub is there")
    hub: Hub
