"""Instances, histories and queues in one SQLite file; every public method is one transaction.

Write-ahead log without a sync per commit: a committed step survives `kill -9`, not a power cut.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from local_cloud.functions_host.history import Event, EventType

Status = Literal["Pending", "Running", "Suspended", "Completed", "Failed", "Terminated"]
FINISHED: frozenset[Status] = frozenset({"Completed", "Failed", "Terminated"})

_SCHEMA = """
CREATE TABLE IF NOT EXISTS instance (
    id TEXT PRIMARY KEY, execution_id TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, input TEXT,
    status TEXT NOT NULL, output TEXT, custom_status TEXT, created_at REAL NOT NULL, updated_at REAL NOT NULL,
    parent TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    instance_id TEXT NOT NULL, position INTEGER NOT NULL, event TEXT NOT NULL,
    PRIMARY KEY (instance_id, position)
) WITHOUT ROWID;
-- execution_id: only for that generation (NULL: for any); is_start: comes before all others of its instance;
-- is_control: reaches a suspended instance.
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY AUTOINCREMENT, instance_id TEXT NOT NULL, execution_id TEXT, due_at REAL NOT NULL,
    is_start INTEGER NOT NULL, is_control INTEGER NOT NULL, event TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS message_due ON message (due_at);
CREATE INDEX IF NOT EXISTS message_instance ON message (instance_id);
CREATE TABLE IF NOT EXISTS activity (
    id INTEGER PRIMARY KEY AUTOINCREMENT, instance_id TEXT NOT NULL, execution_id TEXT NOT NULL,
    task_id INTEGER NOT NULL, name TEXT NOT NULL, input TEXT, deliveries INTEGER NOT NULL DEFAULT 0
);
"""
_CONTROL = {EventType.EXECUTION_TERMINATED, EventType.EXECUTION_RESUMED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The parent of a sub-orchestration, which is told how that ended."""

    instance_id: str
    execution_id: str
    task_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An orchestration; `input`, `output` and `custom_status` are JSON texts, times epoch seconds."""

    id: str
    execution_id: str
    name: str
    version: str
    input: str | None
    status: Status
    output: str | None
    custom_status: str | None
    created_at: float
    updated_at: float
    parent: Parent | None

    @property
    def is_finished(self) -> bool:
        """Whether no further step will be taken."""
        return self.status in FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event on its way to an instance; `execution_id` None means that any generation may have it."""

    instance_id: str
    execution_id: str | None
    due_at: float
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityCall:
    """A scheduled activity; `input` is JSON text, `deliveries` counts the runs that ended."""

    id: int = 0
    instance_id: str
    execution_id: str
    task_id: int
    name: str
    input: str | None
    deliveries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query for instances; None means any. Times are epoch seconds."""

    created_from: float | None = None
    created_to: float | None = None
    statuses: frozenset[str] | None = None
    id_prefix: str = ""
    after_id: str = ""
    limit: int | None = None


@dataclass(slots=True, kw_only=True)
class Step:
    """The changes of one step, committed as a whole."""

    instance: Instance
    consumed: Sequence[int] = ()
    restarts_history: bool = False
    new_events: Sequence[Event] = ()
    activities: Sequence[ActivityCall] = ()
    messages: Sequence[Message] = ()
    children: Sequence[Instance] = ()
    """New sub-orchestrations, each of which replaces a finished instance of its id."""


class Store:
    """The SQLite file. It is not thread-safe: all calls come from the event loop's thread."""

    def __init__(self, path: Path | str) -> None:
        """Opens or creates the file.

        Raises:
            sqlite3.DatabaseError: The file is something else, or another host has it open.
        """
        self._db = sqlite3.connect(path, isolation_level=None, timeout=2)
        self._db.row_factory = sqlite3.Row
        # Held until the process ends: two hosts on one file would run everything twice.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    @property
    def db(self) -> sqlite3.Connection:
        """The connection, for other tables in the same file."""
        return self._db

    def close(self) -> None:
        """Close the SQLite file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the body of the `with` as one transaction: all of it becomes true, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # --- instances ---

    def get(self, instance_id: str) -> Instance | None:
        """The instance of that id; None if there is none."""
        row = self._db.execute("SELECT * FROM instance WHERE id = ?", (instance_id,)).fetchone()
        return None if row is None else _instance(row)

    def find(self, query: Query) -> list[Instance]:
        """Matching instances in the order of their ids."""
        rows = self._db.execute(
            "SELECT * FROM instance WHERE id > ? AND created_at >= ? AND created_at <= ? "
            "AND substr(id, 1, ?) = ? AND (? OR status IN (SELECT value FROM json_each(?))) "
            "ORDER BY id LIMIT ?",
            (
                query.after_id,
                query.created_from if query.created_from is not None else float("-inf"),
                query.created_to if query.created_to is not None else float("inf"),
                len(query.id_prefix),
                query.id_prefix,
                query.statuses is None,
                json.dumps(sorted(query.statuses or ())),
                -1 if query.limit is None else query.limit,
            ),
        )
        return [_instance(row) for row in rows]

    def history(self, instance_id: str) -> list[Event]:
        """All events so far, oldest first."""
        rows = self._db.execute(
            "SELECT event FROM history WHERE instance_id = ? ORDER BY position", (instance_id,)
        )
        return [json.loads(row["event"]) for row in rows]

    def create(self, instance: Instance, start: Event) -> None:
        """Put `instance` in the place of a finished one of its id, if there is one, and start it."""
        with self.transaction() as db:
            self._create(db, instance, start)

    def purge(self, instance_ids: Iterable[str]) -> int:
        """Forget these instances; returns how many there were."""
        with self.transaction() as db:
            return sum(self._forget(db, instance_id) for instance_id in instance_ids)

    # --- messages ---

    def send(self, message: Message) -> None:
        """Queue an event for an instance."""
        with self.transaction() as db:
            self._send(db, message)

    def due_instances(self, now: float) -> list[str]:
        """The ids of instances with something to do, longest waiting first."""
        rows = self._db.execute(
            "SELECT m.instance_id, MIN(m.due_at) AS since "
            "FROM message m JOIN instance i ON i.id = m.instance_id "
            "WHERE m.due_at <= ? AND (i.status != 'Suspended' OR m.is_control) "
            "GROUP BY m.instance_id ORDER BY since",
            (now,),
        )
        return [row["instance_id"] for row in rows]

    def next_due(self, now: float) -> float | None:
        """The epoch seconds at which the next message after `now` falls due; None if there is none."""
        row = self._db.execute("SELECT MIN(due_at) AS due FROM message WHERE due_at > ?", (now,)).fetchone()
        return None if row["due"] is None else float(row["due"])

    def due_messages(
        self, instance_id: str, now: float, limit: int, *, control_first: bool
    ) -> list[tuple[int, Message]]:
        """The messages that have arrived for an instance, in the order in which it takes them.

        With `control_first` a suspended instance finds its resumption behind any number of other messages.
        """
        rows = self._db.execute(
            "SELECT * FROM message WHERE instance_id = ? AND due_at <= ? "
            "ORDER BY is_start DESC, is_control * ? DESC, due_at, id LIMIT ?",
            (instance_id, now, control_first, limit),
        )
        return [
            (
                row["id"],
                Message(
                    instance_id=instance_id,
                    execution_id=row["execution_id"],
                    due_at=row["due_at"],
                    event=json.loads(row["event"]),
                ),
            )
            for row in rows
        ]

    # --- work ---

    def commit(self, step: Step) -> None:
        """Commit one step of an orchestration as one transaction."""
        with self.transaction() as db:
            db.executemany(
                "DELETE FROM message WHERE id = ?", [(message_id,) for message_id in step.consumed]
            )
            self._save(db, step.instance)
            if step.restarts_history:
                db.execute("DELETE FROM history WHERE instance_id = ?", (step.instance.id,))
            self._append(db, step.instance.id, step.new_events)
            db.executemany(
                "INSERT INTO activity (instance_id, execution_id, task_id, name, input) "
                "VALUES (?, ?, ?, ?, ?)",
                [(a.instance_id, a.execution_id, a.task_id, a.name, a.input) for a in step.activities],
            )
            for child in step.children:
                self._create(db, child, next(m.event for m in step.messages if m.instance_id == child.id))
            created = {child.id for child in step.children}
            for message in step.messages:
                if message.instance_id not in created:
                    self._send(db, message)
            if step.instance.is_finished:
                db.execute("DELETE FROM message WHERE instance_id = ?", (step.instance.id,))

    def waiting_activities(self, running: Collection[int], limit: int) -> list[ActivityCall]:
        """Scheduled activities, oldest first, but those in `running`."""
        rows = self._db.execute(
            "SELECT * FROM activity WHERE id NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
            (json.dumps(sorted(running)), limit),
        )
        return [ActivityCall(**row) for row in rows]

    def end_activity(self, call: ActivityCall, result: Message, *, deliveries: int) -> None:
        """Note that one delivery of `call` ended; the call is gone after `deliveries` of them."""
        with self.transaction() as db:
            if call.deliveries + 1 >= deliveries:
                db.execute("DELETE FROM activity WHERE id = ?", (call.id,))
            else:
                db.execute("UPDATE activity SET deliveries = deliveries + 1 WHERE id = ?", (call.id,))
            self._send(db, result)

    # --- inside a transaction ---

    def _create(self, db: sqlite3.Connection, instance: Instance, start: Event) -> None:
        self._forget(db, instance.id)
        self._save(db, instance)
        self._send(
            db,
            Message(
                instance_id=instance.id,
                execution_id=instance.execution_id,
                due_at=instance.created_at,
                event=start,
            ),
        )

    @staticmethod
    def _save(db: sqlite3.Connection, instance: Instance) -> None:
        parent = instance.parent
        db.execute(
            "INSERT OR REPLACE INTO instance VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                instance.id,
                instance.execution_id,
                instance.name,
                instance.version,
                instance.input,
                instance.status,
                instance.output,
                instance.custom_status,
                instance.created_at,
                instance.updated_at,
                parent and json.dumps([parent.instance_id, parent.execution_id, parent.task_id]),
            ),
        )

    @staticmethod
    def _append(db: sqlite3.Connection, instance_id: str, events: Sequence[Event]) -> None:
        row = db.execute(
            "SELECT COALESCE(MAX(position), -1) AS last FROM history WHERE instance_id = ?", (instance_id,)
        ).fetchone()
        db.executemany(
            "INSERT INTO history VALUES (?, ?, ?)",
            [(instance_id, row["last"] + n, json.dumps(item)) for n, item in enumerate(events, 1)],
        )

    @staticmethod
    def _send(db: sqlite3.Connection, message: Message) -> None:
        kind = message.event["EventType"]
        db.execute(
            # A message to an instance that is gone or finished is dropped here.
            "INSERT INTO message (instance_id, execution_id, due_at, is_start, is_control, event) "
            "SELECT id, ?, ?, ?, ?, ? FROM instance "
            "WHERE id = ? AND status NOT IN ('Completed', 'Failed', 'Terminated')",
            (
                message.execution_id,
                message.due_at,
                kind == EventType.EXECUTION_STARTED,
                kind in _CONTROL,
                json.dumps(message.event),
                message.instance_id,
            ),
        )

    @staticmethod
    def _forget(db: sqlite3.Connection, instance_id: str) -> int:
        db.execute("DELETE FROM message WHERE instance_id = ?", (instance_id,))
        db.execute("DELETE FROM history WHERE instance_id = ?", (instance_id,))
        return db.execute("DELETE FROM instance WHERE id = ?", (instance_id,)).rowcount


def _instance(row: sqlite3.Row) -> Instance:
    fields: dict[str, Any] = dict(row)
    if fields["parent"] is not None:
        parent_id, execution_id, task_id = json.loads(fields["parent"])
        fields["parent"] = Parent(instance_id=parent_id, execution_id=execution_id, task_id=task_id)
    return Instance(**fields)
