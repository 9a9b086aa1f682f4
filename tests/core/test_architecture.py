"""The arrows of the design: which room may know which."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dip_sci

ROOT = Path(__file__).parent.parent.parent

# From low to high: a room knows only rooms above this line's, never its neighbours on the same line.
LAYERS = [
    ["errors", "interruption", "lazy"],
    ["image", "logs", "progress", "planewise"],
    [
        "recipe",
        "scaling",
        "noise",
        "noise_blocks",
        "interference",
        "offsets",
        "outliers",
        "plain",
        "layout",
        "region",
        "resampling",
        "views",
        "samples",
        "sample",
        "scratch",
        "io",
        "compressed",
        "coded",
        "patch_noise",
    ],
    [
        "noise_background",
        "noise_counts",
        "noise_curve",
        "noise_ends",
        "noise_frames",
        "noise_spectrum",
        "texture",
        "counted",
        "guided",
    ],
    ["noise_spots", "noise_places", "colours"],
    ["noise_structure"],
    ["noise_words"],
    ["noise_estimate", "calibration", "operators"],
    ["blur"],
    ["implied"],
    ["data_term", "detection", "findings", "problem", "tasks"],
    ["screening"],
    ["generators", "held_out", "inputs", "device", "tiling", "patches"],
    ["supervision", "ensemble", "decompression"],
    ["supervision_recorrupted", "supervision_scale"],
    ["stopping", "averaging"],
    ["fit", "checkpoint", "finished"],
    ["compression"],
    ["quality", "baseline", "choices", "preparation"],
    ["ways", "preferences", "restoration"],
    ["combination"],
    ["completion", "sharpening"],
    ["fitting", "large"],
    ["run", "pieces"],
    ["piecewise"],
    ["restore", "inversion"],
    ["functions", "provenance", "cost"],
    ["report"],
    ["job"],
    ["batch"],
    ["cli", "napari_plugin"],
    ["__main__"],
]
LEVEL = {room: level for level, layer in enumerate(LAYERS) for room in layer}

KNOW_IO = {"checkpoint", "finished", "job", "batch", "cli", "napari_plugin", "compression", "decompression"}
"""Those at the ends of the way; between them an Image is all there is. A compressed image is a file."""

NOBODY_IMPORTS = {"bm3d", "bm4d", "SimpleITK", "torchvision"}
DASK = {"dask", "distributed", "dask_jobqueue"}
QT = {"napari", "qtpy", "magicgui"}
FORMATS = {"nibabel", "pydicom", "highdicom", "tifffile", "imagecodecs", "zarr", "nrrd", "nd2", "liffile", "pylibCZIrw"}
HEAVY = ["torch", "monai", "napari", "scipy", "skimage", "matplotlib", "pydicom", "nibabel"]


def room_of(path):
    """Name of a module's room: the first part of its name, packages counting as one room."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "napari_plugin" else parts[1]


MODULES = sorted(
    path
    for package in ("dip_sci", "napari_plugin")
    for path in (ROOT / package).rglob("*.py")
    if path != ROOT / "dip_sci" / "__init__.py"
)


def imported(source):
    """Full names that a module imports, at its top, in its functions and for its types."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(names):
    """The rooms among imported names; a public name of `dip_sci` counts as the room it lives in."""
    found = set()
    for name in names:
        package, _, rest = name.partition(".")
        if package == "napari_plugin":
            found.add(package)
        elif package == "dip_sci" and rest and rest != "__version__":
            home = dip_sci._HOME.get(rest, name)
            found.add(home.split(".")[1])
    return found


def libraries(names):
    return {name.partition(".")[0] for name in names}


def wrong_arrows(room, known):
    """Sentences about what `room` imports and should not; ``[]`` where all is well."""
    unknown = sorted(({room} | known) - LEVEL.keys())
    if unknown:
        return [f"{name} is in no layer: put it in a layer of LAYERS" for name in unknown]
    wrong = [
        f"{room} (layer {LEVEL[room]}) imports {other} (layer {LEVEL[other]}), which is not below it"
        for other in sorted(known - {room})
        if LEVEL[other] >= LEVEL[room]
    ]
    if "io" in known - {room} and room not in KNOW_IO:
        wrong.append(f"{room} imports io: only {sorted(KNOW_IO)} may")
    return wrong


def forbidden_libraries(room):
    """Libraries that a room must not import."""
    forbidden = set(NOBODY_IMPORTS)
    if room != "napari_plugin":
        forbidden |= QT
    if room != "batch":
        forbidden |= DASK
    if room == "io":
        forbidden |= {"torch", "monai"}
    else:
        forbidden |= FORMATS
    return forbidden


def module_name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_room_knows_only_the_rooms_below_it(path):
    assert wrong_arrows(room_of(path), rooms(imported(path.read_text()))) == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_room_imports_only_its_libraries(path):
    assert libraries(imported(path.read_text())) & forbidden_libraries(room_of(path)) == set()


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("fit", "def f():\n    from dip_sci.restore import iter_restore"),
        ("fit", "if TYPE_CHECKING:\n    from dip_sci import Restoration"),
        ("scaling", "import dip_sci.noise"),
        ("io", "from dip_sci.recipe import Recipe"),
        ("restore", "from dip_sci import io"),
        ("report", "from dip_sci.io.tiff import write"),
        ("unheard_of", ""),
    ],
)
def test_a_wrong_arrow_is_found(room, source):
    assert len(wrong_arrows(room, rooms(imported(source)))) == 1


def test_a_right_arrow_is_not():
    source = "import numpy\nfrom dip_sci import Image, __version__\nfrom dip_sci.generators.unet import UNet"
    assert wrong_arrows("supervision", rooms(imported(source))) == []


def test_importing_the_package_is_light():
    code = f"import sys, dip_sci; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "[]"


def test_no_tracked_file_names_a_path_of_one_machine():
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], capture_output=True, cwd=ROOT, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [b"/" + b"/".join(parts) for parts in ([b"work", b"main"], [b"work", b"shared"], [b"root", b""])]
    files = [ROOT / name.decode() for name in listing.split(b"\0") if name]
    found = [module_name(f) for f in files if f.is_file() and any(path in f.read_bytes() for path in paths)]
    assert found == []
