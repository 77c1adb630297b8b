"""A chart becomes a picture with an alt text, a page without a hole, and is refused without a description."""

import base64
import html.parser
import json
from types import SimpleNamespace

import altair as alt
import pandas as pd
import pytest

from tracing_utils import results
from tracing_utils.book import vega

NASTY = '</script><img src=x onerror="alert(1)"> & "quoted" <!--<script>'


def chart(description: str | None = "Loss falls.", word: str = "a") -> alt.Chart:
    table = pd.DataFrame({"step": [1, 2], "word": [word, "b"]})
    bare = alt.Chart(table).mark_point().encode(x="step:Q", y="word:N")
    return bare if description is None else bare.properties(description=description)


@pytest.fixture
def renderer():
    """The book's renderer, switched on for one test."""
    before = alt.renderers.active
    vega.enable()
    yield
    alt.renderers.enable(before)


def bundle(drawn: alt.Chart) -> dict:
    made = drawn._repr_mimebundle_()
    return made[0] if isinstance(made, tuple) else made


def page(content: dict) -> str:
    output = SimpleNamespace(mime_type=vega.MIME, content=content)
    (node,) = vega.VegaPlugin.handle_mime(None, output, inline=False)
    assert node["format"] == "html"
    return node.astext()


def test_a_chart_in_a_notebook_is_a_specification_a_picture_and_its_alt_text(renderer):
    spec = bundle(chart())
    assert set(spec) == {vega.MIME, "image/png", "text/plain"}
    assert spec["text/plain"] == "Loss falls."
    assert base64.b64decode(spec["image/png"]).startswith(b"\x89PNG")
    assert spec[vega.MIME]["mark"]["type"] == "point"


def test_what_a_page_of_the_book_draws_itself_is_drawn_once(renderer, monkeypatch):
    assert "image/png" in bundle(chart())
    monkeypatch.setenv(vega.DRAWN, "1")
    assert set(bundle(chart())) == {vega.MIME, "text/plain"}


@pytest.mark.parametrize("description", ["", None])
def test_a_chart_without_a_description_is_refused(renderer, description):
    with pytest.raises(ValueError, match="must have a description, which becomes its alt text"):
        bundle(chart(description))


def test_a_chart_says_which_function_drew_it_and_which_results_the_page_has_read(renderer, monkeypatch):
    cell = "table = results.read('pocket', 'probing')\ncharts.loss_curve(table, charts.COLOURS['privacy'])"
    monkeypatch.setattr(vega, "get_ipython", lambda: SimpleNamespace(user_ns={"In": ["charts.by_layer(x)", cell]}))
    monkeypatch.setattr(results, "_read", {})
    assert bundle(chart())[vega.MIME]["usermeta"] == {"code": "tracing_utils.book.charts.loss_curve"}  # nothing was read yet
    results.read("pocket", "probing")
    found = bundle(chart())[vega.MIME]["usermeta"]
    assert found == {"code": "tracing_utils.book.charts.loss_curve", "results": ["results/pocket/probing.csv"]}
    named = bundle(chart().properties(usermeta={"results": ["results/other.csv"]}))[vega.MIME]["usermeta"]
    assert named["results"] == ["results/other.csv"]  # what the chart says itself goes first
    monkeypatch.setattr(vega, "get_ipython", lambda: SimpleNamespace(user_ns={"In": ["explorables.training(x)"]}))
    assert bundle(chart())[vega.MIME]["usermeta"]["code"] == "tracing_utils.book.explorables.training"


class Reader(html.parser.HTMLParser):
    """Collects the elements of a page, the text of its script, and the label of its figure."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.script, self.label = [], "", None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.label = dict(attributes).get("aria-label", self.label)

    def handle_data(self, text):
        self.script += text


def test_the_specification_on_a_page_is_the_chart_s_own():
    spec = chart().to_dict()
    read = Reader(page(spec))
    assert read.tags == ["div", "div", "script"]
    assert json.loads(read.script) == spec
    assert read.label == "Loss falls."


def test_markup_inside_the_data_or_the_description_stays_data():
    spec = chart(description=NASTY, word=NASTY).to_dict()
    naive = Reader(f"<div><script>{json.dumps(spec)}</script></div>")
    assert "img" in naive.tags  # without escaping it would become an element of the page
    made = page(spec)
    read = Reader(made)
    assert read.tags == ["div", "div", "script"]
    assert json.loads(read.script) == spec
    assert read.label == NASTY
    assert made.count("</script>") == 1


def test_nothing_in_the_data_can_open_a_comment_in_the_script():
    # After `<!--<script` an HTML parser no longer ends a script at its end tag, and swallows the rest of the page.
    made = page(chart(word="<!--<script>").to_dict())
    script = made.partition('<script type="application/json">')[2].partition("</script>")[0]
    assert "<!--" not in script


def test_other_outputs_and_inline_ones_are_left_to_the_book():
    content = chart().to_dict()
    assert vega.VegaPlugin.handle_mime(None, SimpleNamespace(mime_type="image/png", content=b""), inline=False) is None
    assert vega.VegaPlugin.handle_mime(None, SimpleNamespace(mime_type=vega.MIME, content=content), inline=True) is None


def test_the_plug_in_is_found_by_the_book():
    from importlib.metadata import entry_points  # noqa: PLC0415

    (found,) = entry_points(group="myst_nb.mime_renderers", name="vega")
    assert found.load() is vega.VegaPlugin


def test_the_script_of_the_page_is_complete_and_names_no_other_host_to_load_from(tmp_path):
    vega.write_javascript(path := tmp_path / "new" / "vega.js")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("(() => {")
    assert text.endswith("})();\n")
    assert "vegaEmbed" in text
    assert len(text) > 500_000
    assert "cdn.jsdelivr.net" not in text
