"""The scripts that draw the points of the map and find them, run by Node.js and compared with NumPy."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from itl_hf.report.explorer.components import static_file

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js")
#: A canvas of which only the image that is put onto it matters.
CANVAS = """
const drawn = {};
const context = {
  createImageData: (width, height) => ({ width, height, data: new Uint8ClampedArray(4 * width * height) }),
  putImageData: (image) => { drawn.pixels = Array.from(image.data); },
};
globalThis.document = { createElement: () => ({ getContext: () => context }) };
const job = JSON.parse(require("fs").readFileSync(0, "utf8"));
const points = Uint16Array.from(job.points);
"""
PLAIN, HIT, LATE = [96, 110, 128], [22, 152, 74], [208, 62, 100]


def run_script(name, code, **job):
    """Runs a script of the page with further code, which prints JSON."""
    script = CANVAS + static_file(name) + code
    process = subprocess.run(
        ["node", "-e", script], input=json.dumps(job), capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(process.stdout)


def drawn_image(points, codes, *, width, height, scale, shift, sides, fades):
    """The image by brute force, (height, width, 4): the same rule for each point, in plain Python."""
    counts, inks = np.zeros((height, width), int), np.zeros((height, width), int)
    for (px, py), code in zip(points.tolist(), codes, strict=True):
        side = sides[1] if code else sides[0]
        x = int(np.floor(scale[0] * px + shift[0] + 0.5 - side / 2))
        y = int(np.floor(scale[1] * py + shift[1] + 0.5 - side / 2))
        if x < 0 or y < 0 or x + side > width or y + side > height:
            continue
        counts[y : y + side, x : x + side] += 1
        if code:
            inks[y : y + side, x : x + side] = code
    image = np.zeros((height, width, 4))
    image[..., :3] = np.where((counts > 0)[..., None], np.array([PLAIN, HIT, LATE])[inks], 0)
    image[..., 3] = np.rint(255 * (1 - np.where(inks > 0, *np.array(fades)[[1, 0], None, None]) ** counts))
    return image


@pytest.mark.parametrize("has_colors", [False, True])
@pytest.mark.parametrize(("sides", "zoom"), [((1, 1), 1.0), ((2, 3), 1.0), ((4, 5), 7.0)])
def test_the_density_image_equals_brute_force(has_colors, sides, zoom):
    generator = np.random.default_rng(3)
    points = np.clip(generator.normal(30_000, 9_000, (3_000, 2)), 0, 65_535).astype(np.uint16)
    points[2_000:] = points[7]  # more copies than a byte counts
    codes = generator.choice(3, len(points), p=[0.8, 0.1, 0.1]) if has_colors else np.zeros(len(points), int)
    width, height = 61, 47
    options = {
        **{"width": width, "height": height, "sides": sides, "fades": (0.68, 0.4)},
        "scale": (zoom * width / 65_535, -zoom * height / 65_535),
        "shift": (-zoom * width * 0.3 if zoom > 1 else 0.0, zoom * height * 0.6 if zoom > 1 else height),
    }
    code = """
    const image = densityImage(points), codes = job.codes && Uint8Array.from(job.codes);
    image.draw({ ...job, codes: null, sides: [5, 5] }); // nothing of an earlier image remains
    image.draw({ ...job, codes });
    console.log(JSON.stringify(drawn.pixels));
    """
    job = {"points": points.ravel().tolist(), "codes": codes.tolist() if has_colors else None, **options}
    pixels = run_script("density.js", code, **job, palette=[PLAIN, HIT, LATE])
    expected = drawn_image(points, codes, **options)
    image = np.array(pixels).reshape(height, width, 4)
    np.testing.assert_array_equal(image[..., :3], expected[..., :3])
    np.testing.assert_allclose(image[..., 3], expected[..., 3], atol=1)
    assert (image[..., 3] > 0).sum() > 100


def test_the_nearest_point_equals_brute_force():
    generator = np.random.default_rng(4)
    points = np.clip(generator.normal(30_000, 12_000, (4_000, 2)), 0, 65_535).astype(np.uint16)
    points[3_000:] = points[:1_000]  # the first of equal points is meant
    points[:4] = [[0, 0], [65_535, 65_535], [0, 65_535], [65_535, 0]]
    positions = np.concatenate([generator.uniform(-4_000, 70_000, (300, 2)), points[:200] + 0.25, points[:4]])
    scale = (0.012, 0.031)
    code = """
    const nearest = pointGrid(points);
    console.log(JSON.stringify(job.positions.map((position) => nearest(position, job.scale, job.reach))));
    """
    job = {"points": points.ravel().tolist(), "positions": positions.tolist(), "scale": scale, "reach": 7}
    answers = run_script("nearest.js", code, **job)
    distances = np.linalg.norm((points[None] - positions[:, None]) * np.array(scale), axis=-1)  # (B, N)
    num_near = 0
    for answer, row_distances in zip(answers, distances, strict=True):
        number = int(row_distances.argmin())
        if row_distances[number] > 7:
            assert answer is None
            continue
        num_near += 1
        assert answer == {"number": number, "distance": pytest.approx(row_distances[number], abs=1e-9)}
    assert 200 < num_near < len(positions)


def test_no_point_is_near_on_an_empty_map():
    code = "console.log(JSON.stringify(pointGrid(points)([9, 9], [1, 1], 7)));"
    assert run_script("nearest.js", code, points=[]) is None
