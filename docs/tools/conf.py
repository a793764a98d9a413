"""Settings of Sphinx for the site: everything is local, nothing is fetched."""

from __future__ import annotations

from clbench import __version__

project = "clbench"
copyright = "the clbench developers; MIT licence"  # the name is Sphinx's
release = version = __version__
extensions = ["myst_parser"]
root_doc = "index"
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
highlight_language = "none"

html_theme = "pydata_sphinx_theme"
html_title = "clbench"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_show_sphinx = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "logo": {"text": "clbench"},
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "navigation_depth": 3,
    "collapse_navigation": True,
    "show_nav_level": 1,
    "search_bar_text": "Search",
}
