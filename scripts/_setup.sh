# Sourced by the scripts beside it: goes to the repository's root and defines `ensure_extras`, which makes .venv and
# installs this checkout into it, editable. Bash 3.2 (macOS) is enough.
#
#   PYTHON=...              the Python that .venv is made from (3.10 to 3.13)
#   HPARAMS_LAB_NO_UV=1     install with pip, even where uv is to be had
set -euo pipefail
unset VIRTUAL_ENV PYTHONHOME CDPATH  # another environment may be active
unset PYTHONDONTWRITEBYTECODE        # without its bytecode an import of Keras takes three times as long
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"

venv_python=.venv/bin/python
stamp=.venv/.hparams-lab-stamp  # line 1: what was installed from; then the extras, one a line
home=.venv/.hparams-lab-home    # the checkout that .venv was made for: it holds absolute paths

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

python_suits() { [ "$("$1" -c 'import sys; print((3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null)" = True ]; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        python_suits "$PYTHON" || die "PYTHON=$PYTHON is not a working Python 3.10 to 3.13"
        echo "$PYTHON"
        return
    fi
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if python_suits "$candidate"; then echo "$candidate"; return; fi
    done
    die "no Python 3.10 to 3.13 found (python3 is: $(python3 --version 2>&1 | head -n 1)); install one, or set PYTHON to its path"
}

venv_works() {
    python_suits "$venv_python" || return 1
    [ ! -e "$home" ] || [ "$(cat "$home")" = "$PWD" ]
}

make_venv() {
    local python
    python="$(find_python)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || die "$python cannot make virtual environments: install its venv package" \
        "(Debian, Ubuntu: apt-get install python3-venv), or set PYTHON to another Python 3.10 to 3.13"
    say "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
    printf '%s\n' "$PWD" >"$home"
}

# install ARGS...: uv is several times faster than pip, and not needed.
install() {
    local uv=""
    if [ -z "${HPARAMS_LAB_NO_UV:-}" ]; then
        if uv --version >/dev/null 2>&1; then
            uv=uv
        elif .venv/bin/uv --version >/dev/null 2>&1 || pip_install uv >/dev/null 2>&1; then
            uv=.venv/bin/uv
        fi
    fi
    if [ -n "$uv" ]; then
        if "$uv" pip install -q --python "$venv_python" "$@"; then return; fi
        say "uv could not install; trying pip"
    fi
    pip_install "$@"
}

pip_install() {
    "$venv_python" -c 'import pip' 2>/dev/null || "$venv_python" -m ensurepip >/dev/null || return
    "$venv_python" -m pip install -q --disable-pip-version-check "$@"
}

# The TensorFlow for this machine: the CPU build has no wheels for macOS, and no use for a GPU.
fitting_tensorflow() {
    if [ "$(uname)" = Darwin ] || nvidia-smi -L >/dev/null 2>&1; then echo tensorflow; else echo tensorflow-cpu; fi
}

# ensure_extras A,B,...: after it, .venv has the project with these extras, and with those that it had before.
ensure_extras() {
    local wanted source missing="" extra
    wanted="$(printf '%s' "$1" | tr ',' '\n' | sed "s/^tensorflow-cpu\$/$(fitting_tensorflow)/")"
    source="$(cat setup.cfg setup.py | cksum)"
    venv_works || make_venv

    if [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" = "$source" ]; then
        for extra in $wanted; do
            grep -qxF -- "$extra" "$stamp" || missing=1
        done
        if [ -z "$missing" ]; then return; fi
    fi

    wanted="$({ printf '%s\n' "$wanted"; [ ! -f "$stamp" ] || tail -n +2 "$stamp"; } | sort -u)"
    case "$wanted" in
        *tensorflow*) say "installing TensorFlow and friends into .venv (about 300 MB, once)" ;;
        *) say "installing the project into .venv" ;;
    esac
    install -e ".[$(printf '%s' "$wanted" | tr '\n' ',')]" || die "could not install into .venv (see above); run this again to go on"
    printf '%s\n' "$source" "$wanted" >"$stamp"
}
