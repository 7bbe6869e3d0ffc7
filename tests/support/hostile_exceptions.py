"""Unusual exceptions that a model may raise, and models that raise them, each in one of its methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

import tests.support.without_pandas  # noqa: F401
from pipeline.errors import Fatal, ModelError
from pipeline.model import Model, Reject

ENORMOUS = 10_000_000

NUMBER = 5


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("it will not say")

    __repr__ = __str__


class Deadly(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class Endless(Exception):
    def __str__(self) -> str:
        return str(self)


class NoText(Exception):
    def __str__(self) -> str:
        return NUMBER  # type: ignore[return-value]


class Text(str):
    __slots__ = ()

    def split(self, *args: Any) -> Any:
        raise ValueError("not to be split")

    __len__ = __getitem__ = lower = encode = split  # type: ignore[assignment]


class OddText(Exception):
    def __str__(self) -> str:
        return Text("odd")


class Liar(Exception):
    @property
    def __class__(self) -> Any:
        raise ValueError("it will not say what it is")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise ValueError("nor why")

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise ValueError("nor of what")


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError("no name")


class Nameless(Exception, metaclass=Meta):
    pass


class Unreasoned(Reject):
    def __init__(self) -> None:
        pass


class UnreasonedReasonless(Reject):
    @property
    def reason(self) -> Any:
        raise SystemExit("no reason")

    @reason.setter
    def reason(self, value: Any) -> None: ...


class Base(BaseException):
    pass


def named(name: str) -> BaseException:
    made: BaseException = type(name, (Exception,), {})("it failed")
    return made


def module_of(value: Any) -> BaseException:
    made: BaseException = type("Astray", (RuntimeError,), {"__module__": value})("it failed")
    return made


def caused_by_itself() -> BaseException:
    error = RuntimeError("one")
    error.__cause__ = error
    return error


def circle(of: str) -> BaseException:
    errors = [RuntimeError(str(number)) for number in range(3)]
    for place, error in enumerate(errors):
        setattr(error, of, errors[place - 1])
    return errors[0]


def chain() -> BaseException:
    error = RuntimeError("first")
    for number in range(2_000):
        later = RuntimeError(str(number))
        later.__cause__ = error
        error = later
    return error


def noted() -> BaseException:
    error = ValueError("with notes")
    error.__notes__ = [Text("odd"), Silent(), 5]  # type: ignore[list-item]
    return error


EXCEPTIONS: Mapping[str, Callable[[], BaseException]] = {
    "silent": Silent,
    "deadly text": Deadly,
    "endless": Endless,
    "no text": NoText,
    "odd text": OddText,
    "empty": RuntimeError,
    "liar": Liar,
    "nameless": Nameless,
    "silent argument": lambda: ValueError(Silent()),
    "surrogates": lambda: ValueError("\ud800\udfff" * 30_000),
    "controls": lambda: ValueError("\x1b[31m\n\r\x00\u202e" * 9_000),
    "zeros": lambda: ValueError("\0" * 20_000),
    "enormous": lambda: ValueError("x" * ENORMOUS),
    "enormous lines": lambda: ValueError("x\n" * ENORMOUS),
    "bytes": lambda: ValueError(b"\xff" * 1_000_000),
    "odd name": lambda: named("a\nb\x1b\u202e"),
    "empty name": lambda: named(""),
    "long name": lambda: named("N" * 1_000_000),
    "odd module": lambda: module_of(5),
    "silent module": lambda: module_of(Silent()),
    "its own cause": caused_by_itself,
    "circle of causes": lambda: circle("__cause__"),
    "circle of contexts": lambda: circle("__context__"),
    "chain": chain,
    "notes": noted,
    "group": lambda: BaseExceptionGroup("several", [Silent(), circle("__cause__"), Base()]),
    "system exit": lambda: SystemExit("bye"),
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "base": Base,
}

REFUSALS: Mapping[str, Callable[[], BaseException]] = {
    "refused unreasoned": Unreasoned,
    "refused reasonless": lambda: UnreasonedReasonless("?"),
    "refused number": lambda: Reject(5),  # type: ignore[arg-type]
    "refused silent reason": lambda: Reject(Silent()),  # type: ignore[arg-type]
    "refused surrogates": lambda: Reject("\ud800" * 9_000),
    "refused enormous": lambda: Reject("x" * ENORMOUS),
    "refused odd text": lambda: Reject(Text("odd")),
}

ENDS: Mapping[str, Callable[[], BaseException]] = {
    "silent fatal": type("SilentFatal", (Fatal,), {"__str__": Silent.__str__}),
    "silent model error": type("SilentModelError", (ModelError,), {"__str__": Silent.__str__}),
    "empty model error": lambda: ModelError(""),
}


def made(what: str) -> BaseException:
    return {**EXCEPTIONS, **REFUSALS, **ENDS}[what]()


class Raising(Model):
    """``options``: ``method``, and ``what`` it raises. Of the records, only those that are ``bad`` cause it."""

    output_schema = pa.schema([("n", pa.int64())])

    def load(self, context: Any) -> None:
        self.options = context.options
        self.examples = 0
        self.fail("load")

    def fail(self, method: str, what: str = "") -> None:
        if self.options["method"] == method:
            raise made(what or self.options["what"])

    def example(self) -> Any:
        self.examples += 1
        self.fail("example")
        if self.examples > 1:
            self.fail("later example")
        return {"n": 0}

    def decode(self, data: bytes) -> Any:
        item = super().decode(data)
        if item.get("bad"):
            self.fail("decode", item.get("what", ""))
        return item

    def predict(self, items: Sequence[Any]) -> Any:
        for item in items:
            if item.get("bad"):
                self.fail("predict", item.get("what", ""))
        return [{"n": item.get("answer", item["n"])} for item in items]

    def close(self) -> None:
        self.fail("close")


class Costly(Raising):
    """It measures."""

    def cost(self, item: Any) -> int:
        if item.get("bad"):
            raise made(item["bad"])
        return 2


class Astray:
    """A module with such an attribute, and a class that cannot be constructed."""

    what = "silent"

    def __init__(self) -> None:
        raise made(self.what)
