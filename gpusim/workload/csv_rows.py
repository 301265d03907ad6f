"""CSV traces, read line by line, carefully; every malformed line is an error that names it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpusim.workload.content import Content, Kind, begins_with, key
from gpusim.workload.csv_dialects import OPTIONAL, Dialect, dialect_of
from gpusim.workload.files import LineError, named_errors, opened
from gpusim.workload.rows import InOrder, TraceRow, priority, seconds, tokens


def read_header(path: Path) -> tuple[Dialect, list[str]]:
    """Return the dialect of the trace *path* and the names of its columns.

    Raises:
        SpecError: If it cannot be read, or has no header that is known.
    """
    with named_errors(path, lambda: 1), opened(path) as file:
        header = [name.strip() for name in next(csv.reader(file, strict=True), [])]
        return dialect_of(header), header


def read_csv(path: Path) -> Iterator[TraceRow]:
    """Yield the requests of the CSV file *path*, in its order, which must be the order of arrival. Skips blank lines.

    Raises:
        SpecError: At the first malformed line, when it is reached; names file, line, value and the way out.
    """
    lines = [0]
    with named_errors(path, lambda: lines[0]), opened(path) as file:
        reader = csv.reader(file, strict=True)
        rows = None
        while True:
            try:
                fields = next(reader, None)
            finally:
                # Text that cannot be read stands behind the last line that could.
                lines[0] = reader.line_num
            if fields is None:
                break
            if rows is None:
                rows = _Rows([name.strip() for name in fields])
            elif fields and (row := rows.read(fields)) is not None:
                yield row
        if rows is None:
            lines[0] = 1
            dialect_of([])
        elif not rows.count:
            raise LineError("no request follows the header; write one line each")


class _Rows:
    """Turns fields into requests, for one reading of one file."""

    def __init__(self, header: Sequence[str]) -> None:
        self.dialect = dialect_of(header)
        self.count = 0
        self._width = len(header)
        self._where = [(name, header.index(name)) for name in (*self.dialect.columns, *OPTIONAL) if name in header]
        self._header = {name for name, _ in self._where}
        self._in_order = InOrder(self.dialect.arrival)
        self._arrival_of = self.dialect.arrival_reader()
        self._session = ""
        """Of the row above."""

    def read(self, fields: Sequence[str]) -> TraceRow | None:
        """Return the request that *fields* state; None if it failed."""
        if len(fields) != self._width:
            raise LineError(f"{len(fields)} fields where the header has {self._width}: {','.join(fields)[:60]!r}")
        texts = {name: fields[index].strip() for name, index in self._where}
        dialect = self.dialect
        follows = not texts.get(dialect.arrival) and bool(texts.get("think_s"))
        arrival_s = None if follows else self._arrival(texts)
        if dialect.has_failures and texts[dialect.output] == "0":
            return None
        prompt, output = tokens(texts[dialect.prompt], dialect.prompt), tokens(texts[dialect.output], dialect.output)
        content = _content(texts, prompt, output) if len(texts) > len(dialect.columns) - 1 else ()
        think_s = self._think(texts, follows=follows)
        self._session = texts.get("session_id", "")
        self.count += 1
        return TraceRow(
            arrival_s,
            prompt,
            output,
            content,
            priority(texts["priority"]) if texts.get("priority") else 0,
            follows,
            think_s,
        )

    def _arrival(self, texts: dict[str, str]) -> float | None:
        name = self.dialect.arrival
        if name not in texts:
            return None
        return self._in_order.check(self._arrival_of(texts[name]), texts[name])

    def _think(self, texts: dict[str, str], *, follows: bool) -> float:
        """Return the think time of a row that follows the one above; others have none."""
        text = texts.get("think_s", "")
        if not text:
            return 0.0
        if not follows:
            raise LineError(
                f"think_s {text!r} stands beside an arrival; leave think_s empty where a session begins, "
                f"and {self.dialect.arrival} where the turn above must be over first"
            )
        if not texts["session_id"] or texts["session_id"] != self._session:
            raise LineError(
                f"session_id {texts['session_id']!r} with a think_s, but the line above is of {self._session!r}; "
                f"write the turns of a session below one another"
            )
        return seconds(text, "think_s")


def _content(texts: dict[str, str], prompt: int, output: int) -> Content:
    """Return what a request begins with: a prefix, and then a prompt that repeats or what a session has said so far."""
    prefix: Content = ()
    prefix_id, prefix_tokens = texts.get("prefix_id", ""), texts.get("prefix_tokens", "")
    if bool(prefix_id) != bool(prefix_tokens):
        raise LineError(f"prefix_id {prefix_id!r} and prefix_tokens {prefix_tokens!r}: write both or none")
    if prefix_id:
        size = tokens(prefix_tokens, "prefix_tokens")
        if size > prompt:
            raise LineError(f"prefix_tokens {size} is more than the {prompt} tokens of the prompt it begins")
        prefix = ((key(Kind.PREFIX, prefix_id), size),)
    prompt_id, session_id = texts.get("prompt_id", ""), texts.get("session_id", "")
    if prompt_id and session_id:
        raise LineError(f"prompt_id {prompt_id!r} and session_id {session_id!r}: write one of them")
    if prompt_id:
        return begins_with(prefix, ((key(Kind.PROMPT, prompt_id), prompt),))
    if session_id:
        return begins_with(prefix, ((key(Kind.SESSION, session_id), prompt + output),))
    return prefix
