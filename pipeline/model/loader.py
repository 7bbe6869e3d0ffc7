"""Finds a user's model by ``[model] factory``, checks it, and completes it with the contract's defaults."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any

import pyarrow as pa

from pipeline import extras
from pipeline.errors import ModelError, PenstockError, said
from pipeline.model import LoadContext, Model, RecordInfo, user_modules
from pipeline.tracebacks import model_error

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "load": ("context",),
    "decode": ("payload",),
    "example": (),
    "cost": ("item",),
    "close": (),
}
"""What each method is called with; ``predict`` is checked by itself."""


class UserModel:
    """The model as a replica calls it: every method of :class:`~pipeline.model.Model`, those that the user left out
    included.

    ``measures``: the class has its own ``cost``. ``reads_json``: its items are the payload's JSON objects.
    ``wants_records``: its ``predict`` has a parameter ``records``. ``closes``: it has a ``close``.
    """

    def __init__(self, name: str, model: Any) -> None:
        """:raises ModelError: ``model`` does not keep the contract; the text names ``name`` and the fix."""
        self.name = name
        self._model = model
        self.load: Callable[[LoadContext], object] = self._method("load")
        self.decode: Callable[[bytes], Any] = self._method("decode")
        self.example: Callable[[], Any] = self._method("example")
        self.cost: Callable[[Any], int] = self._method("cost")
        self.close: Callable[[], object] = self._method("close")
        self._predict: Callable[..., Sequence[Any]] = self._method("predict")
        self.measures = not self._is_default("cost")
        self.reads_json = self._is_default("decode")
        self.closes = not self._is_default("close")
        if self._is_default("predict"):
            raise ModelError(f"model.factory {name}: it has no predict(items)")
        self.wants_records, self._by_name = _asks_for_records(name, self._predict)
        self.output_schema = _schema(name, model)
        _ = self.pads  # checked before records are there

    @property
    def pads(self) -> bool:
        """The model's ``pads``, or the contract's default. :raises ModelError: it is neither True nor False."""
        pads = getattr(self._model, "pads", Model.pads)
        if not isinstance(pads, bool):
            what = f"its pads is of type {type(pads).__name__}; write pads = True or pads = False"
            raise ModelError(f"model.factory {self.name}: {what}")
        return pads

    def cost_of(self, item: Any) -> int:
        """Return what the model's ``cost`` says of an item; 0 counts as 1.

        :raises TypeError: it is not a whole number, or negative. Raises what ``cost`` raises, too.
        """
        cost: Any = self.cost(item)
        try:
            whole = -1 if isinstance(cost, str | bytes) else int(cost)
        except (TypeError, ValueError, OverflowError):
            whole = -1
        if whole < 0:
            raise TypeError(f"cost returned {cost!r}, not a whole number of at least 1")
        return min(max(1, whole), 2**62)

    def predict(self, items: Sequence[Any], records: Sequence[RecordInfo] = ()) -> Sequence[Any]:
        """Call the model's ``predict``; pass ``records`` on only to a model that asks for them."""
        if not self.wants_records:
            return self._predict(items)
        return self._predict(items, records=records) if self._by_name else self._predict(items, records)

    def _method(self, name: str) -> Any:
        method = getattr(self._model, name, None)
        if method is None:
            return MethodType(getattr(Model, name), self._model)
        if not callable(method):
            raise ModelError(f"model.factory {self.name}: its {name} is of type {type(method).__name__}, not a method")
        if any(map(_is_async, (method, getattr(method, "__call__", None)))):  # noqa: B004  # an object's own may be async
            raise ModelError(f"model.factory {self.name}: its {name} is async, but it is not awaited; write def {name}")
        if name in ARGUMENTS and not _accepts(method, ARGUMENTS[name]):
            wanted = ", ".join(("self", *ARGUMENTS[name]))
            raise ModelError(f"model.factory {self.name}: its {name} has other parameters; write def {name}({wanted})")
        return method

    def _is_default(self, name: str) -> bool:
        method = getattr(self._model, name, None)
        return method is None or getattr(method, "__func__", None) is getattr(Model, name)


