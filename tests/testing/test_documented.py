"""The tests that the documentation shows are run, by a pytest of their own."""

import re

import pytest

from tests.docs.pages import ROOT, sections

pytest_plugins = ["pytester"]


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester) -> None:
    page = ROOT / "docs" / "testing.md"
    modules = {}
    for number, section in enumerate(sections(page)):
        code = "\n".join(block.text for block in section.of("python"))
        if "def test_" in code:
            modules[f"test_{number}"] = code
    count = len(re.findall(r"^(?:async )?def test_", "\n".join(modules.values()), flags=re.MULTILINE))
    assert count >= 13
    pytester.makeconftest("import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n")
    pytester.makepyfile(**modules)
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", "--timeout", "60")
    result.assert_outcomes(passed=count)
