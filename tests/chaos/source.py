"""A temporary copy of the program: with passages of its text replaced, and with points between its steps.

A point is a call that normally does nothing. It stands before and after every statement that awaits something, in
every coroutine of the modules it is asked for, so that a process can be stopped between any two things it does.
"""

import ast
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

OURS: Final = ("app", "workers", "migrations")
"""The program; what is beside it is linked, not copied."""

STEPS: Final = (
    "app/engine/execution.py",
    "app/engine/placing.py",
    "app/engine/protection.py",
    "app/engine/closing.py",
    "app/engine/resolution.py",
    "app/engine/strikes.py",
    "app/engine/guarding.py",
    "app/engine/lapsing.py",
    "app/engine/following.py",
    "app/engine/monitoring.py",
    "app/engine/surveying.py",
    "app/engine/watches.py",
    "app/engine/stops.py",
    "app/engine/sweeping.py",
    "app/engine/situations.py",
    "app/engine/intake.py",
    "app/engine/updating.py",
    "app/engine/halting.py",
    "app/engine/withdrawing.py",
    "app/engine/reconciling.py",
    "app/engine/external.py",
    "app/engine/adopting.py",
    "app/engine/orphans.py",
    "app/engine/breaking.py",
    "app/engine/losses.py",
    "app/brokers/crypto/broker.py",
    "app/brokers/crypto/brackets.py",
    "app/brokers/metatrader/broker.py",
    "app/brokers/metatrader/legs.py",
    "app/brokers/metatrader/session.py",
)
"""Where points are wanted: on an order's whole way, and on a signal's."""

_REACHED: Final = "_reached"
_LONGEST: Final = 60
"""How much of a statement names its point."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One passage of one file and what stands there instead."""

    file: str
    old: str
    new: str


# Accidents are a hundred times more frequent here than anywhere: the breaker, which has tests of its own, would take
# every account out of the run.
UNBROKEN: Final = (Edit("app/engine/breaking.py", "Strike.DOUBTED: 5", "Strike.DOUBTED: 1_000_000"),)

# The rules of a venue that is quick to answer and to forget, so that a run on the real clock takes minutes: an order
# is valid for 4 s instead of 5, and certain to be absent after 8 s instead of 20, 60 or 90; what a worker has taken is
# left to it for 4 s instead of 10. The simulators check the window that they are sent.
QUICK_VENUE: Final = (
    *UNBROKEN,
    Edit("app/brokers/crypto/exchange.py", "TIMEOUT_MS: Final = 15_000", "TIMEOUT_MS: Final = 3_000"),
    Edit(
        "app/brokers/crypto/ways.py",
        "VALIDITY: Final = timedelta(seconds=5)",
        "VALIDITY: Final = timedelta(seconds=4)",
    ),
    Edit("app/brokers/crypto/certified.py", "settle=timedelta(seconds=20)", "settle=timedelta(seconds=8)"),
    Edit(
        "app/brokers/crypto/ways.py",
        "CAUTIOUS_SETTLE: Final = timedelta(seconds=60)",
        "CAUTIOUS_SETTLE: Final = timedelta(seconds=8)",
    ),
    Edit("app/brokers/metatrader/gateway.py", "connect: float = 10.0", "connect: float = 1.0"),
    Edit("app/brokers/metatrader/gateway.py", "read: float = 35.0", "read: float = 3.0"),
    Edit("app/brokers/metatrader/gateway.py", "order: float = 75.0", "order: float = 3.0"),
    Edit(
        "app/brokers/metatrader/venue.py",
        "SETTLE: Final = timedelta(seconds=90)",
        "SETTLE: Final = timedelta(seconds=8)",
    ),
    Edit("app/engine/sweeping.py", "LEASE = timedelta(seconds=10)", "LEASE = timedelta(seconds=4)"),
)

# Where the clock is set, real time is only lost: a venue that hangs is given up sooner, and looked at more often.
IMPATIENT: Final = (
    *UNBROKEN,
    # The simulators' limits are off; what is kept within a real venue's would be waited for on the real clock.
    Edit(
        "app/brokers/limits/buckets.py",
        "return max(0.0, max(due, now) - now + charge.drain - charge.room(urgency))",
        "return 0.0",
    ),
    Edit("app/brokers/crypto/exchange.py", "TIMEOUT_MS: Final = 15_000", "TIMEOUT_MS: Final = 500"),
    Edit(
        "app/brokers/crypto/broker.py",
        "PATIENCE: Final = (0.0, 0.1, 0.3, 0.8)",
        "PATIENCE: Final = (0.0, 0.01, 0.02, 0.04)",
    ),
)


