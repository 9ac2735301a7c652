"""Reads YAML files of options so that what is written is what is meant.

YAML takes the last of two equal keys, reads `010` as 8 and `1:30` as 90. Here these are errors, and numbers stay as
they are written, so that `revision: 1.10` is not 1.1.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d*)?([eE][-+]?\d+)?|[-+]?\.\d+([eE][-+]?\d+)?")


class NumberText(str):
    """A number as it is written in the file."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    """Refuses keys that are given twice and numbers that are not written as usual."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in keys:
                    line = key_node.start_mark.line + 1
                    raise ValueError(f"`{key_node.value}` is given twice, the second time in line {line}")
                keys.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> NumberText:
        """Returns the text of a number."""
        text = str(node.value)
        if not _NUMBER.fullmatch(text):
            meaning = yaml.SafeLoader.construct_object(yaml.SafeLoader(""), node)
            raise ValueError(
                f"line {node.start_mark.line + 1}: YAML reads {text} as {meaning}. Write the number that you mean in "
                f"decimal digits, or '{text}' in quotes if it is a text."
            )
        return NumberText(text)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def read_yaml(path: Path) -> dict[Any, Any]:
    """Returns the options of a YAML file; numbers are `NumberText`.

    Args:
        path (`Path`):
            The file.

    Raises:
        `ValueError`: If it is no YAML or holds no mapping, a key is given twice, or a number is not decimal; the
            message names the file, and the key or line.
        `OSError`: If the file cannot be read.
    """
    try:
        # A subclass of SafeLoader, which builds plain values only.
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 # nosec B506
    except (UnicodeDecodeError, IsADirectoryError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} cannot be read as YAML: brackets are nested too deeply. Write it anew") from error
    except (KeyError, AttributeError) as error:  # PyYAML's, for a value that is not of the kind that a tag says
        raise ValueError(f"{path}: a value does not fit its tag (such as !!bool). Leave out the tag") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(values or {}, dict):
        raise ValueError(f"{path} must hold `option: value` lines")
    return values or {}
