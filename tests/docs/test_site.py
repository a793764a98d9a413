"""The pages of the site: one for everything that the suite lists, links that lead somewhere, nothing from outside."""

from __future__ import annotations

import doctest
import importlib
import re
import tomllib
from pathlib import Path

import api
import blocks
import build_site
import notebook
import prose
import pytest
import reference
import yaml

import checkout
from clbench import __version__, cli
from clbench.cli.catalogue import catalogue

ROOT = checkout.ROOT
TOOLS = ("api", "blocks", "build_site", "notebook", "prose", "reference")


@pytest.fixture(scope="module")
def generated() -> dict[str, str | bytes]:
    """The derived pages but those of benchmarks, whose streams take seconds to compile."""
    parts = (
        reference.strategies(),
        reference.metrics(),
        reference.grammar(),
        reference.verbs(),
        reference.run_files(ROOT),
        reference.benchmark("split_digits-v1"),
        reference.benchmark("split_mnist-v1"),
        api.pages(ROOT),
    )
    return {name: page for part in parts for name, page in part}


# ------------------------------------------------------------------------------------------------ derived pages
def test_whatever_is_listed_has_a_page(generated: dict[str, str | bytes]) -> None:
    for name in catalogue("strategies"):
        assert f"docs/reference/strategies/{name}.md" in generated
    for name in catalogue("metrics"):
        assert f"docs/reference/metrics/{reference.file_name(name)}.md" in generated
    (choices,) = (a.choices for a in cli.parser()._actions if isinstance(a.choices, dict))
    for verb in choices:
        assert f"docs/reference/command_line/{verb}.md" in generated


def test_a_page_has_what_show_prints(generated: dict[str, str | bytes], capsys: pytest.CaptureFixture[str]) -> None:
    page = str(generated["docs/reference/strategies/er.md"])
    assert cli.main(["show", "er"]) == 0
    printed = capsys.readouterr().out
    for key in re.findall(r"^  (\w+): ", printed.partition("hyper-parameters")[2], re.MULTILINE):
        assert f"`strategy.{key}`" in page
    assert "`strategy.memory`\n: an integer >= 1; default `null`\n\n  Samples stored in total" in page
    assert "L = w CE(new) + (1 - w) CE(replayed)" in page


def test_a_metric_says_formula_source_and_example(generated: dict[str, str | bytes]) -> None:
    page = str(generated["docs/reference/metrics/min_acc.md"])
    assert "| formula | `mean_i min_{n > b_f(i), i not visited} A(n, i)` |" in page
    assert "| range | 0 to 1; higher is better |" in page
    assert "De Lange et al. 2023" in page
    assert "```pycon\n>>>" in page


def test_a_benchmark_has_its_card_and_picture_where_the_data_are_embedded(generated: dict[str, str | bytes]) -> None:
    page, elsewhere = (str(generated[f"docs/reference/benchmarks/{n}-v1.md"]) for n in ("split_digits", "split_mnist"))
    assert "| coverage | 1,442 of 1,442 (100 %) training samples occur |" in page
    assert bytes(generated["docs/reference/benchmarks/split_digits-v1.png"]).startswith(b"\x89PNG")  # type: ignore[arg-type]
    assert "split_digits-v1.png" in page
    assert "needs the data; " in elsewhere
    assert "png" not in elsewhere


def test_keys_of_nested_kinds_are_listed(generated: dict[str, str | bytes]) -> None:
    page = str(generated["docs/reference/keys/stream.md"])
    assert "`stream.schedule`, by: power_law or exponential or uniform or none" in page
    assert "`exponent`\n: " in page
    assert "`tuning`\n: " in str(generated["docs/reference/keys/study.md"])


