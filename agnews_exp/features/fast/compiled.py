"""How the kernels of this package are compiled, and whether they can be."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any


@functools.cache
def kernels_available() -> bool:
    """Return whether numba can be used; the first time it cannot, say so once."""
    try:
        import numba  # noqa: F401
    except Exception as error:  # a broken installation raises anything from OSError to SystemError
        warnings.warn(
            f"numba cannot be used ({error}): n-grams are counted by scikit-learn, with the same result but slowly",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel on its first call, without the GIL, and keep the machine code on disk.

    numba stores the code in ``NUMBA_CACHE_DIR``, else beside the module, else (installed read-only) in the user's
    cache folder. Where none of these can be written it refuses to cache at all: then every process compiles anew,
    which is slower but still right. A shared temporary folder is no alternative, because numba runs what it finds
    there.
    """
    import numba

    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)