def _accepts(method: Callable[..., Any], arguments: Sequence[str]) -> bool:
    """Whether the method can be called with as many arguments; true if Python cannot tell."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _asks_for_records(name: str, predict: Callable[..., Any]) -> tuple[bool, bool]:
    """Return whether ``predict`` has a parameter ``records``, and whether it must be passed by name.

    :raises ModelError: it requires other parameters.
    """
    try:
        parameters = inspect.signature(predict).parameters
    except (TypeError, ValueError):
        return False, False
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    if all(each.kind in by_name for each in parameters.values()):
        raise ModelError(f"model.factory {name}: its predict takes no items; write def predict(self, items)")
    single = [each for each in parameters.values() if each.kind not in several]
    needed = [each.name for each in single[1:] if each.default is each.empty and each.name != "records"]
    if needed:
        raise ModelError(
            f"model.factory {name}: its predict needs {', '.join(needed)}, but it is called with items only, and with "
            "records if it has a parameter of that name"
        )
    asked = parameters.get("records") if parameters.get("records") in single[1:] else None
    return asked is not None, asked is not None and asked.kind is not inspect.Parameter.POSITIONAL_ONLY


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def find(name: str, search_path: Sequence[str], passthrough: Mapping[str, Any]) -> UserModel:
    """Import ``module:attribute`` and make the model. Modules in ``search_path`` come first
    (:mod:`pipeline.model.user_modules`).

    Loads no weights. ``passthrough``: the carried fields, which must not have the names of output columns.

    :raises ModelError: one line that says what to fix.
    """
    model = UserModel(name, _make(name, _attribute(name, search_path)))
    if clash := sorted(set(passthrough) & set(model.output_schema.names)):
        raise ModelError(
            f"model.passthrough.{clash[0]}: the model's output has a column of that name; remove this line"
        )
    return model


def _attribute(name: str, search_path: Sequence[str]) -> Any:
    module_name, _, path = name.partition(":")
    try:
        found: Any = user_modules.load(module_name, search_path)
    except ModuleNotFoundError as error:
        missing = (error.name or module_name).removeprefix(user_modules.ALIAS)
        hint = _hint(module_name, missing) or extras.hint(missing)
        raise ModelError(f"model.factory {name}: there is no module {missing}{hint}") from error
    except PenstockError as error:
        raise ModelError(f"model.factory {name}: {said(error)}") from error
    except BaseException as error:
        raise model_error(f"model.factory {name}: importing it failed", error) from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ModelError(f"model.factory {name}: module {module_name} has no {path}") from None
    return found


def _hint(module_name: str, missing: str) -> str:
    if f"{module_name}.".startswith(f"{missing}."):
        return "; put it next to the configuration file, or install it"
    top = module_name.partition(".")[0]
    if missing.startswith(f"{top}.") and user_modules.ALIAS + top in sys.modules:
        return f"; another module has the name {top}: write from . import, or rename {top}"
    return ""


def _make(name: str, maker: Any) -> Any:
    if not callable(maker):
        raise ModelError(f"model.factory {name}: it is of type {type(maker).__name__}, not a class")
    if wanted := _arguments(maker):
        raise ModelError(f"model.factory {name}: {_what_to_do_about(maker, wanted)}")
    try:
        made = maker()
    except PenstockError as error:
        raise ModelError(f"model.factory {name}: {said(error)}") from error
    except BaseException as error:
        called = getattr(maker, "__name__", type(maker).__name__)
        raise model_error(f"model.factory {name}: {called}() failed", error) from error
    if made is None or isinstance(made, type) or inspect.iscoroutine(made):
        what = f"the class {made.__name__}" if isinstance(made, type) else type(made).__name__
        if inspect.iscoroutine(made):
            made.close()
        raise ModelError(f"model.factory {name}: it returned {what}, not a model; return an object with predict(items)")
    return made


def _arguments(maker: Any) -> str:
    """The arguments without which it cannot be called, as text; empty if there are none or they are unknown."""
    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):
        return ""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return ", ".join(each.name for each in parameters if each.default is each.empty and each.kind not in optional)


def _what_to_do_about(maker: Any, arguments: str) -> str:
    if isinstance(maker, type):
        return f"{maker.__name__}() needs {arguments}, but is called without arguments; load(context) gets the options"
    return (
        f"it is a function that needs {arguments}, but it is called without arguments to make the model; "
        f"name a class with output_schema and predict(items)"
    )


def _schema(name: str, model: Any) -> pa.Schema:
    schema = getattr(model, "output_schema", None)
    if not isinstance(schema, pa.Schema) or not len(schema):
        raise ModelError(f"model.factory {name}: it needs an output_schema, a pyarrow.schema with at least one column")
    twice = {column for column in schema.names if schema.names.count(column) > 1}
    if twice:
        raise ModelError(f"model.factory {name}: its output_schema has the column {min(twice)} twice")
    return schema
