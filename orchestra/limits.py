"""Everything that can grow has its bound here, with its unit and its reason."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Silence. A peer speaks every HEARTBEAT_S; whoever is silent for LEASE_S is taken for dead, and its tasks go to others.
HEARTBEAT_S: Final = 3.0  # 10,000 idle peers cost 3,300 small records a second
LEASE_S: Final = 10.0  # three heartbeats may be lost, not four
assert LEASE_S >= 3 * HEARTBEAT_S
DELIVERY_LEASE_S: Final = 30.0  # how long a session may sit on a delivered message without a word
assert DELIVERY_LEASE_S > LEASE_S

# The wire.
BODY_BYTES_MAX: Final = 1 * MIB  # a message is a letter, not a file transfer
BATCH_BYTES: Final = 256 * KIB  # a batch is closed when it passes this; one large record may follow it
FRAME_BYTES_MAX: Final = BODY_BYTES_MAX + 2 * BATCH_BYTES  # a batch that is nearly full, and the largest body
REPLY_BYTES_MAX: Final = BODY_BYTES_MAX  # what one CALL returns; lists are cut to it
BATCH_RECORDS_MAX: Final = 1024  # bounds the time one frame can take of a turn (about 20 ms)
LIST_ITEMS_MAX: Final = 4096  # longest list or map inside a record
TEXT_CHARS_MAX: Final = 4096  # longest text inside a record that is not a body
KEY_CHARS_MAX: Final = 128  # of an idempotency key
METADATA_BYTES_MAX: Final = 4 * KIB  # of what a sender adds to a message for its recipient's program
OPTIONS_MAX: Final = 16  # texts in the `about` of a HELLO
PROGRESS_BYTES_MAX: Final = 16 * KIB  # one record of output; more is sent as several
REPORT_BYTES_MAX: Final = 8 * KIB  # of a result: numbers, a path and a sentence or two
OUTPUT_BYTES_MAX: Final = 256 * KIB  # of a result; the whole output stays in a file on the agent's side
assert BATCH_BYTES + max(BODY_BYTES_MAX, REPLY_BYTES_MAX) < FRAME_BYTES_MAX
assert FRAME_BYTES_MAX > BODY_BYTES_MAX + OUTPUT_BYTES_MAX  # one task, whole, is one REPLY
EPOCH_BYTES: Final = 8  # random, so that two lives of one client never share a number
ROUTING_ID_BYTES: Final = 16  # random: nobody can guess, and so squat, another's

# One session.
CREDIT_MAX: Final = 4096  # messages a session may have in flight
CREDIT_DEFAULT: Final = 256  # enough that a round trip does not stall a reader
SLOTS_MAX: Final = 256  # tasks an agent may run at once
QUEUES_MAX: Final = 64  # queues one agent may serve
SENDS_UNANSWERED_MAX: Final = 4096  # of one client; more wait in the client
WATCHES_MAX: Final = 10_000  # tasks one session may watch, and as many messages
WATCHED_AT_ONCE_MAX: Final = 200  # messages one CALL may ask to watch, each of which reads some rows
SUBSCRIPTIONS_MAX: Final = 64  # channels one session may follow
FOLLOWER_BYTES_MAX: Final = 4 * MIB  # of entries on their way to one follower of a channel; one may pass it
SEEN_S: Final = 1.0  # how long a client keeps to itself which entries it has seen; a crash repeats those
REQUESTS_OPEN_MAX: Final = 256  # live requests of one session without an answer
RESPONDING_MAX: Final = 16  # programs that `orchestra respond` runs at once; more requests wait
CALLS_A_TURN_MAX: Final = 64  # CALLs of one session that one turn answers; each may read the database
CALLS_A_SECOND_MAX: Final = 1000  # of one peer, all its sessions together: some 100 µs each, a tenth of a core
CALL_BURST_S: Final = 2.0  # of that rate, a peer may call so much at once
assert CALLS_A_SECOND_MAX * CALL_BURST_S > CALLS_A_TURN_MAX
AWAY_TEXT_CHARS_MAX: Final = 256  # what a peer that is away says of itself
CALLS_OPEN_MAX: Final = 32  # CALLs that a client has on their way; more wait in the client
assert 2 * CALLS_OPEN_MAX <= CALLS_A_TURN_MAX  # turns in the same millisecond are counted as one
SESSIONS_PER_PEER_MAX: Final = 64  # of one peer; an agent's worker is always let in
SEND_QUEUE_FRAMES: Final = 1000  # libzmq's high-water mark; a session that lets it fill is dropped as a slow reader

# The hub.
TURN_RECORDS_MAX: Final = 1024  # records drained before one commit: bounds the time of a turn
SESSIONS_MAX: Final = 16_384  # about 40 KiB each
MAILBOX_MESSAGES_MAX: Final = 100_000  # waiting for one recipient
WINDOW_MESSAGES: Final = 512  # of those, kept in memory; the rest is read from the database when its turn comes
SEND_BURST_S: Final = 2.0  # of its allowed rate, a peer may send so much at once
EXPIRIES_A_TICK_MAX: Final = 1000  # messages that one tick (four a second) takes for expired
DELIVERY_ATTEMPTS_MAX: Final = 10  # then the message is dead
TASK_LOSSES_MAX: Final = 5  # agents that may die on one task before it is dead
TASK_ATTEMPTS_MAX: Final = 100  # that a sender may ask for; each is a row
TASK_RETURNS_MAX: Final = 100  # times that agents may give one task back before it is dead
DEPENDENCIES_MAX: Final = 64  # tasks that one task may wait for
RETRY_PAUSE_S: Final = 1.0  # after the first failed attempt, at most: the pause is chance, and doubles with each
RETRY_PAUSE_S_MAX: Final = 60.0  # after any later one, where the sender does not say
RETURN_PAUSE_S_MAX: Final = 60.0  # before a task that agents give back again and again is offered once more
RETURN_DELAY_S_MAX: Final = 3600.0  # that an agent may ask for when it gives a task back
BUDGET_CHARS_MAX: Final = 200  # a sum or a sentence for the agent
CHECKPOINT_BYTES_MAX: Final = 64 * KIB  # where to go on; what is larger belongs into a file
QUESTION_CHARS_MAX: Final = 4000  # of a task that asks for input, and of the answer
BATCH_TASKS_MAX: Final = 10_000  # in one file of tasks: as many as one session may watch
TASKS_OPEN_MAX: Final = 100_000  # unfinished tasks, all kept in memory
TASKS_OPEN_PER_SENDER_MAX: Final = 50_000  # so that one sender leaves room for the others
assert TASKS_OPEN_PER_SENDER_MAX < TASKS_OPEN_MAX
TASKS_OPEN_BYTES_MAX: Final = 256 * MIB  # their bodies and checkpoints
CHANNELS_MAX: Final = 256  # each is a few hundred bytes, and one look-up in a list of them
ENTRY_NAME_CHARS_MAX: Final = 200  # the name of an entry or a cursor: a path or a title
ENTRY_NAMES_PER_CHANNEL_MAX: Final = 10_000  # entries that can be overwritten; their newest seqs are in memory
ENTRY_NAMES_MAX: Final = 100_000  # in all channels: 50 MB where every name is as long as it may be
CURSORS_PER_PEER_MAX: Final = 256  # places in channels that the hub keeps for one peer
CURSORS_MAX: Final = 100_000  # of all peers, all in memory
assert TASKS_OPEN_BYTES_MAX > BODY_BYTES_MAX + CHECKPOINT_BYTES_MAX
assert QUESTION_CHARS_MAX < TEXT_CHARS_MAX
LIST_ROWS_MAX: Final = 1000  # rows one CALL returns
STATUS_ROWS_MAX: Final = 10_000  # rows of one table that `status` counts; it walks them
PRESENCE_WATCHERS_MAX: Final = 1024  # sessions that are told of everybody who comes or goes
FEED_WATCHERS_MAX: Final = 1024  # sessions that are told of everything that happens
FEED_S: Final = 0.2  # how often they are told at most: as quick as an eye follows a list
FEED_NEWS_MAX: Final = 200  # news of each kind that are told at once; a page shows no more of it either
FEED_TEXT_CHARS: Final = 200  # of a message, of output, of a question
FEED_UNSEEN_MAX: Final = 16  # times that a watcher is told without a word from it: 3.2 s; then it is left out
FEED_SAMPLES_MAX: Final = 10_000  # latencies of one second that its quantiles are made of
FEED_LOADS_MAX: Final = 1000  # peers whose load is looked at in one second: about 1 ms
ORIGIN_KEPT_DAYS: Final = 7  # how long a client that went away may come back and repeat its sends
INVITATIONS_MAX: Final = 1000  # the oldest that is over makes room; until then, for a week, it can say so
INVITATION_USES_MAX: Final = 1000  # keys one invitation may enrol
INVITATION_S_MAX: Final = 30 * 86_400.0  # how long one may be open
KEYS_PER_PEER_MAX: Final = 64  # that one message is sealed for, and that a peer may make for itself by rotating
GRANTS_MAX: Final = 100  # of one peer; patterns stand for many addresses
TOKEN_CHARS_MAX: Final = 4096  # half of what web servers take as one header
TOKEN_S_MAX: Final = 30 * 86_400.0  # how long a token may live: for longer there are keys
TOKEN_URL_S_MAX: Final = 600.0  # so long one in a URL lets other machines in: URLs end up in histories and logs
TOKENS_MAX: Final = 10_000  # that are neither over nor forgotten; a few hundred bytes each
TOKENS_PER_PEER_MAX: Final = 100  # of those; revoke some to make more
TOKENS_AN_HOUR_MAX: Final = 200  # and codes, of one peer that does not administer: the audit log is never cut
SIGN_IN_S: Final = 600.0  # how long a one-time sign-in code waits to be used
SIGN_IN_TOKEN_S: Final = 12 * 3600.0  # how long somebody stays signed in who came with one: a day's work
SIGN_INS_MAX: Final = 100  # codes that wait; the oldest makes room
assert TOKENS_PER_PEER_MAX <= TOKENS_AN_HOUR_MAX
assert TOKEN_URL_S_MAX < SIGN_IN_TOKEN_S < TOKEN_S_MAX
PENDING_KEYS_MAX: Final = 100  # unknown keys that are held for somebody to accept
KEY_OVERLAP_S_MAX: Final = 30 * 86_400.0  # how long a key that was replaced is let in beside the new one
REFUSALS_AUDITED_AN_HOUR: Final = 60  # strangers in the audit log, each once; a flood must not fill the disk
RETENTION_STEP_ROWS: Final = 256  # looked at, or removed, in one slice: about 2 ms
RETENTION_STEP_BYTES: Final = 1 * MIB  # of bodies and outputs removed in one slice: the pages they lie on are read
RETENTION_STEP_PAGES: Final = 64  # of 4 KiB, given back to the file system in one slice
RETENTION_REST_S: Final = 60.0  # between two runs over everything that may be removed
RETENTION_FLOOR_S: Final = 3600.0  # what is younger stays, however large the database: its sender may still repeat it
ACKS_HELD_MAX: Final = 512  # acknowledgements that wait for the next commit; losing one means a redelivery
ACKS_HELD_S: Final = 0.02  # how long they wait at most
HANDSHAKE_MS: Final = 5000  # a connection that has not proved its key by then is closed
LOBBY_MAX: Final = 512  # connections to one port that proved no key: each may make the hub hold a frame, 768 MiB in all
LOBBY_PER_SOURCE_MAX: Final = 128  # of one address; a handshake takes milliseconds, so many more get in each second
LOBBY_PATIENCE_MS: Final = 1000  # who has been there for longer makes room for who comes
REFUSALS_PER_S: Final = 10.0  # keys of one address that are not known and refused at once; more wait in the tarpit
REFUSALS_BURST_S: Final = 4.0  # so many seconds' worth at once: 40 agents that start before their keys are accepted
TURNED_AWAY_PER_S: Final = 100.0  # newcomers of one address without room that are closed at once; more wait there too
TURNED_AWAY_BURST_S: Final = 10.0  # so many seconds' worth at once: 500 agents that start at once, and come again
REFUSED_SOURCES_MAX: Final = 1024  # addresses whose refusals are counted, those refused last
TARPIT_MS: Final = 1000  # how long who hammers the port waits for the refusal; by chance up to twice as long
TARPIT_MAX: Final = 2048  # that wait there, of each kind; each is a file and memory. More are refused at once
SESSIONLESS_S: Final = 5.0  # a connection that proved its key and has no session for so long is closed
assert LOBBY_PER_SOURCE_MAX < LOBBY_MAX
assert LOBBY_PATIENCE_MS < HANDSHAKE_MS
assert 2 * TARPIT_MS < HANDSHAKE_MS

# The gateway. It shares the hub's loop, so what it may do at once is bounded in time as well.
GATEWAY_CONNECTIONS_MAX: Final = 4096  # WebSockets and requests; each WebSocket takes about 21 KiB
GATEWAY_MESSAGE_BYTES_MAX: Final = 2 * MIB  # of JSON: a body of 1 MiB with what is escaped in it
GATEWAY_MESSAGES_PER_S: Final = 200  # of one client, 16 KiB counting as one; above it is read more slowly
GATEWAY_BURST_S: Final = 5.0  # of that rate, a client may say so much at once
GATEWAY_HEARD_MAX: Final = 8  # messages of one client that wait for the hub; then it is read no further
GATEWAY_TURN_FRAMES_MAX: Final = 16  # of all clients, taken into one turn: about 0.5 ms
GATEWAY_OPEN_MAX: Final = 64  # messages of one client without an answer: each may be a reply of 1 MiB
GATEWAY_PRESENCE_MAX: Final = 64  # who came or went in a quarter of a second, told one by one; more: everybody anew
GATEWAY_OWED_RECORDS_MAX: Final = 2048  # that one client may leave unread before it is dropped
GATEWAY_UNSENT_BYTES_MAX: Final = 256 * KIB  # written for one client and not taken by it; more waits as records
GATEWAY_STALL_S: Final = 20.0  # how long a client may read nothing of what waits for it
GATEWAY_PING_S: Final = 4.0  # between two pings of the gateway, and how long an answer may take
GATEWAY_PUMP_S: Final = 0.0005  # of writing to clients before the hub's turns come again
assert GATEWAY_CONNECTIONS_MAX < SESSIONS_MAX
assert GATEWAY_OPEN_MAX <= CALLS_A_TURN_MAX
assert GATEWAY_MESSAGE_BYTES_MAX > BODY_BYTES_MAX
assert 2 * GATEWAY_PING_S + 2.0 <= LEASE_S  # a frozen client is offline within the lease: it has 2 s to close

# What a client lets pass before it gives up.
CONNECT_S: Final = 5.0  # from the first byte to WELCOME
CALL_PATIENCE_S: Final = 30.0  # how long a call that was refused for its rate is made again
BACKOFF_S_MIN: Final = 0.05  # before the first try to connect again
BACKOFF_S_MAX: Final = 2.0  # before any later one; half of it is chance
assert BACKOFF_S_MAX < LEASE_S
DRAIN_S: Final = 30.0  # SIGTERM: how long an agent lets its tasks finish before it gives them back
KILL_GRACE_S: Final = 2.0  # between SIGTERM and SIGKILL to a task's process group
PROVE_S: Final = 1.0  # how often an agent with tasks asks whether its hub still hears it
WORK_LEASE_S: Final = (
    LEASE_S - KILL_GRACE_S - PROVE_S
)  # an agent that its hub did not answer for so long stops its tasks
assert WORK_LEASE_S > BACKOFF_S_MAX + PROVE_S

# The way over from the files of the old protocol.
FILE_BYTES_MAX: Final = BODY_BYTES_MAX  # a task file; what it becomes has to fit into a body
FILE_NAME_BYTES_MAX: Final = 200  # of an old task's id, which names its result file; file systems take 255
FILE_SETTLE_S: Final = 5.0  # a file that is not whole is waited for while it still changes this often,
FILE_WAIT_S: Final = 60.0  # but no longer than this
assert FILE_WAIT_S > FILE_SETTLE_S
FILE_SWEEP_S: Final = 5.0  # between two looks at every folder, for what no notification told of
FILES_OPEN_MAX: Final = 5000  # tasks of one bridge that are not answered; more files wait in their folders
assert FILES_OPEN_MAX <= WATCHES_MAX
FILES_KEPT_DAYS: Final = 30  # files that were put away, and what is known of their tasks
FILES_KEPT_MAX: Final = 10_000  # files that were put away, in one folder

# The memory of a matrix.
MEMORY_TITLE_CHARS_MAX: Final = 500  # one line that a list can show
MEMORY_TEXT_CHARS_MAX: Final = 64 * KIB  # of one text of a memory; what is longer belongs in a file
MEMORY_ITEMS_MAX: Final = 200  # tags, wins, commits, files …
MEMORY_ITEM_CHARS_MAX: Final = 2000  # one of those
MEMORY_NUMBER_MAX: Final = 2**53 - 1  # ids and times: what every reader of JSON can hold
MEMORY_WRITE_WAIT_S: Final = 10.0  # for the other processes that write; each takes a millisecond
MEMORY_LINE_BYTES_MAX: Final = 8 * MIB  # of a file that is imported
MEMORY_LIST_ROWS_MAX: Final = 1000  # what one command shows
RECALL_CANDIDATES: Final = 200  # best rows of the full-text search that are looked at more closely
RECALL_ROWS_MAX: Final = 20_000  # newest rows that are searched one by one: about 50 ms
RECALL_TERMS_MAX: Final = 32  # words of a question that are searched for
CONSOLIDATE_ROWS_MAX: Final = 500  # newest learnings that are compared, each with each
GIT_WAIT_S: Final = 2.0  # for one question to git when a session is saved
assert RECALL_CANDIDATES <= MEMORY_LIST_ROWS_MAX

# What a memory and the hub tell each other.
HUB_MEET_S: Final = 5.0  # that a command of a memory gives the hub to answer; what it has to say is kept meanwhile
OUTBOX_LOOK_S: Final = 30.0  # how often a service looks for what other processes of its matrix could not send
OUTBOX_MESSAGES_MAX: Final = 10_000  # that wait for a hub that never comes; then no more are written
UNSENT_AT_ONCE: Final = 1000  # memories that the hub is told of between two looks into the outbox
REPORT_TEXT_CHARS_MAX: Final = 16 * KIB  # of one text of an issue that is told to other matrices
GITHUB_WAIT_S: Final = 30.0  # for one answer of GitHub, or of gh
GITHUB_PAGES_MAX: Final = 100  # of 100 issues each, looked through for one that was created before a crash

# The vectors of a memory, and its index.
RECALL_MEANING_S: Final = 0.5  # how long a recall waits for what is near in meaning; then full-text search answers
MODEL_INSTALL_S: Final = 900.0  # for 84 MB, also over a slow line
EMBED_WAIT_S: Final = 10.0  # for a service that makes vectors
EMBED_CHARS_MAX: Final = 8000  # of one text sent to such a service: their models read about 2,000 words at most
EMBED_REPLY_BYTES_MAX: Final = 16 * MIB  # of its answer: 32 vectors of 4,096 numbers are 3 MiB of JSON
EMBED_ROWS: Final = 16  # rows that get their vectors, and are then committed, in one step
INDEX_FRAME_BYTES_MAX: Final = 16 * MIB  # between the index's processes: 1,000 vectors of 4,096 numbers
INDEX_START_S: Final = 60.0  # for ChromaDB to be loaded and to open its files; nobody waits for it
INDEX_WRITE_S: Final = 10.0  # for one batch; 256 rows take 0.2 s
INDEX_QUERY_S: Final = 0.2  # then the exact search answers
INDEX_ROWS: Final = 256  # vectors in one batch
INDEX_REST_S: Final = 60.0  # after the third failure in a row; it doubles with each
INDEX_REST_S_MAX: Final = 3600.0
INDEX_BYTES_MIN: Final = 64 * MIB  # that ChromaDB's folder may have in any case …
INDEX_BYTES_A_ROW: Final = 16 * KIB  # … and for each row; it takes 3 KiB
INDEX_CHECKED_ROWS: Final = 20  # drawn by chance and searched by their own vectors, at each start
INDEX_CHECKED_ROWS_MAX: Final = 10_000  # so many after `reindex`
INDEX_SET_ASIDE_MAX: Final = 2  # broken ones that are kept
INDEX_TAIL_ROWS_MAX: Final = 1000  # vectors that are not in the index yet and are compared one by one
INDEXER_IDLE_S: Final = 300.0  # without a question or a new memory; then its process ends
INDEXER_SILENT_S: Final = 60.0  # then a process that has the lock is taken for hung, and killed
INDEXER_LOG_BYTES_MAX: Final = 1 * MIB  # begun anew when the process starts
EMBED_TRIES_MAX: Final = 3  # then a row is left alone until `reindex`, and named