def copied(directory: Path, edits: Sequence[Edit] = (), steps: Sequence[str] = STEPS) -> list[str]:
    """Copy the program into an empty directory, edited; answers the names of its points."""
    for name in OURS:
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "tests").symlink_to(ROOT / "tests")
    for edit in edits:
        _replace(directory / edit.file, edit)
    return [point for step in steps for point in _with_points(directory / step)]


def _replace(file: Path, edit: Edit) -> None:
    text = file.read_text()
    if edit.old not in text:
        raise LookupError(f"{edit.file} has no {edit.old!r}: the edit has to follow what was changed there")
    file.write_text(text.replace(edit.old, edit.new))


def _with_points(file: Path) -> list[str]:
    tree = ast.parse(file.read_text())
    placed = _Points(file.stem)
    tree = placed.visit(tree)
    after_docstring = 1 if ast.get_docstring(tree) else 0
    imported = ast.parse(f"from tests.chaos.points import reached as {_REACHED}").body
    tree.body[after_docstring:after_docstring] = imported
    file.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    return placed.names


class _Points(ast.NodeTransformer):
    """Puts points into the coroutines of a module, and keeps their names."""

    def __init__(self, module: str) -> None:
        self.names: list[str] = []
        self._module = module
        self._function = ""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        outer, self._function = self._function, f"{self._module}.{node.name}"
        node.body = self._between(node.body, in_block=False)
        self._function = outer
        return node

    def _between(self, statements: list[ast.stmt], *, in_block: bool) -> list[ast.stmt]:
        """The statements of a block with points between them; `in_block` is inside an `async with`."""
        made: list[ast.stmt] = []
        at_point = False
        for statement in statements:
            waits = (in_block or _awaits(statement)) if _ends(statement) else _awaits_itself(statement)
            if waits and not at_point:
                made.append(self._point("before", statement))
            at_point = waits and not _ends(statement)
            if _ends(statement):
                made.append(statement)
                continue
            self._into(statement, in_block=in_block)
            made.append(statement)
            if waits:
                made.append(self._point("after", statement))
        if in_block and statements and not _ends(statements[-1]) and not _awaits_itself(statements[-1]):
            made.append(self._point("after", statements[-1]))
        return made

    def _into(self, statement: ast.stmt, *, in_block: bool) -> None:
        deeper = in_block or isinstance(statement, ast.AsyncWith)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(statement, field, None)
            if isinstance(block, list) and block:
                setattr(statement, field, self._between(block, in_block=deeper))
        for handler in getattr(statement, "handlers", ()):
            handler.body = self._between(handler.body, in_block=deeper)
        for case in getattr(statement, "cases", ()):
            case.body = self._between(case.body, in_block=deeper)

    def _point(self, when: str, statement: ast.stmt) -> ast.stmt:
        text = ast.unparse(statement).splitlines()[0].rstrip(":")[:_LONGEST]
        name = f"{self._function}: {when} {text}"
        seen = sum(known == name or known.startswith(f"{name} #") for known in self.names)
        name = f"{name} #{seen + 1}" if seen else name
        self.names.append(name)
        return ast.parse(f"await {_REACHED}({name!r})").body[0]


def _ends(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break)


def _awaits(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Await) for each in ast.walk(node))


def _awaits_itself(statement: ast.stmt) -> bool:
    """Whether a statement awaits, apart from what the blocks in it do."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    if isinstance(statement, ast.AsyncWith | ast.AsyncFor):
        return True
    blocks = {"body", "orelse", "finalbody", "handlers", "cases"}
    if isinstance(statement, ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match):
        parts = [value for field, value in ast.iter_fields(statement) if field not in blocks]
        nodes = [each for part in parts for each in (part if isinstance(part, list) else [part])]
        # A condition of a loop is asked again and again, and a point before the loop is reached once: it is left out.
        return not isinstance(statement, ast.While) and any(
            isinstance(each, ast.AST) and _awaits(each) for each in nodes
        )
    return _awaits(statement)
