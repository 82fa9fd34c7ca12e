"""Turned views: the head is closed, points move with the pixels, hidden parts are hidden, the cache is repeatable."""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from benchmarks.pose import boxes_of, measured
from data_load import FacialKeypointsDataset
from data_sets.drawn_faces import draw_face
from facial_keypoints.geometry import crop_matrix, mirror_matrix, tight_box, transform_points, warp
from facial_keypoints.images import DataError
from facial_keypoints.pipeline import FacePipeline
from facial_keypoints.schemes import IBUG_68, TWO_JAWS, with_jaw_3d
from models import FastNet
from recipes import PARTS_OF_160, TWO_JAWS_OF_160, face_input
from training.loop import evaluate
from training.losses import SpreadLoss
from training.weights import save_model, start_from
from transforms import FaceCrop, RandomAffine, RandomTurn, boxed_points
from turned_heads import cache, sources
from turned_heads.contact_sheet import sheet
from turned_heads.head import fit_head, fit_pose
from turned_heads.layers import Layers, fill
from turned_heads.pose import OrthographicPose, rotation
from turned_heads.render import draw, paint
from turned_heads.sources import one_a_video
from turned_heads.template import POINTS, edge, face_surface, template
from turned_heads.two_jaws import fitted_jaws, made, real
from turned_heads.views import MARGIN, SIZE, Source, draw_pose, view

cv2.setNumThreads(1)


def seen_face(yaw=0.0, pitch=0.0, roll=0.0, scale=80.0):
    """The template's points as a camera sees them, in a picture of 320 pixels."""
    return OrthographicPose(scale, yaw, pitch, roll, np.array([160.0, 120.0])).project(POINTS).astype(np.float32)


def plain_source(photo, keypoints):
    """A photo before a black background, without the guesses about hair and background."""
    return Source(Layers(photo, np.zeros_like(photo)), fit_head(keypoints))


@pytest.fixture(scope="module")
def drawn_face():
    image, keypoints = draw_face(5, size=240)
    return image, keypoints


def test_rotation_is_that_of_opencv():
    yaw, pitch, roll = 0.5, -0.3, 0.2
    steps = [cv2.Rodrigues(np.array(v))[0] for v in ((0, 0, roll), (pitch, 0, 0), (0, -yaw, 0.0))]
    np.testing.assert_allclose(rotation(yaw, pitch, roll), steps[0] @ steps[1] @ steps[2], atol=1e-12)
    nose = rotation(0.4, 0.0, 0.0) @ [0, 0, -1]
    assert nose[0] > 0.3, "a positive yaw turns the nose to the picture's right"


def test_the_face_is_one_surface_whose_edge_is_where_the_rings_begin():
    vertices, triangles = face_surface()
    sides = Counter(tuple(sorted((t[a], t[a - 1]))) for t in triangles.tolist() for a in range(3))
    numbers = [*range(17), *range(68, 68 + len(edge()) - 17)]
    assert {side for side, count in sides.items() if count == 1} == {
        tuple(sorted((a, b))) for a, b in zip(numbers, [*numbers[1:], numbers[0]], strict=True)
    }
    assert max(sides.values()) == 2 and len(np.unique(triangles)) == len(vertices)


def test_the_head_is_symmetric_and_of_human_size():
    mesh = template()
    np.testing.assert_allclose(IBUG_68.swap_sides(POINTS) * [-1, 1, 1], POINTS, atol=2e-3)
    wide, tall, deep = 90 * np.ptp(mesh.vertices[mesh.vertices[:, 1] < 1.0], axis=0)  # mm, without the neck
    assert 145 < wide < 175 and 180 < deep < 225 and tall > 180
    np.testing.assert_allclose(
        mesh.spread[:68].sum(axis=1), 1, atol=0.03
    )  # if all points move, the head moves with them
    assert (mesh.spread[:68].argmax(axis=1) == np.arange(68)).all()


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, 10, -5), (-40, -15, 20), (48, 0, 0)])
def test_the_pose_of_the_template_is_found(angles):
    pose = fit_pose(seen_face(*np.radians(angles)))
    np.testing.assert_allclose(np.degrees([pose.yaw, pose.pitch, pose.roll]), angles, atol=2.0)
    assert pose.scale == pytest.approx(80, rel=0.04)


