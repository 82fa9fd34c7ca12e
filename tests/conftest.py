import pytest

from data_sets.drawn_faces import write_dataset


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A small data set of drawn faces in the published layout: 24 training and 8 test frames."""
    return write_dataset(tmp_path_factory.mktemp("data") / "drawn", num_training=24, num_test=8)
