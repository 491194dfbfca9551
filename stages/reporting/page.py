"""One self-contained HTML page from Markdown and pictures: no network, light and dark, for phones and for print."""

import base64
import html
import re
from pathlib import Path

from stages.errors import naming

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #59636e; --paper: #fff; --line: #d5dae0; --card: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --faint: #9aa5b1; --paper: #14181d; --line: #39424c; --card: #1d232a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { margin-top: 2.6rem; border-bottom: 1px solid var(--line); }
h3 { margin-top: 1.8rem; }
a { color: inherit; } code { font-size: 0.9em; overflow-wrap: anywhere; }
nav ul { columns: 2 14rem; padding-left: 1.2rem; }
table { display: block; width: fit-content; max-width: 100%; overflow-x: auto; border-collapse: collapse;
  font-size: 0.86rem; font-variant-numeric: tabular-nums; margin: 0.8rem 0 1.4rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0 1.6rem; } figcaption { color: var(--faint); font-size: 0.86rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; padding: 0.4rem; border-radius: 4px;
  border: 1px solid var(--line); }
pre { background: var(--card); padding: 0.8rem; overflow-x: auto; border-radius: 4px; font-size: 0.82rem; }
blockquote { margin: 0; padding: 0.2rem 1rem; background: var(--card); border-left: 4px solid #0072b2; }
details { margin: 1rem 0; } summary { cursor: pointer; }
@media screen and (max-width: 42rem) { figure { overflow-x: auto; } figure img { max-width: 40rem; } }
@media print {
  body { max-width: none; } nav { display: none; } summary { list-style: none; } figure, tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  table { display: table; font-size: 0.6rem; }
  th, td { padding: 0.15rem 0.3rem; white-space: normal; overflow-wrap: anywhere; }
}
"""
KINDS = {".svg": "image/svg+xml", ".png": "image/png"}


def figure(path: Path, caption: str) -> str:
    """Return a picture as a block of HTML that holds it.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    with naming(path):
        content = base64.b64encode(Path(path).read_bytes()).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:{KINDS[Path(path).suffix]};base64,{content}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def folded(title: str, block: str) -> str:
    """Return a block of HTML that opens when its title is chosen."""
    return f"<details><summary>{html.escape(title)}</summary>{block}</details>"


def markdown(text: str) -> str:
    """Return Markdown (CommonMark with tables) as HTML; tags in it are shown, not obeyed."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").render(text)


def assemble(title: str, introduction: str, sections: dict[str, list[str]]) -> str:
    """Return the page.

    Parameters
    ----------
    introduction : str
        Block of HTML before the table of contents.
    sections : dict
        Title to blocks of HTML; a section without blocks is left out.
    """
    sections = {name: blocks for name, blocks in sections.items() if blocks}
    entries = "".join(f'<li><a href="#{_anchor(name)}">{html.escape(name)}</a></li>' for name in sections)
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{html.escape(name)}</h2>{"".join(blocks)}</section>'
        for name, blocks in sections.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>{introduction}<nav><ul>{entries}</ul></nav>{body}</body></html>\n"
    )


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
