#!/bin/sh
# Installs the clients of the interop tests on Debian 12 with Go, Python 3.11
# and Node 20. Run it again at any time: what is there already is left alone.
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
venv=$root/.cache/interop-venv

# 1. Debian packages: a browser, a terminal client, and a terminal to run it in.
missing=
command -v chromium >/dev/null || missing="$missing chromium"
command -v profanity >/dev/null || missing="$missing profanity"
command -v tmux >/dev/null || missing="$missing tmux"
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ]; then
	sudo=
	[ "$(id -u)" = 0 ] || sudo=sudo
	$sudo apt-get update -qq
	# shellcheck disable=SC2086 # a list of packages
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
fi

# 2. slixmpp, aioxmpp and what programs at the other end use, in a virtual
# environment of their own. aioxmpp reads certificates with a function that pyOpenSSL
# has dropped since.
if ! cmp -s python/requirements.txt "$venv/requirements.txt"; then
	rm -rf "$venv"
	mkdir -p "$root/.cache"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check -r python/requirements.txt
	cp python/requirements.txt "$venv/requirements.txt"
fi

# 3. The JavaScript clients, exactly as locked. No install script runs, so no
# browser is downloaded: Debian's Chromium is used.
if ! cmp -s node/package-lock.json node/node_modules/.interop-lock; then
	(cd node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
	cp node/package-lock.json node/node_modules/.interop-lock
fi

echo "interop clients are installed"
