"""How Sphinx builds the site: `scripts/docs` runs it. Cells run at build, and warnings are errors."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import rootfeed

HERE = Path(__file__).parent

project = "rootfeed"
author = "rootfeed developers"
version = release = rootfeed.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_cells"]
needs_sphinx = "9.0"

# Pages: Markdown, whose cells run in a folder that is removed afterwards, and in a profile of their own:
# what somebody has in theirs changes no page.
_PROFILE = tempfile.TemporaryDirectory(prefix="rootfeed-docs-")
_SETTINGS = Path(_PROFILE.name, "profile_default", "ipython_kernel_config.py")
_SETTINGS.parent.mkdir()
_SETTINGS.write_text(
    "c.IPKernelApp.log_level = 'ERROR'\nc.InteractiveShellApp.exec_lines = ['import guide']\n"
)
os.environ["IPYTHONDIR"] = _PROFILE.name
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(HERE / "_cells"), os.environ.get("PYTHONPATH")])
)
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_execution_timeout = 60
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The reference: what docstrings say, in their order; types stand there, too.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autosummary_generate = False
napoleon_google_docstring = False
napoleon_preprocess_types = False
napoleon_use_rtype = False
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "rootfeed"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": []}
html_theme_options = {
    "logo": {"text": "rootfeed"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "show_toc_level": 2,
    "navigation_depth": 2,
    "header_links_before_dropdown": 8,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}
copyright = f"rootfeed developers; version {release}"


def _linked(_: Sphinx, __: str, source: list[str]) -> None:
    """Let links to files beside this folder lead to the pages that show them."""
    source[0] = source[0].replace("](../../ARCHITECTURE.md)", "](../architecture.md)")


def _shortened(_: Sphinx, page: nodes.document) -> None:
    """Show paths without the folder that a page runs in, which is another one at each build."""
    folder = re.escape(os.path.join(tempfile.gettempdir(), "tmp")) + r"\w+(/|(?=\W))"
    for block in page.findall(nodes.literal_block):
        text = re.sub(folder, lambda found: "" if found[1] else ".", block.astext())
        if text != block.astext():
            block.rawsource = text
            block.children = [nodes.Text(text)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the above."""
    app.connect("source-read", _linked)
    app.connect("doctree-read", _shortened)
    return {"parallel_read_safe": True}
