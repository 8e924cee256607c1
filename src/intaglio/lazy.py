"""Heavy optional modules, imported at their first use so that `import intaglio` stays instant.

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

    def __init__(self, name: str, extra: str) -> None:
        super().__init__(name)
        self.__dict__["_extra"] = extra

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # inspection by doctest, inspect, copy: never an import
            raise AttributeError(attribute)
        try:
            module = importlib.import_module(self.__name__)
        except ModuleNotFoundError as error:
            if error.name != self.__name__.partition(".")[0]:
                raise
            raise MissingExtra(self.__name__, self.__dict__["_extra"]) from None
        value = self.__dict__[attribute] = getattr(module, attribute)  # found without this call from now on
        return value


def lazy(name: str, *, extra: str) -> Any:
    """The module `name`, imported when first used; raises MissingExtra naming `extra` if it is absent."""
    return LazyModule(name, extra)
