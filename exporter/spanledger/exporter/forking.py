"""`at_fork`: what an object does when its process forks, for as long as the object lives."""

import os
import weakref
from collections.abc import Callable


def at_fork(
    *,
    before: Callable[[], object] | None = None,
    in_parent: Callable[[], object] | None = None,
    in_child: Callable[[], object] | None = None,
) -> None:
    """Call these bound methods at every fork from now on; their objects may go all the same.

    Some servers (uWSGI) fork in C and tell Python only afterwards, in the child: *in_child* must not rely on *before*.
    """
    given = {"before": before, "after_in_parent": in_parent, "after_in_child": in_child}
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**{when: _weakly(method) for when, method in given.items() if method is not None})


def _weakly(method: Callable[[], object]) -> Callable[[], None]:
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call
