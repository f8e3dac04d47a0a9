# The commands of daily work; `just` lists them.

default:
    @just --list

# install everything that development needs
setup:
    uv sync

# what CI runs
ci:
    .ci/run

# lint, format, types
check:
    uv run ruff check --fix .
    uv run ruff format .
    uv run mypy

# the tests; `just test --slow` runs the long laws too
test *ARGS:
    uv run pytest {{ARGS}}

# numbers of other programs only
reference:
    uv run pytest -m reference

# the example trial, from data to report
demo:
    uv run trialtwin demo
