"""Builds the docs site: ``make docs``. Nothing is fetched from the network."""

from __future__ import annotations

from sphinx.application import Sphinx

from uwsgi_waffle import __version__

project = "uwsgi_waffle"
author = "The uwsgi_waffle developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
# A page of docs/ and the same page on a code host have the same anchors.
myst_heading_anchors = 4

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
# In what autodoc reads, single backticks stand for nothing.
default_role = None

html_theme = "furo"
html_title = f"uwsgi_waffle {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False

add_module_names = False


def setup(app: Sphinx) -> None:
    """Leave out the fields of named tuples, of which Python itself says nothing."""

    def skip(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool:
        return skip or (getattr(thing, "__doc__", None) or "").startswith("Alias for field number")

    app.connect("autodoc-skip-member", skip)
