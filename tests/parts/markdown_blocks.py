# SPDX-License-Identifier: Apache-2.0
"""The code blocks of a Markdown page, for tests that carry them out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

DIRECTIVE = re.compile(r"\{code-block\} *(\w+)")
OPTION = re.compile(r":(\w+): *(.*)")
COMMENT = re.compile(r"<!-- *(.*?) *-->", re.S)


class Block(NamedTuple):
    """A code block.

    :ivar line: where it begins, from 1
    :ivar language: the first word after the fence; empty where there is none, or the block is an indented one
    :ivar options: of a ``code-block`` directive, such as its caption
    :ivar comment: the HTML comment right before it, or an empty string
    """

    page: Path
    line: int
    language: str
    text: str
    options: dict[str, str]
    comment: str


class Command(NamedTuple):
    """A command of a console block, and what the page shows that it prints."""

    text: str
    output: str


def read_blocks(page: Path) -> Iterator[Block]:
    """All of PAGE's, in order."""
    comment = ""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "html_block" and (found := COMMENT.fullmatch(token.content.strip())):
            comment = found[1]
        elif token.type in ("fence", "code_block"):
            assert token.map is not None
            language, options, text = _read_directive(token.info.strip(), token.content)
            yield Block(page, token.map[0] + 1, language, text, options, comment)
            comment = ""
        else:
            comment = ""


def _read_directive(info: str, content: str) -> tuple[str, dict[str, str], str]:
    directive = DIRECTIVE.match(info)
    if directive is None:
        return info.split(" ")[0], {}, content
    lines = content.splitlines(keepends=True)
    options = {}
    while lines and (option := OPTION.match(lines[0])):
        options[option[1]] = option[2]
        del lines[0]
    return directive[1], options, "".join(lines).lstrip("\n")


def read_commands(block: Block) -> list[Command]:
    """The commands of a console block: lines with ``$`` before them. One that ends in a backslash goes on in the next line."""
    commands: list[Command] = []
    goes_on = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:], ""))
        elif goes_on:
            commands[-1] = commands[-1]._replace(text=f"{commands[-1].text}\n{line}")
        else:
            assert commands, f"{block.page.name}:{block.line}: output before a command"
            commands[-1] = commands[-1]._replace(output=f"{commands[-1].output}{line}\n")
            continue
        goes_on = line.endswith("\\")
    return commands


def output_matches(shown: str, printed: str) -> bool:
    """Whether a program printed what a page shows; ``...`` there stands for anything, also for several lines or none."""
    pattern = ".*".join(re.escape(part.strip("\n")) for part in shown.strip().split("..."))
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed.strip().splitlines()), re.S) is not None
