"""Chat templates that print today's date (Llama 3.2, SmolLM3, gpt-oss, Granite): a fixed date takes its place.

Otherwise the tokens of a row, and so its features, would differ from day to day, and a store would mix days.
"""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
#: The date that Llama's template prints where it does not know today's.
TEMPLATE_DATE = datetime.date(2024, 7, 26)
_reported_templates: set[str] = set()


def prints_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's chat template asks for today's date."""
    return "strftime_now" in str(tokenizer.chat_template or "")


def date_arguments(tokenizer: PreTrainedTokenizerBase, tools: Any = None) -> dict[str, Any]:
    """Returns the arguments of `apply_chat_template` that fix the date, and says so once for each template.

    The template gets a macro of the name of the function that it asks for today's date.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            A tokenizer with a chat template.
        tools (`list`, *optional*):
            The row's tools: some tokenizers have a template of its own for rows with tools.

    Example:
        >>> date_arguments(tokenizer)  # its template prints no date
        {}
    """
    if not prints_date(tokenizer):
        return {}
    template = tokenizer.get_chat_template(None, tools)
    if template not in _reported_templates:
        _reported_templates.add(template)
        logger.warning(
            "The chat template prints today's date. Rows are read with the date %s, so that features do not depend on "
            "the day.",
            TEMPLATE_DATE,
        )
    return {"chat_template": _DATE_MACRO + template}


def _date_macro() -> str:
    """Returns a Jinja macro that replaces the directives of a format by the parts of the fixed date."""
    moment = datetime.datetime.combine(TEMPLATE_DATE, datetime.time())
    filters = "".join(f"|replace('%{letter}', '{moment.strftime(f'%{letter}')}')" for letter in _DIRECTIVES)
    # The line ends here: a newline after a block is not printed.
    return (
        f"{{% macro strftime_now(format) %}}{{{{ format|replace('%-d', '{moment.day}'){filters} }}}}{{% endmacro %}}\n"
    )


_DIRECTIVES = "aAwdbBmyYHIpMSfjUWcxXGuV"
_DATE_MACRO = _date_macro()
