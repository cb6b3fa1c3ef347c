"""Write the manifest of a raw corpus: python stages/scan.py --corpus NAME --out data/manifest/NAME.json"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.corpora import manifest, where
from assay.errors import SettingsError, run_main
from assay.places import corpus_root
from assay.posts import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    params = config.load()
    if args.corpus not in params.corpora:
        raise SettingsError(f"--corpus {args.corpus}: not in corpora; allowed: {', '.join(params.corpora)}")
    where.ensure(params.corpora[args.corpus], params.demo)
    corpus = params.corpora[args.corpus]
    named = [corpus_root(corpus.brand_file)] if corpus.brand_file else []
    write_json(manifest.scan([*where.places(corpus), *named]), args.out)


if __name__ == "__main__":
    run_main(main)
