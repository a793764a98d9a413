"""A notebook as a page: text, code, and the text of its outputs."""

from __future__ import annotations

import json


def markdown(text: str) -> str:
    """The cells of a notebook as Markdown.

    Args:
        text: of the .ipynb file.
    """
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            parts.append(f"```python\n{source}\n```")
            shown = "".join(_text(output) for output in cell["outputs"]).rstrip()
            if shown:
                parts.append(f"```text\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


def _text(output: dict[str, object]) -> str:
    """Printed text, or the plain form of a value."""
    data = output.get("data")
    lines = output.get("text", data.get("text/plain", "") if isinstance(data, dict) else "")
    return "".join(lines) if isinstance(lines, list) else str(lines)
