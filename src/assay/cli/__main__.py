"""`python -m assay.cli`: the same as `assay`."""

from assay.cli import main

if __name__ == "__main__":
    main()
