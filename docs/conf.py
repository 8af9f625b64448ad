"""Builds the docs site: ``make docs``. Nothing is fetched from the network."""

from __future__ import annotations

from uwsgi_waffle import __version__

project = "uwsgi_waffle"
author = "The uwsgi_waffle developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
# A page of docs/ and the same page on a code host have the same anchors.
myst_heading_anchors = 4
# The pages with the figures of one run: a table is wider than the text column.
myst_enable_extensions = ["attrs_block"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
# In what autodoc reads, single backticks stand for nothing.
default_role = None

html_theme = "furo"
html_title = f"uwsgi_waffle {version}"
html_copy_source = False
html_show_sourcelink = False

add_module_names = False
