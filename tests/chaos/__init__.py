"""What must never happen, whatever breaks: the engine under faults, kills and outages, against the venues' books.

`checker` compares the ledger of the simulated exchanges with the database, both ways. `source` makes a temporary copy
of the program, with a place where it can be stopped between any two of its steps (`points`), or with one of its safety
rules taken out (`rules`). `stage` and `play` run the engine in one process on a clock that is set; `processes`,
`nemesis` and `run` run the real processes on the real clock. No switch for any of this ships with the program.

    .venv/bin/pytest tests/chaos                                  # the short runs, with the ordinary tests
    .venv/bin/pytest -m long -s tests/chaos                       # the long ones
    .venv/bin/python -m tests.chaos.run --seed 7 --minutes 20     # real processes, as long as you like
"""
