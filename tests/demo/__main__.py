"""Shows crypto exchanges and MetaTrader at work; exit code 0 when all of it happened."""

import argparse
import asyncio
import json
import sys

from app.demo import secluded
from app.demo.show import perform
from app.local import LocalFailure, StopRequested, Wishes
from app.logs import configure_logs
from app.settings import variable_name
from tests.demo.play import play_of
from tests.venues.exchange import Exchange, running_exchange
from tests.venues.metatrader import MetaTraderVenue, running_bridge


def main() -> int:
    """Run it; answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="stay up afterwards")
    configure_logs("console", "WARNING")
    try:
        return asyncio.run(_show(keep=parser.parse_args().keep))
    except StopRequested:
        return 0
    except LocalFailure as failure:
        sys.stderr.write(f"{failure}\n")
        return 1


async def _show(*, keep: bool) -> int:
    async with running_exchange() as exchanges, running_bridge() as bridges:
        endpoints = {variable_name("broker_endpoints"): json.dumps(_endpoints(exchanges, bridges))}
        with secluded(None, endpoints) as directory:
            wishes = Wishes(directory, port=0, quiet=True)
            return await perform(play_of(exchanges, bridges), wishes, keep=keep)


def _endpoints(exchanges: Exchange, bridges: MetaTraderVenue) -> dict[str, str]:
    """Where the engine finds each venue."""
    return {
        **dict.fromkeys(("binance", "binanceusdm", "bybit"), exchanges.url),
        **{bridge.platform.value: bridge.url for bridge in bridges.bridges},
    }


if __name__ == "__main__":
    sys.exit(main())
