"""The command `engine`: thin, everything it does is done elsewhere."""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import asyncpg
import typer
from dotenv import dotenv_values
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.local import (
    LOCAL_URL,
    Installation,
    LocalFailure,
    StopRequested,
    Wishes,
    bearer_token,
    running,
    settings_file,
)
from app.local.options import parse_candles, parse_hours, parse_moment, parse_speed
from app.local.tokens import Role
from app.logs import configure_logs
from app.settings import InvalidSettings, Settings, load_settings, new_vault_key

if TYPE_CHECKING:
    from app.engine.comparing import Comparison
    from app.engine.rekeying import Rekeying

T = TypeVar("T")

DATA: Final = Path(".engine")
DEFAULT_URL: Final = "http://127.0.0.1:8000"
DEMO_USER: Final = "demo-user"
ADMIN: Final = "admin"
TOKEN_HOURS_OF_UP: Final = 24

app = typer.Typer(
    pretty_exceptions_enable=False,
    name="engine",
    help="Turns signed trading signals into protected positions and their analytics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
keys = typer.Typer(help="Keys that seal broker credentials.", no_args_is_help=True)
app.add_typer(keys, name="keys")


DataOption = Annotated[
    Path,
    typer.Option("--data", help="Data directory of the `engine up` meant; the environment wins over it."),
]


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Address the API listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port the API listens on; 0 takes a free one.")] = 8000,
    data: Annotated[Path, typer.Option(help="Where data and secrets are kept.")] = DATA,
    candles: Annotated[
        list[str] | None,
        typer.Option(metavar="SYMBOL=FILE.csv", help="A recording the paper market plays; repeatable."),
    ] = None,
    speed: Annotated[str, typer.Option(help="Candles a second.")] = "1",
) -> None:
    """Start everything on one machine and stay until Ctrl-C or SIGTERM."""
    wishes = Wishes(data, host, port, parse_candles(candles or []), parse_speed(speed))
    configure_logs("console", "INFO")
    _until_stopped(_stay_up(wishes))


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Where data and secrets are kept; without it a directory that is removed."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port the API listens on; 0 takes a free one.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards.")] = False,
) -> None:
    """Show the main job end to end; exit code 0 when all of it happened.

    It runs servers of its own, whatever the environment and `.env` say.
    """
    from app.demo import run, secluded

    configure_logs("console", "WARNING")
    with secluded(data) as directory:
        _until_stopped(run(Wishes(directory, port=port, quiet=True), keep=keep))


@app.command()
def token(
    sub: Annotated[str, typer.Option(help="Who the token is for, 1 to 64 characters.")],
    role: Annotated[Role, typer.Option(help="user or admin.")],
    scope: Annotated[str | None, typer.Option(help='"read", "trade" or both; all when left out.')] = None,
    hours: Annotated[float, typer.Option(min=0, help="How long it is valid.")] = 1,
    data: DataOption = DATA,
) -> None:
    """Print a bearer token signed with the configured secret."""
    if not 1 <= len(sub) <= 64:
        raise typer.BadParameter("must have 1 to 64 characters", param_hint="--sub")
    if scope is not None and not set(scope.split()) <= {"read", "trade"}:
        raise typer.BadParameter('may hold "read" and "trade"', param_hint="--scope")
    now = datetime.now(UTC)
    lifetime = parse_hours(hours, now)
    try:
        signed = bearer_token(_settings(data), sub, role, lifetime, now, scope)
    except LocalFailure as error:
        raise _failure(str(error)) from None
    typer.echo(signed)


@app.command()
def entitle(
    user: Annotated[str, typer.Option(help="The user, as in the `sub` of the token.")],
    plans: Annotated[str, typer.Option(help="Plans, separated by commas; empty for none.")],
    expires: Annotated[
        datetime | None,
        typer.Option(parser=parse_moment, metavar="ISO", help="End; UTC when no offset is given."),
    ] = None,
    data: DataOption = DATA,
) -> None:
    """Entitle a user, as a `subscription.updated` event would."""
    names = [name for plan in plans.split(",") if (name := plan.strip())]
    _with_database(_entitle(_settings(data), user, names, expires))
    typer.echo(f"{user} is entitled {'until ' + expires.isoformat() if expires else 'without end'}")


@app.command()
def report(
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A completed UTC day; yesterday by default.")
    ] = None,
    data: DataOption = DATA,
) -> None:
    """Compute the daily analytics of a completed UTC day, again if need be."""
    today = datetime.now(UTC).date()
    wanted = day.date() if day else today - timedelta(days=1)
    if wanted >= today:
        raise typer.BadParameter("the day is not over yet", param_hint="--day")
    _with_database(_report(_settings(data), wanted))
    typer.echo(f"Analytics of {wanted} are computed")


@app.command()
def compare(
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_moment,
            metavar="ISO",
            help="From when on fills are looked at; since each account's last known order by default.",
        ),
    ] = None,
    data: DataOption = DATA,
) -> None:
    """Compare every connection with its venue: a line per difference, non-zero when there is any. Changes nothing."""
    found = _with_database(_compare(_settings(data), since))
    for each in found:
        for line in (*each.discrepancies, *(f"not compared  {reason}" for reason in each.unanswered)):
            typer.echo(f"{each.connection.id} {each.connection.exchange}: {line}")
    equal = sum(not each.discrepancies and not each.unanswered for each in found)
    typer.echo(f"{equal} of {len(found)} connections hold what is in the database")
    if equal != len(found):
        raise typer.Exit(1)


@app.command()
def exchanges(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table of the README.")] = False,
) -> None:
    """Print what can be connected, and how far each is proven."""
    from app.engine.offers import offers
    from app.local import exchanges as tables

    known = asyncio.run(offers()).values()
    typer.echo(tables.markdown(known) if markdown else tables.plain(known))


