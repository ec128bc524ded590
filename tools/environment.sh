# Sourced by run, test and book, which set $here to the root of the checkout and $command to their own name.
# Makes .venv there once, from the pins; afterwards it only compares .venv/made-from.$command with pyproject.toml and
# constraints.txt, which takes a few milliseconds. PYTHON chooses the interpreter, TORCH_INDEX (an index address
# or a folder) is where to look for wheels of torch first.

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

unset PYTHONHOME PYTHONPATH
made_from=$(printf '%s\n' "$here"; cat "$here/pyproject.toml" "$here/constraints.txt") || exit 1
if [ "$made_from" != "$(cat "$here/.venv/made-from.$command" 2>/dev/null)" ] || ! [ -x "$here/.venv/bin/python" ] ||
   { [ -n "${TORCH_INDEX:-}" ] && [ -e "$here/.venv/no-torch" ]; } ||
   { [ -n "${PYTHON:-}" ] && [ "$(version "$PYTHON")" != "$(version "$here/.venv/bin/python")" ]; }; then
  if [ -n "${PYTHON:-}" ]; then
    suits "$PYTHON" || { echo "$command: PYTHON=$PYTHON is not a working Python 3.11, 3.12 or 3.13" >&2; exit 1; }
    python=$PYTHON
  else
    python=
    for candidate in python3.11 python3.12 python3.13 python3 python; do
      if suits "$candidate"; then python=$candidate; break; fi
    done
    [ -n "$python" ] || {
      echo "$command: no Python 3.11, 3.12 or 3.13 found; install one (on Debian: apt install python3 python3-venv) or set PYTHON to it" >&2
      exit 1
    }
  fi
  "$python" "$here/tools/environment.py" "$here" "$command" || exit $?
fi
python=$here/.venv/bin/python
