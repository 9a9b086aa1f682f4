"""Interruption: long computations ask now and then whether anybody still waits for them."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_asked: ContextVar[Callable[[], bool] | None] = ContextVar("asked", default=None)


class Interrupted(Exception):
    """What was computed is not wanted any more."""


@contextmanager
def until(asked: Callable[[], bool]) -> Iterator[None]:
    """Let `check` raise as soon as this is asked for, in this thread and as long as the context lasts.

    A generator must not yield inside of it: who takes what it yields would be in the context, too.
    """
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


def wanted(results: Iterator[T], asked: Callable[[], bool]) -> Iterator[T]:
    """Yield what is made, one result after another, until this is asked for, which ends the work in its midst."""
    while not asked():
        try:
            with until(asked):
                found = next(results)
        except (Interrupted, StopIteration):
            return
        yield found


def check() -> None:
    """Raise `Interrupted` where that was asked for."""
    asked = _asked.get()
    if asked is not None and asked():
        raise Interrupted
