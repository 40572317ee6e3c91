"""The table of figures, printed when everything has been measured."""

from collections.abc import Callable

import pytest

Figure = Callable[[str, str], None]

_FIGURES = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Put a line into the table: what was measured, and how much it is."""
    figures = request.config.stash.setdefault(_FIGURES, [])
    return lambda what, amount: figures.append((what, amount))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Print the table."""
    figures = config.stash.get(_FIGURES, [])
    if not figures:
        return
    width = max(len(what) for what, _ in figures)
    terminalreporter.section("figures" if exitstatus == 0 else "figures so far")
    for what, amount in figures:
        terminalreporter.write_line(f"{what:<{width}}  {amount}")
