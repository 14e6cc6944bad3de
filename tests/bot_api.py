"""A Bot API server on this machine: what Telegram takes is taken, what it refuses is refused.

It can be told to fail: too many requests, server errors, silence, cut connections, with or without
having taken the message first.
"""

# ruff: noqa: N802 - the methods have the names of the Bot API
from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0"
ME = {"id": 123456789, "is_bot": True, "first_name": "Conclave", "username": "conclave_bot"}
_TAGS = {"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "a",
         "blockquote", "tg-spoiler"}  # fmt: skip
_MARKUP = re.compile(r"<(/?)([a-z-]*)([^<>]*)>|&(lt|gt|amp|quot|#\d+);|[<>&]", re.IGNORECASE)
_RESERVED = "_*[]()~`>#+-=|{}.!"


class Refused(Exception):
    """What Telegram answers with 400 or 403."""

    def __init__(self, description: str, code: int = 400) -> None:
        super().__init__(description)
        self.description, self.code = description, code


@dataclass
class Fault:
    """How the server fails: ``times`` requests of ``method`` (empty = any that sends).

    ``taken`` whether the message is stored before the failure.
    """

    kind: str  # 429, 500, 502, hang, cut, refuse
    times: int = 1_000_000_000
    method: str = ""
    retry_after: int = 1
    taken: bool = False


