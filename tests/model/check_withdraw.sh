#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The withdrawal of an export as a model (withdraw.pml), and its steps compared with transitions.list, which the engine
# is held to by tests/engine/check_withdrawal.c. With KVT_TEST_LONG larger ones, of up to some million states. Not searched
# to the end: two transfers in each of two sessions; on one lane 91 million states, in 5 minutes, had no error.
. "${KVT_SRCDIR:?run make check, or source tests/env.sh of a build tree first}/tests/model/model.sh"
use_model withdraw.pml
one='-DTRANSFERS=1 -DPIECES=3'

# shellcheck disable=SC2086 # These are words.
{
	for lanes in -DMANY_LANES -DONE_LANE '-DMANY_LANES -DSPREAD'; do
		check 0 'nothing lands once a withdrawal has returned or a transfer has failed' $lanes
		check 0 'a withdrawal ends by the answer of the peer alone' $lanes -DNO_CUT -DIMPORTS=2 -DTELL
		check 0 'nothing of one session reaches the next' $lanes -DSESSIONS=2 -DTRANSFERS=1
		if test -n "${KVT_TEST_LONG:-}"; then
			check 0 'nothing lands once a withdrawal has returned, in full' $lanes -DPIECES=3 -DIMPORTS=2
			check 0 'nothing of one session reaches the next, in full' $lanes -DSESSIONS=2 -DTRANSFERS=1 -DIMPORTS=2
		fi
	done
	check 1 'an owner that does not wait is found' $one -DOWNER_RUSHES
	check 1 'an owner that does not wait is found' $one -DOWNER_RUSHES -DSPREAD
	check 1 'an owner that lets the peer in while it withdraws is found' -DIMPORTS=2 $one -DOWNER_ATTACHES
	check 1 'a peer that does not wait is found' $one -DPEER_RUSHES
	check 1 'a peer that waits for its first transfer alone is found' -DFIRST_CONFIRMS
	check 1 'a write that is not delivered when it is done is found' $one -DWRITES_RUSH -DSPREAD
	check 1 'a transfer that fails before its writes have landed is found' $one -DWRITER_RUSHES
	check 1 'a transfer that fails before its writes have landed is found' $one -DWRITER_RUSHES -DONE_LANE
	check 1 'a pack that is dropped before the peer knows is found' $one -DDROPS_EARLY
	check 1 'a pack that is dropped before the peer knows is found' $one -DDROPS_EARLY -DONE_LANE
	check 1 'a pack that is dropped before the peer knows is found' $one -DDROPS_EARLY -DSPREAD
	check 1 'a loss that does not sever is found' $one -DLOSS_RUSHES
}
check_rows export remote write spread
finish
