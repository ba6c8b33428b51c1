#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pip: wheels from a read-only clone and from an sdist are the same and need libfabric only; the Python tests
# pass with an installed one, with NumPy 1.26 and with NumPy 2; editable installs.
# shellcheck disable=SC2317,SC2329 # functions are called by does and refuses
. "${KVT_SRCDIR:?}/tests/package/package.sh"
need_python
need_clone
need_index

# Blanks everywhere: in the names of the clone, of the venv, and of where temporary files go.
clone=$shape_tmp/a\ clone
mkdir "$shape_tmp/tmp dir" "$shape_tmp/from clone" "$shape_tmp/from sdist" "$shape_tmp/sdist" "$shape_tmp/sdist 2"
TMPDIR=$shape_tmp/tmp\ dir
PIP_DISABLE_PIP_VERSION_CHECK=1
export TMPDIR PIP_DISABLE_PIP_VERSION_CHECK
copy_clone "$clone"
# Left by a build in the clone, and not to be taken along.
mkdir -p "$clone/obj/python" && touch "$clone/obj/config.status" "$clone/src/engine/paged/staging.o" "$clone/config.h"
make_venv "$shape_tmp/new numpy" -- 'numpy>=2' pytest packaging
make_venv "$shape_tmp/old numpy" -- 'numpy==1.26.*' pytest
pip=$shape_tmp/new\ numpy/bin/pip
python=$shape_tmp/new\ numpy/bin/python

# For root a mode is no obstacle, so the clone is mounted read-only.
read_only() {
	if [ "$(id -u)" -eq 0 ] && unshare -m true 2> /dev/null; then
		# shellcheck disable=SC2016 # the inner shell expands it
		unshare -m sh -c 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"' "$clone" "$@"
	else
		chmod -R a-w "$clone"
		"$@"
		status=$?
		chmod -R u+w "$clone"
		return "$status"
	fi
}

# build_sdist SOURCE DIRECTORY
build_sdist() {
	(cd "$1" && "$python" - "$2" <<-'END'
		import sys
		sys.path.insert(0, "python")
		import build_backend
		build_backend.build_sdist(sys.argv[1])
	END
	)
}

does "pip wheel works in a clone that cannot be written, among blanks" \
	read_only "$pip" wheel -q --no-deps -w "$shape_tmp/from clone" "$clone"
does "an sdist is built" build_sdist "$clone" "$shape_tmp/sdist"
does "pip wheel works from the sdist" \
	"$pip" wheel -q --no-deps -w "$shape_tmp/from sdist" "$shape_tmp"/sdist/*.tar.gz
wheel=$(echo "$shape_tmp/from clone"/*.whl)
does "both wheels are the same, byte for byte" cmp "$wheel" "$shape_tmp/from sdist/${wheel##*/}"
tar -xzf "$shape_tmp"/sdist/*.tar.gz -C "$shape_tmp"
does "an sdist of the sdist is built" build_sdist "$shape_tmp"/kvtrans_engine-* "$shape_tmp/sdist 2"
does "both sdists are the same, byte for byte" cmp "$shape_tmp"/sdist/*.tar.gz "$shape_tmp/sdist 2"/*.tar.gz
tar -tzf "$shape_tmp"/sdist/*.tar.gz | sed 's,^[^/]*/,,' | sort > "$shape_tmp/in sdist"
git -c safe.directory="*" ls-files src python include plugins | sort > "$shape_tmp/in clone"
comm -13 "$shape_tmp/in sdist" "$shape_tmp/in clone" | holds "the sdist has every source file"

"$python" -m zipfile -e "$wheel" "$shape_tmp/wheel"
extension=$(echo "$shape_tmp"/wheel/kvtrans_engine/_kvtrans*.so)
echo "${wheel##*/}" | grep -v -- "-linux_$(uname -m)\.whl$" | holds "the wheel is for linux_$(uname -m), and says no more"
for file in "$shape_tmp"/wheel/kvtrans_engine/*.so*; do
	LC_ALL=C objdump -p "$file" | sed -n 's/^ *NEEDED *//p'