def test_the_points_of_a_fitted_frontal_head_are_its_labels(drawn_face):
    for keypoints in (seen_face(0.05, 0.1), drawn_face[1]):
        off = np.linalg.norm(fit_head(keypoints).project() - keypoints, axis=1)
        assert off[17:].max() < 0.01 * np.ptp(keypoints[:, 1])


def test_the_far_jaw_of_a_turned_face_is_mirrored_from_the_near_one():
    keypoints = seen_face(np.radians(30))
    labels = keypoints.copy()
    labels[10:17] -= [6, 0]  # the far edge is the cheek, which hides the jaw
    jaw = fit_head(labels).project()[:17]
    assert np.linalg.norm(jaw - keypoints[:17], axis=1)[10:17].mean() < 2.5
    np.testing.assert_allclose(jaw[:8], labels[:8], atol=0.01)


def test_the_nearer_surface_hides_the_farther_one_in_any_order():
    square = np.array([(2, 2), (18, 2), (18, 18), (2, 18)], float)
    vertices = np.concatenate([np.column_stack([square, np.full(4, z)]) for z in (5.0, 1.0)])
    triangles = np.array([(0, 1, 2), (0, 2, 3), (4, 5, 6), (4, 6, 7)])
    texture = np.concatenate([square, square + 100])
    for order in ([0, 1, 2, 3], [2, 3, 0, 1]):
        drawing = draw(vertices, texture, triangles[order], 24)
        rows, columns = np.nonzero(drawing.covered)
        assert (drawing.depth[drawing.covered] == 1).all() and len(rows) == 17 * 17
        np.testing.assert_allclose(drawing.places[rows, columns], np.column_stack([columns, rows]) + 100, atol=1e-3)
    from_behind = draw(vertices, texture, triangles[:, ::-1], 24)
    assert not from_behind.covered.any()


def test_the_far_eye_of_a_profile_is_hidden(drawn_face):
    head = fit_head(drawn_face[1])
    vertices = np.column_stack([head.vertices @ rotation(np.radians(85), 0.0, 0.0).T * 60 + [100, 100, 0]])
    drawing = draw(vertices, head.texture, template().triangles, 256)

    def hidden(number):
        x, y = np.rint(vertices[number, :2]).astype(int)
        return drawing.depth[y, x] < vertices[number, 2] - 5

    assert all(hidden(number) for number in (42, 45, 54, 14)) and not any(hidden(number) for number in (36, 30, 2))


def test_a_view_without_a_turn_is_the_photo(drawn_face):
    image, keypoints = drawn_face
    source = plain_source(image, keypoints)
    pose = source.head.pose
    turned = view(source, (pose.yaw, pose.pitch, pose.roll), np.random.default_rng(0))
    matrix = crop_matrix(tight_box(source.head.project()), SIZE, MARGIN)
    np.testing.assert_allclose(turned.keypoints, transform_points(matrix, source.head.project()), atol=0.05)
    face = cv2.erode(
        cv2.fillConvexPoly(np.zeros((SIZE, SIZE), np.uint8), cv2.convexHull(np.rint(turned.keypoints).astype(int)), 1),
        np.ones((9, 9)),
    )
    off = np.abs(turned.image.astype(int) - warp(image, matrix, (SIZE, SIZE)))[face > 0]
    assert off.mean() < 4


@pytest.mark.parametrize("yaw", [-60, -30, 30, 60])
def test_points_move_with_the_pixels(yaw):
    keypoints = seen_face()
    near = np.array([36, 48, 31, 41, 30])  # on the left of the picture, which is in view for a positive yaw
    for number in near if yaw > 0 else np.array(IBUG_68.mirror)[near]:
        photo = np.zeros((320, 320, 3), np.uint8)
        cv2.circle(photo, np.rint(keypoints[number]).astype(int).tolist(), 3, (255, 255, 255), -1)
        turned = view(plain_source(photo, keypoints), (np.radians(yaw), 0.0, 0.0), PlainBackground())
        weight = (turned.image[..., 0] > 100).astype(float)
        rows, columns = np.indices(weight.shape)
        centre = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        assert np.linalg.norm(centre - turned.keypoints[number]) < 4  # of a disc 6 wide that may be half hidden