def test_every_array_of_a_trace_and_every_column_is_listed(generated: dict[str, str | bytes]) -> None:
    arrays = str(generated["docs/reference/trace_npz.md"])
    assert "| `correct.class` | int32 | (24, 3) |" in arrays
    assert "| `cell_class` | int32 | (3,) |" in arrays
    columns = (ROOT / "results/reference/leaderboard.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    page = str(generated["docs/reference/leaderboard_csv.md"])
    assert all(f"| `{column}` |" in page for column in columns)
    keys = str(generated["docs/reference/run_json.md"])
    assert all(f"| `{key}` |" in keys for key in ("run_id", "config.seed", "costs.train_s", "weights_sha256"))


def test_the_public_modules_are_those_of_the_page_on_python(generated: dict[str, str | bytes]) -> None:
    text = "| `clbench.resolve` | x |\n| `clbench.strategies.*` | y |\n| `other` | z |"
    modules = api.public(text)
    assert modules[:3] == ["clbench.resolve", "clbench.strategies.acil", "clbench.strategies.agem"]
    assert "clbench.strategies.shared.replay" in modules
    page = str(generated["docs/reference/python/clbench.strategy.md"])
    assert "### Learner.before_update" in page
    assert "`index`\n: rows of the training set, int64 (N,); the entries of a replay buffer." in page


def test_signatures_are_python_without_addresses(generated: dict[str, str | bytes]) -> None:
    page = str(generated["docs/reference/python/clbench.metrics.md"])
    assert "    better: Literal['higher', 'lower', 'zero', 'unstated'],\n" in page
    assert not [name for name, page in generated.items() if isinstance(page, str) and " at 0x" in page]


# ------------------------------------------------------------------------------------------------ written pages
def test_every_page_is_in_one_section() -> None:
    listed = [page for section in build_site.navigation() for page in section["pages"]]
    assert len(set(listed)) == len(listed)
    assert {*build_site.written()} - {*listed} == {"README.md"}


def test_links_lead_somewhere_in_the_repository_too() -> None:
    dead = []
    for name in build_site.written():
        if name.endswith(".ipynb"):
            continue

        def check(target: str, name: str = name) -> str:
            path = target.partition("#")[0]
            if path and not re.match(r"[a-z]+:", path) and not ((ROOT / name).parent / path).exists():
                dead.append(f"{name}: {target}")
            return target

        blocks.with_links((ROOT / name).read_text(encoding="utf-8"), check)
    assert not dead


def test_links_are_rewritten_for_the_site(tmp_path: Path) -> None:
    staging = build_site.Staging(tmp_path)
    staging.write("docs/howto/a.md", "[x](../../strategies/er.py) [y](../../README.md#one-run) `[z](../../README.md)`")
    staging.write("old.md", "")
    assert (tmp_path / "docs/howto/a.md").read_text("utf-8") == (
        "[x](../../strategies/er.py.md) [y](../../index.md#one-run) `[z](../../README.md)`"
    )
    staging.finish()
    assert "class ExperienceReplay" in (tmp_path / "strategies/er.py.md").read_text("utf-8")
    build_site.Staging(tmp_path).finish()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------------------ text
def test_docstrings_stay_what_they_are() -> None:
    text = "L with w*_i.\n\n    L = a * b\n\nArgs:\n    x: one\n        more.\n    y: two.\n\n"
    text += "1. An _item_.\n\n>>> 1 + 1\n2\n"
    assert prose.markdown(text) == (
        "L with w\\*\\_i.\n\n```text\nL = a * b\n```\n\n**Arguments**\n\n`x`\n: one more.\n\n`y`\n: two.\n\n"
        "1. An \\_item\\_.\n\n```pycon\n>>> 1 + 1\n2\n```"
    )
    assert ">>>" not in prose.markdown(text, examples=False)


def test_indented_blocks_get_their_language() -> None:
    page = "Text:\n\n    a: 1\n\n    clbench list models\n\n* item\n\n      x = 1\n\nEnd.\n"
    assert blocks.with_languages(page) == (
        "Text:\n\n```yaml\na: 1\n```\n\n```sh\nclbench list models\n```\n\n"
        "* item\n\n  ```python\n  x = 1\n  ```\n\nEnd.\n"
    )


def test_a_notebook_becomes_a_page() -> None:
    text = (
        '{"cells": [{"cell_type": "markdown", "source": ["# A\\n", "b"]}, {"cell_type": "code", "source": "1 + 1", '
        '"outputs": [{"text": ["x\\n"]}, {"data": {"text/plain": "2"}}]}]}'
    )
    assert notebook.markdown(text) == "# A\nb\n\n```python\n1 + 1\n```\n\n```text\nx\n2\n```\n"


@pytest.mark.parametrize("name", TOOLS)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


# ------------------------------------------------------------------------------------------------ offline
def test_what_is_fetched_from_outside_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="https://x.org">x</a><script src="local.js"></script>', encoding="utf-8")
    assert build_site.outside(tmp_path) == []
    (tmp_path / "b.html").write_text('<script async src="//cdn.org/a.js"></script>', encoding="utf-8")
    (tmp_path / "c.css").write_text("@font-face { src: url(https://fonts.org/f.woff2) }", encoding="utf-8")
    assert build_site.outside(tmp_path) == ["b.html: //cdn.org/a.js", "c.css: https://fonts.org/f.woff2"]


# ------------------------------------------------------------------------------------------------ citation
def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert citation["license"] == project["license"] == "MIT"
    assert citation["title"] == project["name"]
    assert citation["authors"] == [{"name": "The clbench developers"}]
    assert citation["message"]
    assert not citation.keys() & {"doi", "url", "repository-code", "date-released"}