done | grep -vE '^(libfabric\.so\.1|kvt(hwloc|sodium)\.so\.[0-9]+|lib(c|m|udev|stdc\+\+|gcc_s)\.so\.[0-9]+|ld-linux.*)$' |
	holds "it needs libfabric, libudev and the C and C++ libraries from outside, and no more"
does "the wheel has the plugin for NIXL" test -f "$shape_tmp/wheel/kvtrans_engine/libplugin_KVTRANS.so"
for file in "$extension" "$shape_tmp/wheel/kvtrans_engine/libplugin_KVTRANS.so"; do
	grep -acE "kvtrans-[a-z0-9_]{8}/|pip-build-env|$shape_tmp|$KVT_SRCDIR" "$file" | grep -v '^0$'
done | holds "no path of the build is in the extension, or in the plugin for NIXL"
"$python" - "$shape_tmp"/wheel/kvtrans_engine-*.dist-info "$clone/README.md" > "$shape_tmp/metadata" 2>&1 <<-'END'
	import pathlib, sys
	from packaging.metadata import Metadata

	info, readme = map(pathlib.Path, sys.argv[1:])
	found = Metadata.from_email((info / "METADATA").read_bytes(), validate=True)
	if found.description.strip() != readme.read_text(encoding="utf-8").strip():
	    print("the description is not README.md")
	if found.license_expression != "Apache-2.0" or not found.classifiers or not found.summary:
	    print("licence, classifiers or summary:", found.license_expression, found.classifiers, found.summary)
	if [str(one) for one in found.requires_dist] != ["numpy>=1.24"] or str(found.requires_python) != ">=3.10":
	    print("requires", found.requires_dist, found.requires_python)
	for name in found.license_files:
	    if not (info / "licenses" / name).exists():
	        print("no licence", name)
END
holds "its metadata is valid and complete" < "$shape_tmp/metadata"

# run_tests VENV LOG: all Python tests, with the package that is installed there and nowhere else. A shell
# starts what is in the background with SIGINT ignored, and the tests send it.
run_tests() {
	(
		unset PYTHONPATH
		cd "$shape_tmp" || exit
		"$1/bin/python" -c '
import sys, kvtrans_engine, numpy
print("kvtrans_engine in", kvtrans_engine.__file__, "with NumPy", numpy.__version__)
sys.exit(not kvtrans_engine.__file__.startswith(sys.prefix))' &&
			PYTHONDONTWRITEBYTECODE=1 env --default-signal=INT "$1/bin/python" -m pytest -q \
				-p no:cacheprovider "$KVT_SRCDIR/tests/python"
	) > "$2" 2>&1
}

does "the wheel installs beside NumPy 1.26" "$shape_tmp/old numpy/bin/pip" install -q "$wheel"
does "the wheel installs beside NumPy 2" "$pip" install -q "$wheel"
# They wait more than they compute, so both at once.
run_tests "$shape_tmp/old numpy" "$shape_tmp/old.log" &
does "the Python tests pass with the wheel and NumPy 2" run_tests "$shape_tmp/new numpy" "$shape_tmp/new.log"
does "the Python tests pass with the wheel and NumPy 1.26" wait $!
head -q -n 1 "$shape_tmp/old.log" "$shape_tmp/new.log"
grep -hE '^(FAILED|ERROR) |^E  | (passed|failed).* in ' "$shape_tmp/old.log" "$shape_tmp/new.log"

does "an editable install works" "$pip" install -q --no-build-isolation -e "$clone"
echo 'EDITED = 1' >> "$clone/python/kvtrans_engine/__init__.py"
does "what is edited in the clone is what is imported" \
	"$python" -c 'import kvtrans_engine as k; k.Engine("lo").close(); assert k.EDITED'
refuses "an editable install of a clone that cannot be written is refused" \
	"an editable install keeps what it builds" read_only "$pip" install --no-build-isolation -e "$clone"
finish
