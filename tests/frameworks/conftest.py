"""These tests import a framework into their own process; every fork server that it starts later would import it too.

So `scripts/test` runs them in a pytest of their own, after the others.
"""

import pytest

pytest.register_assert_rewrite("sklearn_searches")
