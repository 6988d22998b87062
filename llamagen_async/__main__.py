"""`python -m llamagen_async`: the same as the `llamagen-async` command."""

from llamagen_async.cli import main

if __name__ == "__main__":
    main()
