"""The Data tab as someone with a spreadsheet uses it: the sample's report, a messy file, its columns changed, mended,
searched, seen as the model sees it, and on to the Train tab; bad files; narrow and dark."""

from __future__ import annotations

import csv
import gzip
import json
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page

from qlora_demo.engine.data.hub import AMAZON, AMAZON_REVISION
from tests.browser.waiting import Open, check_layout, choose, enter, fill, open_tab, wait_for_text
from tests.hub_server import HubServer, make_amazon_reviews
from tests.serving import App

pytestmark = pytest.mark.browser
HOSTILE = "<script>document.title = 'run'</script> **bold** $x^2$ {{value}} ${1+1} שלום \u202eabc\u202c 👍"


@pytest.fixture(scope="module", autouse=True)
def _reviews(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    reviews = make_amazon_reviews(tmp_path_factory.mktemp("reviews"), rows=(100, 20, 20))
    hub.add_dataset(AMAZON, reviews, revision=AMAZON_REVISION, license="mit")


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A German spreadsheet: semicolons, Windows-1252, names of its own, two columns that could be the label, damage of
    all kinds."""
    spoken = "sehr gut schlecht Gerät Lieferung schnell kaputt Knöpfe größer Preis über naja"
    words = spoken.split()
    texts = [f"{' '.join(words[(i * k) % len(words)] for k in range(1, 8 + i % 20))} {i}" for i in range(100)]
    rows = [["Überschrift", text, i % 5 + 1, "ja" if i % 2 else "nein"] for i, text in enumerate(texts)]
    rows += [["", "gleich und gleich", 1, "ja"], ["", "gleich und gleich", 5, "ja"], ["", "", 3, "ja"]]
    rows += [["", "Nicht so &quot;toll&quot; wie gedacht", 2, "nein"], ["", "ohne Stern", 9, "nein"]]
    path = tmp_path / "Meinungen.csv"
    with path.open("w", encoding="cp1252", newline="") as sheet:
        csv.writer(sheet, delimiter=";").writerows([["Titel", "Meinung", "Sterne", "Empfohlen"], *rows])
    return path


def open_data(page: Page) -> None:
    """The tab, with the sample's report."""
    open_tab(page, "Data")
    wait_for_text(page, "#data-summary", "3,997")
    # What is drawn last.
    page.wait_for_selector("#data-reviews button[data-row]")


def send(page: Page, path: Path) -> None:
    """Uploads a file."""
    page.locator("#data-source").get_by_text("File").click()
    page.set_input_files("#data-file input[type=file]", str(path))
    wait_for_text(page, "#data-file", f"Uploaded: {path.name}")


def value(page: Page, field: str) -> str:
    return page.locator(f"#{field} input, #{field} textarea").first.input_value()


def test_the_sample_is_reported_at_once(hub_app: App, open_page: Open) -> None:
    page = open_page(hub_app.url)
    open_data(page)
    summary = page.inner_text("#data-summary")
    for words in ("sample", "of 3,997 rows", "Read as JSON Lines", "0 the worst"):
        assert words in summary
    assert "train (3,197)" in page.inner_text("#data-balance")
    assert "English" in page.inner_text("#data-languages")
    wait_for_text(page, "#data-lengths", "1.5 %")
    fill(page, "data-max-length", "16")
    wait_for_text(page, "#data-lengths", "Many lose their end")
    fill(page, "data-max-length", "512")
    wait_for_text(page, "#data-lengths", "nothing is truncated")
    choose(page, "data-split", "test")
    wait_for_text(page, "#data-summary", "400\nof 3,997")


def test_a_messy_spreadsheet_becomes_a_run(hub_app: App, messy: Path, open_page: Open) -> None:
    page = open_page(hub_app.url)
    open_data(page)
    send(page, messy)
    wait_for_text(page, "#data-summary", "Meinungen.csv")
    wanted = {"text": "Meinung", "label": "Sterne", "title": "none", "encoding": "cp1252"}
    wanted |= {"delimiter": "semicolon ;", "header": "column names"}
    assert {field: value(page, f"data-{field}") for field in wanted} == wanted
    for words in ("103\nof 105 rows", "Left out\n2"):
        assert words in page.inner_text("#data-summary")
    left_out = page.inner_text("#data-left-out")
    assert "empty text" in left_out and "104" in left_out and "label '9' outside 1 to 5" in left_out
    doubles = page.inner_text("#data-doubles")
    assert "gleich und gleich" in doubles and "1 in 1 row, 5 in 1 row" in doubles
    assert "German" in page.inner_text("#data-languages")

    choose(page, "data-title", "Titel")
    wait_for_text(page, "#data-reviews", "Überschrift")
    choose(page, "data-label", "Empfohlen")
    wait_for_text(page, "#data-balance", "nein")
    choose(page, "data-label", "Sterne")
    wait_for_text(page, "#data-summary", "Left out\n2")

    assert "&quot;toll&quot;" in page.inner_text("#data-damage")
    page.click("#data-mend-them")
    wait_for_text(page, "#data-damage", "Everything that can be fixed is fixed")
    page.locator("#data-query input, #data-query textarea").press_sequentially("TOLL")
    wait_for_text(page, "#data-reviews", "1 review with “TOLL”")
    assert 'Nicht so "toll" wie gedacht' in page.inner_text("#data-reviews")
    assert page.inner_text("#data-reviews mark") == "toll"

    page.locator("#data-query input, #data-query textarea").fill("")
    wait_for_text(page, "#data-reviews", "1 to 8 of 103")
    page.click("#data-later")
    wait_for_text(page, "#data-reviews", "9 to 16 of 103")
    fill(page, "data-max-length", "20")
    # By the keyboard, as all else.
    page.locator("#data-reviews button[data-row]").nth(2).focus()
    page.keyboard.press("Enter")
    wait_for_text(page, "#data-seen", "[CLS]")
    seen = page.inner_text("#data-seen")
    assert "20 tokens of at most 20" in seen and "Truncated: " in seen
    assert page.locator("#data-seen .data-cut-text").count() == 1
    assert page.locator("#data-reviews button[aria-pressed=true]").count() == 1

    page.locator("#data-unit").get_by_text("Percentage").click()
    fill(page, "data-amount", "50")
    wait_for_text(page, "#data-subset", "training reviews (5")
    page.click("#data-train")
    wait_for_text(page, "#train-reason", "from the Data tab")
    page.locator("#train-others button").first.click()
    page.wait_for_selector("#train-text-column")
    named = value(page, "train-data")
    assert named.startswith("upload:") and named.endswith("/Meinungen.csv") and str(hub_app.home) not in page.content()
    wanted = {"text-column": "Meinung", "title-column": "Titel", "label-column": "Sterne", "max-length": "20"}
    assert {field: value(page, f"train-{field}") for field in wanted} == wanted
    assert 30 <= int(value(page, "train-rows")) <= 50 and page.locator("#train-mend input").is_checked()


def test_a_review_is_shown_as_typed_everywhere(hub_app: App, tmp_path: Path, open_page: Open) -> None:
    path = tmp_path / "names.jsonl"
    labels = ["<b>bad</b>", "<b>good</b>"]
    rows = [{"text": f"{HOSTILE} {i // 2}", "label": labels[i % 2], HOSTILE: 1} for i in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = open_page(hub_app.url)
    open_data(page)
    send(page, path)
    wait_for_text(page, "#data-balance", "<b>good</b>")
    for figure in ("#data-reviews", "#data-doubles"):
        assert HOSTILE in page.inner_text(figure), page.inner_text(figure)
    page.locator("#data-reviews button[data-row]").first.click()
    wait_for_text(page, "#data-seen", "[CLS]")
    page.locator("#data-query input, #data-query textarea").press_sequentially("<script>")
    wait_for_text(page, "#data-reviews", "with “<script>”")
    assert page.title() != "run" and page.locator("[id^=data-] b:text-is('good'), #data-reviews strong").count() == 0


def bad_files(folder: Path) -> list[tuple[Path, str]]:
    """Files that hold no reviews, each with words of its sentence."""
    made = []
    for name, content, words in (
        ("empty.csv", b"", "is empty"),
        ("page.csv", b"<!DOCTYPE html><html><body>no</body></html>", "web page"),
        ("bytes.csv", bytes(range(256)) * 40, "give a .csv"),
        ("broken.parquet", b"PAR1" + b"\0" * 50, "not a readable .parquet"),
        ("bare.csv", b"text\n" + b"a fine review of this thing\n" * 3, ""),
        ("bomb.csv.gz", gzip.compress(b"text,label\n" + b"\0" * (300 << 20), 9), "bomb"),
    ):
        path = folder / name
        path.write_bytes(content)
        made.append((path, words))
    several = folder / "several.zip"
    with zipfile.ZipFile(several, "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "y")
    return [*made, (several, "exactly one")]


def test_bad_files_give_one_sentence_and_lose_nothing(hub_app: App, tmp_path: Path, open_page: Open) -> None:
    page = open_page(hub_app.url)
    open_data(page)
    for path, words in bad_files(tmp_path):
        if not words:
            continue
        send(page, path)
        wait_for_text(page, "#data-status", words)
        said = page.locator("#data-status li")
        assert said.count() == 1 and str(hub_app.home) not in said.inner_text() and "/tmp" not in said.inner_text()
        assert "3,997" in page.inner_text("#data-summary"), "the report before it is there still"
    send(page, tmp_path / "bare.csv")
    wait_for_text(page, "#data-warnings", "No column looks like the label")
    page.click("#data-train")
    wait_for_text(page, "#data-refused", "choose the label column")
    page.locator("#data-source").get_by_text("Hub").click()
    enter(page, "data-hub", "/etc/passwd")
    page.click("#data-look")
    wait_for_text(page, "#data-status", "no data set's name on the Hub")


def test_nothing_comes_from_the_hub_before_a_yes(hub_app: App, hub: HubServer, open_page: Open) -> None:
    page = open_page(hub_app.url)
    open_data(page)
    page.locator("#data-source").get_by_text("Hub").click()
    page.click("#data-look")
    page.wait_for_selector("#data-fetch")
    for words in (AMAZON, "To download", "Licence"):
        assert words in page.inner_text("#data-ask")
    page.click("#data-refuse")
    page.wait_for_selector("#data-fetch", state="hidden")
    assert not any(".jsonl" in path for path in hub.paths())
    page.click("#data-look")
    page.click("#data-fetch")
    wait_for_text(page, "#data-summary", AMAZON)
    assert "train (100)" in page.inner_text("#data-balance")
    page.click("#data-train")
    wait_for_text(page, "#train-reason", "from the Data tab")
    assert value(page, "train-data") == "amazon-reviews"


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), pytest.param(1280, "dark", marks=pytest.mark.slow)])
def test_nothing_overflows_and_all_is_labelled(
    hub_app: App, messy: Path, open_page: Open, width: int, scheme: str
) -> None:
    page = open_page(hub_app.url, width, 844, scheme)
    open_data(page)
    send(page, messy)
    wait_for_text(page, "#data-summary", "Meinungen.csv")
    page.locator("#data-unit").get_by_text("Number").click()
    page.locator("#data-reviews button[data-row]").first.click()
    wait_for_text(page, "#data-seen", "[CLS]")
    check_layout(page, "[id^=data-]")
