# SPDX-License-Identifier: Apache-2.0
"""What docstrings refer to: by the short names that readers of the code know, and to what the reference has no entry for.

A short name (``Device.realize``) leads to the one entry that ends with it. A name that exists in the code, or in what it
imports, is shown without a link. Any other is a warning, as Sphinx has it.
"""

from __future__ import annotations

import ast
import functools
import pkgutil
from pathlib import Path
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import qdevpy


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Any) -> Any:
    """Sphinx's ``missing-reference``: a link, CONTENT without one, or None for a name that there is not."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    target = node["reftarget"].lstrip(".")
    found = domain.find_obj(env, node.get("py:module"), node.get("py:class"), target, node["reftype"], 1)
    if len(found) == 1 and not node.get("refspecific"):
        node["refspecific"] = True
        return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], target, node, content)
    return content if exists(target, node.get("py:module"), node.get("py:class")) else None


def exists(target: str, module: str | None, cls: str | None) -> bool:
    """Whether TARGET names something, seen from MODULE and CLS."""
    package = module and module.rpartition(".")[0]
    heads = [scope for scope in (module and cls and f"{module}.{cls}", module, package) if scope]
    return any(_find(f"{head}.{target}") for head in heads) or _find(target) or names().issuperset(target.split("."))


def _find(path: str) -> bool:
    try:
        pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return False
    return True


@functools.cache
def names() -> frozenset[str]:
    """The names that the framework's files define or import; read, not run, for what is imported for types only counts."""
    found: set[str] = set()
    for file in Path(qdevpy.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                found.update((alias.asname or alias.name) for alias in node.names)
            elif isinstance(node, ast.ClassDef | ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return frozenset(found)
