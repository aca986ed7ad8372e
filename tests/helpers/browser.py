"""Reports where people look at them: in Chromium by playwright, where both are installed."""
import os
import shutil
from contextlib import contextmanager

import pytest

NAMES = ('chromium', 'chromium-browser', 'chromium-headless-shell', 'google-chrome', 'google-chrome-stable', 'chrome')
OVERFLOW = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'
"""By how much a page is wider than the window, in CSS px."""


@contextmanager
def chromium():
    """A browser of playwright's: the program in the variable CHROMIUM, or any on the path; else the test is skipped."""
    api = pytest.importorskip('playwright.sync_api', reason='no playwright here; install the extra "test"')
    program = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)
    if not program:
        pytest.skip('no Chromium here; install one, or name it in the variable CHROMIUM')
    with api.sync_playwright() as playwright:
        # As root, and in containers, its sandbox cannot start; it opens only files of our own.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        yield browser
        browser.close()


def open_page(browser, path, complaints, **settings):
    """A tab with a file; into a list go errors, the console's lines, and addresses asked for that are not in the file."""
    page = browser.new_page(**settings)
    page.on('console', lambda message: complaints.append(message.text))
    page.on('pageerror', lambda error: complaints.append(str(error)))
    page.on('request', lambda request: request.url.startswith(('data:', 'file:')) or complaints.append(request.url))
    page.goto(path.absolute().as_uri())
    return page
