"""Providers over HTTP: the two shapes that language models are offered in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from agents.debaters.provider import ProviderError, Reply

REPLY_BYTES = 64 * 1024
_PAUSE_S = 30.0  # after a 429 that names none
_LONGEST_PAUSE_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Preset:
    """Where a provider is and how it is spoken to.

    Attributes
    ----------
    key : name of the environment variable with its key.
    """

    name: str
    shape: Literal["openai", "anthropic"]
    url: str
    model: str
    key: str


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "grok", "openai", "https://api.x.ai/v1", "grok-4-1-fast-non-reasoning", "XAI_API_KEY"
        ),
        Preset(
            "claude", "anthropic", "https://api.anthropic.com/v1", "claude-haiku-5-5",
            "ANTHROPIC_API_KEY",
        ),
    )
}  # fmt: skip


class HttpProvider:
    """A preset with a key.

    Parameters
    ----------
    key : sent as a header and to nobody else; redirects are not followed.
    client : makes the requests. ``answer_tokens`` : most that the model may write.
    """

    def __init__(
        self, preset: Preset, key: str, client: httpx.AsyncClient, answer_tokens: int
    ) -> None:
        self._preset, self._key, self._client = preset, key, client
        self._tokens = answer_tokens
        self.name, self.model = preset.name, preset.model

    def __repr__(self) -> str:
        return f"HttpProvider({self.name}, {self.model})"

    async def complete(self, system: str, user: str, timeout_s: float) -> Reply:
        """Return the model's text; see :class:`agents.debaters.provider.Provider`."""
        path, headers, body = self._request(system, user)
        try:
            raw = await self._post(f"{self._preset.url}/{path}", headers, body, timeout_s)
        except httpx.TimeoutException as error:
            raise ProviderError("deadline", f"{timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise ProviderError("unreachable", type(error).__name__) from error
        try:
            return self._reply(json.loads(raw))
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise ProviderError("invalid", "the reply has another shape") from error

    async def _post(
        self, url: str, headers: Mapping[str, str], body: Mapping[str, Any], timeout_s: float
    ) -> bytes:
        asked = self._client.stream(
            "POST", url, headers=headers, json=body, timeout=timeout_s, follow_redirects=False
        )
        async with asked as response:
            if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
                raise ProviderError("rate_limited", wait_s=_pause(response.headers))
            if response.status_code != httpx.codes.OK:
                raise ProviderError("refused", f"HTTP {response.status_code}")
            found = bytearray()
            async for chunk in response.aiter_bytes():
                found += chunk
                if len(found) > REPLY_BYTES:
                    raise ProviderError("oversized", f"more than {REPLY_BYTES} bytes")
            return bytes(found)

    def _request(self, system: str, user: str) -> tuple[str, dict[str, str], dict[str, Any]]:
        said = {"role": "user", "content": user}
        if self._preset.shape == "openai":
            headers = {"authorization": f"Bearer {self._key}"}
            messages = [{"role": "system", "content": system}, said]
            limits = {"max_completion_tokens": self._tokens, "temperature": 0}
            return "chat/completions", headers, {
                "model": self.model, "messages": messages, **limits,
            }  # fmt: skip
        headers = {"x-api-key": self._key, "anthropic-version": "2023-06-01"}
        # newer models refuse a temperature, and think past the deadline unless told not to
        return "messages", headers, {
            "model": self.model, "system": system, "messages": [said], "max_tokens": self._tokens,
            "thinking": {"type": "disabled"},
        }  # fmt: skip

    def _reply(self, body: Any) -> Reply:
        if not isinstance(body, dict):
            raise TypeError("no object")
        used = body.get("usage") or {}
        if self._preset.shape == "openai":
            text = body["choices"][0]["message"]["content"]
            tokens = used.get("total_tokens", 0)
        else:
            text = "".join(part["text"] for part in body["content"] if part["type"] == "text")
            tokens = used.get("input_tokens", 0) + used.get("output_tokens", 0)
        if not isinstance(text, str):
            raise TypeError("no text")
        return Reply(text, int(tokens))


def _pause(headers: httpx.Headers) -> float:
    """The seconds that ``Retry-After`` names, within reason."""
    try:
        wait = float(headers.get("retry-after", ""))
    except ValueError:
        return _PAUSE_S
    return min(max(wait, 0.0), _LONGEST_PAUSE_S) if wait == wait else _PAUSE_S
