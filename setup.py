"""What a wheel has beside the package: the pipeline, which `assay init` lays down. All else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
DVC = (".dvc/config", ".dvc/plots/by_name.json")
PIPELINE = ("dvc.yaml", ".gitignore", ".dvcignore", *DVC, "human/README.md", "starts/README.md", "stages")


class BuildWithPipeline(build_py):
    """Copies the repository's own pipeline into assay/project; an editable install reads it where it stands."""

    def run(self) -> None:
        super().run()
        there = Path(self.build_lib) / "assay" / "project"
        if not self.editable_mode:
            for name in PIPELINE:
                files = sorted((HERE / name).glob("*.py")) if (HERE / name).is_dir() else [HERE / name]
                for path in files:
                    if path.exists():  # an image that only serves is built without
                        (there / path.relative_to(HERE)).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(path, there / path.relative_to(HERE))


setup(cmdclass={"build_py": BuildWithPipeline})
