"""Pages of the Python API: the public modules that the table of docs/python.md lists, from their docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic
from prose import escaped, markdown
from reference import FOLDER, Pages, index, keys

from clbench.cli.catalogue import summary

WIDTH = 96


def public(page: str) -> list[str]:
    """Names of the public modules, in the order of the table; `package.*` stands for all modules below.

    Args:
        page: docs/python.md.
    """
    listed = re.findall(r"^\| `(clbench[\w.]*(?:\.\*)?)` \|", page, re.MULTILINE)
    return list(dict.fromkeys(name for entry in listed for name in _modules(entry)))


def _modules(name: str) -> Iterator[str]:
    if not name.endswith(".*"):
        yield name
        return
    package = importlib.import_module(name.removesuffix(".*"))
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.ispkg and not module.name.rpartition(".")[2].startswith("_"):
            yield module.name


def pages(root: Path) -> Pages:
    """A page for each public module.

    Args:
        root: of the repository.
    """
    names = public((root / "docs" / "python.md").read_text(encoding="utf-8"))
    modules = {name: importlib.import_module(name) for name in names}
    lines = {name: summary(module.__doc__) for name, module in modules.items()}
    text = "The public modules; [Python API](../python.md) shows how they are used."
    yield f"{FOLDER}/python.md", index("Modules", text, "python", lines, ("module", "contents"), "clbench.")
    for name, module in modules.items():
        yield f"{FOLDER}/python/{name}.md", _page(module)


def _page(module: ModuleType) -> str:
    parts = [f"# {module.__name__}", markdown(module.__doc__)]
    for name, member in members(module):
        if inspect.isclass(member):
            parts += _class(name, member)
        elif callable(member):
            parts += [f"## {name}", _signature(name, member), markdown(member.__doc__)]
    return "\n\n".join(filter(None, parts)) + "\n"


def members(module: ModuleType) -> list[tuple[str, Any]]:
    """Public classes and functions of a module; of a package those that it gathers from its modules too."""
    package = hasattr(module, "__path__")
    origin = module.__name__
    names = getattr(module, "__all__", None)
    chosen = []
    for name in names or vars(module):
        member = getattr(module, name)
        if name.startswith("_") or not (inspect.isclass(member) or inspect.isfunction(member)):
            continue
        place = str(member.__module__)
        if names or place == origin or (package and place.startswith(f"{origin}.")):
            chosen.append((name, member))
    return chosen


def _class(name: str, kind: type[Any]) -> list[str]:
    """A class with its own public methods and properties; of a configuration model its keys."""
    if issubclass(kind, pydantic.BaseModel):
        return [f"## {name}", markdown(kind.__doc__), keys(kind) or "No keys."]
    parts = [f"## {name}"]
    if "__init__" in vars(kind) or hasattr(kind, "__dataclass_fields__"):
        parts.append(_signature(name, kind))
    parts += [markdown(_words(kind)), _constants(kind)]
    for key, member in vars(kind).items():
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if key.startswith("_") or not (inspect.isfunction(plain) or isinstance(plain, property)):
            continue
        words = markdown(_inherited(kind, key))
        if isinstance(plain, property):
            parts += [f"### {name}.{key}", f"Property. {words}"]
        else:
            parts += [f"### {name}.{key}", _signature(key, plain), words]
    return parts


def _words(kind: type[Any]) -> str:
    """The docstring of a class; nothing where dataclasses wrote one."""
    words = kind.__dict__.get("__doc__") or ""
    return "" if words.startswith(f"{kind.__name__}(") else words


def _inherited(kind: type[Any], key: str) -> str:
    """The docstring of a method, or that of the method it overrides."""
    return next((d for k in kind.__mro__ if key in vars(k) and (d := vars(k)[key].__doc__)), "")


def _constants(kind: type[Any]) -> str:
    """Attributes of a class that have a text below them in the source."""
    try:
        tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind)))
    except (OSError, SyntaxError):
        return ""
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    entries = []
    for node, text in itertools.pairwise(body):
        described = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if described and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            words = " ".join(str(text.value.value).split())  # type: ignore[attr-defined]
            if not node.target.id.startswith("_"):
                entries.append(f"`{node.target.id}: {ast.unparse(node.annotation)}`\n: {escaped(words)}")
    return "\n\n".join(entries)


class _Annotation:
    """An annotation that is written without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _unquoted(annotation: Any) -> Any:
    return _Annotation(annotation) if isinstance(annotation, str) else annotation


def _signature(name: str, member: Any) -> str:
    """The signature as Python, a parameter a line where it is long."""
    try:
        signature = inspect.signature(member)
    except (TypeError, ValueError):
        return ""
    signature = signature.replace(
        parameters=[p.replace(annotation=_unquoted(p.annotation)) for p in signature.parameters.values()],
        return_annotation=_unquoted(signature.return_annotation),
    )
    text = _without_addresses(str(signature))
    if len(name + text) > WIDTH:
        inner = [_without_addresses(str(p)) for p in signature.parameters.values()]
        kinds = [p.kind for p in signature.parameters.values()]
        only = inspect.Parameter.KEYWORD_ONLY
        if only in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
            inner.insert(kinds.index(only), "*")
        body = "".join(f"    {each},\n" for each in inner)
        returns = signature.return_annotation
        text = f"(\n{body})" + (
            "" if returns is inspect.Signature.empty else f" -> {inspect.formatannotation(returns)}"
        )
    return f"```python\n{name}{text}\n```"


def _without_addresses(signature: str) -> str:
    """A default that is a function or an object as dots, one that is a class by its name.

    >>> _without_addresses("(x: int = 1, f=<function <lambda> at 0x7f01>, g=<class 'a.B'>)")
    '(x: int = 1, f=..., g=a.B)'
    """
    return re.sub(r"<class '([\w.]+)'>", r"\1", re.sub(r"<\w[^=]*? at 0x[0-9a-f]+>", "...", signature))
