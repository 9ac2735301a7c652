"""Roles of messages: the names that data sets use for them, and those that a chat template prints.

A template leaves out messages of a role that it does not know, without an error: rows that differ only in them then
become the same tokens.
"""

from __future__ import annotations

import functools
import re
from typing import Any

#: Roles that chat templates have in common.
ROLES = ("system", "user", "assistant", "tool")
#: Other names for them in public data sets, in lower case. Those of a question and of its answer always mean the same;
#: some templates print a role such as `developer` or `ipython` in a form of its own, which is kept.
SPEAKERS = {
    **dict.fromkeys(("human", "prompter", "person", "instruction"), "user"),
    **dict.fromkeys(("gpt", "model", "bot", "chatbot", "chatgpt", "ai", "bing", "bard", "assistance"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
}
OTHERS = {
    **dict.fromkeys(("developer", "sys", "system_prompt"), "system"),
    **dict.fromkeys(("function", "observation", "ipython", "tool_response", "tool_result"), "tool"),
    "function_response": "tool",
}


class UnknownRoleError(ValueError):
    """A message has a role that neither this package nor the chat template knows."""


def known_role(role: str, template_roles: frozenset[str] | None = None) -> str:
    """Returns the role's common name.

    Args:
        role (`str`):
            The role as it is written in the data.
        template_roles (`frozenset[str]`, *optional*):
            Roles that the chat template names. Without it, a role that is not known stays as it is.

    Raises:
        `UnknownRoleError`: If neither this package nor the template knows the role.

    Example:
        >>> known_role("human"), known_role("GPT"), known_role("ipython", frozenset({"ipython"}))
        ('user', 'assistant', 'ipython')
    """
    name = str(role).strip().lower()
    if name in ROLES or name in SPEAKERS:
        return SPEAKERS.get(name, name)
    if template_roles is not None and role in template_roles:
        return role
    if name in OTHERS:
        return OTHERS[name]
    if template_roles is None:
        return role
    further = ", ".join(sorted(template_roles - set(ROLES)))
    names = f" ({further})" if further else ""
    raise UnknownRoleError(
        f"role {role!r} is neither one of {', '.join(ROLES)}, or a usual name for them such as 'human' and 'gpt', nor "
        f"one that the chat template names{names}. Rename it in the data."
    )


def roles_in_template(template: Any) -> frozenset[str]:
    """Returns the roles that a chat template compares a message's role with.

    Args:
        template (`str` or `dict`):
            The text of the template, or several by name.

    Example:
        >>> sorted(roles_in_template("{% if m['role'] == 'user' or m.role in ['ipython', 'tool'] %}"))
        ['ipython', 'tool', 'user']
    """
    return _roles_in_text("\n".join(template.values()) if isinstance(template, dict) else str(template))


@functools.lru_cache(maxsize=16)
def _roles_in_text(text: str) -> frozenset[str]:
    roles: set[str] = set()
    for condition in re.findall(r"role\b['\"\])}]*\s*(?:==|in)\s*(\[[^\]]*\]|\([^)]*\)|['\"][^'\"]*['\"])", text):
        roles.update(re.findall(r"['\"]([^'\"]+)['\"]", condition))
    return frozenset(roles)
