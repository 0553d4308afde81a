"""``python -m repcollapse`` is ``repcollapse``; ``torchrun -m repcollapse`` needs it so."""

from repcollapse.cli import main

if __name__ == "__main__":
    main()
