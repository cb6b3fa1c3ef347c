"""Spaces of real encoder classes (tiny random checkpoints), drawn and real images, and the whole audit."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from assay.audit.audit import run_audit
from assay.audit.findings import findings, text_image
from assay.audit.generate import generate
from assay.audit.measures import Measures
from assay.audit.projection import maps
from assay.audit.spaces import Grid, Space, build, read_grid
from assay.config import Audit, DrawnSource, FolderSource, ImageBranch, TextBranch
from assay.encode.image_encoders import load_image_encoder
from assay.encode.text_encoders import load_text_encoder
from assay.errors import DataError, EncoderError
from tests.checkpoints import save_clip, save_resnet, save_sdxl, save_siglip, save_timm_vit, save_vae, save_vit
from tests.conftest import ROOT, Repository, faultless, small
from tests.test_audit import ACTIVITIES, shipped

if TYPE_CHECKING:
    from playwright.sync_api import Browser

QUICK = {"bootstrap": 400, "permutations": 999, "probe_permutations": 199}


@pytest.fixture(scope="module")
def drawn_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 activities x 4 groups x 2 seeds of drawn figures."""
    import os

    folder = tmp_path_factory.mktemp("drawn-images")
    before = os.environ.get("ASSAY_HOME")
    os.environ["ASSAY_HOME"] = str(folder / "home")
    try:
        source = DrawnSource(kind="demo", lean={"young": 0.9, "older": 0.1})
        generate(audit_of(), source, ACTIVITIES, folder / "images")
    finally:
        os.environ.pop("ASSAY_HOME") if before is None else os.environ.update(ASSAY_HOME=before)
    return folder / "images"


def audit_of(**changes: Any) -> Audit:
    return shipped(**({"take": 12, "use": ["portrait"], "perceived": None, "statistics": QUICK} | changes))


# ------------------------------------------------------------------------------------ encoders


@pytest.mark.parametrize("save", [save_vit, save_clip, save_siglip, save_timm_vit, save_resnet])
def test_patch_tokens(save: Any, tmp_path: Path) -> None:
    """As many patches as the picture has, each of length 1; the same picture is like itself at every place."""
    save(tmp_path)
    encoder = load_image_encoder(ImageBranch(encoder=str(tmp_path)))
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (encoder.size,) * 2 + (3,), dtype=np.uint8)) for _ in range(2)]
    patches = encoder.patches([*pictures, pictures[0]])
    side = int(np.sqrt(patches.shape[1]))
    assert side**2 == patches.shape[1]
    assert np.allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-4)
    assert np.allclose((patches[0] * patches[2]).sum(-1), 1, atol=1e-4)


def test_encoders_without_patches_say_so() -> None:
    encoder = load_image_encoder(ImageBranch(encoder="packaged/efficientnet-lite0"))
    with pytest.raises(EncoderError, match="has no patch tokens"):
        encoder.patches([Image.new("RGB", (50, 50))])


def test_clip_projects_images_and_texts_into_one_space(tmp_path: Path) -> None:
    import torch
    from transformers import CLIPModel

    save_clip(tmp_path)
    image = load_image_encoder(ImageBranch(encoder=str(tmp_path), pooling="projected"))
    text = load_text_encoder(TextBranch(encoder=str(tmp_path), max_tokens=8, pooling="projected"))
    model = CLIPModel.from_pretrained(tmp_path)
    assert image.dim == text.dim == model.config.projection_dim
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    with torch.inference_mode():
        theirs = model.get_image_features(pixel_values=image.pixels(picture)[None])
        theirs = getattr(theirs, "pooler_output", theirs)
        words = text.tokenize(["good day"])
        said = model.get_text_features(**words)
        said = getattr(said, "pooler_output", said)
    near = 1e-4 if image.device.type == "cpu" else 0.05  # on a GPU in bf16
    assert np.allclose(image.encode([picture])[0], theirs[0].numpy(), atol=near)
    assert np.allclose(text.encode(["good day"])[0], said[0].numpy(), atol=near)


