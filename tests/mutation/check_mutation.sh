#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Usage: check_mutation.sh SOURCE_DIR [NUMBER...]: takes safety checks out of a copy of the source, one after the other,
# and looks that a test turns red. Prints a table: the check, and the first test that sees that it is gone. Some minutes.
set -uo pipefail
source=$(cd "$1" && pwd)
shift
wanted=" $* "
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
number=0
good=0
bad=0
table=

# Until the first failure it would take: a test that waits for what never comes is red, too.
LIMIT=150

cc=gcc
if command -v ccache >/dev/null; then
	cc="ccache gcc"
	export CCACHE_BASEDIR=$tmp CCACHE_NOHASHDIR=1
fi

fail() {
	echo "FAIL: $1"
	tail -n 30 "$tmp/log"
	exit 1
}

build() {
	make -C "$tmp/tree/build" -j"$(nproc)" "$@" >"$tmp/log" 2>&1
}

# run TEST CASE: its output is in $tmp/out.
run() {
	(
		cd "$tmp/tree/build" || exit 99
		set -a
		# shellcheck source=/dev/null
		. ./tests/env.sh
		set +a
		export srcdir=.. CK_VERBOSITY=normal CK_TIMEOUT_MULTIPLIER=1 KVTRANS_LOG=off KVT_TEST_PROVIDER=tcp
		[ -z "$2" ] || export CK_RUN_CASE=$2
		exec timeout --kill-after=5 "$LIMIT" "./$1"
	) >"$tmp/out" 2>&1
}

# green TEST: it passes while nothing is taken out; asked once for each.
declare -A is_green
green() {
	[ -z "${is_green[$1]:-}" ] || return 0
	run "$1" "$2" || { cp "$tmp/out" "$tmp/log"; fail "$1 fails with every check in its place"; }
	is_green[$1]=1
}

# mutate WHAT FILE TEST SED [CASE]: take out of FILE what SED says, and expect TEST to fail.
mutate() {
	local what=$1 file=$2 test=$3 edit=$4 case=${5:-} red
	number=$((number + 1))
	[ "$wanted" = "  " ] || [[ $wanted == *" $number "* ]] || return 0
	build "$test" || fail "$test does not build"
	green "$test" "$case"
	cp -p "$tmp/tree/$file" "$tmp/kept"
	sed -i "$edit" "$tmp/tree/$file"
	if cmp -s "$tmp/kept" "$tmp/tree/$file"; then
		red="NONE: the check is not where it was in $file"
	elif ! build "$test"; then
		red="NONE: does not compile: $(grep -m 1 error: "$tmp/log")"
	elif run "$test" "$case"; then
		red="NONE: ${test#tests/} stays green"
	else
		# Of Check: FILE:LINE:KIND:CASE:TEST:ITERATION: TEXT.
		red="${test#tests/}: $(sed -nE 's/^[^:]+:[0-9]+:[FE]:[^:]*:([^:]+):.*/\1/p' "$tmp/out" | head -n 1)"
		[ "$red" != "${test#tests/}: " ] || red="${test#tests/}: it ends in another way"
	fi
	cp "$tmp/kept" "$tmp/tree/$file"
	if [[ $red == NONE* ]]; then
		bad=$((bad + 1))
		echo "FAIL: $number. $what: $red"
	else
		good=$((good + 1))
		echo "ok: $number. $what: $red"
	fi
	table+=$(printf '%3d  %-66s %s' "$number" "$what" "$red")$'\n'
}

mkdir -p "$tmp/tree"
tar -C "$source" -cf - --exclude=./build --exclude='./build-*[0-9]' --exclude=./.git . | tar -C "$tmp/tree" -xf -
(mkdir -p "$tmp/tree/build" && cd "$tmp/tree/build" && ../configure --without-python CC="$cc") \
	>"$tmp/log" 2>&1 || fail "configure"

mutate "a record of the control channel that was changed is refused" src/auth/noise.c \
	tests/unit/check_auth_secure 's/cipher->key) != 0) {/cipher->key) == 99) {/'
