# shellcheck shell=bash
# What `run` and `test` share: saying what happens, and finding or installing what a build needs.
# Works with bash 3.2 (macOS) and newer. Everything here writes to standard error: standard output belongs to answers.

MINIMUM_RUST=1.95

say() { printf '%s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or with sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this needs root and there is no sudo; run as root: $*"
    fi
}

# at_least 1.95 1.100.2: whether the second version is not older than the first.
at_least() {
    local want_major want_minor have_major have_minor
    want_major=${1%%.*} want_minor=${1#*.} want_minor=${want_minor%%.*}
    have_major=${2%%.*} have_minor=${2#*.} have_minor=${have_minor%%.*}
    [ "$have_major" -gt "$want_major" ] || { [ "$have_major" -eq "$want_major" ] && [ "$have_minor" -ge "$want_minor" ]; }
}

# The folder of the newest libclang, or nothing.
find_libclang() {
    local folder found
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        printf '%s' "$LIBCLANG_PATH"
        return
    fi
    for folder in $(printf '%s\n' /usr/lib/llvm-*/lib | sort -t- -k2 -n -r) /usr/lib/*-linux-gnu /usr/lib64 \
        /opt/homebrew/opt/llvm/lib /usr/local/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib; do
        found=$(find "$folder" -maxdepth 1 \( -name 'libclang.so*' -o -name 'libclang-*.so*' -o -name libclang.dylib \) \
            2>/dev/null | head -n 1)
        if [ -n "$found" ]; then
            printf '%s' "$folder"
            return
        fi
    done
}

# Puts cargo on the path when rustup has installed it but the shell does not know yet.
find_cargo() {
    if ! have cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
    fi
    have cargo
}

python_is_whole() { have python3 && python3 -c 'import venv, ensurepip, ssl' >/dev/null 2>&1 && python3 -m pip --version >/dev/null 2>&1; }

apt_updated=no

# apt_install PACKAGE…: says what it installs, then installs it.
apt_install() {
    say "installing system packages: $*"
    [ "$apt_updated" = yes ] || as_root apt-get update -qq >&2 || say "apt-get update failed; trying with the old lists"
    apt_updated=yes
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
        die "apt-get could not install: $*. Install them by hand and start again"
}

brew_install() {
    have brew || die "Homebrew is missing; install it, or install by hand: $*"
    say "installing with Homebrew: $*"
    brew install --quiet "$@" >&2 || die "brew could not install: $*"
}

# The newest clang that the lists know without a repository of somebody else; version 14 where there is one.
apt_clang() {
    if apt-cache show libclang-14-dev >/dev/null 2>&1; then
        printf '%s' "clang-14 libclang-14-dev"
    else
        printf '%s' "clang libclang-dev"
    fi
}

# Installs what building needs and this machine lacks, and says so first. Silent when nothing is missing.
need_build_tools() {
    local missing=""
    have cmake || missing="$missing cmake"
    if [ "$(uname -s)" = Darwin ]; then
        have c++ || die "the command line tools of Xcode are missing; run: xcode-select --install"
        have pkg-config || missing="$missing pkgconf"
        python_is_whole || missing="$missing python3"
        [ -n "$(find_libclang)" ] || missing="$missing llvm"
        # shellcheck disable=SC2086
        [ -z "$missing" ] || brew_install $missing
    else
        have g++ && have make || missing="$missing g++ make"
        have pkg-config || missing="$missing pkg-config"
        python_is_whole || missing="$missing python3 python3-venv python3-pip ca-certificates"
        if [ -z "$(find_libclang)" ]; then
            if have apt-get && [ "$apt_updated" = no ] && ! apt-cache show libclang-dev >/dev/null 2>&1; then
                as_root apt-get update -qq >&2 || true
                apt_updated=yes
            fi
            missing="$missing $(apt_clang)"
        fi
        if [ -n "$missing" ]; then
            have apt-get || die "missing:$missing. Install them with this system's package manager and start again"
            # shellcheck disable=SC2086
            apt_install $missing
        fi
    fi
    LIBCLANG_PATH=$(find_libclang)
    export LIBCLANG_PATH
    [ -n "$LIBCLANG_PATH" ] || die "libclang was not found; set LIBCLANG_PATH to the folder that holds it"
}

# The folder of PostgreSQL's programs, or nothing: Debian keeps them off the path, Homebrew does not link them.
find_postgres() {
    local folder
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5 -n -r) /opt/homebrew/opt/postgresql@17/bin \
        /usr/local/opt/postgresql@17/bin; do
        if [ -x "$folder/initdb" ]; then
            printf '%s' "$folder"
            return
        fi
    done
    if have initdb; then dirname -- "$(command -v initdb)"; fi
}

# Installs the servers that the tests start for themselves: PostgreSQL and Redis.
need_stores() {
    local missing=""
    if [ "$(uname -s)" = Darwin ]; then
        [ -n "$(find_postgres)" ] || missing="$missing postgresql@17"
        have redis-server || missing="$missing redis"
        # shellcheck disable=SC2086
        [ -z "$missing" ] || brew_install $missing
    else
        [ -n "$(find_postgres)" ] || missing="$missing postgresql"
        have redis-server || missing="$missing redis-server"
        have setpriv || missing="$missing util-linux"
        if [ -n "$missing" ]; then
            have apt-get || die "missing:$missing. Install them with this system's package manager and start again"
            # shellcheck disable=SC2086
            apt_install $missing
        fi
    fi
}

# Installs the Rust toolchain where there is none, and refuses one that is too old.
need_rust() {
    local version
    if ! find_cargo; then
        if [ "$(uname -s)" = Darwin ]; then
            brew_install rustup
        elif have apt-get && apt-cache show rustup >/dev/null 2>&1; then
            apt_install rustup
        fi
        if have rustup; then
            say "installing the Rust toolchain (stable) with rustup"
            rustup toolchain install stable --profile default >&2 && rustup default stable >&2 ||
                die "rustup could not install the stable toolchain; check the network and start again"
        else
            have curl || apt_install curl ca-certificates
            say "installing the Rust toolchain (stable) with the installer that rust-lang.org documents, into ~/.cargo"
            curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --no-modify-path >&2 ||
                die "the Rust toolchain could not be installed; install Rust $MINIMUM_RUST or newer as rust-lang.org says and start again"
        fi
        find_cargo || die "cargo is still missing after the installation; open a new shell and start again"
    fi
    version=$(rustc --version 2>/dev/null | cut -d' ' -f2) || version=""
    [ -n "$version" ] || die "rustc does not answer; install Rust $MINIMUM_RUST or newer and start again"
    at_least "$MINIMUM_RUST" "$version" ||
        die "Rust $MINIMUM_RUST or newer is needed, found $version; run \`rustup update stable\` and start again"
}
