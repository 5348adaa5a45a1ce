"""A file of people's verdicts on proposals: SQLite, nothing overwritten, exported as JSON lines.

What is shared by verdicts on patches (`swe.reviews`) and on generated tests (`testgen.store`): a table `proposals`
with a unique `key`, and a table `reviews` of which a reviewer's last row counts. Unusual: two processes may open and
make the same file at once.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hrm_lab.files import write_atomic

VERDICTS = ("accept", "edit", "reject")


def connect(path: Path | str, schema: str, version: int, what: str) -> sqlite3.Connection:
    """Open the file, or make it with `schema`. Raises ValueError: it is no file of `what` of this version."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=30)
    db.row_factory = sqlite3.Row
    try:
        db.execute("pragma foreign_keys = on")
        seen = db.execute("pragma user_version").fetchone()[0]
        tables = db.execute("select count(*) from sqlite_master").fetchone()[0]
        if seen == 0 and tables == 0:
            db.executescript(f"begin immediate; {schema} pragma user_version = {version}; commit;")
            seen = version
    except sqlite3.OperationalError:  # another process made it between the two
        seen = db.execute("pragma user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        db.close()
        raise ValueError(f"{path}: {error}; expected a file of {what}") from None
    if seen != version:
        db.close()
        raise ValueError(f"{path}: version {seen}; expected a file of {what} of version {version}")
    return db


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def propose(db: sqlite3.Connection, row: Mapping) -> int:
    """Store a row of `proposals`; its id. A row whose `key` is there is not stored again."""
    row = dict(row) | {"created": now()}
    with db:
        db.execute(f"insert into proposals ({', '.join(row)}) values ({', '.join(f':{name}' for name in row)}) "
                   "on conflict (key) do nothing", row)
    return db.execute("select id from proposals where key = ?", (row["key"],)).fetchone()[0]


def open_proposals(db: sqlite3.Connection, reviewer: str | None = None) -> list[sqlite3.Row]:
    """All proposals in their order; with a reviewer, those on which this one has no verdict yet."""
    return db.execute("select * from proposals where ? is null or id not in (select proposal from reviews where "
                      "reviewer = ?) order by id", (reviewer, reviewer)).fetchall()


def proposed(db: sqlite3.Connection, proposal: int, verdict: str, reviewer: str) -> sqlite3.Row:
    """The proposal that a verdict is about. Raises ValueError: no verdict, no reviewer or no such proposal."""
    if verdict not in VERDICTS:
        raise ValueError(f"verdict: {verdict!r}; expected one of {', '.join(VERDICTS)}")
    if not reviewer.strip():
        raise ValueError("reviewer: empty; expected a name, since verdicts are kept by reviewer")
    row = db.execute("select * from proposals where id = ?", (proposal,)).fetchone()
    if row is None:
        raise ValueError(f"proposal: {proposal} is not there; expected the id of one")
    return row


def export(rows: Sequence[Mapping], path: Path | str) -> int:
    """Write rows as JSON lines, whole or not at all; how many."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(rows)
