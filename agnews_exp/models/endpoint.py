"""A client of the OpenAI chat protocol: every answer is kept on disk, limits are obeyed, a budget is never exceeded."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import math
import os
import random
import re
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agnews_exp.core.errors import ConfigError, ResourceError, StorageError, first_line
from agnews_exp.core.text import masked, shortened, visible

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 600.0
"""An endpoint that asks to wait for longer ends the run; the same command goes on later."""

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_OF_A_TEXT = ("content_filter", "content_policy", "context_length", "context length", "string_above_max_length")
"""Codes of refusals that are about one text: no other text is refused for them."""
_OPTIONAL = ("response_format", "logprobs", "temperature", "max_tokens")
"""Parameters that an endpoint may refuse (HTTP 400, 422); it is then asked without them."""

BYTES_A_TOKEN = 4
"""Of English text, roughly: for what is shown before, and where an endpoint does not count. A budget takes the most."""

_LARGEST_ANSWER = 4 << 20  # bytes


@dataclass(frozen=True)
class Reply:
    """One answer of an endpoint, as it is kept."""

    content: str | None  # the text that the model wrote; None where the endpoint refused to answer this text
    finish: str  # why it ended: ``stop``, ``length``, or the code of a refusal
    input_tokens: int
    output_tokens: int
    latency_s: float  # of the request that was answered
    seconds: float  # from the first attempt on, waiting included
    # Of each token: itself, and the likeliest tokens of its place with their log-probabilities; empty if not offered.
    tokens: list[tuple[str, list[tuple[str, float]]]] = field(default_factory=list)


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in the user's currency."""

    input: float
    output: float

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """Return the price of so many tokens."""
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


class AnswerCache:
    """The answers that were paid for, by key, in one SQLite file.

    SQLite (standard library) commits each answer by itself, also where a process is killed or several write at once; a
    file for each of 100,000 answers would be slow to list. Texts are not stored, only hashes that they are part of.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                if self._file is None:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._file = sqlite3.connect(self._path, timeout=60, check_same_thread=False)
                    self._file.execute("PRAGMA journal_mode=WAL")
                    self._file.execute("PRAGMA synchronous=NORMAL")  # a kill loses nothing, a power cut the last ones
                    self._file.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
                with self._file:
                    yield self._file
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"{self._path}, which keeps the answers of endpoints, cannot be used: {first_line(error)}.",
                fix="make room or mend its rights; a damaged one can be moved away, with the answers in it",
            ) from error

    def find(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the answers that are known."""
        found: dict[str, Reply] = {}
        with self._open() as file:
            for key in dict.fromkeys(keys):
                row = file.execute("SELECT reply FROM answers WHERE key = ?", (key,)).fetchone()
                if row is None:
                    continue
                with suppress(ValueError, TypeError, KeyError, AttributeError):  # what cannot be read is asked again
                    stored = json.loads(row[0])
                    tokens = [(token, [(t, p) for t, p in likely]) for token, likely in stored.pop("tokens")]
                    found[key] = Reply(**stored, tokens=tokens)
        return found

    def keep(self, key: str, reply: Reply) -> None:
        """Store an answer; it outlives the process when this returns."""
        with self._open() as file:
            file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(asdict(reply))))


class Budget:
    """Money that may be spent; each request reserves the most that it can cost before it is sent."""

    def __init__(self, limit: float | None, spent: float) -> None:
        self.limit = math.inf if limit is None else limit
        self.spent = spent
        self._reserved = 0.0
        self._changed = threading.Condition()

    def reserve(self, most: float, stop: threading.Event) -> bool:
        """Set an amount aside, once there is room for it; return whether there was."""
        with self._changed:
            while self.spent + self._reserved + most > self.limit:
                if not self._reserved or stop.is_set():
                    return False
                self._changed.wait(0.2)
            self._reserved += most
            return True

    def settle(self, reserved: float, cost: float) -> None:
        """Replace what was reserved by what it did cost."""
        with self._changed:
            self._reserved -= reserved
            self._reserved = 0.0 if self._reserved < 1e-12 else self._reserved
            self.spent += cost
            self._changed.notify_all()