mutate "records are numbered, so that none can be played again" src/auth/noise.c \
	tests/unit/check_auth_secure 's/^\tcipher->nonce++;$//'
mutate "before its proof a peer's records are short" src/auth/secure.c \
	tests/unit/check_auth_secure 's/secure->is_proven ? KVI_RECORD_MAX : .*/KVI_RECORD_MAX;/'
mutate "a lane has the token of its connection" src/engine/conn/control.c \
	tests/engine/check_auth 's/sodium_memcmp(token, hello.token, KVI_TOKEN_LEN) != 0 ||/false ||/'
mutate "a lane's token opens one lane, once" src/engine/conn/control.c \
	tests/engine/check_auth 's/return link->packets == NULL \&\& link->rail == rail/return link->rail == rail/'
mutate "a source has so many strangers and no more" src/engine/conn/strangers.c \
	tests/unit/check_engine_strangers 's/source->count > strangers->max_per_source/false/'
mutate "who says nothing has 2 s" src/engine/conn/session.c tests/integration/check_integration \
	's/kvi_deadline_after(KVI_HANDSHAKE_NS)$/KVI_NEVER/' strangers
mutate "a frame has the length that its channel allows" src/wire/decode.c \
	tests/protocol/check_malformed 's/ || len > max_len//'
mutate "a count in a message fits what it counts" src/wire/decode.c \
	tests/protocol/check_malformed 's/count >= 1 \&\& count <= max/true/'
mutate "a peer sends no more than its window" src/engine/lane/link.c \
	tests/engine/check_paged_hostile 's/if (link->window_taken > KVI_LANE_WINDOW)/if (false)/'
mutate "a message has its number in the order of its tag" src/engine/tagged/recv.c \
	tests/engine/check_tagged_hostile 's/eager->seq != queue->next_arrival_seq/false/'
mutate "FIN names the generation of the receive that it ends" src/engine/tagged/recv.c \
	tests/engine/check_tagged_hostile 's/return generation == 0 || receive->generation == generation ? receive : NULL;/return receive;/'
mutate "FIN has the length of its START" src/engine/tagged/recv.c \
	tests/engine/check_tagged_hostile 's/ || arrival->len != fin->len//'
mutate "a transfer ends at its deadline" src/engine/tagged/tagged.c \
	tests/engine/check_windows 's/kvi_transfer_set_first_deadline(transfer);/;/'
mutate "a descriptor has its MAC" src/engine/paged/remote.c \
	tests/engine/check_find 's/if (sodium_memcmp(mac, bytes/if (false \&\& sodium_memcmp(mac, bytes/'
mutate "who takes no answers asks no more" src/engine/lane/link.c \
	tests/engine/check_flood 's/is_of_question(message) \&\& link->questions_held == KVI_QUESTIONS_MAX/false/'
mutate "a span lies within its extent" src/engine/paged/pool.h \
	tests/engine/check_paged_hostile 's/span->offset <= extent_len \&\& span->len/span->len/'
mutate "a block is within its grid" src/engine/paged/grid.c \
	tests/engine/check_paged_hostile 's/is_beyond |= numbers\[i\] > last/is_beyond = false/'
mutate "what may only be read is not written" src/engine/paged/staging.c \
	tests/engine/check_paged_hostile 's/((exported->access & KVT_ACCESS_WRITE) == 0 ||/(false ||/'
mutate "a withdrawal is confirmed when no transfer is under way" src/engine/paged/remote.c \
	tests/engine/check_paged_end 's/ || atomic_load(&remote->in_flight) > 0//'
mutate "an export that is withdrawn is attached to no more" src/engine/paged/export.c \
	tests/engine/check_paged_end 's/exported == NULL || atomic_load(&exported->state) != KVI_EXPORT_OPEN/exported == NULL/'

printf '\n%s' "$table"
echo "$good of $((good + bad)) safety checks are held by a test"
echo "$good passed, $bad failed"
[ "$bad" -eq 0 ]
