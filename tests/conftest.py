import os
import signal

import pytest

from data_sets.drawn_faces import write_dataset
from data_sets.find import find_folder
from detector_architectures import yunet

models = find_folder("models")  # in the data folder; holds YuNet's file, so no download is needed
if models and (models / yunet.FILE).is_file():
    os.environ.setdefault("KEYPOINTS_YUNET", str(models / yunet.FILE))

# A shell that starts the tests in the background makes them and their child processes ignore Ctrl-C, which some tests
# send to a child process.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A small data set of drawn faces in the published layout: 24 training and 8 test frames."""
    return write_dataset(tmp_path_factory.mktemp("data") / "drawn", num_training=24, num_test=8)


@pytest.fixture(scope="session")
def faces(drawn):
    """The training faces of `drawn` as a data set of face crops."""
    from data_load import FacialKeypointsDataset  # these need torch, which the tests of the library do without
    from recipes import FACE_CROP

    frames = FacialKeypointsDataset(drawn / "training_frames_keypoints.csv", drawn / "training", in_memory=True)
    return frames.with_transform(FACE_CROP)


@pytest.fixture
def eight(faces):
    return faces.subset(range(8))
