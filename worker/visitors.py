"""The people of the tour, each with the interface they would use: a key, or a browser's session."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Self

import httpx

_CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class VisitFailed(Exception):
    """Something a visitor met that ends the tour."""


class Consumer:
    """An API consumer with a key, speaking OpenAI's protocol."""

    def __init__(self, url: str, api_key: str) -> None:
        headers = {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=f"{url}/v1", headers=headers, timeout=60)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def model(self) -> dict[str, Any]:
        """What this key may use now."""
        return _json(self._http.get("/models/reclaim"))

    def chat(self, content: str, *, max_tokens: int) -> dict[str, Any]:
        """One greedy answer."""
        return _json(self._http.post("/chat/completions", json=_chat(content, max_tokens)))

    def refused(self, content: str, *, require: list[str]) -> dict[str, Any]:
        """The error of a request that requires experts, with its status."""
        body = _chat(content, 8) | {"experts": {"require": require}}
        response = self._http.post("/chat/completions", json=body)
        error: dict[str, Any] = response.json().get("error", {})
        return {"status": response.status_code, **error}

    def stream(self, content: str, *, max_tokens: int, seed: int) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed, sampled answer."""
        body = _chat(content, max_tokens) | {"stream": True, "temperature": 1, "seed": seed}
        with self._http.stream("POST", "/chat/completions", json=body) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise VisitFailed(f"{response.status_code}: {response.text[:300]}")
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line.removeprefix("data: "))

    def complete(self, prompt: str, *, max_tokens: int, exclude: list[str]) -> str:
        """The greedy continuation of a prompt."""
        body = {
            "model": "reclaim",
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "experts": {"exclude": exclude},
        }
        text: str = _json(self._http.post("/completions", json=body))["choices"][0]["text"]
        return text

    def score(self, prompt: str, *, exclude: list[str]) -> dict[str, Any]:
        """The prompt's tokens with their log-probabilities (natural)."""
        body = {
            "model": "reclaim",
            "prompt": prompt,
            "max_tokens": 0,
            "echo": True,
            "logprobs": 0,
            "experts": {"exclude": exclude},
        }
        found: dict[str, Any] = _json(self._http.post("/completions", json=body))["choices"][0]
        logprobs: dict[str, Any] = found["logprobs"]
        return logprobs


class Staff:
    """A person who logs in through the page, then uses pages and REST in that session."""

    def __init__(self, url: str, email: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60, follow_redirects=True)
        self._http.headers["Referer"] = url
        self._log_in(email, password)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str) -> dict[str, Any]:
        """A REST resource."""
        return _json(self._http.get(path))

    def download(self, path: str) -> bytes:
        """A file."""
        response = self._http.get(path)
        if response.status_code != httpx.codes.OK:
            raise VisitFailed(f"{path}: {response.status_code}")
        return response.content

    def withdraw(self, name: str) -> str:
        """Press the page's Withdraw button; returns the withdrawal's id."""
        response = self._post(f"/owner/experts/{name}/", f"/owner/experts/{name}/withdraw/", {})
        found = re.search(r"/owner/withdrawals/([0-9a-f-]{36})", f"{response.url}{response.text}")
        if found is None:
            raise VisitFailed(f"expected the page of a withdrawal, found {response.url}")
        return found.group(1)

    def withdrawal(self, withdrawal_id: str) -> dict[str, Any]:
        """How far a withdrawal is."""
        return self.get(f"/api/v1/withdrawals/{withdrawal_id}")

    @staticmethod
    def seconds_between(earlier: str, later: str) -> float:
        """The time between two instants as REST writes them, in seconds."""
        span = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
        return span.total_seconds()

    def _log_in(self, email: str, password: str) -> None:
        fields = {"login": email, "password": password}
        self._post("/account/login/", "/account/login/", fields)
        if self._http.get("/api/v1/me").status_code != httpx.codes.OK:
            raise VisitFailed(f"{email} could not log in with the password of the demo")

    def _post(self, page: str, action: str, fields: dict[str, str]) -> httpx.Response:
        shown = self._http.get(page)
        csrf = _CSRF.search(shown.text)
        if csrf is None:
            raise VisitFailed(f"expected a form on {page}, found status {shown.status_code}")
        response = self._http.post(action, data={"csrfmiddlewaretoken": csrf.group(1), **fields})
        if response.status_code != httpx.codes.OK:
            raise VisitFailed(f"{action}: {response.status_code}")
        return response


def _chat(content: str, max_tokens: int) -> dict[str, Any]:
    return {
        "model": "reclaim",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }


def _json(response: httpx.Response) -> dict[str, Any]:
    if response.status_code >= httpx.codes.BAD_REQUEST:
        raise VisitFailed(f"{response.url}: {response.status_code} {response.text[:300]}")
    found: dict[str, Any] = response.json()
    return found
