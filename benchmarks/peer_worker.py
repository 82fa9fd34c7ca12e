"""One method of finding 68 keypoints, as a process in an environment of its own (peer_processes.py starts it).

It needs only numpy and the packages of that method. It reads requests from standard input, one JSON object per line,
and answers each with a line. A photo is a .npy file, RGB uint8. "find": detector and keypoints together; "locate": the
keypoints in given boxes of the kind that the detector gives. Times are the median of `repeats` rounds in
milliseconds, without reading the file.
"""

import json
import os
import sys
import time

import numpy as np

# The points of MediaPipe's face mesh that are commonly taken for the 68; peers.py removes constant offsets.
MESH_AT_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # jaw
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),  # mouth
)
LANDMARKS_IN_A_ROI = """
input_stream: "image"
input_stream: "roi"
output_stream: "landmarks"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  output_stream: "LANDMARKS:landmarks"
}
"""


class Dlib:
    """dlib's HOG detector and its published shape predictor of 68 points, as face_recognition_models ships it."""

    def __init__(self, _):
        import dlib
        from face_recognition_models import pose_predictor_model_location

        self.rectangle, self.detector = dlib.rectangle, dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(pose_predictor_model_location())

    def find(self, image):
        """Boxes (N, 4) and keypoints (N, 68, 2)."""
        boxes = [[r.left(), r.top(), r.width(), r.height()] for r in self.detector(image, 1)]
        return boxes, self.locate(image, boxes)

    def locate(self, image, boxes):
        """Keypoints (N, 68, 2)."""
        sides = [(round(x), round(y), round(x + w), round(y + h)) for x, y, w, h in boxes]
        found = [self.predictor(image, self.rectangle(*box)).parts() for box in sides]
        return [[(point.x, point.y) for point in points] for points in found]


class MediaPipe:
    """MediaPipe's face mesh; its box is the tight box of all 468 points, as between the frames of a video."""

    def __init__(self, _):
        import mediapipe
        from google.protobuf import text_format
        from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
        from mediapipe.framework.formats.rect_pb2 import NormalizedRect
        from mediapipe.python.solution_base import SolutionBase

        self.mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=64)
        graph = text_format.Parse(LANDMARKS_IN_A_ROI, CalculatorGraphConfig())
        self.landmarks, self.rect = SolutionBase(graph_config=graph), NormalizedRect

    def find(self, image):
        """Boxes (N, 4) and keypoints (N, 68, 2)."""
        faces = [self._pixels(face, image) for face in self.mesh.process(image).multi_face_landmarks or []]
        boxes = [[*mesh.min(axis=0), *np.ptp(mesh, axis=0)] for mesh in faces]
        return boxes, [mesh[list(MESH_AT_68)] for mesh in faces]

    def locate(self, image, boxes):
        """Keypoints (N, 68, 2), NaN where it sees no face."""
        return [self._locate(image, *box) for box in boxes]

    def _locate(self, image, x, y, w, h):
        (height, width), side = image.shape[:2], 1.5 * max(w, h)  # as its own graph does it
        roi = self.rect(
            x_center=(x + w / 2) / width, y_center=(y + h / 2) / height, width=side / width, height=side / height
        )
        found = self.landmarks.process({"image": image, "roi": roi}).landmarks
        return self._pixels(found, image)[list(MESH_AT_68)] if found else np.full((68, 2), np.nan)

    def _pixels(self, landmarks, image):
        """Its coordinates have their origin at the corner of the first pixel, ours in its middle."""
        height, width = image.shape[:2]
        return np.array([(p.x * width - 0.5, p.y * height - 0.5) for p in landmarks.landmark])


class Ours:
    """This library; its box is the tight box of the 68 points.

    options: the network; looks, 1 for the first box alone (2 is what the pipeline does); jaw_3d: the jaw line of the
    head instead of the edge of the cheek, from networks that have both; threads.
    """

    def __init__(self, options):
        from facial_keypoints import FacePipeline

        self.looks, threads = options.get("looks", 2), options.get("threads")
        if threads == 1:
            import cv2

            cv2.setNumThreads(1)
        self.pipeline = FacePipeline(options["network"], threads=threads)
        self.believing = FacePipeline(self.pipeline.network, self.pipeline.detector, min_confidence=0.0)
        two_jaws = self.pipeline.scheme != self.pipeline.network.expects.scheme
        self.jaw_3d = options.get("jaw_3d", False) and two_jaws

    def find(self, image):
        """Boxes (N, 4) and keypoints (N, 68, 2)."""
        if self.looks == 1:
            boxes, _ = self.pipeline.detector(image)
            return boxes, self.locate(image, boxes)
        faces = self.pipeline(image)
        return [face.box for face in faces], self._points(faces)

    def locate(self, image, boxes):
        """Keypoints (N, 68, 2); with two looks, for one box only."""
        if self.looks == 1:
            return self.pipeline.keypoints(image, boxes, jaw="3d" if self.jaw_3d else "seen")
        return self._points(self.believing.faces(image, boxes, np.ones(len(boxes))))

    def _points(self, faces):
        if not self.jaw_3d:
            return [face.keypoints for face in faces]
        return [np.concatenate([face.jaw_3d, face.keypoints[17:]]) for face in faces]


WAYS = {"dlib": Dlib, "mediapipe": MediaPipe, "ours": Ours}


def answer(way, request: dict) -> dict:
    """The boxes and keypoints of the faces of a photo, and the median time."""
    image, times = np.load(request["photo"]), []
    for _ in range(request.get("repeats", 1)):
        start = time.perf_counter()
        if request["what"] == "find":
            boxes, points = way.find(image)
        else:
            boxes, points = request["boxes"], way.locate(image, request["boxes"])
        times.append(1000 * (time.perf_counter() - start))
    points = np.asarray(points, float).reshape(-1, 68, 2).round(3)
    boxes = np.asarray(boxes, float).reshape(-1, 4).tolist()
    return {"boxes": boxes, "points": points.tolist(), "ms": float(np.median(times))}


def main() -> None:
    """Answer requests until standard input ends."""
    options, said = json.loads(sys.argv[2]), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a package prints goes to standard error
    if cores := options.get("cores"):
        os.sched_setaffinity(0, range(cores))
    way = WAYS[sys.argv[1]](options)
    for line in sys.stdin:
        print(json.dumps(answer(way, json.loads(line))), file=said, flush=True)


if __name__ == "__main__":
    main()
