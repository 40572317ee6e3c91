"""Receivers: an HTTP server and a mail server that keep what they are sent, and can be slow, broken or away."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server that takes POSTs."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """What is answered to the next requests; after them 200."""
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer_body: bytes = b""
    is_endless: bool = False
    """Whether an answer never ends."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing is answered before it is set."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.received.append(Received(first.split()[1], headers, body))
            await self.gate.wait()
            await self._answer(writer)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        status = self.answers.pop(0) if self.answers else 200
        length = {} if self.is_endless else {"Content-Length": str(len(self.answer_body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in (length | self.answer_headers).items())
        writer.write(f"HTTP/1.1 {status} So\r\n{head}Connection: close\r\n\r\n".encode() + self.answer_body)
        await writer.drain()
        while self.is_endless:
            writer.write(b"and so on " * 1000)
            await writer.drain()


@asynccontextmanager
async def running_receiver(tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Receiver]:
    """Run one on loopback."""
    receiver = Receiver()
    receiver.gate.set()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port, ssl=tls)
    scheme = "https" if tls else "http"
    receiver.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        receiver.gate.set()
        server.close()


@dataclass
class MailServer:
    """A mail server that wants a user to log in, over TLS where it has a certificate."""

    tls: ssl.SSLContext | None
    """What it begins with when it is asked to."""
    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str, str]] = field(default_factory=list)
    """Who sent each letter to whom."""
    logins: list[tuple[str, str]] = field(default_factory=list)
    """User and password, as they came in, and only over TLS where there is any."""
    refusal: str | None = None
    """What is answered to every address instead of taking it."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with one client."""

        async def say(*lines: str) -> None:
            writer.write("".join(f"{line}\r\n" for line in lines).encode())
            await writer.drain()

        sender, recipient, is_secure = "", "", self.tls is None
        await say("220 mail.example")
        while line := (await reader.readline()).decode().strip():
            word, _, rest = line.partition(" ")
            match word.upper():
                case "EHLO":
                    await say("250-mail.example", "250 AUTH PLAIN" if is_secure else "250 STARTTLS")
                case "STARTTLS" if self.tls:
                    await say("220 go ahead")
                    await writer.start_tls(self.tls)
                    is_secure = True
                case "AUTH" if is_secure:
                    _, user, password = base64.b64decode(rest.split()[1]).decode().split("\0")
                    self.logins.append((user, password))
                    await say("235 welcome")
                case "MAIL" if is_secure:
                    sender = rest.partition("<")[2].partition(">")[0]
                    await say("250 ok")
                case "RCPT" if is_secure:
                    recipient = rest.partition("<")[2].partition(">")[0]
                    await say(self.refusal or "250 ok")
                case "DATA" if is_secure:
                    await say("354 go on")
                    raw = (await reader.readuntil(b"\r\n.\r\n")).removesuffix(b".\r\n")
                    self.letters.append(message_from_bytes(raw, EmailMessage, policy=policy.default))
                    self.envelopes.append((sender, recipient))
                    await say("250 taken")
                case "QUIT":
                    await say("221 bye")
                    break
                case _:
                    await say("530 not like this")
        writer.close()


@asynccontextmanager
async def running_mail_server(
    tls: ssl.SSLContext | None = None, *, from_the_first_byte: bool = False
) -> AsyncIterator[MailServer]:
    """Run one on loopback, with TLS when it is asked for or from the first byte on."""
    mail = MailServer(None if from_the_first_byte else tls)
    server = await asyncio.start_server(mail.serve, "127.0.0.1", 0, ssl=tls if from_the_first_byte else None)
    mail.port = server.sockets[0].getsockname()[1]
    try:
        yield mail
    finally:
        server.close()


@dataclass(frozen=True)
class Trust:
    """A certificate that only those who are handed `client` believe."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def make_trust(directory: Path, *names: str) -> Trust:
    """A certificate for these hosts and addresses, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    hosts: list[x509.GeneralName] = [
        x509.IPAddress(ip_address(each)) if each[0].isdigit() else x509.DNSName(each) for each in names
    ]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = directory / "certificate.pem", directory / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(public, private)
    return Trust(server, ssl.create_default_context(cafile=str(public)))
