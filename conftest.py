"""The order of the tests: files with slow ones begin first, and so do those of the browser.

Two processes share the files of tests, each file as a whole. Were the long ones last, one process
would have nothing to do while the other runs them.
"""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the files that have a long test to the front, in their own order."""
    long = ("slow", "browser")
    slow = {item.path for item in items if any(map(item.get_closest_marker, long))}
    items.sort(key=lambda item: item.path not in slow)
