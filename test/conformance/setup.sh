#!/bin/sh
# Installs what the conformance run of the REST interface needs: schemathesis and
# openapi-spec-validator, in a virtual environment of their own. Run it again at any
# time: what is there already is left alone.
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
venv=$root/.cache/conformance-venv

if ! python3 -c 'import ensurepip' 2>/dev/null; then
	sudo=
	[ "$(id -u)" = 0 ] || sudo=sudo
	$sudo apt-get update -qq
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends python3-venv
fi

if ! cmp -s requirements.txt "$venv/requirements.txt"; then
	rm -rf "$venv"
	mkdir -p "$root/.cache"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
	cp requirements.txt "$venv/requirements.txt"
fi

echo "the conformance tools are installed"