class _Again(Exception):
    """A request that failed for a while, and after how many seconds the endpoint wants it again."""

    def __init__(self, reason: str, wait: float | None = None, *, billed: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.billed = billed  # whether it may have to be paid for


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would send the key and the texts to somebody else."""

    def redirect_request(self, *_args: Any) -> None:
        return None


Body = Callable[[str, frozenset[str]], dict[str, Any]]
"""The body of the request for a text, without the parameters that the endpoint does not take."""


@dataclass(eq=False)
class ChatEndpoint:
    """An endpoint that answers texts with one prompt."""

    address: str  # such as https://api.openai.com/v1
    model: str  # its name there
    body: Body
    identity: str  # hash of all that determines an answer but address, model and text
    cache: AnswerCache
    key_name: str  # the environment variable that holds the key
    concurrency: int
    timeout_s: float
    retries: int
    most_output: int  # tokens of an answer at most
    prices: Prices | None = None
    budget: float | None = None
    allowed: bool = False  # whether somebody has said yes to sending texts
    how_to_allow: str = "agnews predict RUN FILE --confirm; in Python: classifier.model.endpoint.allowed = True"
    _not_offered: frozenset[str] = frozenset()
    _pause_until: float = 0.0
    _spent: float = 0.0
    _reached: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        """The host that texts are sent to."""
        return urlsplit(self.address).netloc

    def key(self, text: str) -> str:
        """Return the key under which the answer to a text is kept."""
        parts = json.dumps([self.address.rstrip("/"), self.model, self.identity, text])
        return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()

    def known(self, texts: Sequence[str]) -> dict[str, Reply]:
        """Return the answers that are on the disk already, by key."""
        return self.cache.find(map(self.key, texts))

    def bytes_of(self, text: str) -> int:
        """Return the bytes of a text's request, which its tokens cannot outnumber."""
        return len(json.dumps(self.body(text, self._not_offered), ensure_ascii=False).encode("utf-8", "replace"))

    def answer(self, texts: Sequence[str]) -> list[Reply]:
        """Answer n texts: each from the disk where it was asked before, and each that is new once.

        Raises:
            ConfigError: Nobody has agreed to send texts, the budget does not suffice, or the endpoint refuses.
            ResourceError: The endpoint cannot be reached, or gives no answer.
        """
        keys = [self.key(text) for text in texts]
        replies = self.cache.find(keys)
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in replies}
        if new and not self.allowed:
            raise ConfigError(
                f"{len(new):,} texts would be sent to {self.host}, and nobody has agreed to that: nothing was sent.",
                fix=self.how_to_allow,
            )
        self._spent += self.cost(replies.values())
        if new:
            self._send(new, replies)
        return [replies[key] for key in keys]

    def cost(self, replies: Iterable[Reply]) -> float:
        """Return the price of answers; 0 without prices."""
        return sum(self.prices.cost(r.input_tokens, r.output_tokens) for r in replies) if self.prices else 0.0

    def _send(self, new: Mapping[str, str], replies: dict[str, Reply]) -> None:
        """Ask for all new texts, several at a time, and put the answers to those that are known."""
        stop = threading.Event()
        budget = Budget(self.budget, self._spent)
        pool = ThreadPoolExecutor(self.concurrency, "llm")
        futures = {pool.submit(self._ask, key, text, budget, stop): key for key, text in new.items()}
        said = time.monotonic()
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                replies[futures[future]] = future.result()
                if time.monotonic() - said > 10:
                    said = time.monotonic()
                    log.info("%d of %d texts answered, %.4f spent", done, len(new), budget.spent)
        except BaseException as error:
            # What is under way is paid for: it is waited for and kept, and nothing else is sent.
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            if isinstance(error, _OutOfBudget):
                left = len(new) - len(self.cache.find(new))
                raise ConfigError(
                    f"The budget of {self.budget:g} would be exceeded: {budget.spent:.6g} are spent, and {left:,} of "
                    f"{len(new):,} texts are left. What was answered is kept and not asked again.",
                    fix="the same command with a larger budget goes on",
                ) from None
            raise
        finally:
            pool.shutdown()
            self._spent = budget.spent

    def _ask(self, key: str, text: str, budget: Budget, stop: threading.Event) -> Reply:
        started, attempt = time.monotonic(), 0
        while True:
            self._wait(stop)
            if stop.is_set():
                raise _Stopped
            request = self.body(text, self._not_offered)
            most = self.prices.cost(self.bytes_of(text), self.most_output) if self.prices else 0.0
            if not budget.reserve(most, stop):
                raise _Stopped if stop.is_set() else _OutOfBudget
            cost, sent = 0.0, time.monotonic()
            try:
                reply, counted = self._reply(self._post(request), text, sent, started)
                cost = self.cost([reply]) if counted else most
                self.cache.keep(key, reply)
                return reply
            except _NotOffered as missing:
                with self._lock:
                    self._not_offered |= {str(missing)}
            except _Again as again:
                attempt += 1
                cost = most if again.billed else 0.0
                if attempt > self.retries:
                    raise ResourceError(
                        f"{self.host} gives no answer: {again} ({attempt} attempts). What was answered is kept.",
                        fix="the same command goes on, and asks nothing twice",
                    ) from None
                self._back_off(again, attempt, stop)
            finally:
                budget.settle(most, cost)

    def _wait(self, stop: threading.Event) -> None:
        """Wait until the endpoint takes requests again."""
        while (left := self._pause_until - time.monotonic()) > 0 and not stop.wait(left):
            pass

    def _back_off(self, again: _Again, attempt: int, stop: threading.Event) -> None:
        """Wait as long as the endpoint wants, all requests alike, or twice as long with every attempt."""
        if again.wait is None:
            stop.wait(min(60.0, 0.25 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            return
        self._pause(again.wait)

    def _pause(self, seconds: float) -> None:
        if seconds > LONGEST_PAUSE_S:
            raise ResourceError(
                f"{self.host} asks to wait for {seconds:,.0f} s. What was answered is kept.",
                fix="the same command goes on later, and asks nothing twice",
            )
        with self._lock:
            self._pause_until = max(self._pause_until, time.monotonic() + seconds)

    def _post(self, body: Mapping[str, Any]) -> bytes:
        """Send one request and return the body of the answer.

        Raises:
            _Again: It may be answered another time.
            _NotOffered: The endpoint does not take a parameter.
            AgnewsError: It will never be answered.
        """
        key = os.environ.get(self.key_name, "").strip()
        if not (key.isascii() and (key.isprintable() or not key)):
            raise ConfigError(f"The environment variable {self.key_name} holds no key: it has signs that no key has.")
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        address = f"{self.address.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310 - the scheme has been checked
        local = self.host.partition(":")[0] in ("localhost", "127.0.0.1", "[")
        proxies = [urllib.request.ProxyHandler({})] if local else []
        try:
            with urllib.request.build_opener(_NoRedirect, *proxies).open(request, timeout=self.timeout_s) as response:
                self._reached = True
                content: bytes = response.read(_LARGEST_ANSWER)
                self._heed(response.headers)
                return content
        except urllib.error.HTTPError as error:
            self._reached = True
            return self._refused(error, body, key)
        except TimeoutError:
            raise _Again(f"silence for {self.timeout_s:g} s", billed=True) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _Again(f"silence for {self.timeout_s:g} s", billed=True) from None
            if not self._reached:
                raise ResourceError(
                    f"model.endpoint={masked(self.address)} cannot be reached: {error.reason}.", fix="check the address"
                ) from None
            raise _Again(f"it cannot be reached: {error.reason}") from None
        except (http.client.HTTPException, OSError) as error:
            raise _Again(f"half an answer ({type(error).__name__})", billed=True) from None

    def _heed(self, headers: Message) -> None:
        """Pause before the endpoint has to refuse: nothing remains of a limit until it is renewed."""
        for of in ("requests", "tokens"):
            if headers.get(f"x-ratelimit-remaining-{of}") == "0":
                seconds = _seconds(headers.get(f"x-ratelimit-reset-{of}"))
                self._pause(min(seconds or 0.0, 60.0))

    def _refused(self, error: urllib.error.HTTPError, body: Mapping[str, Any], key: str) -> bytes:
        """Say what an HTTP status means for the run; a refusal of this text alone is returned as an answer."""
        status, text = error.code, ""
        with suppress(OSError, http.client.HTTPException):
            text = error.read(1 << 16).decode("utf-8", "replace")
        found: Any = None
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            found = json.loads(text)["error"]
        found = found if isinstance(found, dict) else {"message": found}
        code = str(found.get("code") or found.get("type") or "")
        said = str(found.get("message") or text or error.reason).strip() or "no reason"
        said = shortened(visible(masked((said.replace(key, "***") if key else said).splitlines()[0])), 300)
        if status in (401, 403):
            why = "is refused" if key else "is needed"
            raise ConfigError(
                f"{self.host} (HTTP {status}): a key {why}, in the environment variable {self.key_name}.",
                fix=f"export {self.key_name}=<key>, or model.api_key_env=<another variable>",
            )
        if status == 404:
            raise ConfigError(
                f"model.name={self.model}: {self.host} has no such model, or model.endpoint={masked(self.address)} is "
                f"not its address (HTTP 404: {said}).",
                fix="model.name=<as the endpoint calls it>; the address ends before /chat/completions",
            )
        if status in (400, 413, 422):
            if status == 413 or any(word in f"{code} {said}" for word in _OF_A_TEXT):
                choice = {"message": {"content": None}, "finish_reason": code or "too_large"}
                return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 0}}).encode()
            for name in _OPTIONAL:
                if name in body and (name in text or (name == "response_format" and "json_schema" in text)):
                    if name not in self._not_offered:
                        log.warning("%s takes no %s (%s): asked without.", self.host, name, said)
                    raise _NotOffered(name)
        if status in _AGAIN and code != "insufficient_quota":
            raise _Again(f"HTTP {status}: {said}", _asked_wait(error.headers))
        raise ConfigError(
            f"{self.host} refuses the request (HTTP {status}): {said}.", fix="check model.endpoint and model.name"
        )

    def _reply(self, content: bytes, question: str, sent: float, started: float) -> tuple[Reply, bool]:
        """Read an answer of the protocol, and return whether it says how many tokens it took; else they are estimated.

        Raises:
            _Again: It is none.
        """
        now = time.monotonic()
        try:
            found = json.loads(content)
            choice = found["choices"][0]
            text = choice["message"].get("content")
            if text is not None and not isinstance(text, str):
                raise TypeError("its content is no text")
            usage = found.get("usage") or {}
            places = (choice.get("logprobs") or {}).get("content") or []
            tokens = [
                (str(p["token"]), [(str(t["token"]), float(t["logprob"])) for t in p.get("top_logprobs") or [p]])
                for p in places
            ]
            counts = [int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion")]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise _Again(f"no answer of the protocol ({first_line(error)})", billed=True) from None
        counted = "prompt_tokens" in usage
        if not counted:
            counts = [self.bytes_of(question) // BYTES_A_TOKEN, len(text or "") // BYTES_A_TOKEN + 1]
        finish = str(choice.get("finish_reason") or "")
        return Reply(text, finish, counts[0], counts[1], now - sent, now - started, tokens), counted


class _Stopped(Exception):
    """The others have stopped."""


class _OutOfBudget(Exception):
    """The budget has no room for one more request."""


class _NotOffered(Exception):
    """The name of a parameter that the endpoint does not take."""


def _asked_wait(headers: Message) -> float | None:
    """Return for how many seconds a refusal asks to wait: Retry-After (seconds or a date), or until a limit's reset."""
    if (milliseconds := _seconds(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1e3
    value = headers.get("retry-after")
    if (seconds := _seconds(value)) is not None:
        return seconds
    if value:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return None
    waits = [_seconds(headers.get(f"x-ratelimit-reset-{of}")) for of in ("requests", "tokens")]
    return max((wait for wait in waits if wait is not None), default=None)


def _seconds(value: str | None) -> float | None:
    """Return a duration in seconds: ``2``, ``0.5``, or as OpenAI writes it, ``6m0s`` and ``20ms``."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", value or "")
    if not value or "".join(number + unit for number, unit in parts) != value.strip():
        return None
    units = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    return sum(float(number) * units[unit] for number, unit in parts)


def check_address(address: str | None) -> None:
    """Refuse an address that is none of the web.

    Raises:
        ConfigError: It is missing, or not http(s)://host/...
    """
    try:
        good = (
            address is not None and urlsplit(address).scheme in ("http", "https") and bool(urlsplit(address).hostname)
        )
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            f"model.endpoint={address}: the address of an endpoint of the OpenAI chat protocol is needed.",
            fix="model.endpoint=https://api.openai.com/v1, or http://127.0.0.1:8080/v1 for a server of your own",
        )
