"""What the Publish tab shows, as HTML: files, one file's content, what became of it. Pure but for reading the files."""

from __future__ import annotations

import base64
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from ...core.format import size
from ...host.environment import on_space
from ...storage.packs import Pack, Publication, Published
from ..templating import render
from ..views import view_quiet

LONGEST_SHOWN = 200_000  # characters of a file
_TEXTS = (".md", ".json", ".jsonl", ".py", ".txt", ".jinja")
_FIGURE = Markup('<img class="publish-figure" src="{}" alt="{}">')


def view_account(user: str | None, public: bool) -> str:
    """Who would publish."""
    return render("publish/account.html.jinja", user=user, public=public, on_space=on_space())


def view_files(publication: Publication) -> str:
    """The files as a table: name, size, what each is for."""
    return render("publish/files.html.jinja", files=publication.files)


def view_file(publication: Publication, name: str) -> str:
    """The content of one of the files: the card as the Hub draws it, other text as it is, a figure as a picture, of
    weights their size.
    """
    purpose = next((file.what for file in publication.files if file.name == name), None)
    if purpose is None:
        return ""
    path = publication.folder / name
    try:
        if name.endswith(".md"):
            return _draw_card(path.read_text(encoding="utf-8"), publication)
        if name.endswith(".png"):
            return _FIGURE.format(_inline(path), purpose)
        if not name.endswith(_TEXTS):
            return view_quiet(f"{name} holds numbers ({size(path.stat().st_size)}), not text.")
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST_SHOWN + 1)
    except OSError:
        return view_quiet("This preview was deleted after a day; press Preview again.")
    return render("publish/text.html.jinja", name=name, text=text, longest=LONGEST_SHOWN)


def view_taken(repo: str) -> str:
    """Asked before a model of this app is replaced."""
    return render("publish/taken.html.jinja", repo=repo)


def view_published(published: Published) -> str:
    """Where it is now."""
    return render("publish/published.html.jinja", published=published)


def view_pack(pack: Pack, link: str) -> str:
    """Where the zip can be had, and how far a merged model is from its adapter."""
    return render("publish/pack.html.jinja", pack=pack, link=link)


def _draw_card(text: str, publication: Publication) -> str:
    """The card's Markdown as HTML; tags in it are shown, not interpreted, and figures are put where it names them."""
    _, front, body = text.split("---\n", 2) if text.startswith("---\n") else ("", "", text)
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(body)
    figures = {file.name for file in publication.files if file.name.endswith(".png")}
    for token in (child for block in tokens for child in block.children or ()):
        if token.type == "image":
            source = str(token.attrs["src"])
            token.attrs["src"] = _inline(publication.folder / source) if source in figures else ""
        elif token.type == "link_open":
            token.attrs |= {"target": "_blank", "rel": "noopener"}
    html = Markup(markdown.renderer.render(tokens, markdown.options, {}))
    return render("publish/card.html.jinja", front=front, body=html)


def _inline(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
