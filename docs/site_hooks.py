"""Makes the repository's own pages, and the files that pages link to, part of the site; see mkdocs.yml.

Pages are written for the forge, where README.md lies above docs/. On the site the two are one folder.
"""
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {'README.md': 'index.md', 'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md'}
LINK = re.compile(r'(\]\(|src="|srcset=")(?!\w+:|#)([^)"#]+)')  # not to an address, nor within the page


def on_files(files, config):
    """Add the pages and files that lie outside of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for path in (*ROOT.glob('configs/**/*.py'), ROOT / 'LICENSE', ROOT / 'CITATION.cff'):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, **_):
    """Make links between docs/ and the rest of the repository links within the site."""
    source = Path(page.file.abs_src_path)

    def relink(match):
        target = (source.parent / match[2]).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        name = target.relative_to(ROOT).as_posix()
        name = PAGES.get(name, name.removeprefix('docs/'))
        return match[1] + '../' * page.file.src_uri.count('/') + name

    markdown = re.sub(r'(?<= )\[(\d+)\](?= )', r'\[\1\]', markdown)  # numbers of runs; [1] [2] would be a reference to 2
    return LINK.sub(relink, markdown)
