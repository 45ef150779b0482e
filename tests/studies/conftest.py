"""What studies share: steps without a graph."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tensorflow as tf


@pytest.fixture
def no_graph() -> Iterator[None]:
    """Tracing a graph takes longer than the few steps that would use it."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
