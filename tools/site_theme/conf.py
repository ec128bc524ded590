"""How Sphinx makes the site; copied by tools/site.py beside the prepared notebooks."""

project = "amt_nb"
html_title = "amt_nb"
copyright = ""
html_show_copyright = html_show_sphinx = html_copy_source = False
extensions = ["myst_nb", "sphinx_copybutton", "sphinx.ext.mathjax"]
exclude_patterns = ["_static", "_extra"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
suppress_warnings = ["myst.header", "misc.highlighting_failure", "mystnb.unknown_mime_type"]
html_theme = "furo"
html_static_path, html_extra_path = ["_static"], ["_extra"]
html_favicon = "_static/favicon.svg"
html_css_files = ["book.css"]
html_js_files = ["book.js"]
mathjax_path = "mathjax.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "global"}}
copybutton_selector = (
    "div.cell_input div.highlight pre, div.highlight-python div.highlight pre, div.highlight-sh div.highlight pre"
)
pygments_style, pygments_dark_style = "tango", "monokai"
