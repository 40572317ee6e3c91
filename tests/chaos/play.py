"""One run on the stage, as a program: `python -m tests.chaos.play NAME... --database URL`.

It is started in a copy of the program (see `source`), and prints what became of it as JSON. NAME is `stream`,
`march`, or any of the scenes.
"""

import argparse
import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import app
from app.logs import configure_logs
from tests.chaos import stream
from tests.chaos.scenes import SCENES
from tests.chaos.stage import VENUES, opened_stage
from tests.chaos.verdict import told


async def play(arguments: argparse.Namespace) -> dict[str, Any]:
    """Play what was asked for."""
    [name, *_] = arguments.names
    if name in ("stream", "march"):
        play = stream.run if name == "stream" else stream.march
        points = json.loads(Path("points.json").read_text())[:: arguments.every]
        async with opened_stage(arguments.database, VENUES * 2) as stage:
            told_of = await play(stage, arguments.seed, arguments.signals, points)
            return {**told_of.as_json(), "points": len(points), "unreached": sorted(stage.deadly)}
    async with opened_stage(arguments.database, ()) as stage:
        for name in arguments.names:
            await SCENES[name](stage)
        return told(await stage.verdict())


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+")
    parser.add_argument("--database", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--every", type=int, default=1, help="every so manieth point is deadly")
    arguments = parser.parse_args()
    assert Path.cwd() in Path(app.__file__).parents, "this runs in a copy of the program"
    configure_logs("json", "ERROR")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.stdout.write(json.dumps(asyncio.run(play(arguments)), indent=1) + "\n")


if __name__ == "__main__":
    main()
