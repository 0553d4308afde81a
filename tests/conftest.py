"""The order of the tests: files with slow ones begin first.

Two processes share the files of tests, each file as a whole. Were the long ones last, one process
would have nothing to do while the other runs them.
"""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
