"""Settings: what is taken, what stops the start, and that no message ever holds a value."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from app.api.senders import Senders
from app.brokers.metatrader.platforms import PLATFORMS
from app.settings import (
    BRIDGES,
    InvalidSettings,
    Settings,
    asyncpg_url,
    new_vault_key,
    new_webhook_secret,
    settings_from,
    variable_name,
    vault_key_bytes,
    vault_key_id,
)

ROOT = Path(__file__).parent.parent


def complete(**changes: str) -> dict[str, str]:
    """Answer variables that are enough, with changes by field name."""
    values = {
        "database_url": "postgresql://user:hidden-db@db/engine",
        "jwt_secret": "x" * 32,
        "webhook_secrets": new_webhook_secret(),
        "vault_keys": new_vault_key(),
        **changes,
    }
    return {variable_name(field): value for field, value in values.items()}


def test_defaults() -> None:
    settings = settings_from(complete())
    assert settings.entitlements_required
    assert settings.monitor_seconds == 5
    assert settings.jwt_audience == "trading-execution-engine"
    assert settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert settings.candles == {}
    assert settings.candles_started_at is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        ("postgresql://u:p@h:5/db", "postgresql+asyncpg://u:p@h:5/db"),
        ("postgresql+asyncpg://u@/db?host=/tmp/x", "postgresql+asyncpg://u@/db?host=%2Ftmp%2Fx"),
        ("postgres://h/db?sslmode=require", "postgresql+asyncpg://h/db?ssl=require"),
    ],
)
def test_database_urls_become_those_of_asyncpg(given: str, expected: str) -> None:
    assert asyncpg_url(given) == expected


def test_lists_keep_their_order_and_blanks_are_dropped() -> None:
    first, second = new_vault_key(), new_vault_key()
    settings = settings_from(complete(vault_keys=f" {first}, ,{second},"))
    assert [key.get_secret_value() for key in settings.vault_keys] == [first, second]


def test_a_vault_key_has_an_id_of_eight_hex_digits() -> None:
    key = vault_key_bytes(new_vault_key())
    assert len(key) == 32
    assert re.fullmatch("[0-9a-f]{8}", vault_key_id(key))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("database_url", "mysql://root:hidden@db/engine"),
        ("jwt_secret", "hidden-but-short"),
        ("jwt_jwks_url", "hidden"),
        ("jwt_jwks_url", "http://hidden.example/jwks.json"),
        ("jwt_jwks_url", "file:///hidden"),
        ("webhook_secrets", "hidden"),
        ("webhook_secrets", "whsec_hidden!"),
        ("webhook_secrets", "whsec_hiddenä"),
        ("webhook_secrets", "whsec_" + base64.b64encode(b"hidden" * 3).decode()),
        ("webhook_secrets", "whsec_" + base64.b64encode(b"hidden" * 11).decode()),
        ("webhook_secrets", ","),
        ("webhook_secrets", "whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode()),
        ("broker_endpoints", "{hidden"),
        ("broker_endpoints", '{"binance": "http://hidden.example/path"}'),
        ("broker_endpoints", '{"binance": "http://hidden.example:hidden"}'),
        ("broker_endpoints", '{"mt5": "http://hidden.example?key=hidden"}'),
        ("broker_endpoints", '{"mt5": "hidden.example/path"}'),
        ("vault_keys", "hidden"),
        ("vault_keys", "k1_hidden"),
        ("vault_keys", "k1_" + base64.urlsafe_b64encode(b"hidden!!" * 5).decode()),
        ("monitor_seconds", "7"),
        ("monitor_seconds", "0"),
        ("monitor_seconds", "hidden"),
        ("entitlements", "hidden"),
        ("log_format", "hidden"),
        ("telegram_token", "hidden"),
        ("smtp_port", "0"),
        ("smtp_tls", "hidden"),
        ("smtp_password", "hidden"),
        ("channel_endpoints", "{hidden"),
        ("channel_endpoints", '{"webhook": "http://hidden.example"}'),
        ("channel_endpoints", '{"discord": "ftp://hidden.example"}'),
        ("private_targets", "hidden"),
        ("candles", "{hidden"),
        ("candles_speed", "0"),
        ("candles_started_at", "2023-03-10T00:00:00"),
    ],
)
def test_what_is_not_usable_is_named_and_not_shown(field: str, value: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        settings_from(complete(**{field: value}))
    assert variable_name(field) in str(raised.value)
    assert "hidden" not in str(raised.value)
    assert len(value) == 1 or value not in str(raised.value)


@pytest.mark.parametrize("size", [24, 25, 32, 64])
def test_a_webhook_secret_may_lack_its_padding(size: int) -> None:
    padded = "whsec_" + base64.b64encode(bytes(range(size))).decode()
    settings = settings_from(complete(webhook_secrets=padded.rstrip("=")))
    [secret] = settings.webhook_secrets
    assert secret.get_secret_value() == padded
    Senders(settings.webhook_secrets)
    Webhook(secret.get_secret_value())


def test_a_bridge_may_stand_at_a_path() -> None:
    given = {
        "mt4": "https://bridges.example/four",
        "mt5": "https://bridges.example:8443/five/",
        "binance": "http://p",
    }
    assert settings_from(complete(broker_endpoints=json.dumps(given))).broker_endpoints == given
    assert set(BRIDGES) == set(PLATFORMS)


def test_tokens_need_a_secret_or_an_address_of_keys() -> None:
    variables = complete()
    del variables["ENGINE_JWT_SECRET"]
    with pytest.raises(
        InvalidSettings, match=r"ENGINE_JWT_SECRET: is not set, and ENGINE_JWT_JWKS_URL is not"
    ):
        settings_from(variables)
    for url in ("https://platform.example/jwks.json", "http://127.0.0.1:9000/jwks.json"):
        assert settings_from(variables | {"ENGINE_JWT_JWKS_URL": url}).jwt_jwks_url == url


def test_mail_needs_a_sender_and_keeps_its_password_from_being_overheard() -> None:
    relay = {"smtp_host": "mail.example", "smtp_sender": "engine@platform.example"}
    account = {"smtp_user": "engine", "smtp_password": "hidden"}
    assert settings_from(complete(**relay)).smtp_port == 587
    assert settings_from(complete(**relay, **account)).smtp_tls == "starttls"
    nearby = relay | {"smtp_host": "127.0.0.1"}
    assert settings_from(complete(**nearby, **account, smtp_tls="off")).smtp_tls == "off"
    for variables, named in (
        ({"smtp_host": "mail.example"}, "ENGINE_SMTP_SENDER"),
        (relay | {"smtp_sender": "hidden"}, "ENGINE_SMTP_SENDER"),
        (relay | {"smtp_user": "engine"}, "ENGINE_SMTP_PASSWORD"),
        (relay | account | {"smtp_tls": "off"}, "ENGINE_SMTP_PASSWORD"),
    ):
        with pytest.raises(InvalidSettings, match=named) as raised:
            settings_from(complete(**variables))
        assert "hidden" not in str(raised.value)


def test_candles_need_the_time_they_began_to_play() -> None:
    candles = '{"BTC/USDT": "/data/btc.csv"}'
    with pytest.raises(InvalidSettings, match="ENGINE_CANDLES_STARTED_AT"):
        settings_from(complete(candles=candles))
    recordings = settings_from(
        complete(candles=candles, candles_speed="2.5", candles_started_at="2026-01-01T00:00:00Z")
    )
    assert recordings.candles == {"BTC/USDT": Path("/data/btc.csv")}


def test_a_process_says_all_that_is_missing_and_ends_with_two(tmp_path: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-c", "from app.settings import load_settings; load_settings()"],
        cwd=tmp_path,
        env={"ENGINE_JWT_SECRET": "short"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 2
    assert "Traceback" not in started.stderr
    for field in ("database_url", "jwt_secret", "webhook_secrets", "vault_keys"):
        assert variable_name(field) in started.stderr


def test_secrets_do_not_print() -> None:
    values = complete()
    printed = repr(settings_from(values))
    for value in values.values():
        assert value not in printed


def test_the_example_names_every_setting_with_a_sentence() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = {
        line.partition("=")[0]: lines[number - 1] for number, line in enumerate(lines) if "=" in line[:60]
    }
    named = {name: above for name, above in named.items() if name.startswith("ENGINE_")}
    assert set(named) == {variable_name(field) for field in Settings.model_fields}
    assert all(above.startswith("# ") for above in named.values())