class PlainBackground(np.random.Generator):
    """A generator whose numbers choose the photo's own background, without grain."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def random(self):
        return 0.0

    def uniform(self, low=0.0, high=1.0, size=None):
        return low


def test_a_mirrored_photo_gives_the_mirrored_view(drawn_face):
    image, keypoints = drawn_face
    mirror = mirror_matrix(image.shape[1])
    other = plain_source(np.ascontiguousarray(image[:, ::-1]), IBUG_68.swap_sides(transform_points(mirror, keypoints)))
    views = []
    for source, side in ((plain_source(image, keypoints), 1), (other, -1)):
        pose = source.head.pose
        views.append(view(source, (side * 0.8, pose.pitch, pose.roll), PlainBackground()))
    back = IBUG_68.swap_sides(transform_points(mirror_matrix(SIZE), views[1].keypoints))
    assert np.abs(back - views[0].keypoints).max() < 1.0
    off = np.abs(views[1].image[:, ::-1].astype(float) - views[0].image)
    assert np.median(off) <= 2 and off.mean() < 6


def test_heads_are_turned_further_in_the_direction_they_are_turned():
    rng = np.random.default_rng(0)
    for yaw in (np.radians(30), np.radians(-30)):
        poses = [draw_pose(rng, OrthographicPose(1, yaw, 0, 0, np.zeros(2))) for _ in range(50)]
        assert all(np.sign(p[0]) == np.sign(yaw) and abs(p[0]) > abs(yaw) for p in poses)
    sides = {np.sign(draw_pose(rng, OrthographicPose(1, 0.02, 0, 0, np.zeros(2)))[0]) for _ in range(50)}
    assert sides == {-1, 1}


def test_filling_keeps_known_pixels_and_stays_in_their_range():
    rng = np.random.default_rng(0)
    image = rng.integers(50, 200, (60, 80, 3)).astype(np.uint8)
    known = np.ones((60, 80), bool)
    known[20:40, 30:60] = False
    filled = fill(np.where(known[..., None], image, 255), known)
    np.testing.assert_allclose(filled[known], image[known], atol=1e-3)
    assert 50 <= filled[~known].min() and filled[~known].max() <= 200


@pytest.fixture(scope="module")
def faces(drawn):
    frames = FacialKeypointsDataset(drawn / "training_frames_keypoints.csv", drawn / "training")
    few = frames.subset(np.arange(5))
    return cache.Faces("drawn", few, few.people)


def test_an_interrupted_cache_is_resumed_and_ends_the_same(tmp_path, faces, monkeypatch):
    monkeypatch.setattr(cache, "SOURCES_PER_PART", 2)
    folder = cache.make(tmp_path, faces, views=2, seed=3)
    before = {path.name: path.read_bytes() for path in folder.glob("part-*")}
    assert len(before) == 3
    (folder / "complete").unlink()
    (folder / "part-001.npz").unlink()
    with pytest.raises(DataError, match="not finished"):
        cache.MadeFaces([folder])
    untouched = (folder / "part-000.npz").stat().st_mtime_ns
    assert cache.make(tmp_path, faces, views=2, seed=3) == folder
    assert (folder / "part-000.npz").stat().st_mtime_ns == untouched
    first, again = (np.load(source) for source in (folder / "part-001.npz", folder / "part-001.npz"))
    np.testing.assert_array_equal(first["keypoints"], again["keypoints"])
    assert {path.name: path.read_bytes() for path in folder.glob("part-*")} == before

    views = cache.MadeFaces([folder])
    assert len(views) == len(views.groups) <= 10 and set(views.groups) <= set(faces.groups)
    sample = views[0]
    assert sample["image"].shape == (SIZE, SIZE, 3) and sample["image"].dtype == np.uint8
    assert sample["keypoints"].shape == (68, 2) and sample["keypoints"].dtype == np.float32
    low, high = sample["keypoints"].min(), sample["keypoints"].max()
    assert low == pytest.approx(SIZE / 4, abs=1.5) and high == pytest.approx(3 * SIZE / 4, abs=1.5)
    assert sheet(views, rows=2, columns=3).shape == (2 * SIZE, 3 * SIZE, 3)

    (folder / "part-000.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="part-000.npz: not readable"):
        cache.MadeFaces([folder])


def test_other_labels_make_another_cache(tmp_path, faces):
    moved = faces.data.subset(np.arange(5))
    moved.keypoints = faces.data.keypoints + 1
    paths = {cache.folder_of(tmp_path, f, 2, 0) for f in (faces, cache.Faces("drawn", moved, faces.groups))}
    assert len(paths) == 2


def test_training_makes_the_views_that_are_missing(tmp_path, faces, monkeypatch):
    monkeypatch.setattr(sources, "sources", lambda root, views: [(faces, views)])
    (folder,) = sources.make_views(tmp_path, tmp_path / "build", views=1)
    written = (folder / "part-000.npz").stat().st_mtime_ns
    assert sources.make_views(tmp_path, tmp_path / "build", views=1) == [folder]
    assert (folder / "part-000.npz").stat().st_mtime_ns == written
    (views,) = sources.made_faces(tmp_path, tmp_path / "build", ["drawn"], views=1).values()
    assert set(views.groups) <= set(faces.groups) and len(views)


def test_faces_that_are_too_small_or_turned_too_far_are_skipped(tmp_path, faces, monkeypatch, drawn_face):
    sizes = [tight_box(points)[2:].max() for points in faces.data.keypoints[faces.data.indices]]
    monkeypatch.setattr(cache, "SMALLEST", sorted(sizes)[2])
    views = cache.MadeFaces([cache.make(tmp_path, faces, views=1)])
    assert len(views) == 3
    monkeypatch.setattr(cache, "SMALLEST", 1000)
    assert len(cache.MadeFaces([cache.make(tmp_path, faces, views=1, seed=1)])) == 0
    pose = OrthographicPose(60, np.radians(51), 0, 0, np.zeros(2))
    assert cache.views_of(*drawn_face, pose, 2, np.random.default_rng(0), []) == []


def test_one_frame_of_each_video_is_used(faces):
    frames = faces.data.subset(np.arange(4))
    frames.names = ["A_B_01.jpg", "A_B_02.jpg", "A_B_03.jpg", "A_B_11.jpg"]
    np.testing.assert_array_equal(one_a_video(frames), [1, 3])


def test_the_visible_jaw_is_unknown_only_in_turned_views(tmp_path, faces):
    labelled = real(faces.data)
    jaws, yaw = fitted_jaws(faces.data.keypoints[faces.data.indices])
    assert len(yaw) == 5
    for number, sample in enumerate(labelled):
        np.testing.assert_array_equal(sample["keypoints"][:68], faces.data[number]["keypoints"])
        np.testing.assert_array_equal(sample["keypoints"][68:], jaws[number])

    views = cache.MadeFaces([cache.make(tmp_path, faces, views=2)])
    views.poses[:3, 0] = 0.1, 0.5, -0.1
    both = made(views)
    unknown = np.isnan(both.keypoints[:3, :17]).all(axis=(1, 2))
    np.testing.assert_array_equal(unknown, [False, True, False])
    np.testing.assert_array_equal(with_jaw_3d(both.keypoints), views.keypoints)
    assert not np.isnan(both.keypoints[:, 17:]).any()
    np.testing.assert_array_equal(boxed_points(both.keypoints[1]), views.keypoints[1])


def test_a_mirrored_crop_swaps_both_jaws():
    rng = np.random.default_rng(0)
    points = rng.uniform(60, 140, (85, 2)).astype(np.float32)
    sample = {"image": np.zeros((200, 200, 3), np.uint8), "keypoints": points}
    affine = RandomAffine(rotation=0, scale=0, shift=0, mirror=1, scheme=TWO_JAWS)
    plain, mirrored = (FaceCrop(100, 0.25, a)(sample)["keypoints"] for a in (None, affine))
    np.testing.assert_allclose(mirrored[84], transform_points(mirror_matrix(100), plain[68]), atol=1e-3)
    np.testing.assert_allclose(mirrored[0], transform_points(mirror_matrix(100), plain[16]), atol=1e-3)


def test_the_crop_uses_the_box_after_the_turn():
    torch.manual_seed(0)
    points = seen_face()
    sample = {"image": np.zeros((320, 320, 3), np.uint8), "keypoints": points}
    for _ in range(5):
        turned = FaceCrop(100, 0.25, turn=RandomTurn(steep=45, often=1))(sample)["keypoints"]
        x, y, w, h = tight_box(turned)
        assert max(w, h) == pytest.approx(100 / 1.5, abs=0.01)
        np.testing.assert_allclose([x + w / 2, y + h / 2], 49.5, atol=0.01)
        across = turned[45] - turned[36]
        assert abs(np.degrees(np.arctan2(across[1], across[0]))) < 45.5


def test_unknown_points_cost_nothing_and_leave_gradients_finite():
    true = torch.rand(3, 85, 2)
    predicted = torch.cat([true + 0.01, torch.tensor([1e-3, 1e-3, 0]).expand(3, 85, 3)], dim=2).requires_grad_()
    everything = SpreadLoss()(predicted, true)
    true[0, :17] = torch.nan
    loss = SpreadLoss()(predicted, true)
    assert loss.item() == pytest.approx(everything.item(), rel=1e-5), "since all points are equally wrong"
    loss.backward()
    assert predicted.grad.isfinite().all() and (predicted.grad[0, :17] == 0).all()
    assert SpreadLoss()(predicted[..., :2].detach(), true).isfinite()


def test_a_network_that_gets_a_second_jaw_starts_with_two_equal_ones(tmp_path):
    torch.manual_seed(0)
    old, new = FastNet().eval(), FastNet(85).eval()
    save_model(old, tmp_path / "old.pt", PARTS_OF_160)
    assert "all layers" in start_from(new, tmp_path / "old.pt")
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        before, after = old(images), new(images)
    torch.testing.assert_close(after[:, :68], before)
    torch.testing.assert_close(after[:, 68:], before[:, :17])


def test_a_drawing_is_painted_from_the_places_in_the_photo():
    photo = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    corners = np.array([(0, 0, 1), (39, 0, 1), (39, 29, 1), (0, 29, 1)], float)
    drawing = draw(corners, corners[:, :2] * [1, 1], np.array([(0, 1, 2), (0, 2, 3)]), 40)
    np.testing.assert_array_equal(paint(drawing, photo)[:30], photo)


class TwoJawsNetwork:
    """Predicts the same 85 points for every crop, as fractions of the crop."""

    expects = replace(TWO_JAWS_OF_160, size=32, std=32.0)

    def __init__(self, points):
        self.points = points

    def locate(self, crops):
        located = np.column_stack([self.points, np.full(85, 0.01)])
        return np.repeat(located[None].astype(np.float32), len(crops), axis=0)


def test_the_pipeline_separates_the_two_jaws():
    points = np.random.default_rng(0).uniform(0.3, 0.7, (85, 2))
    points[:4] = [(1 / 6, 1 / 6), (5 / 6, 1 / 6), (1 / 6, 5 / 6), (5 / 6, 5 / 6)]  # these fill the box of the crop
    pipeline = FacePipeline(TwoJawsNetwork(points), detector=lambda image: ([], []), min_confidence=0.0)
    photo = np.zeros((200, 200, 3), np.uint8)
    seen, head = (pipeline.keypoints(photo, [(50, 50, 100, 100)], jaw)[0] for jaw in ("seen", "3d"))
    in_photo = 25 + 150 * points
    np.testing.assert_allclose(seen, in_photo[:68], atol=0.5)
    np.testing.assert_allclose(head, with_jaw_3d(in_photo), atol=0.5)
    (face,) = pipeline.faces(photo, [(50, 50, 100, 100)], [1.0])
    assert face.keypoints.shape == (68, 2) and face.jaw_3d.shape == (17, 2) and face.confidence.shape == (68,)
    with pytest.raises(DataError, match="seen and 3d"):
        pipeline.keypoints(photo, [], jaw="2d")


def test_the_pose_benchmark_compares_the_requested_jaw(faces):
    torch.manual_seed(0)
    model = FastNet(85)
    model.expects = TWO_JAWS_OF_160
    yaw = np.array([0.0, 10, 40, 50, 70])
    sets = {name: (faces.data, yaw, jaw_3d) for name, jaw_3d in (("seen", False), ("head's", True))}
    table = measured(model, sets, {name: boxes_of(faces.data) for name in sets}).set_index(["set", "boxes"])
    assert list(table.index) == [("seen", "exact"), ("seen", "jittered"), ("head's", "exact"), ("head's", "jittered")]
    same, other = table.filter(like="inner"), table.filter(like="jaw")
    np.testing.assert_allclose(same.loc["seen"], same.loc["head's"])
    assert evaluate(model, faces.data.with_transform(face_input(model.expects)), model.expects)["NME %"] > 0
    assert (other.loc["seen"] != other.loc["head's"]).all(axis=None)
