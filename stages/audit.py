"""Images of an audit -> figures with tests and intervals, pictures, page: python stages/audit.py --help"""

import argparse
from pathlib import Path

import _own  # noqa: F401

from assay import config
from assay.errors import run_main
from assay.posts import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audit", required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--rubrics", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--leans", type=Path, required=True)
    parser.add_argument("--categories", type=Path, required=True)
    parser.add_argument("--points", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--summary", type=Path, required=True, help="for the few figures by which runs are compared")
    args = parser.parse_args()
    from assay.audit.audit import run_audit
    from assay.audit.findings import in_short

    params = config.load()
    audit = params.audits[args.audit]
    found = run_audit(
        args.audit,
        audit,
        params.generators[audit.generator],
        images=args.images,
        rubrics=args.rubrics,
        out_metrics=args.metrics,
        out_leans=args.leans,
        out_categories=args.categories,
        out_points=args.points,
        out_page=args.page,
        out_pictures=args.pictures,
    )
    write_json(in_short(found), args.summary)


if __name__ == "__main__":
    run_main(main)
