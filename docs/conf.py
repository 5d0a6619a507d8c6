# SPDX-License-Identifier: Apache-2.0
"""How Sphinx makes a site of the Markdown in this repository: ``make docs``, see docs/index.md.

The source directory is the repository, not docs/, so that a link between README.md, docs/ and a plugin's README.md is the same
for a reader of the files and in the site.
"""

import sys
from pathlib import Path

from qdevpy import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "qdevpy"
author = "the authors of qdevpy"
release = __version__

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "plugins/*/README.md",
    "examples/*/README.md",
]
# directories that are not walked
exclude_patterns = [".*", "build", "dist", "tests", "qdevpy", "**/*.egg-info", "**/__pycache__"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "qdevpy_reference"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "fieldlist"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = f"qdevpy {release}"
html_extra_path = ["site"]
html_show_sphinx = False
html_copy_source = False