@pytest.mark.parametrize("branch", [ImageBranch, TextBranch])
def test_projection_of_what_has_none(branch: Any, tmp_path: Path) -> None:
    save_siglip(tmp_path)
    load = load_image_encoder if branch is ImageBranch else load_text_encoder
    more = {} if branch is ImageBranch else {"max_tokens": 8}
    with pytest.raises(EncoderError, match="no space shared"):
        load(branch(encoder=str(tmp_path), pooling="projected", **more))


@pytest.mark.parametrize("whole", [False, True], ids=["vae", "pipeline"])
def test_vae_latents(whole: bool, tmp_path: Path) -> None:
    (save_sdxl if whole else save_vae)(tmp_path)
    encoder = load_image_encoder(ImageBranch(encoder=f"vae/{tmp_path}"))
    vectors = encoder.encode([Image.new("RGB", (70, 50), colour) for colour in ("red", "blue")])
    assert vectors.shape == (2, encoder.dim) == (2, 4 * 128 * 128)
    assert np.isfinite(vectors).all()
    assert not np.allclose(vectors[0], vectors[1])


def test_colour_grid_is_the_mean_colour_of_each_cell() -> None:
    encoder = load_image_encoder(ImageBranch(encoder="packaged/colour-grid"))
    vector = encoder.encode([Image.new("RGB", (80, 80), (255, 0, 127))])[0].reshape(3, 8, 8)
    assert np.allclose(vector[0], 1, atol=0.01)
    assert np.allclose(vector[1], -1, atol=0.01)
    assert np.allclose(vector[2], 0, atol=0.01)


@pytest.mark.parametrize("name", ["vae/no/such/vae", "packaged/none", "timm/no_such_model"])
def test_encoders_that_cannot_be_had(name: str) -> None:
    with pytest.raises(EncoderError, match=r"image\.encoder"):
        load_image_encoder(ImageBranch(encoder=name))


# -------------------------------------------------------------------------------------- spaces


@pytest.mark.slow
def test_all_kinds_of_encoders_become_spaces(drawn_images: Path, tmp_path: Path) -> None:
    for name, save in (("clip", save_clip), ("siglip", save_siglip), ("dino", save_vit), ("vae", save_vae)):
        save(tmp_path / name)
    save_timm_vit(tmp_path / "dino_timm")
    at = {name: str(tmp_path / name) for name in ("clip", "siglip", "dino", "dino_timm")}
    clip = {"encoder": at["clip"], "pooling": "projected"}
    audit = audit_of(
        encoders={
            "clip": {"image": clip, "text": clip | {"max_tokens": 8}, "center": False},  # its words are all unknown
            "siglip": {"image": {"encoder": at["siglip"]}},
            "dino": {"image": {"encoder": at["dino"]}, "split_product": True},
            "dino_timm": {"image": {"encoder": at["dino_timm"]}, "split_product": True},
            "vae": {"image": {"encoder": f"vae/{tmp_path / 'vae'}"}, "control": True},
            "gone": {"image": {"encoder": "timm/no_such_model"}},
        },
        statistics={"bootstrap": 200, "permutations": 199, "probe_permutations": 99},  # it is the spaces that are tried
    )
    grid = read_grid(drawn_images, audit.groups)
    built = build(audit, drawn_images, grid)
    spaces, lacking = built.spaces, built.lacking
    kinds = {space.name: space.kind for space in spaces}
    assert kinds == {
        "clip_prompts": "prompts",
        "clip": "images",
        "siglip": "images",
        "dino": "images",
        "dino_split": "patches",
        "dino_timm": "images",
        "dino_timm_split": "patches",
        "vae": "images",
    }
    assert list(lacking) == ["gone"]
    assert "cannot be loaded" in lacking["gone"]
    for space in spaces:
        own = np.einsum("agrgr->agr", space.likeness)
        assert np.allclose(own, 1, atol=1e-3)  # every image is like itself
        assert np.nanmax(space.likeness) < 1.001
    found = findings(audit, grid, [Measures(space, audit.statistics) for space in spaces], lacking)
    assert found["encoders_lacking"] == 1
    assert list(built.across) == ["clip"]  # dino has no texts, siglip no shared space
    seen, said = spaces[0], spaces[1]
    if seen.kind == "prompts":
        seen, said = said, seen
    assert seen.vectors is not None
    assert said.vectors is not None
    by_hand = np.einsum("agrd,ahd->agh", seen.vectors, said.vectors[:, :, 0]) / seen.vectors.shape[2]
    assert np.allclose(built.across["clip"], by_hand, atol=1e-5)  # nothing is centred here
    cell = text_image(audit, built.across["clip"])["neutral"]["older"]
    assert cell["value"] == pytest.approx(by_hand[:, 0, 3].mean(), abs=1e-5)
    assert cell["low"] <= cell["value"] <= cell["high"]
    assert set(found["spaces"]["dino_split"]["comparisons"]["young_vs_older"]) >= {"lean", "separation", "verdict"}
    assert found["verdicts"]["young_vs_older"]["spaces"] == 6  # without prompts and the control


