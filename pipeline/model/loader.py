"""A user's model, found by the name in ``[model] factory``, checked, and completed with the contract's defaults."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import pyarrow as pa

from pipeline import extras
from pipeline.errors import ModelError, PenstockError, is_a, one_line, said
from pipeline.model import LoadContext, Model, RecordInfo, user_modules


class UserModel:
    """What the replica calls: every method of :class:`~pipeline.model.Model`, whichever the user left out.

    ``measures``: the class has a ``cost`` of its own. ``reads_json``: its items are the payload's JSON objects.
    ``wants_records``: its ``predict`` asks which records the items came from. ``closes``: it has a ``close``.
    """

    def __init__(self, name: str, model: Any) -> None:
        """Raises ``ModelError`` if ``model`` does not keep the contract."""
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

    @property
    def pads(self) -> bool:
        return bool(getattr(self._model, "pads", Model.pads))

    def predict(self, items: Sequence[Any], records: Sequence[RecordInfo] = ()) -> Sequence[Any]:
        """``records`` are handed on to a model that asks for them, and only to one that does."""
        if not self.wants_records:
            return self._predict(items)
        return self._predict(items, records=records) if self._by_name else self._predict(items, records)

    def _method(self, name: str) -> Any:
        method = getattr(self._model, name, None)
        if method is None:
            return MethodType(getattr(Model, name), self._model)
        if not callable(method):
            raise ModelError(f"model.factory {self.name}: its {name} is a {type(method).__name__}, not a method")
        if any(map(_is_async, (method, getattr(method, "__call__", None)))):  # noqa: B004  # an object's own may be async
            raise ModelError(f"model.factory {self.name}: its {name} is async, and nothing awaits it; write def {name}")
        return method

    def _is_default(self, name: str) -> bool:
        method = getattr(self._model, name, None)
        return method is None or getattr(method, "__func__", None) is getattr(Model, name)


def _asks_for_records(name: str, predict: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether ``predict`` has a parameter ``records``, and whether that is given by its name.

    Raises ``ModelError`` if it needs more than we have.
    """
    try:
        parameters = inspect.signature(predict).parameters
    except (TypeError, ValueError):
        return False, False
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    single = [each for each in parameters.values() if each.kind not in several]
    needed = [each.name for each in single[1:] if each.default is each.empty and each.name != "records"]
    if needed:
        raise ModelError(
            f"model.factory {name}: its predict needs {', '.join(needed)}, and is given items, and records if it has a "
            "parameter of that name"
        )
    asked = parameters.get("records") if parameters.get("records") in single[1:] else None
    return asked is not None, asked is not None and asked.kind is not inspect.Parameter.POSITIONAL_ONLY


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def find(name: str, search_path: Sequence[str], passthrough: Mapping[str, Any]) -> UserModel:
    """Import ``module:attribute``, looking into ``search_path`` first (:mod:`pipeline.model.user_modules`), and make
    the model.

    Loads no weights. Raises ``ModelError`` with one line that says what to mend.
    """
    model = UserModel(name, _make(name, _attribute(name, search_path)))
    if clash := sorted(set(passthrough) & set(model.output_schema.names)):
        raise ModelError(
            f"model.passthrough.{clash[0]}: the model's output has a column of that name; carry it no more"
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
        raise ModelError(f"model.factory {name}: importing it failed: {_traced(error)}") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ModelError(f"model.factory {name}: module {module_name} has no {path}") from None
    return found


def _hint(module_name: str, missing: str) -> str:
    if f"{module_name}.".startswith(f"{missing}."):
        return "; it is looked for beside the configuration"
    top = module_name.partition(".")[0]
    if missing.startswith(f"{top}.") and user_modules.ALIAS + top in sys.modules:
        return f"; {top} means another module there: write from . import, or rename {top}"
    return ""


def _make(name: str, maker: Any) -> Any:
    if not callable(maker):
        raise ModelError(f"model.factory {name}: it is a {type(maker).__name__}, not a class")
    if wanted := _arguments(maker):
        raise ModelError(f"model.factory {name}: {_what_to_do_about(maker, wanted)}")
    try:
        made = maker()
    except PenstockError as error:
        raise ModelError(f"model.factory {name}: {said(error)}") from error
    except BaseException as error:
        called = getattr(maker, "__name__", type(maker).__name__)
        raise ModelError(f"model.factory {name}: {called}() failed: {_traced(error)}") from error
    if made is None or isinstance(made, type) or inspect.iscoroutine(made):
        what = f"the class {made.__name__}" if isinstance(made, type) else type(made).__name__
        if inspect.iscoroutine(made):
            made.close()
        raise ModelError(f"model.factory {name}: it returned {what}, not a model; return an object with predict(items)")
    return made


def _arguments(maker: Any) -> str:
    """Those that it cannot be called without, as text; empty if there are none, or nobody can say."""
    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):
        return ""
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return ", ".join(each.name for each in parameters if each.default is each.empty and each.kind not in optional)


def _what_to_do_about(maker: Any, arguments: str) -> str:
    if isinstance(maker, type):
        return f"{maker.__name__}() needs {arguments}, and it is made without arguments; options come to load(context)"
    return (
        f"it is a function that needs {arguments}, and it is called without arguments, to make the model; "
        f"name a class with output_schema and predict(items)"
    )


def _schema(name: str, model: Any) -> pa.Schema:
    schema = getattr(model, "output_schema", None)
    if not isinstance(schema, pa.Schema) or not len(schema):
        raise ModelError(f"model.factory {name}: it needs an output_schema, a pyarrow.schema with a column or more")
    twice = {column for column in schema.names if schema.names.count(column) > 1}
    if twice:
        raise ModelError(f"model.factory {name}: its output_schema has the column {min(twice)} twice")
    return schema


def _traced(error: BaseException) -> str:
    """With its place, in one line: nobody sees a traceback of this."""
    if is_a(error, SyntaxError):
        return one_line(error)  # which has its place
    places = list(traceback.walk_tb(error.__traceback__))
    if not places:
        return one_line(error)
    frame, line = places[-1]
    return f"{one_line(error)} ({Path(frame.f_code.co_filename).name}, line {line})"
