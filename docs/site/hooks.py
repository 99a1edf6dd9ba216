"""Pages of the site that lie outside docs/: README, CONTRIBUTING, CHANGELOG, the kernels' pages, the gallery.

Links between them, and to files that are no page, are rewritten: `[gate](docs/gate.md)` in README becomes a link to the
page, `[mine](../suite/api.py)` the name of a file. A picture that a page shows is copied beside it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
# Page of the site -> file of the repository.
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "gallery.md": "reports/README.md",
    **{
        f"kernels/{path.parent.relative_to(ROOT / 'kernels').as_posix()}.md": path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "kernels").rglob("README.md"))
    },
    "results/published.md": "results/published/README.md",
}
# A link or a picture: text and target. Code is left alone.
_CODE, _TARGET = r"```.*?```|`[^`\n]*`(?!\])", r"[^)\s]+"
_LINK = re.compile(rf"(?P<code>{_CODE})|(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>{_TARGET})\)", re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages, and the pictures that they show."""
    shown = set[str]()
    for page, source in PAGES.items():
        text, pictures = rewritten((ROOT / source).read_text(encoding="utf-8"), source, page)
        files.append(File.generated(config, page, content=text))
        shown |= pictures
    for picture in sorted(shown):
        files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    return files


def on_config(config: Any) -> Any:
    """List the pages of the kernels where the navigation has `Kernels: []`."""
    for section in config["nav"]:
        for entry in section.get("Operators", ()):
            if "Kernels" in entry:
                entry["Kernels"] = [page for page in PAGES if page.startswith("kernels/")]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of pages that do lie in docs/."""
    path = page.file.src_uri
    return markdown if path in PAGES else rewritten(markdown, f"docs/{path}", path)[0]


def rewritten(text: str, source: str, page: str) -> tuple[str, set[str]]:
    """The text of a repository's file as a page, and the files of the pictures that it shows."""
    pages = {file: name for name, file in PAGES.items()}
    pictures = set[str]()

    def one(found: re.Match[str]) -> str:
        if found["code"] is not None or re.match(r"\w+:|#", found["target"]):
            return found[0]
        target, hash_, anchor = found["target"].partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if (ROOT / file).is_dir() and f"{file}/README.md" in pages:
            file = f"{file}/README.md"
        if found["picture"]:
            pictures.add(file)
            to = file
        elif file in pages:
            to = pages[file]
        elif (ROOT / file).is_file() and file.startswith("docs/"):
            to = file.removeprefix("docs/")
        elif (ROOT / file).exists():
            return found["text"] if found["text"].startswith("`") else f"{found['text']} (`{file}`)"
        else:
            raise FileNotFoundError(f"{source} links to {found['target']}, which does not exist")
        link = posixpath.relpath(to, posixpath.dirname(page) or ".")
        return f"{found['picture']}[{found['text']}]({link}{hash_}{anchor})"

    return _LINK.sub(one, text), pictures
