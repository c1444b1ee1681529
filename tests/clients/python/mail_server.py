"""A mail server that somebody else wrote: aiosmtpd. Listens on a free port of the
loopback interface, prints the port, then each mail as one line of JSON.

    mail_server.py                                 without encryption
    mail_server.py starttls|smtps CERTIFICATE KEY  mail over STARTTLS only, or all of it over TLS
    mail_server.py rcpt|data CODE                  refuses at this command whatever it sees for the first time
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP


class Handler:
    def __init__(self, command=None, code=None):
        self.command, self.code, self.known = command, code, set()

    def refuses(self, command, recipient):
        if command != self.command or recipient in self.known:
            return False
        self.known.add(recipient)
        return True

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.refuses("rcpt", address):
            return f"{self.code} {address}: for your eyes only"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.refuses("data", envelope.rcpt_tos[0]):
            return f"{self.code} {envelope.rcpt_tos[0]}: for your eyes only"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        seen = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "encrypted": session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None,
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "text": mail.get_content(),
        }
        print(json.dumps(seen), flush=True)
        return "250 OK"


async def main(mode=None, *arguments):
    loop = asyncio.get_running_loop()
    handler, encryption, tls = Handler(), None, None
    if mode in ("rcpt", "data"):
        handler = Handler(mode, *arguments)
    elif mode:
        encryption = mode
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*arguments)
    starttls = {"tls_context": tls, "require_starttls": True} if encryption == "starttls" else {}
    server = await loop.create_server(
        lambda: SMTP(handler, enable_SMTPUTF8=True, loop=loop, **starttls),
        "127.0.0.1",
        0,
        ssl=tls if encryption == "smtps" else None,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
