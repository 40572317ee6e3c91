"""The nursery: a process that has everything imported and forks the engine's processes, so that killing is cheap.

It reads what to start as JSON lines on stdin, and tells on stdout what has started and what has ended. Each child is a
process of its own: the API or a worker as production starts them, in the copy of the program this runs in.
"""

import ctypes
import json
import os
import selectors
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

import uvicorn

import app.brokers.crypto.venue
import app.main
import workers.main
from app.brokers.crypto.catalogue import catalogue
from tests.chaos import points

_PR_SET_PDEATHSIG: Final = 1

# Imported for the children; naming them here says so.
PRELOADED: Final = (app.brokers.crypto.venue, app.main)


def main() -> None:
    """Start what is asked for, until stdin ends."""
    catalogue()  # which an API reads when it starts
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        _tell(ready=os.getpid())
        while True:
            for key, _ in selector.select():
                if key.fd == woken:
                    os.read(woken, 4096)
                    _bury()
                elif line := sys.stdin.readline():
                    _tell(started=_born(json.loads(line)))
                else:
                    return


def _tell(**news: int) -> None:
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


def _bury() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(ended=pid, status=os.waitstatus_to_exitcode(status))


def _born(wanted: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(log, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(wanted["environment"])
    if wanted.get("point"):
        points.arm(wanted["point"], wanted["passes"])
    code = 1
    try:
        if wanted["program"] == "api":
            uvicorn.run("app.main:app", host="127.0.0.1", port=wanted["port"], log_level="warning")
        else:
            workers.main.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)
    return 0


if __name__ == "__main__":
    main()
