"""Mail: plain text through the operator's mail server."""

import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Literal

import aiosmtplib
from pydantic import SecretStr

from app.channels.port import Destination, Message, NotDelivered


@dataclass(frozen=True, slots=True)
class Mail:
    """One message, one connection."""

    host: str
    port: int
    sender: str
    security: Literal["starttls", "tls", "off"] = "starttls"
    user: str | None = None
    password: SecretStr | None = None
    tls: ssl.SSLContext | None = None
    """Who is believed; None: the authorities this machine believes."""

    def objection(self, _target: str | None) -> None:
        """Nothing speaks against an address before it was tried."""

    async def send(self, message: Message, to: Destination) -> None:
        """Hand it to the mail server. Raises NotDelivered."""
        try:
            await aiosmtplib.send(
                self._letter(message, to.target or ""),
                hostname=self.host,
                port=self.port,
                username=self.user,
                password=None if self.password is None else self.password.get_secret_value(),
                use_tls=self.security == "tls",
                start_tls=self.security == "starttls",
                tls_context=self.tls,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = ", ".join(str(each.code) for each in error.recipients)
            raise NotDelivered(f"The mail server refused the address: {codes}.") from None
        except aiosmtplib.SMTPResponseException as error:
            raise NotDelivered(f"The mail server answered {error.code}.") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotDelivered(f"The mail server could not be used: {type(error).__name__}.") from None

    def _letter(self, message: Message, address: str) -> EmailMessage:
        letter = EmailMessage()
        letter["From"] = self.sender
        letter["To"] = address
        letter["Subject"] = message.headline
        letter["Date"] = format_datetime(message.told_at)
        # Equal for every attempt: mail programs show a repetition once.
        letter["Message-ID"] = f"<{message.id}@{self.sender.rpartition('@')[2]}>"
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(message.text)
        return letter
