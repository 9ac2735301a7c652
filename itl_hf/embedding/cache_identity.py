"""Decides which embedders' features may be kept in the default cache, and under which identity.

With `store=`, users vouch for their embedder's fingerprint. The default cache is used without being asked for, so that
a fingerprint that leaves something out would bring back features of another model without a word. The fingerprints of
this package's embedders hash the weights. For classes of others the code of the class is added to the identity, and
those that hold more than plain values, such as a model, are kept only if they set `default_cache = True`.
"""

from __future__ import annotations

import abc
import hashlib
import types
from typing import TYPE_CHECKING, Any

from itl_hf.embedding.embedders.base import Embedder, TwoStageEmbedder

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Fingerprint

_OWN_PACKAGE = "itl_hf.embedding.embedders."
_PLAIN = (str, int, float, bool, bytes, type(None))
#: What Python itself puts into classes.
_SYSTEM_NAMES = frozenset(
    {"__module__", "__doc__", "__dict__", "__weakref__", "__abstractmethods__", "_abc_impl"}
    | {"__qualname__", "__annotations__", "__firstlineno__", "__static_attributes__", "__parameters__"}
)


def cache_identity(embedder: Any, fingerprint: Fingerprint) -> Fingerprint | None:
    """Returns the fingerprint under which the default cache keeps the features; `None` if it must not keep them.

    Args:
        embedder (`Embedder`):
            Computes the features.
        fingerprint (`dict`):
            Its fingerprint.

    Example:
        >>> class Lengths(Embedder):
        ...     dimension = 1
        ...     def fingerprint(self): return {"embedder": "lengths"}
        ...     def embed(self, rows, **_): ...
        >>> cache_identity(Lengths(), {"embedder": "lengths"}) is None
        False
        >>> holder = Lengths()
        >>> holder.model = object()
        >>> cache_identity(holder, {"embedder": "lengths"}) is None
        True
    """
    embedders = _with_parts(getattr(embedder, "wrapped_embedder", embedder))
    if any(one.default_cache is False for one in (embedder, *embedders)):
        return None
    if not all(one.default_cache or _is_own(one) or _holds_plain_values(one) for one in embedders):
        return None
    code = "".join(_class_code(type(one)) for one in embedders)
    return {**fingerprint, "code": hashlib.sha256(code.encode()).hexdigest()[:32]} if code else fingerprint


def _with_parts(embedder: Any) -> list[Any]:
    """Returns the embedder and, if it is combined of others, those."""
    parts = getattr(embedder, "parts", ())
    nested = [one for part in parts if isinstance(part, Embedder) for one in _with_parts(part)]
    return [embedder, *nested]


def _is_own(embedder: Embedder) -> bool:
    """Returns whether the class, or one that it derives from, is an embedder of this package with a fingerprint."""
    bases = [kind for kind in type(embedder).__mro__ if kind not in (Embedder, TwoStageEmbedder)]
    return any(kind.__module__.startswith(_OWN_PACKAGE) for kind in bases)


def _holds_plain_values(embedder: Embedder) -> bool:
    """Returns whether neither the embedder nor its class holds or uses an object that could change."""
    return _is_plain(vars(embedder)) and _reads_plain_values(type(embedder))


def _is_plain(value: Any) -> bool:
    """Returns whether a value consists of numbers and texts, which nothing else can change."""
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_plain(part) for part in value)
    return isinstance(value, _PLAIN)


def _reads_plain_values(kind: type) -> bool:
    """Returns whether the methods of a class use no object, such as a model, from outside of the class."""
    attributes = [(name, value) for base in _foreign_classes(kind) for name, value in vars(base).items()]
    functions = [function for name, value in attributes if (function := _function(value)) is not None]
    others = [value for name, value in attributes if _function(value) is None and name not in _SYSTEM_NAMES]
    return all(_is_plain(value) for value in others) and all(
        _is_plain(value) or isinstance(value, types.ModuleType | types.FunctionType | types.BuiltinFunctionType | type)
        for function in functions
        for value in _outside_values(function)
    )


def _outside_values(function: types.FunctionType) -> list[Any]:
    """Returns the values of the global names and of the closure that a function uses."""
    names = [name for code in _nested_codes(function.__code__) for name in code.co_names]
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell.cell_contents is not None]
    return [function.__globals__[name] for name in names if name in function.__globals__] + cells


def _nested_codes(code: types.CodeType) -> list[types.CodeType]:
    """Returns the byte code of a function and of those within it."""
    inner = [one for part in code.co_consts if isinstance(part, types.CodeType) for one in _nested_codes(part)]
    return [code, *inner]


def _function(value: Any) -> types.FunctionType | None:
    """Returns the function of a method, a property or a class method; `None` for other attributes."""
    for name in ("fget", "func", "__func__"):
        value = getattr(value, name, None) or value
    return value if isinstance(value, types.FunctionType) else None


def _foreign_classes(kind: type) -> list[type]:
    """Returns the class and those that it derives from, without those of this package."""
    own = [base for base in kind.__mro__ if base.__module__.split(".")[0] == "itl_hf"]
    return [base for base in kind.__mro__ if base not in (*own, object, abc.ABC)]


def _class_code(kind: type) -> str:
    """Returns the code of a class that is not of this package, as text; an edited method changes it."""
    return "".join(
        f"{base.__qualname__} {name} {_text(_function(value) or value)}\n"
        for base in _foreign_classes(kind)
        for name, value in sorted(vars(base).items())
        if name not in _SYSTEM_NAMES
    )


def _text(value: Any) -> str:
    """Returns a function's byte code, or a plain value, as text that is the same in every process."""
    code = getattr(value, "__code__", value)
    if isinstance(code, types.CodeType):
        constants = [_text(one) for one in code.co_consts]
        return f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {constants}"
    if isinstance(value, set | frozenset):
        return str(sorted(map(_text, value)))
    return repr(value) if _is_plain(value) else type(value).__name__