@dataclass
class BotApi:
    """The server's state: chats that exist, messages that arrived, updates that wait."""

    chats: set[int] = field(default_factory=lambda: {42})
    blocked: set[int] = field(default_factory=set)
    messages: list[dict[str, Any]] = field(default_factory=list)
    photos: list[bytes] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any], float]] = field(default_factory=list)
    answered: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    _updates: list[dict[str, Any]] = field(default_factory=list)
    _next_update: int = 1000
    _lock: threading.Condition = field(default_factory=threading.Condition)
    _closing: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # What people do

    def write(self, text: str, chat: int = 42, user: int | None = None, name: str = "Ada") -> None:
        """Let somebody write to the bot."""
        sender = {"id": chat if user is None else user, "is_bot": False, "first_name": name}
        self._put({"message": {
            "message_id": 900_000 + self._next_update, "date": 1_700_000_000,
            "chat": _chat(chat), "from": sender, "text": text,
        }})  # fmt: skip

    def press(self, data: str, message: Mapping[str, Any], user: int | None = None) -> None:
        """Let somebody press a button under a message."""
        chat = message["chat"]["id"]
        sender = {"id": chat if user is None else user, "is_bot": False, "first_name": "Ada"}
        shown = {k: message[k] for k in ("message_id", "date", "chat")}
        self._put({"callback_query": {
            "id": str(self._next_update), "from": sender, "chat_instance": "1", "data": data,
            "message": {**shown, "text": message.get("text", "")},
        }})  # fmt: skip

    def _put(self, update: dict[str, Any]) -> None:
        with self._lock:
            self._updates.append({"update_id": self._next_update, **update})
            self._next_update += 1
            self._lock.notify_all()

    def until(self, seen: Any, seconds: float = 10.0, what: str = "that") -> Any:
        """Wait until ``seen()`` returns something true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := seen():
                return found
            time.sleep(0.01)
        raise AssertionError(f"no {what} within {seconds} s; messages: {self.texts()[-5:]}")

    def texts(self, chat: int = 42) -> list[str]:
        """Return what a reader of a chat sees, oldest first."""
        return [m["shown"] for m in self.messages if m["chat"]["id"] == chat]

    # The methods, by Telegram's names

    def getMe(self, _: dict[str, Any]) -> Any:
        return ME

    def setMyCommands(self, given: dict[str, Any]) -> Any:
        self.commands = json.loads(given["commands"])
        for one in self.commands:
            if not re.fullmatch(r"[a-z0-9_]{1,32}", one["command"]):
                raise Refused("Bad Request: BOT_COMMAND_INVALID")
            if not 1 <= len(one["description"]) <= 256:
                raise Refused("Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
        return True

    def getUpdates(self, given: dict[str, Any]) -> Any:
        offset, wait = int(given.get("offset", 0)), float(given.get("timeout", 0))
        end = time.monotonic() + wait
        with self._lock:
            self._updates = [u for u in self._updates if u["update_id"] >= offset]
            while not self._updates and not self._closing:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._lock.wait(left)
            return list(self._updates[:100])

    def sendMessage(self, given: dict[str, Any]) -> Any:
        chat = self._known(given["chat_id"])
        shown = _parsed(given.get("text", ""), given.get("parse_mode"), 4096)
        if not shown.strip():
            raise Refused("Bad Request: message text is empty")
        return self._arrived(chat, given, {"text": given["text"], "shown": shown})

    def sendPhoto(self, given: dict[str, Any]) -> Any:
        chat = self._known(given["chat_id"])
        photo = given.get("photo")
        if not isinstance(photo, bytes) or not photo.startswith(b"\x89PNG"):
            raise Refused("Bad Request: wrong file identifier/HTTP URL specified")
        shown = _parsed(given.get("caption", ""), given.get("parse_mode"), 1024)
        self.photos.append(photo)
        size = [{"file_id": "1", "file_unique_id": "1", "width": 1080, "height": 1080}]
        return self._arrived(
            chat, given, {"caption": given.get("caption", ""), "shown": shown, "photo": size}
        )

    def editMessageText(self, given: dict[str, Any]) -> Any:
        self._known(given["chat_id"])
        shown = _parsed(given["text"], given.get("parse_mode"), 4096)
        for message in self.messages:
            if message["message_id"] == int(given["message_id"]):
                markup = _markup(given)
                if (message["text"], message.get("reply_markup")) == (given["text"], markup):
                    raise Refused("Bad Request: message is not modified")
                message.update(text=given["text"], shown=shown, reply_markup=markup)
                return _public(message)
        raise Refused("Bad Request: message to edit not found")

    def answerCallbackQuery(self, given: dict[str, Any]) -> Any:
        self.answered.append(given)
        return True

    def deleteMessage(self, given: dict[str, Any]) -> Any:
        before = len(self.messages)
        self.messages = [m for m in self.messages if m["message_id"] != int(given["message_id"])]
        if len(self.messages) == before:
            raise Refused("Bad Request: message to delete not found")
        return True

    def _known(self, chat: str) -> int:
        if not re.fullmatch(r"-?\d+", chat) or int(chat) not in self.chats:
            raise Refused("Bad Request: chat not found")
        if int(chat) in self.blocked:
            raise Refused("Forbidden: bot was blocked by the user", 403)
        return int(chat)

    def _arrived(self, chat: int, given: dict[str, Any], body: dict[str, Any]) -> Any:
        with self._lock:
            message = {
                "message_id": len(self.messages) + 1, "date": 1_700_000_000, "chat": _chat(chat),
                "silent": given.get("disable_notification") == "True"
                or given.get("disable_notification") == "true",
                "reply_markup": _markup(given), **body,
            }  # fmt: skip
            self.messages.append(message)
            return _public(message)

    # Failing

    def fault_for(self, method: str) -> Fault | None:
        """Return how this request fails, if it does."""
        with self._lock:
            for fault in self.faults:
                wanted = fault.method or ("" if method.startswith(("get", "setMy")) else method)
                if fault.times > 0 and wanted == method:
                    fault.times -= 1
                    return fault
        return None


def _chat(number: int) -> dict[str, Any]:
    return {"id": number, "type": "private" if number > 0 else "group"}


def _public(message: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in message.items() if k not in ("shown", "silent") and v is not None}


def _markup(given: Mapping[str, Any]) -> Any:
    if "reply_markup" not in given:
        return None
    markup = json.loads(given["reply_markup"])
    for row in markup.get("inline_keyboard", []):
        for button in row:
            if not 1 <= len(button["callback_data"].encode()) <= 64:
                raise Refused("Bad Request: BUTTON_DATA_INVALID")
    return markup


def _parsed(text: str, mode: str | None, limit: int) -> str:
    """Return what a reader sees. Raises Refused for what Telegram cannot parse, or too long."""
    if any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise Refused("Bad Request: strings must be encoded in UTF-8")
    shown = {"HTML": _html, "MarkdownV2": _markdown, None: str}[mode](text)
    if len(shown.encode("utf-16-le")) // 2 > limit:
        what = "message is too long" if limit == 4096 else "message caption is too long"
        raise Refused(f"Bad Request: {what}")
    return shown


def _html(text: str) -> str:
    shown, stack, last = [], [], 0
    for found in _MARKUP.finditer(text):
        shown.append(text[last : found.start()])
        last = found.end()
        slash, tag, more, entity = found.groups()
        if entity is not None:
            named = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
            shown.append(named.get(entity) or chr(int(entity[1:])))
        elif tag is None or tag.lower() not in _TAGS:
            raise Refused(f"Bad Request: can't parse entities: unsupported {found.group()!r}")
        elif slash:
            if not stack or stack.pop() != tag.lower():
                raise Refused(f"Bad Request: can't parse entities: unexpected end tag {tag}")
        else:
            stack.append(tag.lower())
            if more.strip() and tag.lower() != "a":
                raise Refused(f"Bad Request: can't parse entities: attributes {more!r}")
    if stack:
        raise Refused(f"Bad Request: can't parse entities: can't find end tag of {stack[-1]}")
    return "".join(shown) + text[last:]


def _markdown(text: str) -> str:
    shown, opened, i = [], [], 0
    while i < len(text):
        c = text[i]
        if c == "\\" and i + 1 < len(text) and text[i + 1] in _RESERVED + "\\":
            shown.append(text[i + 1])
            i += 2
            continue
        if c in "*_~`":
            if opened and opened[-1] == c:
                opened.pop()
            else:
                opened.append(c)
        elif c in _RESERVED:
            raise Refused(f"Bad Request: can't parse entities: character '{c}' is reserved")
        else:
            shown.append(c)
        i += 1
    if opened:
        raise Refused("Bad Request: can't parse entities: can't find end of the entity")
    return "".join(shown)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = re.fullmatch(r"/bot([^/]+)/(\w+)", self.path)
        api = self.server.api
        if found is None or found.group(1) != TOKEN:
            self._reply(401, {"ok": False, "error_code": 401, "description": "Unauthorized"})
            return
        method, given = found.group(2), _given(self.headers.get("Content-Type", ""), body)
        api.calls.append((method, given, time.monotonic()))
        fault = api.fault_for(method)
        if fault is not None and not self._fail(api, method, given, fault):
            return
        if fault is None:
            self._answer(api, method, given)

    def _answer(self, api: BotApi, method: str, given: dict[str, Any]) -> None:
        try:
            result = getattr(api, method)(given)
        except Refused as error:
            body = {"ok": False, "error_code": error.code, "description": error.description}
            self._reply(error.code, body)
        else:
            self._reply(200, {"ok": True, "result": result})

    def _fail(self, api: BotApi, method: str, given: dict[str, Any], fault: Fault) -> bool:
        if fault.taken:
            getattr(api, method)(given)
        if fault.kind == "429":
            self._reply(429, {
                "ok": False, "error_code": 429, "description": "Too Many Requests: retry later",
                "parameters": {"retry_after": fault.retry_after},
            })  # fmt: skip
        elif fault.kind in ("500", "502"):
            code = int(fault.kind)
            self._reply(code, {"ok": False, "error_code": code, "description": "Internal"})
        elif fault.kind == "hang":
            end = time.monotonic() + 30
            while time.monotonic() < end and not api._closing and fault.times >= 0:
                if self._gone():
                    break
                time.sleep(0.02)
            self.close_connection = True
        else:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        return False

    def _gone(self) -> bool:
        self.connection.settimeout(0.001)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(None)

    def _reply(self, code: int, body: Any) -> None:
        data = json.dumps(body).encode()
        try:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # who asked has gone
            self.close_connection = True


def _given(kind: str, body: bytes) -> dict[str, Any]:
    if kind.startswith("multipart/"):
        parsed = BytesParser(policy=HTTP).parsebytes(
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body
        )
        found: dict[str, Any] = {}
        for part in parsed.iter_parts():
            name = part.get_param("name", header="content-disposition")
            data = part.get_payload(decode=True)
            file = part.get_filename() is not None
            found[str(name)] = data if file else data.decode("utf-8")
        for name, value in list(found.items()):
            if isinstance(value, str) and value.startswith("attach://"):
                found[name] = found[value.removeprefix("attach://")]
        return found
    return {k: v[0] for k, v in parse_qs(body.decode("utf-8"), keep_blank_values=True).items()}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    api: BotApi

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.open: set[socket.socket] = set()

    def handle_error(self, *_: Any) -> None:
        """Say nothing of connections that were cut."""


@contextmanager
def serve(api: BotApi, port: int = 0) -> Iterator[BotApi]:
    """Run the server; on leaving, nobody listens on its port any more, and its state stays."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.api, api.port, api._closing = api, server.server_address[1], False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        api._closing = True
        with api._lock:
            api._lock.notify_all()
        server.shutdown()
        server.server_close()
        for connection in list(server.open):  # kept alive, they would be served for ever
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()