def test_the_six_spaces_are_one_word_in_params() -> None:
    six = Audit.model_validate(audit_of().model_dump(by_alias=True) | {"encoders": "six"})
    assert [*six.encoders] == ["efficientnet", "minilm", "colours", "clip", "vae", "resnet50", "dino"]
    assert six.encoders["clip"].is_shared
    with pytest.raises(ValueError, match="'seven' is not there; allowed: six"):
        Audit.model_validate(audit_of().model_dump(by_alias=True) | {"encoders": "seven"})


@pytest.mark.parametrize(("points", "alike"), [(3, False), (12, True)], ids=["few", "alike"])
def test_what_no_map_can_be_of_has_none(points: int, alike: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Either ends the process, or in a traceback, where it is asked for."""
    names = [f"group{i}" for i in range(points)]
    there = np.ones((1, 1), bool)
    rows = {name: (0, g, 0) for g, name in enumerate(names)}
    grid = Grid(["a"], ["c"], ["w"], names, [("t", 0)], there, rows, [], {}, seeds=dict.fromkeys(names, 1))
    vectors = np.random.default_rng(0).standard_normal((1, points, 1, 5)).astype(np.float32)
    if alike:
        vectors[:] = vectors[0, 0, 0]
    space = Space("words", "prompts", False, ["t"], there, np.zeros((1, points, 1, points, 1)), vectors)
    assert maps(grid, [space], audit_of().pictures, 1) == []
    assert capsys.readouterr().err.count("audit: no ") == 2  # t-SNE and UMAP


def test_split_product_by_hand(drawn_images: Path, tmp_path: Path) -> None:
    save_vit(tmp_path)
    audit = audit_of(encoders={"dino": {"image": {"encoder": str(tmp_path)}, "split_product": True}})
    grid = read_grid(drawn_images, audit.groups)
    spaces = build(audit, drawn_images, grid).spaces
    split = spaces[1]
    encoder = load_image_encoder(ImageBranch(encoder=str(tmp_path)))
    import io

    from assay.posts import read

    rows = {row["image_id"]: row["image"] for row in read(drawn_images, ["image_id", "image"]).to_pylist()}
    ids = {place: image_id for image_id, place in grid.rows.items()}
    one, other = (encoder.patches([Image.open(io.BytesIO(rows[ids[2, g, 1]]))])[0] for g in (0, 3))
    assert split.likeness[2, 0, 1, 3, 1] == pytest.approx(float((one * other).sum(1).max()), abs=1e-3)


def test_no_encoder_at_all(drawn_images: Path) -> None:
    audit = audit_of(encoders={"gone": {"image": {"encoder": "timm/no_such_model"}}})
    with pytest.raises(EncoderError, match="no encoder could be had"):
        build(audit, drawn_images, read_grid(drawn_images, audit.groups))


# ----------------------------------------------------------------------------- the whole audit


def run(audit: Audit, images: Path, out: Path, generator: Any = None) -> dict[str, Any]:
    return run_audit(
        "toy",
        audit,
        generator or DrawnSource(kind="demo"),
        images=images,
        rubrics=ROOT / "rubrics",
        out_metrics=out / "audit.json",
        out_leans=out / "leans.csv",
        out_categories=out / "categories.csv",
        out_points=out / "maps.csv",
        out_page=out / "audit.html",
        out_pictures=out / "pictures",
    )


@pytest.mark.slow
def test_the_planted_lean_is_found_and_drawn(drawn_images: Path, tmp_path: Path) -> None:
    pictures = {"maps": ["tsne"], "map_images": 60, "perplexity": 5.0, "sheet_activities": 4}
    found = run(audit_of(pictures=pictures), drawn_images, tmp_path)
    assert found == json.loads((tmp_path / "audit.json").read_text())
    assert found["verdicts"]["young_vs_older"]["verdict"] == "toward young"
    assert found["activities"] == 12
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {
        "heat_efficientnet.png",
        "heat_minilm_prompts.png",
        "sheet_random.jpg",
        "sheet_strongest.jpg",
        "tsne_efficientnet_by_group.png",
        "tsne_efficientnet_by_category.png",
        "tsne_minilm_prompts_by_group.png",
        "tsne_minilm_prompts_by_category.png",
    }
    page = (tmp_path / "audit.html").read_text()
    assert "toward young" in page
    assert 'id="plotly">H4sI' in page  # gzip, within
    assert 'src="http' not in page
    leans = list(csv.DictReader((tmp_path / "leans.csv").open()))
    mean = np.mean([float(row["efficientnet: young_vs_older"]) for row in leans])
    lean = found["spaces"]["efficientnet"]["comparisons"]["young_vs_older"]["lean"]
    assert mean == pytest.approx(lean["value"], abs=1e-4)
    points = list(csv.DictReader((tmp_path / "maps.csv").open()))
    assert sum(row["space"] == "efficientnet" for row in points) == 56  # whole activities, at most 60
    prompts = [row for row in points if row["space"] == "minilm_prompts"]
    assert len({row["prompt"] for row in prompts}) == len(prompts) == 28  # one a prompt, of two seeds


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_an_audit_works_without_network(
    drawn_images: Path, tmp_path: Path, browser: Browser, width: int
) -> None:
    pictures = {"maps": ["tsne"], "map_images": 60, "perplexity": 5.0, "sheet_activities": 4}
    run(audit_of(pictures=pictures), drawn_images, tmp_path)
    assert (tmp_path / "audit.html").stat().st_size < 3_000_000
    page = faultless(browser, tmp_path / "audit.html", width, "#map .main-svg")
    assert page.locator("nav a").count() > 5
    assert page.inner_text("#count") == "56 of 56 images"  # whole activities, at most 60
    place = page.evaluate("""() => {  // of the first dot of the first group
        const map = document.getElementById("map"), {x, y} = map._fullData[0];
        const a = map._fullLayout.xaxis, b = map._fullLayout.yaxis;
        const box = map.getBoundingClientRect();
        return [box.left + scrollX + a._offset + a.l2p(x[0]), box.top + scrollY + b._offset + b.l2p(y[0])];
    }""")
    page.evaluate("y => scrollTo(0, y - 400)", place[1])
    page.mouse.move(place[0] - page.evaluate("scrollX") - 3, place[1] - page.evaluate("scrollY"))
    page.mouse.move(place[0] - page.evaluate("scrollX"), place[1] - page.evaluate("scrollY"))
    page.wait_for_selector("#thumb", timeout=10_000)
    assert "data:image/jpeg" in page.evaluate("getComputedStyle(document.getElementById('thumb')).backgroundImage")
    page.context.close()


def test_groups_without_a_reference_are_told_apart(tmp_path: Path) -> None:
    """Two groups and no neutral prompt: no lean, but distance, probe and separation, and a page."""
    who = {"young": "a young person", "older": "an older person"}
    audit = audit_of(
        groups=["young", "older"],
        reference=None,
        comparisons=[],
        templates={"portrait": {"prompt": "A photo of {who} {activity}", "who": who}},
        pictures={"maps": ["tsne"], "map_images": 50, "perplexity": 5.0, "sheet_activities": 3},
    )
    generate(audit, DrawnSource(kind="demo"), ACTIVITIES, tmp_path / "images")
    found = run(audit, tmp_path / "images", tmp_path / "out")
    told = {"verdict": "told apart", "spaces_that_say_so": 1, "spaces": 1, "controls": ["colours"]}
    assert found["verdicts"] == {"young_vs_older": told}
    assert "lean" not in found["spaces"]["efficientnet"]["comparisons"]["young_vs_older"]
    assert "told apart" in (tmp_path / "out/audit.html").read_text()


def test_hostile_names_stay_text_on_the_page(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    evil = "</script><script>alert(1)</script>"
    lines = ["file,activity,group,seed,category,prompt"]
    from assay.corpora.demo.figure import draw_figure, seeded

    for a in range(6):
        for g, group in enumerate(("neutral", "young", "middle", "older")):
            (root / f"{a}{g}.jpg").write_bytes(draw_figure(seeded(a), g / 3, 64))
            lines.append(f"{a}{g}.jpg,{evil}{a},{group},1,{evil},{evil}")
    (root / "mapping.csv").write_text("\n".join(lines) + "\n")
    audit = audit_of(pictures={"maps": ["tsne"], "map_images": 60, "perplexity": 3.0})
    generate(audit, FolderSource(kind="folder", path=str(root)), ACTIVITIES, tmp_path / "images")
    run(audit, tmp_path / "images", tmp_path / "out")
    page = (tmp_path / "out/audit.html").read_text()
    assert "<script>alert" not in page
    assert "alert(1)" in page


def test_pictures_without_prompts_have_no_prompt_space_and_dollars_are_dollars(tmp_path: Path) -> None:
    from assay.corpora.demo.figure import draw_figure, seeded

    root = tmp_path / "in"
    root.mkdir()
    lines = ["file,activity,group,seed"]
    for a in range(6):
        for g, group in enumerate(("neutral", "young", "middle", "older")):
            (root / f"{a}{g}.jpg").write_bytes(draw_figure(seeded(a), g / 3, 64))
            lines.append(f"{a}{g}.jpg,spending $5{a}%_ and $20^ on {{x,{group},{a}")
    (root / "mapping.csv").write_text("\n".join(lines) + "\n")
    perceived = shipped().model_dump(by_alias=True)["perceived"]
    audit = audit_of(perceived=perceived, pictures={"maps": ["tsne"], "map_images": 60, "perplexity": 3.0})
    generate(audit, FolderSource(kind="folder", path=str(root)), ACTIVITIES, tmp_path / "images")
    found = run(audit, tmp_path / "images", tmp_path / "out", FolderSource(kind="folder", path=str(root)))
    assert set(found["spaces"]) == {"efficientnet", "colours"}
    assert found["encoders_lacking"] == 1
    assert "perceived" not in found  # the demo teacher does not know these pictures
    assert "perceived is left out" in (tmp_path / "out/audit.html").read_text()


def test_too_few_activities(drawn_images: Path, tmp_path: Path) -> None:
    audit = audit_of(statistics=QUICK | {"min_activities": 13})
    with pytest.raises(DataError, match=r"12 activities have an image of every group, below .* 13; 0 lack one"):
        run(audit, drawn_images, tmp_path)


@pytest.mark.slow
def test_perceived_bands_of_the_whole_audit(drawn_images: Path, tmp_path: Path) -> None:
    population = {"young": 0.4, "middle-aged": 0.3, "older": 0.3}
    perceived = shipped().model_dump(by_alias=True)["perceived"] | {"sample": 40, "population": population}
    audit = audit_of(perceived=perceived, pictures={"maps": [], "sheet_activities": 2})
    found = run(audit, drawn_images, tmp_path)["perceived"]
    assert found["teacher"] == {"asked": 40, "labelled": 40, "failed": {"total": 0}}
    assert found["shares"]["neutral"]["young"]["value"] > 0.6
    assert found["shares"]["older"]["older"]["value"] == 1.0
    assert sum(found["shares"]["neutral"][name]["value"] for name in perceived["names"]) == pytest.approx(1, abs=0.15)
    page = (tmp_path / "audit.html").read_text()
    assert "population" in page


# ------------------------------------------------------------------------------------ real faces


@pytest.mark.real
@pytest.mark.parametrize("shuffled", [False, True], ids=["as they are", "shuffled"])
def test_real_faces_are_told_apart_by_age_and_not_by_chance(shuffled: bool, real_data: Path, tmp_path: Path) -> None:
    """Young against older faces: distance and probe are away from zero; with bands dealt at random they are not.

    There is no neutral prompt, so half of the young faces stand in for one: the lean must be toward young.
    """
    faces = real_data / "faces_by_age"
    files = {band: sorted((faces / band).glob("*.jpg")) for band in ("young", "middle", "older")}
    rng = np.random.default_rng(5)
    rows = []
    for unit in range(40):
        shown = [files["young"][40 + unit], *(files[band][unit] for band in ("young", "middle", "older"))]
        if shuffled:
            shown = [shown[i] for i in rng.permutation(4)]
        names = ("neutral", "young", "middle", "older")
        rows += [f"{file.relative_to(faces)},face {unit},{name},1" for file, name in zip(shown, names, strict=True)]
    mapping = tmp_path / "faces"
    mapping.mkdir()
    for band in files:
        (mapping / band).mkdir()
        for file in files[band]:
            (mapping / band / file.name).write_bytes(file.read_bytes())
    (mapping / "mapping.csv").write_text("\n".join(["file,activity,group,seed", *rows]) + "\n")
    audit = audit_of(encoders={"efficientnet": {"image": {"encoder": "packaged/efficientnet-lite0"}}})
    generate(audit, FolderSource(kind="folder", path=str(mapping)), ACTIVITIES, tmp_path / "images")
    grid = read_grid(tmp_path / "images", audit.groups)
    assert len(grid.activities) == 40
    spaces = build(audit, tmp_path / "images", grid).spaces
    told = findings(audit, grid, [Measures(one, audit.statistics) for one in spaces], {})
    found = told["spaces"]["efficientnet"]["comparisons"]["young_vs_older"]
    if shuffled:
        assert told["verdicts"]["young_vs_older"]["verdict"] == "not decided"
        assert found["centroids"]["p"] > 0.05
        assert found["probe"]["p"] > 0.05
        assert found["lean"]["low"] < 0 < found["lean"]["high"]
    else:
        assert told["verdicts"]["young_vs_older"]["verdict"] == "toward young"
        assert found["centroids"]["low"] > 0
        assert found["centroids"]["p"] < 0.01
        assert found["probe"]["low"] > 0.5
        assert found["lean"]["low"] > 0


# ---------------------------------------------------------------------------------- as a pipeline


@pytest.mark.slow
def test_the_audit_as_a_pipeline(tmp_path: Path) -> None:
    """repro, nothing the second time, another generator as an experiment, and the difference in metrics."""
    repository = Repository(tmp_path / "work", tmp_path / "home")

    def only_audit(raw: dict[str, Any]) -> None:
        audits = raw["audits"]
        small(raw)
        raw["audits"] = audits
        audits["age"]["use"] = ["portrait"]
        audits["age"]["images"]["take"] = 10
        audits["age"]["statistics"] = QUICK
        audits["age"]["perceived"]["sample"] = 40
        audits["age"]["pictures"] = {"maps": ["tsne"], "map_images": 60, "perplexity": 5.0}

    repository.params(only_audit)
    repository.commit("an audit")
    assert repository.repro("audit@age") == ["generate@age", "audit@age"]
    repository.commit("results")
    assert repository.repro("audit@age") == []
    assert repository.run("git", "status", "--porcelain").stdout == ""
    repository.run("dvc", "exp", "run", "-S", "audits.age.generator=drawn_level", "audit@age")
    assert repository.json("metrics/age/audit.json")["verdicts"]["young_vs_older"]["verdict"] == "not decided"
    difference = repository.run("dvc", "metrics", "diff", "--json").stdout
    assert "lean" in difference
    changes = ("-S", "audits.age.generator=drawn", "-S", "audits.age.use=[candid]")
    repository.run("dvc", "exp", "run", *changes, "audit@age")
    assert repository.json("metrics/age/audit.json")["activities"] == 10
