"""What the Publish tab shows, as HTML: files, one file's content, what became of it. Pure but for reading the files;
escapes.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from ...core.format import size
from ...host.environment import on_space
from ...storage.packs import Pack, Publication, Published

NOT_YET = (
    '<p class="quiet">Nothing leaves this machine before you press <em>Publish</em>. Look at every file first.</p>'
)
LONGEST_SHOWN = 200_000  # characters of a file
_TEXTS = (".md", ".json", ".jsonl", ".py", ".txt", ".jinja")


def view_account(user: str | None, public: bool) -> str:
    """Who would publish."""
    if user:
        return f'<p class="quiet">Publishes as <strong>{escape(user)}</strong>.</p>'
    if on_space():
        return (
            '<p class="quiet">Sign in to publish to your own account; the right to create models is all that is asked'
            " for.</p>"
        )
    if public:
        return '<p class="quiet">Nobody can sign in here; make a zip below, and publish it from your own machine.</p>'
    return (
        '<p class="quiet">Nobody is logged in to the Hub; run <code>hf auth login</code>, then open this tab again.</p>'
    )


def view_files(made: Publication) -> str:
    """The files as a table: name, size, what each is for."""
    rows = "".join(
        f"<tr><td><code>{escape(file.name)}</code><small>{escape(file.what)}</small></td>"
        f'<td class="number">{size(file.size_bytes)}</td></tr>'
        for file in made.files
    )
    total = sum(file.size_bytes for file in made.files)
    return (
        '<table class="plain publish-table"><thead><tr><th>File</th><th class="number">Size</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        f'<p class="quiet">{len(made.files)} files, {size(total)}; nothing else is sent.</p>'
    )


def view_file(made: Publication, name: str) -> str:
    """The content of one of the files: the card as the Hub draws it, other text as it is, a figure as a picture, of
    weights their size.
    """
    if name not in {file.name for file in made.files}:
        return ""
    path = made.folder / name
    try:
        if name.endswith(".md"):
            return _draw_card(path.read_text(encoding="utf-8"), made)
        if name.endswith(".png"):
            shown = _inline(path)
            alt = next(file.what for file in made.files if file.name == name)
            return f'<img class="publish-figure" src="{shown}" alt="{escape(alt)}">'
        if not name.endswith(_TEXTS):
            return f'<p class="quiet">{escape(name)} holds numbers ({size(path.stat().st_size)}); it is no text.</p>'
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST_SHOWN + 1)
    except OSError:
        return '<p class="quiet">This publication was put away after a day; look at it again.</p>'
    more = f'<p class="quiet">The first {LONGEST_SHOWN:,} characters.</p>' if len(text) > LONGEST_SHOWN else ""
    return (
        f'<pre class="publish-text" tabindex="0" aria-label="{escape(name)}">{escape(text[:LONGEST_SHOWN])}</pre>{more}'
    )


def view_taken(repo: str) -> str:
    """Asked before a model of this app makes room for another."""
    return (
        f'<div class="ask"><p><strong>{escape(repo)}</strong> holds a model already, which this app has published. Its'
        " files would make room for these; what was there stays in its history.</p></div>"
    )


def _draw_card(text: str, made: Publication) -> str:
    """The card's Markdown as HTML; tags in it are shown, not interpreted, and figures stand where they will."""
    _, front, body = text.split("---\n", 2) if text.startswith("---\n") else ("", "", text)
    drawing = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = drawing.parse(body)
    figures = {file.name for file in made.files if file.name.endswith(".png")}
    for token in (child for block in tokens for child in block.children or ()):
        if token.type == "image":
            source = str(token.attrs["src"])
            token.attrs["src"] = _inline(made.folder / source) if source in figures else ""
        elif token.type == "link_open":
            token.attrs |= {"target": "_blank", "rel": "noopener"}
    shown = drawing.renderer.render(tokens, drawing.options, {})
    return (
        '<details class="publish-front"><summary>What the Hub reads of it (metadata)</summary>'
        f'<pre class="publish-text">{escape(front)}</pre></details><article class="publish-card">{shown}</article>'
    )


def _inline(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def view_published(found: Published) -> str:
    """Where it is now."""
    link = escape(found.url, quote=True)
    return (
        f'<p class="publish-done">Published: <a href="{link}" target="_blank" rel="noopener">{link}</a></p><p'
        f' class="quiet">{len(found.files)} files in commit {escape(found.commit[:12])}. Anyone who may see it can load'
        " it back under Classify by its name.</p>"
    )


def view_pack(found: Pack, link: str) -> str:
    """Where the zip can be had."""
    return (
        f'<p><a href="{escape(link, quote=True)}" download="{escape(found.name, quote=True)}">{escape(found.name)}</a>,'
        f" {size(found.size_bytes)}; kept for a day.</p>"
    )


def view_merging(found: Pack, link: str) -> str:
    """The zip, and how far the merged model is from the adapter."""
    told = found.merging or {}
    return (
        view_pack(found, link)
        + f'<dl class="facts"><div><dt>Same label as the adapter</dt><dd>{told["same_label"]:.1%}</dd></div>'
        f"<div><dt>Largest difference of a logit</dt><dd>{told['max_logit_difference']:.3g}</dd></div>"
        f"<div><dt>Mean difference</dt><dd>{told['mean_logit_difference']:.2g}</dd></div></dl>"
        f'<p class="quiet">On {told["rows"]:,} test reviews, the merged model as it is read back from the disk beside'
        " the adapter at "
        f"{escape(told['trained_at'])}.</p>"
    )