@app.command()
def signal(
    file: Annotated[Path, typer.Argument(help="A JSON event; - reads it from the standard input.")],
    url: Annotated[
        str | None, typer.Option(help=f"Where the API answers, for example {DEFAULT_URL}.")
    ] = None,
    data: DataOption = DATA,
) -> None:
    """Sign a JSON event and post it to the webhook; non-zero when it is refused."""
    from app.local.webhook import CannotPost, post_event

    settings = _settings(data)
    known = dotenv_values(settings_file(data)).get(LOCAL_URL)
    try:
        body = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise _failure(f"{file} cannot be read: {why}") from None
    try:
        answer = post_event(url or known or DEFAULT_URL, settings.webhook_secrets[0], body, datetime.now(UTC))
    except CannotPost as error:
        raise _failure(str(error)) from None
    typer.echo(f"{answer.status_code} {answer.text}")
    if not answer.is_success:
        raise typer.Exit(1)


@keys.command("new")
def keys_new() -> None:
    """Print a new vault key, for the front of ENGINE_VAULT_KEYS."""
    typer.echo(new_vault_key())


@keys.command("rotate")
def keys_rotate(data: DataOption = DATA) -> None:
    """Put every stored credential under the first key of ENGINE_VAULT_KEYS; may be stopped and run again.

    Give the new key to every process first (it may stand anywhere in their lists), run this with the new key in
    front, and take the old key out once this has said that nothing is left under it.
    """
    rekeying = _with_database(_rotate(_settings(data)))
    typer.echo(f"{rekeying.resealed} credentials are under the newest key now")
    if rekeying.unopened:
        ids = ", ".join(str(each) for each in rekeying.unopened)
        raise _failure(f"No key here opens those of {len(rekeying.unopened)} connections or channels: {ids}")


@app.command()
def doctor(data: DataOption = DATA) -> None:
    """Check settings, servers, keys, worker and broker endpoints: a line each, non-zero when one is wrong."""
    from app.local.doctor import examine

    findings = examine(_env_files(data))
    for finding in findings:
        typer.echo(f"{'ok   ' if finding.fine else 'WRONG'}  {finding.subject}: {finding.says}")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


async def _stay_up(wishes: Wishes) -> int:
    async with running(wishes) as installation:
        await _entitle_demo_user(installation.settings)
        typer.echo(_welcome(installation, datetime.now(UTC)))
        await asyncio.Event().wait()
    return 0


def _welcome(installation: Installation, now: datetime) -> str:
    lines = {
        "docs": f"{installation.url}/docs",
        "data": str(installation.data),
        **_tokens(installation.settings, now),
        "webhook secret": installation.settings.webhook_secrets[0].get_secret_value(),
    }
    return "\n".join(
        ("The engine is up; Ctrl-C stops it.", *(f"  {name}: {line}" for name, line in lines.items()))
    )


def _tokens(settings: Settings, now: datetime) -> dict[str, str]:
    if settings.jwt_jwks_url is not None:
        return {"tokens": f"of the platform whose keys are at {settings.jwt_jwks_url}"}
    lifetime = timedelta(hours=TOKEN_HOURS_OF_UP)
    return {
        f"user token ({DEMO_USER}, entitled, {TOKEN_HOURS_OF_UP} h)": bearer_token(
            settings, DEMO_USER, "user", lifetime, now
        ),
        f"admin token ({TOKEN_HOURS_OF_UP} h)": bearer_token(settings, ADMIN, "admin", lifetime, now),
    }


def _with_database(work: Coroutine[Any, Any, T]) -> T:
    """Run what works in the database; one that is away or not migrated is a sentence and exit code 1."""
    try:
        return asyncio.run(work)
    except (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise _failure(f"The database cannot be used: {str(reason).partition(chr(10))[0]}") from None


def _until_stopped(work: Coroutine[Any, Any, int]) -> None:
    """Run an installation to its end and leave with its exit code; asked to stop it ends with 0."""
    try:
        code = asyncio.run(work)
    except StopRequested:
        typer.echo("Stopped")
        return
    except (LocalFailure, InvalidSettings) as error:
        raise _failure(str(error)) from None
    raise typer.Exit(code)


async def _entitle(settings: Settings, user_id: str, plans: list[str], expires_at: datetime | None) -> None:
    from app.desk import open_desk
    from app.engine import intake

    async with open_desk(settings) as desk:
        await intake.entitle(desk, user_id, plans, expires_at)


async def _entitle_demo_user(settings: Settings) -> None:
    from app.desk import open_desk
    from app.engine import intake

    async with open_desk(settings) as desk:
        await intake.entitle_unless_current(desk, DEMO_USER)


async def _rotate(settings: Settings) -> "Rekeying":
    from app.desk import open_desk
    from app.engine.rekeying import rotate

    async with open_desk(settings) as desk:
        return await rotate(desk)


async def _compare(settings: Settings, since: datetime | None) -> "Sequence[Comparison]":
    from app.desk import open_desk
    from app.engine.comparing import compare

    async with open_desk(settings) as desk:
        return await compare(desk, since=since)


async def _report(settings: Settings, day: date) -> None:
    from app.desk import open_desk
    from app.engine.reporting import report_day

    async with open_desk(settings) as desk:
        await report_day(desk, day)


def _env_files(data: Path) -> tuple[Path, ...]:
    return (settings_file(data), Path(".env"))


def _settings(data: Path) -> Settings:
    return load_settings(_env_files(data))


def _failure(reason: str) -> typer.Exit:
    typer.echo(reason, err=True)
    return typer.Exit(1)
