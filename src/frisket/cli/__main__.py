"""`python -m frisket.cli`, as torchrun starts it."""

from frisket.cli import main

if __name__ == "__main__":
    main()
