"""Write the repository's address where it is needed: ``pyproject.toml`` and every notebook."""

import json
import re
from urllib.parse import urlparse

from press.imports import text_of
from press.project import PressError, Project, write_atomically

SOURCE_LINE = re.compile(r'(os\.environ\.get\(\s*"REPCOLLAPSE_SOURCE",\s*")[^"]*("\s*\))')


def write_address(project: Project, url: str) -> list[str]:
    """Set the address; return the files that hold it."""
    parts = urlparse(url)
    if parts.scheme not in ("https", "http", "ssh", "file") or not parts.path.strip("/"):
        raise PressError(f"URL={url!r}: expected the address of a git repository, https://...")
    pyproject = project.root / "pyproject.toml"
    write_atomically(pyproject, with_repository(pyproject.read_text(encoding="utf-8"), url))
    changed = [pyproject.name]
    for path in project.notebooks:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if not set_source(notebook, f"git+{url}"):
            raise PressError(
                f'{path.name}: no cell reads os.environ.get("REPCOLLAPSE_SOURCE", "..."): '
                "its set-up cell must"
            )
        write_atomically(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
        changed.append(path.name)
    return changed


def with_repository(text: str, url: str) -> str:
    """Return the text of ``pyproject.toml`` with ``Repository`` set in ``[project.urls]``."""
    header = "[project.urls]\n"
    if header not in text:
        raise PressError("pyproject.toml has no [project.urls]")
    before, after = text.split(header, 1)
    table, bracket, rest = after.partition("\n[")
    kept = [line for line in table.splitlines() if not re.match(r"Repository\s*=", line)]
    lines = [f'Repository = "{url}"', *[line for line in kept if line.strip()]]
    return f"{before}{header}" + "\n".join(lines) + f"\n{bracket}{rest}"


def set_source(notebook: dict[str, list[dict[str, object]]], source: str) -> bool:
    """Replace the default of the set-up cell; tell whether there was one."""
    for cell in notebook["cells"]:
        text = text_of(cell)
        new = SOURCE_LINE.sub(lambda match: f"{match[1]}{source}{match[2]}", text)
        if SOURCE_LINE.search(text):
            cell["source"] = new if isinstance(cell["source"], str) else new.splitlines(True)
            return True
    return False
