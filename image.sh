#!/bin/sh
# The build steps of the image, kept apart from the Dockerfile so that they can be run, and are tested, without
# a container engine:
#
#     sh image.sh dependencies TARGET     TARGET/venv with what requirements.image.lock names, every file by its hash
#     sh image.sh engine TARGET           the engine itself into that environment, and what alembic reads beside it
#
# Two steps, so that a change of code does not install everything again. Nothing in TARGET is written to afterwards:
# it runs from a read-only file system, as any user.
set -eu

step=$1
target=$2
source=$(cd "$(dirname "$0")" && pwd)
pip() { "$target/venv/bin/python" -m pip --disable-pip-version-check "$@"; }

case $step in
dependencies)
    python3 -m venv "$target/venv"
    pip install --quiet --root-user-action ignore --require-hashes -r "$source/requirements.image.lock"
    ;;
engine)
    pip install --quiet --root-user-action ignore --no-deps --no-build-isolation "$source"
    cp -R "$source/alembic.ini" "$source/migrations" "$target"
    ;;
*)
    echo "There is no step $step; the steps are dependencies and engine." >&2
    exit 2
    ;;
esac
