"""Heavy modules, mostly optional, imported at their first use so that `import intaglio` stays instant.

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", extra="compress")
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from intaglio.errors import MissingExtra


class LazyModule(ModuleType):
    """Stands for `name` until an attribute is asked for; then the import happens, once."""

    def __init__(self, name: str, extra: str | None) -> None:
        super().__init__(name)
        self.__dict__["_extra"] = extra

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # inspection by doctest, inspect, copy: never an import
            raise AttributeError(attribute)
        try:
            module = importlib.import_module(self.__name__)
        except ModuleNotFoundError as error:
            extra = self.__dict__["_extra"]
            if extra is None or error.name != self.__name__.partition(".")[0]:
                raise
            raise MissingExtra(self.__name__, extra) from None
        value = self.__dict__[attribute] = getattr(module, attribute)  # found without this call from now on
        return value


def lazy(name: str, *, extra: str | None) -> Any:
    """The module `name`, imported when first used; raises MissingExtra naming `extra` if it is absent.

    `extra` None: it is always there, and only slow to import.
    """
    return LazyModule(name, extra)
